//! The closing handshake.

use std::time::Duration;

use frame_net::http::HttpConfig;
use frame_net::http::websocket::{CloseFrame, Violation, WebSocketError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    BINARY, CLOSE, FIN, TEXT, close, connect, connected, drain, frame, read_close, read_frame, server,
};
use crate::support::soon;
use crate::world_with;

#[tokio::test]
async fn the_server_closes_with_a_code_and_a_reason() {
    let (mut socket, server) = connected(|mut stream| async move {
        let bytes = [frame(FIN | TEXT, b"last"), close(4001, "logged \"out\"")].concat();
        stream.write_all(&bytes).await.unwrap();
        let answer = read_close(&mut stream).await;
        // The client leaves it to the server to close first.
        let further = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        (answer, further.is_err())
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("last".into()));
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    let frame = socket.close_frame().unwrap();
    assert_eq!((frame.code(), frame.reason()), (4001, "logged \"out\""));
    let error = socket.send("x").await.unwrap_err();
    assert!(matches!(error, WebSocketError::Closed { .. }), "{error:?}");
    assert!(error.to_string().ends_with("is closed: 4001 logged \"out\""), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(soon(socket.close(CloseFrame::normal())).await.unwrap().unwrap().code(), 4001);
    assert_eq!(server.served().await, ((4001, "logged \"out\"".to_owned()), true));
}

#[tokio::test]
async fn a_close_frame_may_be_empty() {
    let (mut socket, server) = connected(|mut stream| async move {
        stream.write_all(&frame(FIN | CLOSE, b"")).await.unwrap();
        read_frame(&mut stream).await.unwrap()
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    assert_eq!(socket.close_frame(), None);
    assert_eq!(server.served().await, (FIN | CLOSE, Vec::new()));
}

#[tokio::test]
async fn codes_that_ask_for_another_try_are_retryable() {
    for (code, is_retryable) in
        [(1000, false), (1001, true), (1008, false), (1012, true), (1013, true), (3000, false)]
    {
        let (mut socket, _server) = connected(move |mut stream| async move {
            stream.write_all(&close(code, "")).await.unwrap();
            drain(stream).await
        })
        .await;
        assert_eq!(soon(socket.receive()).await.unwrap(), None);
        assert_eq!(socket.send("x").await.unwrap_err().is_retryable(), is_retryable, "{code}");
    }
}

#[tokio::test]
async fn a_code_that_may_not_be_sent_is_answered_as_a_violation() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let (mut socket, server) = connected(move |mut stream| async move {
            stream.write_all(&close(code, "")).await.unwrap();
            read_close(&mut stream).await.0
        })
        .await;
        assert_eq!(soon(socket.receive()).await.unwrap(), None);
        assert_eq!(socket.close_frame().unwrap().code(), 1002, "{code}");
        assert_eq!(server.served().await, 1002, "{code}");
    }
}

#[test]
fn codes_and_reasons_that_cannot_be_sent_are_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let error = CloseFrame::new(code, "").unwrap_err();
        assert!(matches!(error, WebSocketError::InvalidClose { .. }), "{error:?}");
    }
    CloseFrame::new(1000, "x".repeat(123)).unwrap();
    CloseFrame::new(1000, "x".repeat(124)).unwrap_err();
}

#[tokio::test]
async fn the_program_closes_and_what_the_server_sends_meanwhile_is_not_received() {
    let (mut socket, server) = connected(|mut stream| async move {
        let said = [read_frame(&mut stream).await.unwrap().1, read_frame(&mut stream).await.unwrap().1];
        let more = frame(FIN | BINARY, &vec![0; 100_000]);
        for _ in 0..100 {
            stream.write_all(&more).await.unwrap();
        }
        stream.write_all(&close(1000, "bye")).await.unwrap();
        said
    })
    .await;
    socket.send("last").await.unwrap();
    let (frame, expected) = (CloseFrame::new(4002, "enough").unwrap(), CloseFrame::new(1000, "bye").unwrap());
    assert_eq!(soon(socket.close(frame)).await.unwrap(), Some(expected.clone()));
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    assert_eq!(socket.close_frame(), Some(&expected));
    let [last, close] = server.served().await;
    assert_eq!(
        (&last[..], &close[..2], &close[2..]),
        (&b"last"[..], &4002_u16.to_be_bytes()[..], &b"enough"[..])
    );
}

#[tokio::test]
async fn messages_before_the_close_can_be_received_after_it() {
    let (mut socket, _server) = connected(|mut stream| async move {
        stream.write_all(&[frame(FIN | TEXT, b"one"), frame(FIN | TEXT, b"two")].concat()).await.unwrap();
        read_close(&mut stream).await;
        stream.write_all(&close(1000, "")).await.unwrap();
        drain(stream).await
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("one".into()));
    soon(socket.close(CloseFrame::normal())).await.unwrap();
    // It had arrived, in the same segment.
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("two".into()));
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
}

fn impatient() -> crate::World {
    let mut config = HttpConfig::default();
    config.websocket.close_limit = Duration::from_millis(100);
    world_with(&json!({}), config)
}

#[tokio::test]
async fn a_server_that_does_not_confirm_is_left_in_time() {
    let server = server(drain).await;
    let mut socket = connect(&impatient(), server.request()).await.unwrap();
    let error = soon(socket.close(CloseFrame::normal())).await.unwrap_err();
    assert!(matches!(error, WebSocketError::CloseTimedOut { .. }), "{error:?}");
    assert!(soon(socket.receive()).await.is_err());
    server.served().await;
}

#[tokio::test]
async fn a_server_that_sends_without_end_instead_of_confirming_is_left_in_time() {
    let server = server(|mut stream| async move {
        let more = frame(FIN | BINARY, &[0; 1000]);
        while stream.write_all(&more).await.is_ok() {}
    })
    .await;
    let socket = connect(&impatient(), server.request()).await.unwrap();
    let error = soon(socket.close(CloseFrame::normal())).await.unwrap_err();
    assert!(matches!(error, WebSocketError::CloseTimedOut { .. }), "{error:?}");
    server.served().await;
}

#[tokio::test]
async fn a_server_that_does_not_read_is_left_in_time() {
    let server = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let socket = connect(&impatient(), server.request()).await.unwrap();
    let message = vec![0; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(200), socket.send(message.clone())).await.is_ok() {}
    let error = soon(socket.close(CloseFrame::normal())).await.unwrap_err();
    assert!(matches!(error, WebSocketError::CloseTimedOut { .. }), "{error:?}");
    let error = soon(socket.send("x")).await.unwrap_err();
    assert!(matches!(error, WebSocketError::CloseTimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_close_its_side_is_left_in_time() {
    let server = server(|mut stream| async move {
        stream.write_all(&close(1000, "")).await.unwrap();
        read_close(&mut stream).await;
        drain(stream).await
    })
    .await;
    let mut socket = connect(&impatient(), server.request()).await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    assert!(server.served().await.is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_frame_has_broken() {
    let (mut socket, _server) = connected(|mut stream| async move {
        stream.write_all(&frame(FIN | TEXT, b"one")).await.unwrap();
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("one".into()));
    for _ in 0..2 {
        let error = soon(socket.receive()).await.unwrap_err();
        assert!(matches!(error, WebSocketError::Broken { .. }) && error.is_retryable(), "{error:?}");
    }
    let error = soon(socket.send("x")).await.unwrap_err();
    assert!(matches!(error, WebSocketError::Broken { .. }), "{error:?}");
    let error = soon(socket.close(CloseFrame::normal())).await.unwrap_err();
    assert!(matches!(error, WebSocketError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_close_frame_of_one_byte_is_a_violation() {
    let (mut socket, server) = connected(|mut stream| async move {
        stream.write_all(&frame(FIN | CLOSE, b"x")).await.unwrap();
        read_close(&mut stream).await.0
    })
    .await;
    let error = soon(socket.receive()).await.unwrap_err();
    let WebSocketError::Protocol { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source, Violation::Close);
    assert_eq!(server.served().await, 1002);
}
