//! Open connections.

use frame_net::{BoxStream, Dialer, Endpoint, LimitScope, LocalEndpoint, NetworkError};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::soon;
use crate::{app, dialer_of, limit};

/// An app that may have so many connections.
fn limited(connections: usize) -> Value {
    json!({
        "clearnet": { "allow": ["127.0.0.0/8"], "listen": ["127.0.0.0/8"] },
        "limits": { "connections": connections },
    })
}

/// A server that accepts connections and keeps them open.
async fn server() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            accepted.push(stream);
        }
    });
    address.try_into().unwrap()
}

async fn take_all(dialer: &Dialer, to: &Endpoint) -> (Vec<BoxStream>, NetworkError) {
    let mut streams = Vec::new();
    loop {
        match soon(dialer.connect(to)).await {
            Ok(stream) => streams.push(stream),
            Err(error) => return (streams, error),
        }
    }
}

#[tokio::test]
async fn a_greedy_unit_leaves_half_to_others_and_two_leave_a_third() {
    let (to, app) = (server().await, app(limited(30)));
    let (first, error) = take_all(&dialer_of(&app, "first"), &to).await;
    assert_eq!((first.len(), limit(&error).scope), (15, LimitScope::Share));
    assert!(error.is_retryable());
    let (second, _) = take_all(&dialer_of(&app, "second"), &to).await;
    assert_eq!(second.len(), 7);
    let (third, _) = take_all(&dialer_of(&app, "third"), &to).await;
    assert_eq!(third.len(), 4);
    // What the first gives back it gets again as far as others have left it.
    drop(first);
    let (first, _) = take_all(&dialer_of(&app, "first"), &to).await;
    assert_eq!(first.len(), 9);
}

#[tokio::test]
async fn a_unit_that_waits_for_a_connection_holds_its_place() {
    // Its queue of connections is full, so that it answers nothing.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let full = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    loop {
        let connecting =
            tokio::time::timeout(std::time::Duration::from_millis(200), TcpStream::connect(full));
        match connecting.await {
            Ok(stream) => queued.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let app = app(limited(4));
    let to = full.try_into().unwrap();
    let dialer = dialer_of(&app, "waits");
    let mut connecting: Vec<_> = (0..2).map(|_| Box::pin(dialer.connect(&to))).collect();
    for connecting in &mut connecting {
        assert!(futures_poll(connecting).await.is_none());
    }
    let error = soon(dialer.connect(&to)).await.unwrap_err();
    assert_eq!(limit(&error).held, 2);
    drop(connecting);
    let mut connecting = Box::pin(dialer.connect(&to));
    assert!(futures_poll(&mut connecting).await.is_none(), "what was cancelled has given its place back");
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_connection_that_failed_has_given_its_place_back() {
    let app = app(limited(2));
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().try_into().unwrap();
    let dialer = dialer_of(&app, "unit");
    for _ in 0..10 {
        let error = soon(dialer.connect(&down)).await.unwrap_err();
        assert!(!format!("{error:?}").contains("LimitReached"), "{error:?}");
    }
}

#[tokio::test]
async fn a_unit_has_no_more_than_its_own_maximum() {
    let mut config = limited(100);
    config["limits"]["connections_per_unit"] = json!(3);
    let (to, app) = (server().await, app(config));
    let (streams, error) = take_all(&dialer_of(&app, "unit"), &to).await;
    assert_eq!((streams.len(), limit(&error).scope), (3, LimitScope::Unit));
    assert_eq!(
        limit(&error).to_string(),
        "this unit has 3 connections, which is the limit for one unit; close some, or try again later"
    );
    soon(dialer_of(&app, "other").connect(&to)).await.unwrap();
}

#[tokio::test]
async fn frames_without_a_unit_share_one() {
    let (to, app) = (server().await, app(limited(10)));
    let of_none = || {
        let frame = frame_registry::FrameBuilder::new().seal();
        frame_net::dialer(&frame, &app).unwrap()
    };
    let (_streams, _) = take_all(&of_none(), &to).await;
    limit(&soon(of_none().connect(&to)).await.unwrap_err());
    soon(dialer_of(&app, "named").connect(&to)).await.unwrap();
}

#[tokio::test]
async fn listeners_datagrams_and_accepted_connections_count() {
    let app = app(limited(8));
    let dialer = dialer_of(&app, "unit");
    let at = LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0);
    let mut listener = dialer.listen(&at).await.unwrap();
    let first = dialer.bind_datagram(&at).await.unwrap();
    let _second = dialer.bind_datagram(&at).await.unwrap();
    let to = listener.local().to_string();
    let connect = || async { TcpStream::connect(&to).await.unwrap() };

    let _client = connect().await;
    let (_accepted, _) = soon(listener.accept()).await.unwrap();
    let mut refused = connect().await;
    let error = soon(listener.accept()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(soon(refused.read(&mut [0])).await.unwrap_or(0), 0, "it is closed at once");
    limit(&soon(dialer.bind_datagram(&at)).await.unwrap_err());
    limit(&soon(dialer.listen(&at)).await.map(drop).unwrap_err());

    drop(first);
    let _client = connect().await;
    soon(listener.accept()).await.unwrap();
}
