//! Servers that break the protocol, or that would use up what the client has.

use frame_net::http::websocket::{CloseFrame, Violation, WebSocketError};
use tokio::io::AsyncWriteExt as _;

use super::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, connect, connected, drain, frame, read_close,
    read_frame, server, world,
};
use crate::support::soon;

/// The code of the close frame after the answers to pings.
async fn close_code(stream: &mut frame_net::BoxStream) -> u16 {
    loop {
        let (first, payload) = read_frame(stream).await.unwrap();
        if first == FIN | CLOSE {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
        assert_eq!(first, FIN | PONG);
    }
}

/// What is said of a server that sends these bytes, and the code that it gets.
async fn told(bytes: Vec<u8>) -> (WebSocketError, u16) {
    let (mut socket, server) = connected(move |mut stream| async move {
        // The client need not read all of it.
        let _ = stream.write_all(&bytes).await;
        let code = close_code(&mut stream).await;
        drain(stream).await;
        code
    })
    .await;
    let error = loop {
        if let Err(error) = soon(socket.receive()).await {
            break error;
        }
    };
    assert!(!error.is_retryable(), "{error:?}");
    (error, server.served().await)
}

#[tokio::test]
async fn violations_of_the_protocol_are_named() {
    let masked = [&[FIN | TEXT, 0x80 | 1][..], &[1, 2, 3, 4], b"x"].concat();
    let cases = [
        (masked, Violation::Masked),
        (frame(FIN | 0x40 | TEXT, b"x"), Violation::ReservedBit),
        (frame(FIN | 0x20 | TEXT, b"x"), Violation::ReservedBit),
        (frame(FIN | 0x10 | PING, b"x"), Violation::ReservedBit),
        (frame(FIN | 3, b"x"), Violation::Opcode(3)),
        (frame(FIN | 15, b"x"), Violation::Opcode(15)),
        (frame(PING, b"x"), Violation::FragmentedControl),
        (frame(CLOSE, b"\x03\xe8"), Violation::FragmentedControl),
        (frame(FIN | PING, &[0; 126]), Violation::LargeControl),
        (frame(FIN | CONTINUATION, b"x"), Violation::NoMessage),
        ([frame(TEXT, b"x"), frame(TEXT, b"x")].concat(), Violation::UnfinishedMessage),
        ([frame(TEXT, b"x"), frame(FIN | BINARY, b"x")].concat(), Violation::UnfinishedMessage),
        ([frame(FIN | TEXT, b"x"), frame(FIN | CONTINUATION, b"x")].concat(), Violation::NoMessage),
    ];
    for (bytes, violation) in cases {
        let (error, code) = told(bytes).await;
        assert_eq!(code, 1002, "{violation:?}");
        let WebSocketError::Protocol { source, .. } = error else { panic!("{violation:?}: {error:?}") };
        assert_eq!(source, violation);
    }
}

#[tokio::test]
async fn text_is_utf_8_however_it_is_split() {
    let ends_early = "ä".as_bytes()[..1].to_vec();
    let cases = [
        frame(FIN | TEXT, b"\xff"),
        frame(FIN | TEXT, &ends_early),
        frame(FIN | TEXT, b"\xed\xa0\x80"),
        frame(FIN | TEXT, b"\xc0\x80"),
        frame(FIN | TEXT, b"\xf4\x90\x80\x80"),
        [frame(TEXT, &ends_early), frame(FIN | CONTINUATION, b"x")].concat(),
        [frame(TEXT, &ends_early), frame(FIN | CONTINUATION, b"")].concat(),
        frame(FIN | CLOSE, b"\x03\xe8\xff"),
    ];
    for bytes in cases {
        let (error, code) = told(bytes.clone()).await;
        assert!(matches!(error, WebSocketError::NotUtf8 { .. }), "{bytes:?}: {error:?}");
        assert_eq!(code, 1007, "{bytes:?}");
        assert!(error.to_string().ends_with("sent text that is not UTF-8"), "{error}");
    }
}

#[tokio::test]
async fn a_character_may_be_split_over_frames_with_pings_between() {
    let (mut socket, _server) = connected(|mut stream| async move {
        let [a, b, c, d] = *"🦀".as_bytes() else { unreachable!() };
        for (first, byte) in [(TEXT, a), (CONTINUATION, b), (CONTINUATION, c), (FIN | CONTINUATION, d)] {
            stream.write_all(&[frame(first, &[byte]), frame(FIN | PING, b"")].concat()).await.unwrap();
        }
        drain(stream).await
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("🦀".into()));
}

#[tokio::test]
async fn a_message_or_a_frame_that_is_too_large_is_refused_before_it_has_arrived() {
    let endless = [&[FIN | BINARY, 127][..], &u64::MAX.to_be_bytes()].concat();
    let just_above = [&[FIN | BINARY, 127][..], &((1_u64 << 20) + 1).to_be_bytes()].concat();
    let fragments = [frame(BINARY, &vec![0; 600_000]), frame(CONTINUATION, &vec![0; 600_000])].concat();
    for bytes in [endless, just_above, fragments] {
        let (error, code) = told(bytes).await;
        assert_eq!(code, 1009);
        let WebSocketError::ReceivedTooLarge { limit, setting, .. } = error else { panic!("{error:?}") };
        assert_eq!((limit, setting), (1 << 20, "max_message"));
    }
}

#[tokio::test]
async fn a_frame_may_be_limited_below_the_message() {
    let server = server(|mut stream| async move {
        let whole = [frame(BINARY, &[1; 10]), frame(FIN | CONTINUATION, &[1; 10])].concat();
        stream.write_all(&[whole, frame(FIN | BINARY, &[1; 11])].concat()).await.unwrap();
        read_close(&mut stream).await.0
    })
    .await;
    let mut socket = connect(&world(), server.request().max_message(20).max_frame(10)).await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some(vec![1; 20].into()));
    let error = soon(socket.receive()).await.unwrap_err();
    assert!(error.to_string().ends_with("more than 10 bytes at once, the limit of `max_frame`"), "{error}");
    assert_eq!(server.served().await, 1009);
}

#[tokio::test]
async fn frames_without_end_that_bring_nothing_end_the_connection() {
    let fragments = [frame(BINARY, b""), frame(CONTINUATION, b"").repeat(2_000)].concat();
    let tiny = [frame(TEXT, b"x"), frame(CONTINUATION, b"x").repeat(2_000)].concat();
    let between =
        [frame(BINARY, b""), [frame(FIN | PING, b""), frame(CONTINUATION, b"")].concat().repeat(800)];
    for bytes in [
        frame(FIN | PING, b"x").repeat(2_000),
        frame(FIN | PONG, &[7; 125]).repeat(2_000),
        fragments,
        tiny,
        between.concat(),
    ] {
        let (error, code) = told(bytes).await;
        assert!(matches!(error, WebSocketError::Flooded { .. }), "{error:?}");
        assert!(error.to_string().ends_with("sent too many control frames or tiny fragments"), "{error}");
        assert_eq!(code, 1008);
    }
}

#[tokio::test]
async fn a_message_before_a_flood_is_received() {
    let (mut socket, server) = connected(|mut stream| async move {
        let flood = frame(FIN | PING, b"").repeat(2_000);
        let _ = stream.write_all(&[frame(FIN | TEXT, b"x"), flood].concat()).await;
        let code = close_code(&mut stream).await;
        drain(stream).await;
        code
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("x".into()));
    let error = soon(socket.receive()).await.unwrap_err();
    assert!(matches!(error, WebSocketError::Flooded { .. }), "{error:?}");
    assert_eq!(server.served().await, 1008);
}

#[tokio::test]
async fn fragments_that_are_not_tiny_are_no_flood() {
    let (mut socket, _server) = connected(|mut stream| async move {
        let parts = frame(CONTINUATION, &[7; 64]).repeat(10_000);
        let message = [frame(BINARY, b""), parts, frame(FIN | CONTINUATION, b"")].concat();
        stream.write_all(&message).await.unwrap();
        drain(stream).await
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap().unwrap().len(), 640_000);
}

#[tokio::test]
async fn a_ping_with_each_message_is_no_flood() {
    let (mut socket, _server) = connected(|mut stream| async move {
        let both = [frame(FIN | PING, b"x"), frame(FIN | TEXT, b"x")].concat();
        stream.write_all(&both.repeat(5_000)).await.unwrap();
        drain(stream).await
    })
    .await;
    for _ in 0..5_000 {
        assert_eq!(soon(socket.receive()).await.unwrap(), Some("x".into()));
    }
}

#[tokio::test]
async fn pings_without_end_from_a_server_that_does_not_read_end_the_connection() {
    let (mut socket, server) = connected(|mut stream| async move {
        let more = frame(FIN | PING, &[7; 125]).repeat(1_000);
        while stream.write_all(&more).await.is_ok() {}
    })
    .await;
    let error = soon(socket.receive()).await.unwrap_err();
    assert!(matches!(error, WebSocketError::Flooded { .. }), "{error:?}");
    drop(socket);
    soon(server.served()).await;
}

#[tokio::test]
async fn a_frame_after_the_close_frame_changes_nothing() {
    let (mut socket, server) = connected(|mut stream| async move {
        stream.write_all(&[super::close(1000, "bye"), frame(FIN | TEXT, b"x")].concat()).await.unwrap();
        drain(stream).await
    })
    .await;
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
    assert_eq!(socket.close_frame(), Some(&CloseFrame::new(1000, "bye").unwrap()));
    server.served().await;
}
