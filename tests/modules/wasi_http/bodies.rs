//! How large bodies may be, and how fast they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::ErrorKind;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::guest::{Ask, DROPS_BODY, GATE, Gate, ONLY_COUNTS, Outcome, WAITS, World, outcomes, soon};
use super::origin::{Origin, ok, response};

fn loopback() -> serde_json::Value {
    json!({ "clearnet": { "allow": ["127.0.0.0/8"] } })
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_sent() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::with(&loopback(), json!({ "max_request_body": 100_000 }));
    let ask = Ask::post(origin.address, vec![7; 100_001]);
    assert_eq!(world.ask(&ask, None).await, Outcome::Failed("HTTP-request-body-size"));
    assert!(origin.is_untouched());
    let ask = Ask::post(origin.address, vec![7; 100_000]);
    assert_eq!(world.ask(&ask, None).await.response().status, 200);
}

#[tokio::test]
async fn bodies_that_are_on_their_way_are_limited_together() {
    let origin = Origin::silent().await;
    let world = World::with(&loopback(), json!({ "max_request_body": 100_000, "time_limit": "1s" }));
    let ask = Ask { count: 3, ..Ask::post(origin.address, vec![7; 40_000]) };
    let outcomes = world.call(&ask, &json!({})).await.unwrap();
    let refused = outcomes.iter().filter(|&outcome| *outcome == Outcome::Failed("HTTP-request-body-size"));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
    let waited = outcomes.iter().filter(|&outcome| *outcome == Outcome::Failed("HTTP-response-timeout"));
    assert_eq!(waited.count(), 2, "{outcomes:?}");
}

#[tokio::test]
async fn a_body_that_is_not_finished_is_not_sent() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    let ask = Ask::post(origin.address, "half of it").does(DROPS_BODY);
    assert_eq!(world.ask(&ask, None).await, Outcome::Failed("HTTP-protocol-error"));
    let short = Ask::post(origin.address, "half of it").header("Content-Length", "20");
    assert_eq!(world.ask(&short, None).await, Outcome::Failed("HTTP-protocol-error"));
    let none = Ask::get(origin.address).header("Content-Length", "20");
    assert_eq!(world.ask(&none, None).await, Outcome::Failed("HTTP-request-body-size"));
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn a_response_has_at_most_what_the_client_allows() {
    let world = World::with(
        &loopback(),
        json!({ "max_response_body": 1000, "max_response_head": 9000, "max_response_headers": 20 }),
    );
    let chunked = |_: &_| b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n".to_vec();
    let body =
        [vec![b'x'; 500], b"\r\n1f5\r\n".to_vec(), vec![b'x'; 501], b"\r\n0\r\n\r\n".to_vec()].concat();
    let origin = Origin::new(move |seen| [chunked(seen), body.clone()].concat()).await;
    let answer = world.ask(&Ask::get(origin.address).does(ONLY_COUNTS), None).await.response();
    assert_eq!(answer.ended, Err(Some("HTTP-response-body-size")), "{answer:?}");

    let long = format!("X-Long: {}\r\n", "x".repeat(10_000));
    let origin = Origin::new(move |_| response("200 OK", &long, "")).await;
    let outcome = world.ask(&Ask::get(origin.address), None).await;
    assert_eq!(outcome, Outcome::Failed("HTTP-response-header-section-size"));
    let many = "X: y\r\n".repeat(21);
    let origin = Origin::new(move |_| response("200 OK", &many, "")).await;
    let outcome = world.ask(&Ask::get(origin.address), None).await;
    assert_eq!(outcome, Outcome::Failed("HTTP-response-header-section-size"));
}

#[tokio::test]
async fn headers_that_a_guest_puts_together_are_limited() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    let ask = Ask::get(origin.address).header("X-Long", &"x".repeat(30_000));
    assert_eq!(world.ask(&ask, None).await.response().status, 200);
    origin.request().await;
    let ask = Ask::get(origin.address).header("X-Long", &"x".repeat(33_000));
    let error = world.call(&ask, &json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn a_body_that_is_cut_off_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    });
    let answer = World::new(&json!({})).ask(&Ask::get(address), None).await.response();
    assert_eq!((answer.text(), answer.ended), ("half", Err(Some("HTTP-response-incomplete"))));
}

/// Answers one request with a body of so many bytes, counts those that are taken, and says when no more are for a while.
async fn flood(length: usize) -> (std::net::SocketAddr, Arc<AtomicUsize>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let (stalls, stalled) = oneshot::channel();
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut left, mut stalls) = (length, Some(stalls));
        let bytes = vec![b'x'; 64 << 10];
        while left > 0 {
            let piece = &bytes[..left.min(bytes.len())];
            let wrote = timeout(Duration::from_millis(500), stream.write(piece)).await;
            let Ok(wrote) = wrote else {
                if let Some(stalls) = stalls.take() {
                    stalls.send(()).unwrap();
                }
                continue;
            };
            let wrote = wrote.unwrap();
            left -= wrote;
            count.fetch_add(wrote, Ordering::Relaxed);
        }
    });
    (address, taken, stalled)
}

#[tokio::test]
async fn a_response_comes_no_faster_than_the_guest_reads() {
    const LENGTH: usize = 64 << 20;
    /// What the kernel holds between two of its sockets, and hyper for a connection.
    const IN_BETWEEN: usize = 16 << 20;
    let (address, taken, stalled) = flood(LENGTH).await;
    let world = World::with(&loopback(), json!({ "max_response_body": LENGTH, "time_limit": "600s" }));
    let gate = Gate::new();
    let ask = Ask::get(address).does(ONLY_COUNTS | WAITS);
    let task = World::task(&ask, &json!({})).with_pair(GATE.pair(Arc::clone(&gate)));
    let root = world.functions.root();
    let call = tokio::spawn(async move { root.call(task).await });

    gate.reached().await;
    gate.open.add_permits(1);
    gate.reached().await;
    soon(stalled).await.unwrap();
    let held = taken.load(Ordering::Relaxed);
    assert!(held < IN_BETWEEN, "{held} bytes are on their way to a guest that does not read");
    gate.open.add_permits(1 << 20);
    let payload = timeout(Duration::from_mins(5), call).await.unwrap().unwrap().unwrap();
    let [Outcome::Response(answer)] = &outcomes(&payload, &ask)[..] else { panic!("{payload:?}") };
    assert_eq!((answer.length, answer.ended), (LENGTH, Ok(())));
}
