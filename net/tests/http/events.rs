//! Server-sent events.

use std::time::Duration;

use frame_net::http::{Event, EventError, EventSource, HttpConfig, HttpError, Request};
use serde_json::json;

use crate::origin::{Answer, Origin};
use crate::support::soon;
use crate::{World, world, world_with};

fn stream(text: &str) -> Answer {
    Answer::Close(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}").into())
}

fn data(event: Option<Event>) -> Option<String> {
    event.map(|event| event.data)
}

fn source(world: &World, url: &str) -> EventSource {
    EventSource::new(world.client.clone(), world.dialer(&json!({})), Request::get(url).unwrap()).unwrap()
}

#[tokio::test]
async fn events_are_read_as_they_arrive() {
    let origin = Origin::new(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n";
        Answer::Keep(format!("{head}event: add\ndata: 1\nid: a\n\ndata: cut").into())
    })
    .await;
    let world = world(&json!({}));
    let mut events = world.get(&origin.url("/")).await.unwrap().events().unwrap();
    let event = soon(events.next()).await.unwrap().unwrap();
    assert_eq!((event.event.as_str(), event.data.as_str(), event.id.as_str()), ("add", "1", "a"));
    assert_eq!((events.last_event_id(), events.retry()), ("a", None));
    // Nothing is lost where the next one is not waited for.
    assert!(tokio::time::timeout(Duration::from_millis(10), events.next()).await.is_err());
}

#[tokio::test]
async fn what_is_not_a_stream_of_events_is_refused() {
    let origin = Origin::new(|seen| match seen.path() {
        "/html" => {
            Answer::Keep("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n".into())
        }
        _ => Answer::Keep(
            "HTTP/1.1 503 X\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n".into(),
        ),
    })
    .await;
    let world = world(&json!({}));
    for path in ["/html", "/503"] {
        let error = world.get(&origin.url(path)).await.unwrap().events().unwrap_err();
        assert!(matches!(error, HttpError::Events { .. }), "{error:?}");
        let error = soon(source(&world, &origin.url(path)).next()).await.unwrap_err();
        assert!(matches!(error, HttpError::Events { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_too_long_is_an_error() {
    let origin = Origin::new(|_| stream(&format!("data: {}\n\n", "x".repeat(1000)))).await;
    let world = world(&json!({}));
    let mut events = world.get(&origin.url("/")).await.unwrap().events().unwrap().with_max_event(100);
    let error = soon(events.next()).await.unwrap_err();
    assert!(
        matches!(error, HttpError::Events { source: EventError::TooLarge { limit: 100 }, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_source_goes_on_where_a_connection_broke_off() {
    let mut origin = Origin::new(|seen| match seen.connection {
        0 => stream("retry: 1\nid: 1\ndata: a\n\ndata: b\n\ndata: cut"),
        1 => Answer::Close(Vec::new()),
        2 => stream("data: c\n\n"),
        _ => Answer::Close("HTTP/1.1 204 No Content\r\n\r\n".into()),
    })
    .await;
    let world = world(&json!({}));
    let mut source = source(&world, &origin.url("/"));
    for expected in ["a", "b", "c"] {
        assert_eq!(data(soon(source.next()).await.unwrap()).as_deref(), Some(expected));
    }
    assert_eq!(data(soon(source.next()).await.unwrap()), None, "204 is the end");
    assert_eq!(data(soon(source.next()).await.unwrap()), None);
    let mut ids = Vec::new();
    while ids.len() < 4 {
        if let crate::origin::Event::Request(seen) = origin.event().await {
            assert_eq!(seen.header("accept"), Some("text/event-stream"));
            ids.push(seen.header("last-event-id").map(str::to_owned));
        }
    }
    assert_eq!(ids, [None, Some("1".into()), Some("1".into()), Some("1".into())]);
}

#[tokio::test]
async fn a_source_gives_up_after_so_many_connections_without_an_event() {
    let mut origin = Origin::new(|seen| match seen.connection {
        0 => stream("retry: 1\n\n"),
        _ => Answer::Close(Vec::new()),
    })
    .await;
    let world = world(&json!({}));
    let mut source = source(&world, &origin.url("/")).max_failures(2);
    let error = soon(source.next()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error:?}");
    assert_eq!(data(soon(source.next()).await.unwrap()), None);
    drop(source);
    let mut requests = 0;
    for _ in 0..6 {
        requests += usize::from(matches!(origin.event().await, crate::origin::Event::Request(_)));
    }
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn events_may_come_for_longer_than_a_request_may_take() {
    let origin =
        Origin::new(|_| Answer::Drip(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec()))
            .await;
    let mut config = HttpConfig::default();
    (config.time_limit, config.stall_limit) = (Duration::from_millis(100), Duration::from_secs(20));
    let world = world_with(&json!({}), config);
    let mut source = source(&world, &origin.url("/"));
    // The head again and again is lines of fields that are not known, and ends that dispatch nothing.
    assert!(tokio::time::timeout(Duration::from_millis(300), source.next()).await.is_err());
}
