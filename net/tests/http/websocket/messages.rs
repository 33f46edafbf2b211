//! Messages both ways.

use std::time::Duration;

use frame_net::http::websocket::{CloseFrame, Message, WebSocketError, WebSocketRequest};
use frame_net::http::{Bytes, HttpConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{
    BINARY, FIN, PING, PONG, TEXT, connect, connected, drain, echo, frame, raw_server, read_frame, read_head,
    switch, world,
};
use crate::support::soon;
use crate::world_with;

#[tokio::test]
async fn messages_are_echoed_whatever_their_size() {
    let address = echo(None).await;
    let request = WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
    let mut socket = connect(&world(), request).await.unwrap();
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20] {
        let text = Message::Text("ä".repeat(len / 2));
        let bytes = Message::Binary(vec![7; len].into());
        for message in [text, bytes] {
            soon(socket.send(message.clone())).await.unwrap();
            assert!(soon(socket.receive()).await.unwrap() == Some(message), "{len}");
        }
    }
    assert_eq!(soon(socket.close(CloseFrame::normal())).await.unwrap(), Some(CloseFrame::normal()));
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
}

#[tokio::test]
async fn what_arrives_with_the_response_is_received() {
    let server = raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let mut bytes = switch(&head, "").into_bytes();
        for number in 0..100_u8 {
            bytes.extend(frame(FIN | BINARY, &[number]));
        }
        // The last frame is whole only later.
        let (now, later) = bytes.split_at(bytes.len() - 2);
        stream.write_all(now).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(later).await.unwrap();
        drain(stream).await
    })
    .await;
    let mut socket = connect(&world(), server.request()).await.unwrap();
    for number in 0..100 {
        assert_eq!(soon(socket.receive()).await.unwrap(), Some(vec![number].into()));
    }
}

#[tokio::test]
async fn both_halves_work_in_tasks_of_their_own() {
    const COUNT: usize = 2_000;
    let address = echo(None).await;
    let request = WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
    let (sender, mut receiver) = connect(&world(), request).await.unwrap().split();
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            sender.send(number.to_string()).await.unwrap();
        }
        sender
    });
    for number in 0..COUNT {
        assert_eq!(soon(receiver.receive()).await.unwrap(), Some(number.to_string().into()));
    }
    let sender = soon(sending).await.unwrap();
    // Either half keeps the connection.
    drop(receiver);
    sender.send("x").await.unwrap();
    assert_eq!(soon(sender.close(CloseFrame::normal())).await.unwrap(), Some(CloseFrame::normal()));
}

#[tokio::test]
async fn a_receiver_alone_keeps_the_connection() {
    let (socket, server) = connected(|mut stream| async move {
        read_frame(&mut stream).await.unwrap();
        stream.write_all(&frame(FIN | TEXT, b"late")).await.unwrap();
        drain(stream).await
    })
    .await;
    let (sender, mut receiver) = socket.split();
    sender.send("x").await.unwrap();
    drop(sender);
    assert_eq!(soon(receiver.receive()).await.unwrap(), Some("late".into()));
    drop(receiver);
    server.served().await;
}

#[tokio::test]
async fn a_receive_that_is_given_up_loses_no_message() {
    let (go, gone) = oneshot::channel::<()>();
    let (mut socket, _server) = connected(|mut stream| async move {
        gone.await.unwrap();
        stream.write_all(&frame(FIN | TEXT, b"one")).await.unwrap();
        drain(stream).await
    })
    .await;
    tokio::time::timeout(Duration::from_millis(20), socket.receive()).await.unwrap_err();
    go.send(()).unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("one".into()));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_not_sent_and_the_connection_stays() {
    let mut config = HttpConfig::default();
    config.websocket.max_message = 10;
    let world = world_with(&json!({}), config);
    let address = echo(None).await;
    let request = || WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
    let mut socket = connect(&world, request()).await.unwrap();
    let error = socket.send("12345678901").await.unwrap_err();
    assert!(matches!(error, WebSocketError::MessageTooLarge { limit: 10, .. }), "{error:?}");
    assert!(error.to_string().contains("more than 10 bytes, the limit of `max_message`"), "{error}");
    socket.send("1234567890").await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("1234567890".into()));
    // A request may say otherwise.
    let socket = connect(&world, request().max_message(11)).await.unwrap();
    socket.send("12345678901").await.unwrap();
}

/// How many bytes a server can write while nothing is received.
async fn backlog(message: Vec<u8>, count: usize) -> usize {
    let (socket, server) = connected(move |mut stream| async move {
        let mut written = 0;
        for _ in 0..count {
            let pause = Duration::from_millis(500);
            match tokio::time::timeout(pause, stream.write_all(&message)).await {
                Ok(done) => done.unwrap(),
                Err(_) => break,
            }
            written += message.len();
        }
        written
    })
    .await;
    let written = server.served().await;
    drop(socket);
    written
}

#[tokio::test]
async fn a_program_that_does_not_receive_makes_the_server_wait() {
    // What the kernel keeps of a connection is some megabytes on each side.
    const MOST: usize = 32 << 20;
    for message in [
        frame(FIN | BINARY, &vec![0; 64 << 10]),
        frame(FIN | TEXT, b"x").repeat(1_000),
        frame(FIN | BINARY, &vec![0; 1 << 20]),
    ] {
        let count = (64 << 20) / message.len();
        let written = backlog(message, count).await;
        assert!(written < MOST, "{written}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_makes_the_program_wait_and_may_still_send() {
    let (go, gone) = oneshot::channel::<()>();
    let (mut socket, server) = connected(|mut stream| async move {
        stream.write_all(&frame(FIN | TEXT, b"still here")).await.unwrap();
        gone.await.unwrap();
        let mut total = 0;
        while let Ok((_, payload)) = read_frame(&mut stream).await {
            total += payload.len();
        }
        total
    })
    .await;
    let message = Message::Binary(Bytes::from(vec![7; 1 << 20]));
    let mut sent = 0;
    // Until no more fits in between.
    while tokio::time::timeout(Duration::from_millis(500), socket.send(message.clone())).await.is_ok() {
        sent += 1;
        assert!(sent < 64, "the server does not read");
    }
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("still here".into()));
    go.send(()).unwrap();
    soon(socket.send("x")).await.unwrap();
    drop(socket);
    // The one that was given up was sent whole.
    assert_eq!(server.served().await, ((sent + 1) << 20) + 1 + 2);
}

#[tokio::test]
async fn pings_are_answered_while_nothing_is_received() {
    let (socket, server) = connected(|mut stream| async move {
        for _ in 0..100 {
            stream.write_all(&frame(FIN | TEXT, b"unread")).await.unwrap();
        }
        for number in 0..10 {
            stream.write_all(&frame(FIN | PING, &[number; 125])).await.unwrap();
            assert_eq!(read_frame(&mut stream).await.unwrap(), (FIN | PONG, vec![number; 125]));
        }
    })
    .await;
    server.served().await;
    drop(socket);
}

#[tokio::test]
async fn dropping_it_says_going_away_and_closes() {
    let (socket, server) = connected(|mut stream| async move {
        let said = super::read_close(&mut stream).await;
        (said, stream.read(&mut [0]).await.unwrap())
    })
    .await;
    drop(socket);
    assert_eq!(server.served().await, ((1001, String::new()), 0));
}
