//! The opening handshake, and servers that do not complete it.

use std::time::Duration;

use frame_net::http::websocket::{HandshakeError, WebSocketError, WebSocketRequest};
use frame_net::http::{DefaultHeader, HttpConfig, HttpError, UrlError};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{accept, connect, drain, echo, header, raw_server, read_head, switch, world};
use crate::origin::{Origin, redirect, response};
use crate::support::soon;
use crate::tls::{Authority, overlay};
use crate::world_with;

#[tokio::test]
async fn the_request_is_that_of_the_rfc_and_says_nothing_else() {
    let server = raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        stream
            .write_all(switch(&head, "Sec-WebSocket-Protocol: v1\r\nX-Seen: yes\r\n").as_bytes())
            .await
            .unwrap();
        head
    })
    .await;
    let url = format!("ws://{}/a/b?c=d#e", server.address);
    let request = WebSocketRequest::new(&url).unwrap().header("x-token", "31337").unwrap();
    let request = request.subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let socket = connect(&world(), request).await.unwrap();
    assert_eq!(socket.subprotocol(), Some("v1"));
    assert_eq!(socket.headers()["x-seen"], "yes");
    assert_eq!(socket.peer().endpoint, server.address.try_into().unwrap());
    let host = server.address.to_string();
    let head = server.served().await;
    let key = header(&head, "sec-websocket-key").unwrap();
    assert_eq!(data_encoding::BASE64.decode(key.as_bytes()).unwrap().len(), 16);
    let mut lines: Vec<_> = head.trim_end().lines().filter(|line| !line.contains(key)).collect();
    assert_eq!(lines.remove(0), "GET /a/b?c=d HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {host}");
    let expected = [
        "connection: Upgrade",
        &host,
        "sec-websocket-protocol: v2, v1",
        "sec-websocket-version: 13",
        "upgrade: websocket",
        "x-token: 31337",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn each_handshake_has_a_key_of_its_own() {
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let server = raw_server(|mut stream| async move {
            let head = read_head(&mut stream).await;
            stream.write_all(switch(&head, "").as_bytes()).await.unwrap();
            header(&head, "sec-websocket-key").unwrap().to_owned()
        })
        .await;
        connect(&world(), server.request()).await.unwrap();
        keys.insert(server.served().await);
    }
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn headers_of_the_configuration_are_sent_unless_the_request_has_its_own() {
    let mut config = HttpConfig::default();
    let header = |name, value| DefaultHeader::new(name, value).unwrap();
    config.headers = vec![header("user-agent", "shop/1.0"), header("x-own", "no")];
    let world = world_with(&json!({}), config);
    let server = raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        stream.write_all(switch(&head, "").as_bytes()).await.unwrap();
        head
    })
    .await;
    connect(&world, server.request().header("x-own", "yes").unwrap()).await.unwrap();
    let head = server.served().await;
    assert_eq!(
        (super::header(&head, "user-agent"), super::header(&head, "x-own")),
        (Some("shop/1.0"), Some("yes"))
    );
}

#[test]
fn what_cannot_be_asked_for_is_refused_in_words() {
    let scheme = WebSocketRequest::new("https://h/").unwrap_err();
    assert!(matches!(scheme, WebSocketError::Http(HttpError::Url(UrlError::WebSocketScheme))), "{scheme:?}");
    for url in ["http://h/", "h", "ws://", "ws://u:p@h/", "ws://h:0/", "file:///etc"] {
        let error = WebSocketRequest::new(url).unwrap_err();
        assert!(matches!(error, WebSocketError::Http(HttpError::Url(_))), "{url}: {error:?}");
        assert!(!error.is_retryable());
    }
    let request = || WebSocketRequest::new("ws://h/").unwrap();
    for name in [
        "Connection",
        "Host",
        "Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ] {
        let error = request().header(name, "x").unwrap_err();
        assert!(matches!(error, WebSocketError::Http(HttpError::ReservedHeader { .. })), "{name}: {error:?}");
        assert!(error.to_string().contains(&name.to_lowercase()), "{error}");
    }
    for name in ["", "a b", "a,b", "a\r\nb", "ä", "(", &"a".repeat(256)] {
        let error = request().subprotocol(name).unwrap_err();
        assert!(matches!(error, WebSocketError::InvalidSubprotocol), "{name}: {error:?}");
    }
    request().subprotocol("a").unwrap().subprotocol("a").unwrap_err();
    request().subprotocol("a").unwrap().subprotocol("A").unwrap();
}

#[test]
fn neither_the_path_nor_a_header_is_shown() {
    let request = WebSocketRequest::new("wss://h/31337?31337").unwrap().header("x-token", "31337").unwrap();
    assert!(!format!("{request:?}").contains("31337"), "{request:?}");
}

async fn refused(response: impl Fn(&str) -> String + Send + 'static) -> HandshakeError {
    let server = raw_server(move |mut stream| async move {
        let head = read_head(&mut stream).await;
        stream.write_all(response(&head).as_bytes()).await.unwrap();
        drain(stream).await
    })
    .await;
    let error = connect(&world(), server.request()).await.unwrap_err();
    let WebSocketError::Handshake { source: why, .. } = error else { panic!("{error:?}") };
    assert!(!error.is_retryable());
    // Nothing more is sent over a connection that may be in other hands.
    assert!(server.served().await.is_empty());
    why
}

#[tokio::test]
async fn a_response_that_does_not_follow_from_the_request_is_refused() {
    let without = |name: &'static str| {
        move |head: &str| {
            let switch = switch(head, "");
            switch.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect::<String>()
        }
    };
    let with = |from: &'static str, to: &'static str| move |head: &str| switch(head, "").replace(from, to);
    let more = |further: &'static str| move |head: &str| switch(head, further);
    assert_eq!(refused(without("Upgrade")).await, HandshakeError::Upgrade);
    assert_eq!(refused(with("websocket", "h2c")).await, HandshakeError::Upgrade);
    assert_eq!(refused(without("Connection")).await, HandshakeError::Connection);
    assert_eq!(refused(with(": Upgrade", ": close")).await, HandshakeError::Connection);
    assert_eq!(refused(without("Sec-WebSocket-Accept")).await, HandshakeError::Accept);
    assert_eq!(refused(with("=\r\n", "\r\n")).await, HandshakeError::Accept);
    assert_eq!(
        refused(|head| switch(head, "").replace(&accept(head), &accept(head).to_lowercase())).await,
        HandshakeError::Accept
    );
    assert_eq!(refused(more("Sec-WebSocket-Accept: x\r\n")).await, HandshakeError::Accept);
    assert_eq!(
        refused(more("Sec-WebSocket-Extensions: permessage-deflate\r\n")).await,
        HandshakeError::Extension
    );
    assert_eq!(refused(more("Sec-WebSocket-Protocol: v1\r\n")).await, HandshakeError::Subprotocol);
    assert_eq!(refused(with("HTTP/1.1", "HTTP/1.0")).await, HandshakeError::Version);
}

#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_refused() {
    for selected in ["V1", "v2", "v1, v3", "v1\r\nSec-WebSocket-Protocol: v3"] {
        let further = format!("Sec-WebSocket-Protocol: {selected}\r\n");
        let server = raw_server(move |mut stream| async move {
            let head = read_head(&mut stream).await;
            stream.write_all(switch(&head, &further).as_bytes()).await.unwrap();
            drain(stream).await
        })
        .await;
        let request = server.request().subprotocol("v1").unwrap().subprotocol("v3").unwrap();
        let error = connect(&world(), request).await.unwrap_err();
        let WebSocketError::Handshake { source: why, .. } = error else { panic!("{selected}: {error:?}") };
        assert_eq!(why, HandshakeError::Subprotocol);
    }
}

#[tokio::test]
async fn case_and_lists_are_as_http_has_them() {
    let server = raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let switch = switch(&head, "")
            .replace(": websocket", ":   WebSocket  ")
            .replace(": Upgrade", ": keep-alive, UPGRADE");
        stream.write_all(switch.as_bytes()).await.unwrap();
        drain(stream).await
    })
    .await;
    connect(&world(), server.request()).await.unwrap();
}

#[tokio::test]
async fn another_status_is_an_error_that_names_it_and_no_redirect_is_followed() {
    for (status, is_retryable) in [
        (200, false),
        (301, false),
        (302, false),
        (308, false),
        (401, false),
        (404, false),
        (426, false),
        (429, true),
        (503, true),
    ] {
        let mut origin = Origin::new(move |_| match status {
            300..400 => redirect(status, "/elsewhere"),
            status => response(status, &[], "no"),
        })
        .await;
        let request = WebSocketRequest::new(&origin.url("/").replace("http", "ws")).unwrap();
        let error = connect(&world(), request).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{error:?}");
        let said = error.to_string();
        assert!(said.contains(&format!("refused a WebSocket with status {status}")), "{said}");
        assert_eq!(said.ends_with("; redirects are not followed"), (300..400).contains(&status), "{said}");
        let WebSocketError::Refused { status: refused, .. } = error else { panic!("{error:?}") };
        assert_eq!(refused.as_u16(), status);
        origin.request().await;
        // The connection serves nothing else.
        assert_eq!(origin.closed().await, 0);
    }
}

#[tokio::test]
async fn the_limits_of_the_client_hold_for_the_handshake() {
    let mut config = HttpConfig::default();
    (config.max_response_headers, config.max_response_head) = (10, 2000);
    let world = world_with(&json!({}), config);
    let many = "X: y\r\n".repeat(8);
    let large = format!("X: {}\r\n", "y".repeat(2000));
    for (further, said) in [
        (many, "10 headers, the limit of `max_response_headers`"),
        (large, "2000 bytes, the limit of `max_response_head`"),
    ] {
        let server = raw_server(move |mut stream| async move {
            let head = read_head(&mut stream).await;
            stream.write_all(switch(&head, &further).as_bytes()).await.unwrap();
            drain(stream).await
        })
        .await;
        let error = connect(&world, server.request()).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_drips_its_response_is_given_up_in_time() {
    let limit = Duration::from_millis(100);
    for is_total in [true, false] {
        let server = raw_server(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 101 X\r\nX-Header: ").await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(limit / 10).await;
            }
        })
        .await;
        let request = server.request();
        let request = if is_total { request.time_limit(limit) } else { request.answer_limit(limit) };
        let error = connect(&world(), request).await.unwrap_err();
        let is_expected = match &error {
            WebSocketError::Http(HttpError::TimedOut { .. }) => is_total,
            WebSocketError::Http(HttpError::AnswerTimedOut { .. }) => !is_total,
            _ => false,
        };
        assert!(is_expected && error.is_retryable(), "{error:?}");
        server.served().await;
    }
}

#[tokio::test]
async fn a_handshake_that_is_given_up_closes_the_connection() {
    let server = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        drain(stream).await
    })
    .await;
    let world = world();
    let dialer = world.dialer(&json!({}));
    let connecting = world.client.websocket(&dialer, server.request());
    tokio::time::timeout(Duration::from_millis(50), connecting).await.unwrap_err();
    server.served().await;
}

#[tokio::test]
async fn what_is_not_http_and_a_server_that_hangs_up_are_told_apart() {
    for (answer, is_retryable) in [("SSH-2.0-x\r\n\r\n", false), ("", true), ("HTTP/1.1 101", true)] {
        let server = raw_server(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let error = connect(&world(), server.request()).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{answer}: {error:?}");
    }
}

#[tokio::test]
async fn over_tls_http_1_1_is_offered_alone_and_the_name_is_proven() {
    let authority = Authority::new();
    // It would rather speak HTTP/2.
    let address = echo(Some(authority.server("shop.internal", &[b"h2", b"http/1.1"]))).await;
    let request = |url| WebSocketRequest::new(url).unwrap();
    let connect = async |config, url| {
        let world = overlay(address, config).await;
        let dialer = world.dialer(&json!({ "network": "app:proxy" }));
        soon(world.client.websocket(&dialer, request(url))).await
    };
    let mut socket = connect(authority.trusted(), "wss://shop.internal/").await.unwrap();
    socket.send("hello").await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap().unwrap(), "hello".into());
    let error = connect(authority.trusted(), "wss://other.internal/").await.unwrap_err();
    assert!(matches!(error, WebSocketError::Http(HttpError::Tls { .. })), "{error:?}");
    let error = connect(HttpConfig::default(), "wss://shop.internal/").await.unwrap_err();
    assert!(matches!(error, WebSocketError::Http(HttpError::UntrustedIssuer { .. })), "{error:?}");
}
