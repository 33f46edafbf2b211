//! What a guest is told where there is no response.

use std::time::Duration;

use frame_net::socks5::Refusal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::guest::{Ask, Outcome, World};
use super::origin::{Origin, ok};
use crate::relay::Relay;

/// An address where nobody listens.
async fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let outcome = World::new(&json!({})).ask(&Ask::get(closed().await), None).await;
    assert_eq!(outcome, Outcome::Failed("connection-refused"));
}

#[tokio::test]
async fn an_address_that_clearnet_does_not_lead_to() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::with(&json!({ "clearnet": {} }), json!({}));
    let port = origin.address.port();
    for host in
        ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "10.0.0.1", "169.254.169.254"]
    {
        let outcome = world.ask(&Ask::get(format!("{host}:{port}")), None).await;
        assert_eq!(outcome, Outcome::Failed("destination-IP-prohibited"), "{host}");
    }
    let outcome = world.ask(&Ask::get(format!("localhost:{port}")), None).await;
    assert_eq!(outcome, Outcome::Failed("HTTP-request-denied"), "nothing is said of the addresses of a name");
    let outcome = world.ask(&Ask::get(format!("hidden.onion:{port}")), None).await;
    assert_eq!(outcome, Outcome::Failed("HTTP-request-denied"), "a name of another network is not looked up");
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn what_a_proxy_refuses() {
    let relay = Relay::bind("127.0.0.1:0").await.unwrap();
    let proxy = relay.local_addr().unwrap().to_string();
    tokio::spawn(relay.serve(|request| match request.to.to_string().as_str() {
        "denied.example:80" => Err(Refusal::NotAllowed),
        "unknown.example:80" => Err(Refusal::HostUnreachable),
        _ => Err(Refusal::ConnectionRefused),
    }));
    let world = World::new(&json!({
        "app:overlay": { "kind": "socks5", "proxy": proxy },
        "app:down": { "kind": "socks5", "proxy": closed().await },
    }));
    for (host, code) in [
        ("denied.example", "HTTP-request-denied"),
        ("unknown.example", "destination-not-found"),
        ("down.example", "connection-refused"),
    ] {
        assert_eq!(world.ask(&Ask::get(host), Some("app:overlay")).await, Outcome::Failed(code), "{host}");
    }
    let outcome = world.ask(&Ask::get("shop.example"), Some("app:down")).await;
    assert_eq!(outcome, Outcome::Failed("destination-unavailable"), "the proxy refuses, and not the shop");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 16 << 10]).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let ask = Ask { scheme: 1, ..Ask::get(address) };
    let outcome = World::new(&json!({})).ask(&ask, None).await;
    assert_eq!(outcome, Outcome::Failed("TLS-protocol-error"));
    served.await.unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_no_http() {
    let origin = Origin::new(|_| b"220 mail.example ESMTP\r\n".to_vec()).await;
    let outcome = World::new(&json!({})).ask(&Ask::get(origin.address), None).await;
    assert_eq!(outcome, Outcome::Failed("HTTP-protocol-error"));
}

const SHORT: Option<Duration> = Some(Duration::from_millis(100));
const LONG: Option<Duration> = Some(Duration::from_mins(10));

#[tokio::test]
async fn a_connection_that_takes_longer_than_the_guest_waits() {
    // It is connected to, and says nothing as a proxy.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = silent.local_addr().unwrap().to_string();
    let world = World::new(&json!({ "app:overlay": { "kind": "socks5", "proxy": proxy } }));
    let ask = Ask { timeouts: [SHORT, LONG, LONG], ..Ask::get("shop.example") };
    let outcome = world.ask(&ask, Some("app:overlay")).await;
    assert_eq!(outcome, Outcome::Failed("connection-timeout"));
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_guest_waits() {
    let mut origin = Origin::silent().await;
    let ask = Ask { timeouts: [LONG, SHORT, LONG], ..Ask::get(origin.address) };
    let outcome = World::new(&json!({})).ask(&ask, None).await;
    assert_eq!(outcome, Outcome::Failed("connection-read-timeout"));
    origin.request().await;
    origin.closed().await;
}

#[tokio::test]
async fn a_body_that_stops_for_longer_than_the_guest_waits() {
    let mut origin = Origin::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await;
    let ask = Ask { timeouts: [LONG, LONG, SHORT], ..Ask::get(origin.address) };
    let answer = World::new(&json!({})).ask(&ask, None).await.response();
    assert_eq!((answer.text(), answer.ended), ("half", Err(Some("connection-read-timeout"))));
    origin.request().await;
    origin.closed().await;
}

#[tokio::test]
async fn a_response_that_takes_longer_than_the_client_waits() {
    let origin = Origin::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await;
    let world =
        World::with(&json!({ "clearnet": { "allow": ["127.0.0.0/8"] } }), json!({ "stall_limit": "1s" }));
    let answer = world.ask(&Ask::get(origin.address), None).await.response();
    assert_eq!((answer.text(), answer.ended), ("half", Err(Some("HTTP-response-timeout"))));
}
