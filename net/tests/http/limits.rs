//! Too much, too slow, and not HTTP.

use std::time::{Duration, Instant};

use frame_net::http::{HttpClient, HttpConfig, HttpError, Request, Response};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::origin::{Answer, Event, Origin, ok, redirect};
use crate::support::soon;
use crate::{World, world, world_with};

fn raw(text: &'static str) -> Answer {
    Answer::Close(text.into())
}

/// A world in which bodies have at most 10 bytes.
fn narrow() -> World {
    let mut config = HttpConfig::default();
    (config.max_request_body, config.max_response_body) = (10, 10);
    world_with(&json!({}), config)
}

async fn chunks(mut response: Response) -> (usize, HttpError) {
    let mut len = 0;
    loop {
        match soon(response.chunk()).await {
            Ok(Some(chunk)) => len += chunk.len(),
            Ok(None) => panic!("the body is whole"),
            Err(error) => {
                assert!(soon(response.chunk()).await.is_err(), "it stays an error");
                return (len, error);
            }
        }
    }
}

#[tokio::test]
async fn a_response_may_have_as_many_bytes_as_allowed_and_no_more() {
    let origin = Origin::new(|seen| match seen.path() {
        "/10" => ok("0123456789"),
        "/11" => ok("0123456789a"),
        "/claims" => raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n0"),
        "/chunked" => raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n",
        ),
        _ => raw("HTTP/1.1 200 OK\r\n\r\n0123456789a"),
    })
    .await;
    let world = narrow();
    assert_eq!(world.text(&origin.url("/10")).await, "0123456789");
    for path in ["/11", "/claims", "/chunked", "/until-close"] {
        let error = soon(world.get(&origin.url(path)).await.unwrap().bytes()).await.unwrap_err();
        assert!(matches!(error, HttpError::BodyTooLarge { limit: 10, .. }), "{path}: {error:?}");
        assert!(!error.is_retryable());
        let (len, error) = chunks(world.get(&origin.url(path)).await.unwrap()).await;
        assert!(matches!(error, HttpError::BodyTooLarge { .. }) && len <= 10, "{path}: {len} {error:?}");
    }
    let request = Request::get(&origin.url("/11")).unwrap().max_response_body(11);
    assert_eq!(soon(world.send(request).await.unwrap().text()).await.unwrap().len(), 11);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = narrow();
    let post = |body: &'static str| Request::post(&origin.url("/")).unwrap().body(body);
    let (right, long) = (post("0123456789"), post("0123456789a"));
    let error = world.send(long).await.unwrap_err();
    assert!(matches!(error, HttpError::RequestTooLarge { limit: 10 }), "{error:?}");
    world.send(right).await.unwrap();
    assert_eq!(origin.request().await.connection, 0);
    origin.assert_silent();
}

/// Waits for an error that must come at the limit, which is short.
async fn timed_out<T: std::fmt::Debug>(answer: impl Future<Output = Result<T, HttpError>>) {
    let begun = Instant::now();
    let error = soon(answer).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }) && error.is_retryable(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn what_is_slow_ends_at_the_time_limit_and_its_connection_with_it() {
    let mut origin = Origin::new(|seen| match seen.path() {
        // Says nothing, or not the rest of the head.
        "/silent" => Answer::Keep(Vec::new()),
        "/head" => Answer::Keep(b"HTTP/1.1 200 OK\r\nX-A:".to_vec()),
        _ => Answer::Keep(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()),
    })
    .await;
    let mut config = HttpConfig::default();
    config.time_limit = Duration::from_millis(200);
    let world = world_with(&json!({}), config);
    for (connection, path) in ["/silent", "/head", "/informed"].into_iter().enumerate() {
        timed_out(world.get(&origin.url(path))).await;
        assert_eq!(origin.request().await.connection, connection);
        assert_eq!(origin.closed().await, connection);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_ends_at_the_time_limit() {
    let mut origin = Origin::new(|seen| match seen.path() {
        "/drip" => Answer::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        _ => Answer::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell".to_vec()),
    })
    .await;
    let world = world(&json!({}));
    for (connection, path) in ["/drip", "/stall"].into_iter().enumerate() {
        let request = Request::get(&origin.url(path)).unwrap().time_limit(Duration::from_millis(200));
        let response = world.send(request).await.unwrap();
        timed_out(async { response.bytes().await }).await;
        assert_eq!(origin.request().await.connection, connection);
        assert_eq!(origin.closed().await, connection);
    }
}

#[tokio::test]
async fn redirects_do_not_prolong_the_time() {
    let origin = Origin::new(|_| redirect(302, "/")).await;
    let request = Request::get(&origin.url("/")).unwrap().max_redirects(usize::MAX);
    timed_out(world(&json!({})).send(request.time_limit(Duration::from_millis(200)))).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_whole_response() {
    let origin = Origin::new(|seen| match seen.path() {
        "/nothing" => raw(""),
        "/head" => raw("HTTP/1.1 200 OK\r\nX-A: "),
        "/length" => raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell"),
        _ => raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n"),
    })
    .await;
    let world = world(&json!({}));
    for path in ["/nothing", "/head"] {
        let error = world.get(&origin.url(path)).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }) && error.is_retryable(), "{path}: {error:?}");
        assert!(error.to_string().contains(&format!("{} through clearnet", origin.address)), "{error}");
    }
    for path in ["/length", "/chunked"] {
        let (len, error) = chunks(world.get(&origin.url(path)).await.unwrap()).await;
        assert!(matches!(error, HttpError::Broken { .. }) && len == 4, "{path}: {len} {error:?}");
    }
}

#[tokio::test]
async fn no_response_that_is_cut_off_counts_as_whole() {
    const WHOLE: [&str; 2] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-A: b\r\n\r\n",
    ];
    let origin = Origin::new(|seen| {
        let (which, len) = seen.path()[1..].split_once('/').unwrap();
        raw(&WHOLE[which.parse::<usize>().unwrap()][..len.parse().unwrap()])
    })
    .await;
    let world = world(&json!({}));
    for (which, whole) in WHOLE.iter().enumerate() {
        for len in 0..=whole.len() {
            let request = Request::get(&origin.url(&format!("/{which}/{len}"))).unwrap();
            let answer = async { world.send(request).await?.text().await };
            match soon(answer).await {
                Ok(text) => assert_eq!((text.as_str(), len), ("hello", whole.len())),
                Err(error) => {
                    assert!(matches!(error, HttpError::Broken { .. }) && len < whole.len(), "{error:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let answers = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ];
    for answer in answers {
        let origin = Origin::new(move |_| raw(answer)).await;
        let error = world(&json!({})).get(&origin.url("/")).await.unwrap_err();
        assert!(
            matches!(error, HttpError::Protocol { .. }) && !error.is_retryable(),
            "{answer:?}: {error:?}"
        );
    }
    let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let origin = Origin::new(move |_| raw(bad_chunk)).await;
    chunks(world(&json!({})).get(&origin.url("/")).await.unwrap()).await;
}

#[tokio::test]
async fn headers_have_a_limit() {
    let origin = Origin::new(|seen| match seen.path() {
        "/many" => Answer::Close(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)).into()),
        "/fit" => Answer::Close(
            format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "A: b\r\n".repeat(99)).into(),
        ),
        "/long" => Answer::Close(format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(64 << 10)).into()),
        _ => Answer::Drip([&b"HTTP/1.1 200 OK\r\n"[..], &vec![b'a'; 1 << 20]].concat()),
    })
    .await;
    let world = world(&json!({}));
    world.get(&origin.url("/fit")).await.unwrap();
    let error = world.get(&origin.url("/many")).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyResponseHeaders { limit: 100, .. }), "{error:?}");
    assert!(error.to_string().contains("`max_response_headers`") && !error.is_retryable(), "{error}");
    for path in ["/long", "/endless"] {
        let error = world.get(&origin.url(path)).await.unwrap_err();
        assert!(matches!(error, HttpError::HeadTooLarge { limit: 0x1_0000, .. }), "{path}: {error:?}");
        assert!(error.to_string().contains("`max_response_head`") && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn trailers_have_the_limits_of_a_head() {
    let origin = Origin::new(|seen| {
        let trailers = match seen.path() {
            "/fit" => "A: b\r\n".repeat(100),
            "/many" => "A: b\r\n".repeat(101),
            _ => format!("A: {}\r\n", "b".repeat(64 << 10)),
        };
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
        Answer::Close(format!("{head}{trailers}\r\n").into())
    })
    .await;
    let world = world(&json!({}));
    assert_eq!(world.text(&origin.url("/fit")).await, "hello");
    for (path, most, name) in
        [("/many", 100, "max_response_headers"), ("/long", 1 << 16, "max_response_head")]
    {
        let (len, error) = chunks(world.get(&origin.url(path)).await.unwrap()).await;
        assert!(len == 5 && !error.is_retryable(), "{path}: {len} {error:?}");
        let HttpError::TrailersTooLarge { limit, setting, .. } = error else { panic!("{path}: {error:?}") };
        assert_eq!((limit, setting), (most, name), "{path}");
    }
}

#[tokio::test]
async fn interim_responses_over_http_1_1_are_bounded() {
    let origin = Origin::new(|seen| {
        let hints =
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(seen.path()[1..].parse().unwrap());
        Answer::Keep(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").into())
    })
    .await;
    let world = world(&json!({}));
    for _ in 0..2 {
        assert_eq!(world.text(&origin.url("/32")).await, "hello");
    }
    let error = world.get(&origin.url("/33")).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyInterim { limit: 32, .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[test]
fn no_more_headers_can_be_allowed_than_there_can_be_room_for() {
    let cases =
        [("max_response_headers", 10_000_u64, u64::MAX), ("max_response_head", 400 << 10, u32::MAX.into())];
    for (setting, max, most) in cases {
        let parse = |value: u64| serde_json::from_value::<HttpConfig>(json!({ setting: value }));
        HttpClient::new(parse(max).unwrap()).unwrap();
        for value in [max + 1, most] {
            let error = parse(value).unwrap_err().to_string();
            assert_eq!(error, format!("it can be at most {max}, and is {value}"));
        }
        let mut config = HttpConfig::default();
        match setting {
            "max_response_head" => config.max_response_head = u32::MAX,
            _ => config.max_response_headers = usize::MAX,
        }
        let error = HttpClient::new(config).unwrap_err();
        assert_eq!(error.to_string(), format!("`{setting}` can be at most {max}"));
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_response_may_have_as_many_headers_as_can_be_allowed() {
    let most = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello", "A: b\r\n".repeat(9999));
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 5\r\n\r\nhello", "b".repeat(399 << 10));
    let origin = Origin::new(move |seen| {
        Answer::Close(if seen.path() == "/most" { most.as_str() } else { &long }.into())
    })
    .await;
    let mut config = HttpConfig::default();
    (config.max_response_headers, config.max_response_head) = (10_000, 400 << 10);
    let world = world_with(&json!({}), config);
    for path in ["/most", "/long"] {
        assert_eq!(world.text(&origin.url(path)).await, "hello", "{path}");
    }
}

#[tokio::test]
async fn a_response_that_is_dropped_closes_its_connection() {
    let mut origin = Origin::new(|seen| match seen.path() {
        "/whole" => ok("hello"),
        _ => Answer::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    })
    .await;
    let world = world(&json!({}));
    drop(world.get(&origin.url("/drip")).await.unwrap());
    assert_eq!(origin.request().await.connection, 0);
    assert_eq!(origin.closed().await, 0);
    world.text(&origin.url("/whole")).await;
    assert_eq!(origin.request().await.connection, 1);
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection() {
    let mut origin = Origin::new(|_| Answer::Keep(Vec::new())).await;
    let world = world(&json!({}));
    let (client, dialer) = (world.client.clone(), world.dialer(&json!({})));
    let request = Request::get(&origin.url("/")).unwrap();
    let sent = tokio::spawn(async move { client.send(&dialer, request).await.map(drop) });
    assert_eq!(origin.request().await.connection, 0);
    sent.abort();
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn a_request_that_is_dropped_is_not_sent_to_its_end() {
    const LEN: usize = 12 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = Request::post(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let world = world(&json!({}));
    let (client, dialer) = (world.client.clone(), world.dialer(&json!({})));
    let sent = tokio::spawn(async move { client.send(&dialer, request.body(vec![0; LEN])).await.map(drop) });
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    soon(server.read_u8()).await.unwrap();
    sent.abort();
    assert!(soon(sent).await.unwrap_err().is_cancelled());
    let mut received = Vec::new();
    // How it ends does not matter.
    let _ = soon(server.read_to_end(&mut received)).await;
    assert!(received.len() < LEN, "{}", received.len());
}

#[tokio::test]
async fn waiting_for_a_chunk_can_be_given_up_and_loses_nothing() {
    let mut origin = Origin::new(|_| {
        Answer::Drip(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX: \r\n\r\n0123456789012345678901234567890123456789"
                .to_vec(),
        )
    })
    .await;
    let mut response = world(&json!({})).get(&origin.url("/")).await.unwrap();
    let mut body = Vec::new();
    loop {
        // Given up at once, again and again.
        let chunk = tokio::select! {
            biased;
            chunk = response.chunk() => chunk,
            () = tokio::task::yield_now() => continue,
        };
        match chunk.unwrap() {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    assert_eq!(body.len(), 100);
    assert!(body.starts_with(b"0123456789012345678901234567890123456789HTTP/1.1 200 OK"));
    assert!(matches!(origin.event().await, Event::Request(_)));
}

#[tokio::test]
async fn a_request_limits_the_time_for_its_connection() {
    // It is connected to, and says nothing of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let limit = Duration::from_millis(100);
    let request = || Request::get(&url).unwrap().answer_limit(Duration::ZERO);
    let error = world(&json!({})).send(request().connect_limit(limit)).await.unwrap_err();
    assert!(matches!(error, HttpError::ConnectTimedOut { limit: at, .. } if at == limit), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_request_limits_the_time_for_its_answer_and_not_for_its_body() {
    let mut origin = Origin::new(|seen| match seen.path() {
        "/silent" => Answer::Keep(Vec::new()),
        _ => Answer::Keep("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".into()),
    })
    .await;
    let world = world(&json!({}));
    let limit = Duration::from_millis(100);
    let request = Request::get(&origin.url("/silent")).unwrap().answer_limit(limit);
    let error = world.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::AnswerTimedOut { limit: at, .. } if at == limit), "{error:?}");
    assert!(error.is_retryable());
    origin.request().await;
    assert_eq!(origin.closed().await, 0, "the connection is not used again");

    let hour = Duration::from_hours(1);
    let request = Request::get(&origin.url("/half")).unwrap().connect_limit(hour).answer_limit(hour);
    let mut response = world.send(request.time_limit(Duration::from_secs(1))).await.unwrap();
    assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "half");
    timed_out(response.chunk()).await;
}
