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
async fn a_body_that_is_too_large_is_never_whole() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::with(&loopback(), json!({ "max_streamed_body": 100_000 }));
    let ask = Ask::post(origin.address, vec![7; 100_001]);
    assert_eq!(world.ask(&ask, None).await, Outcome::Failed("HTTP-request-body-size"));
    origin.closed().await;
    let ask = ask.header("Content-Length", "100001");
    assert_eq!(world.ask(&ask, None).await, Outcome::Failed("HTTP-request-body-size"));
    assert!(origin.is_untouched(), "a request that is refused by its own length is not sent");
    let ask = Ask::post(origin.address, vec![7; 100_000]);
    assert_eq!(world.ask(&ask, None).await.response().status, 200);
}

#[tokio::test]
async fn a_body_that_is_not_finished_is_never_whole() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    let ask = Ask::post(origin.address, "half of it").does(DROPS_BODY);
    assert_eq!(world.ask(&ask, None).await, Outcome::Failed("HTTP-protocol-error"));
    origin.closed().await;
    let short = Ask::post(origin.address, "half of it").header("Content-Length", "20");
    assert_eq!(world.ask(&short, None).await, Outcome::Failed("HTTP-protocol-error"));
    origin.closed().await;
    let none = Ask::get(origin.address).header("Content-Length", "20");
    assert_eq!(world.ask(&none, None).await, Outcome::Failed("HTTP-request-body-size"));
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn a_body_that_the_end_of_the_call_cuts_off_is_not_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = World::new(&json!({}));
    // More than fits between here and there, so that the guest is still writing.
    let ask = Ask::post(address, vec![7; 30 << 20]);
    let root = world.functions.root();
    let mut call = Box::pin(root.call(World::task(&ask, &json!({}))));
    let accepted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut begun = vec![0; 1000];
        stream.read_exact(&mut begun).await.unwrap();
        stream
    };
    let mut stream = tokio::select! {
        result = &mut call => panic!("{result:?}"),
        stream = soon(accepted) => stream,
    };
    drop(call);
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the server takes it for whole");
}

#[tokio::test]
async fn a_body_is_sent_while_it_is_written() {
    const LENGTH: usize = 20 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counted = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut count, mut buffer, mut last) = (0, vec![0; 64 << 10], Vec::new());
        while !last.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "it is whole");
            count += read;
            last.extend_from_slice(&buffer[..read]);
            last.drain(..last.len().saturating_sub(5));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
        count
    });
    // It is more than the client holds of a body that is not streamed.
    let world = World::with(&loopback(), json!({ "max_request_body": "1MiB", "time_limit": "60s" }));
    let answer = world.ask(&Ask::post(address, vec![7; LENGTH]), None).await.response();
    assert_eq!(answer.text(), "done");
    assert!(soon(counted).await.unwrap() > LENGTH);
}

#[tokio::test]
async fn a_response_has_at_most_what_the_client_allows() {
    let world = World::with(
        &loopback(),
        json!({ "max_streamed_body": 1000, "max_response_head": 9000, "max_response_headers": 20 }),
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
    let world = World::with(&loopback(), json!({ "stall_limit": "600s" }));
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
