//! Pings of the client.

use std::time::Duration;

use frame_net::http::websocket::WebSocketError;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use super::{BINARY, FIN, PING, PONG, TEXT, connect, drain, frame, read_frame, server, world};
use crate::support::soon;

const SHORT: Duration = Duration::from_millis(30);
/// Longer than a busy machine takes to answer.
const PATIENT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_is_pinged_as_often_as_the_request_says() {
    let server = server(|mut stream| async move {
        for _ in 0..5 {
            assert_eq!(read_frame(&mut stream).await.unwrap(), (FIN | PING, Vec::new()));
            stream.write_all(&frame(FIN | PONG, b"")).await.unwrap();
        }
        stream.write_all(&frame(FIN | TEXT, b"alive")).await.unwrap();
        drain(stream).await
    })
    .await;
    let request = server.request().ping_interval(SHORT).pong_limit(LONG);
    let mut socket = connect(&world(), request).await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("alive".into()));
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_ping_is_left() {
    let server = server(drain).await;
    let request = server.request().ping_interval(SHORT).pong_limit(SHORT);
    let mut socket = connect(&world(), request).await.unwrap();
    let error = soon(socket.receive()).await.unwrap_err();
    assert!(matches!(error, WebSocketError::PongTimedOut { .. }) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().ends_with("did not answer a ping within 30ms"), "{error}");
    let error = soon(socket.send("x")).await.unwrap_err();
    assert!(matches!(error, WebSocketError::PongTimedOut { .. }), "{error:?}");
    server.served().await;
}

#[tokio::test]
async fn anything_that_arrives_answers_a_ping() {
    let server = server(|mut stream| async move {
        // A frame that takes longer than a server has to answer.
        let frame = frame(FIN | BINARY, &[0; 100]);
        for byte in frame.chunks(5) {
            stream.write_all(byte).await.unwrap();
            tokio::time::sleep(SHORT * 5).await;
        }
        drain(stream).await
    })
    .await;
    let request = server.request().ping_interval(SHORT).pong_limit(PATIENT);
    let mut socket = connect(&world(), request).await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some(vec![0; 100].into()));
}

#[tokio::test]
async fn a_program_that_does_not_receive_is_no_reason_to_leave_a_server() {
    let (go, gone) = oneshot::channel::<()>();
    let server = server(|mut stream| async move {
        let message = frame(FIN | BINARY, &vec![0; 64 << 10]);
        for _ in 0..8 {
            stream.write_all(&message).await.unwrap();
        }
        // Longer than the server has to answer.
        tokio::time::sleep(PATIENT + PATIENT / 2).await;
        go.send(()).unwrap();
        while let Ok((first, _)) = read_frame(&mut stream).await {
            if first == FIN | PING {
                stream.write_all(&frame(FIN | PONG, b"")).await.unwrap();
            }
        }
    })
    .await;
    let request = server.request().ping_interval(SHORT).pong_limit(PATIENT);
    let mut socket = connect(&world(), request).await.unwrap();
    soon(gone).await.unwrap();
    for _ in 0..8 {
        soon(socket.receive()).await.unwrap().unwrap();
    }
    soon(socket.send("x")).await.unwrap();
}
