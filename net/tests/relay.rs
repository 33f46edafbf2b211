//! The SOCKS5 network against the relay, through a frame, as a program uses them.

mod support;

use std::net::SocketAddr;

use frame_net::socks5::{Refusal, Socks5, Socks5Config};
use frame_net::{Endpoint, Host};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use support::relay::{Relay, Request};
use support::{Bait, app, connect_through, endpoint, failure, frame, soon};

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

/// A relay that sends everyone to `to`, and what it was asked for.
async fn relay(
    credentials: Option<[&str; 2]>,
    to: Result<SocketAddr, Refusal>,
) -> (String, UnboundedReceiver<Request>) {
    let relay = Relay::bind("127.0.0.1:0").await.unwrap();
    let relay = match credentials {
        Some([username, password]) => relay.with_credentials(username, password),
        None => relay,
    };
    let address = relay.local_addr().unwrap().to_string();
    let (sender, requests) = unbounded_channel();
    tokio::spawn(relay.serve(move |request| {
        let _ = sender.send(request.clone());
        to
    }));
    (address, requests)
}

async fn raw(address: &str, send: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(send).await.unwrap();
    let mut received = Vec::new();
    // The relay may reset what it did not read.
    let _ = soon(client.read_to_end(&mut received)).await;
    received
}

#[tokio::test]
async fn a_frame_on_the_network_reaches_a_name_that_only_the_proxy_knows() {
    let (address, mut requests) = relay(None, Ok(echo().await)).await;
    let config = json!({
        "default": "app:proxy",
        "networks": { "app:proxy": { "kind": "socks5", "proxy": address } },
    });
    let (app, _) = app(config);
    let parent = frame(&app, &json!({}));
    let child = parent.fork().seal();

    let to = endpoint("nowhere.invalid:7");
    let dialer = frame_net::dialer(&child, &app).unwrap();
    let mut stream = soon(dialer.connect(&to)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    soon(stream.read_to_string(&mut echoed)).await.unwrap();
    assert_eq!(echoed, "hello");
    let request = soon(requests.recv()).await.unwrap();
    assert_eq!((request.to, request.username), (to, None));
}

#[tokio::test]
async fn the_relay_tells_names_from_addresses() {
    let (address, mut requests) = relay(None, Ok(echo().await)).await;
    for to in ["127.0.0.1:1", "[2001:db8::7]:2", "localhost:3"] {
        connect_through(json!({ "proxy": address }), &endpoint(to)).await.unwrap();
        let request = soon(requests.recv()).await.unwrap();
        assert_eq!(request.to, endpoint(to));
        assert_eq!(matches!(request.to.host(), Host::Name(_)), to.starts_with("localhost"));
    }
}

#[tokio::test]
async fn the_relay_serves_only_who_has_its_credentials() {
    let credentials = ["app", "xyzzy"];
    let (address, mut requests) = relay(Some(credentials), Ok(echo().await)).await;
    let bait = Bait::new();
    let config = |password: &str| json!({ "proxy": address, "credentials": { "username": "app", "password": password } });
    connect_through(config("xyzzy"), &bait.endpoint()).await.unwrap();
    assert_eq!(soon(requests.recv()).await.unwrap().username.as_deref(), Some("app"));

    for config in [config("plugh"), json!({ "proxy": address })] {
        let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
    }
    assert!(requests.try_recv().is_err());
    bait.assert_untouched();
}

#[tokio::test]
async fn the_relay_refuses_with_every_code() {
    for code in 1..=u8::MAX {
        let refusal = Refusal::from_code(code).unwrap();
        let (address, _requests) = relay(None, Err(refusal)).await;
        let error = connect_through(json!({ "proxy": address }), &endpoint("h:80")).await.unwrap_err();
        assert!(failure(&error).1.ends_with(&refusal.to_string()));
    }
}

#[tokio::test]
async fn the_relay_reports_a_target_that_is_down() {
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, _requests) = relay(None, Ok(down)).await;
    let error = connect_through(json!({ "proxy": address }), &endpoint("h:80")).await.unwrap_err();
    assert!(failure(&error).1.ends_with(&Refusal::ConnectionRefused.to_string()));
}

#[tokio::test]
async fn the_relay_parses_strictly() {
    let (address, mut requests) = relay(None, Err(Refusal::NotAllowed)).await;
    let granted_greeting = [5, 0];
    let refused = |code: u8| [&granted_greeting[..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat();

    assert_eq!(raw(&address, b"\x04\x01\x00").await, b"", "SOCKS4");
    assert_eq!(raw(&address, &[5, 0]).await, b"", "no methods");
    assert_eq!(raw(&address, &[5, 1, 2]).await, [5, 0xff], "another method");
    let requested = |request: &[u8]| [&[5, 1, 0], request].concat();
    assert_eq!(raw(&address, &requested(b"\x05\x02\x00\x01\0\0\0\0\0\x50")).await, refused(7), "BIND");
    assert_eq!(raw(&address, &requested(b"\x05\x01\x00\x03\x03a b\0\x50")).await, refused(1), "no name");
    assert_eq!(raw(&address, &requested(b"\x05\x01\x00\x01\x7f\0\0\x01\0\0")).await, refused(1), "port zero");
    assert_eq!(
        raw(&address, &requested(b"\x05\x01\x07\x01\0\0\0\0\0\x50")).await,
        granted_greeting,
        "reserved"
    );
    assert_eq!(raw(&address, &requested(b"\x05\x01\x00\x02\0\0\0\0\0\x50")).await, granted_greeting, "type");
    assert!(requests.try_recv().is_err(), "none of them was a request");
}

#[tokio::test]
async fn a_network_that_is_replaced_serves_the_dialers_that_exist() {
    let (old, mut old_requests) = relay(None, Ok(echo().await)).await;
    let (new, mut new_requests) = relay(None, Ok(echo().await)).await;
    let (app, networks) = app(json!({ "networks": { "app:proxy": { "kind": "socks5", "proxy": old } } }));
    let dialer = frame_net::dialer(&frame(&app, &json!({ "network": "app:proxy" })), &app).unwrap();
    let to: Endpoint = endpoint("h:80");

    let mut before = soon(dialer.connect(&to)).await.unwrap();
    soon(old_requests.recv()).await.unwrap();
    let replacement = Socks5::new(Socks5Config::new(endpoint(&new)), &networks);
    networks.replace(&"app:proxy".parse().unwrap(), std::sync::Arc::new(replacement)).unwrap();
    soon(dialer.connect(&to)).await.unwrap();
    soon(new_requests.recv()).await.unwrap();

    // A connection made through the old network outlives it.
    before.write_all(b"x").await.unwrap();
    assert_eq!(soon(before.read_u8()).await.unwrap(), b'x');
    assert!(old_requests.try_recv().is_err());
}

#[tokio::test]
async fn connections_of_a_relay_come_from_the_source_it_was_given() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    let relay = Relay::bind("127.0.0.1:0").await.unwrap().with_source("127.0.0.2".parse().unwrap());
    let address = relay.local_addr().unwrap().to_string();
    tokio::spawn(relay.serve(move |_| Ok(to)));
    // CONNECT to 192.0.2.1:80, without authentication (RFC 1928).
    let request = [&[5, 1, 0][..], &[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]].concat();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&request).await.unwrap();
    let (_, peer) = soon(server.accept()).await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
}
