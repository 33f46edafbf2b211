//! Requests through an overlay network, where names are known that nobody knows here.

use frame_net::http::{HttpError, RedirectError, Request, StatusCode};
use frame_net::socks5::Refusal;
use frame_net::{ChosenBy, NetworkError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;

use crate::origin::{Origin, ok, redirect};
use crate::support::relay::Relay;
use crate::support::{Bait, endpoint, soon};
use crate::{causes, relay, world};

#[tokio::test]
async fn the_name_goes_to_the_network_as_it_is() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (proxy, mut asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let cases = [
        ("http://nowhere.invalid/", "nowhere.invalid:80", "nowhere.invalid"),
        ("http://Shop.Internal:8080/", "shop.internal:8080", "shop.internal:8080"),
        ("http://bücher.invalid/", "xn--bcher-kva.invalid:80", "xn--bcher-kva.invalid"),
        ("http://duskgytldkxiuqc6.onion/", "duskgytldkxiuqc6.onion:80", "duskgytldkxiuqc6.onion"),
        ("http://shop.i2p:81/", "shop.i2p:81", "shop.i2p:81"),
        ("http://[2001:db8::7]/", "[2001:db8::7]:80", "[2001:db8::7]"),
        ("http://[2001:db8::7]:81/", "[2001:db8::7]:81", "[2001:db8::7]:81"),
        ("http://localhost:443/", "localhost:443", "localhost:443"),
    ];
    for (url, to, host) in cases {
        let response = soon(world.client.send(&dialer, Request::get(url).unwrap())).await.unwrap();
        assert_eq!(response.route(), dialer.route());
        assert_eq!(soon(response.text()).await.unwrap(), "hello");
        assert_eq!(soon(asked.recv()).await.unwrap().to, endpoint(to));
        assert_eq!(origin.request().await.header("host"), Some(host));
    }
}

#[tokio::test]
async fn a_body_goes_through_the_network() {
    let mut origin = Origin::new(|seen| ok(seen.body.len().to_string())).await;
    let (proxy, _asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let request = Request::post("http://shop.internal/").unwrap().body(vec![7; 1 << 20]);
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let response = soon(world.client.send(&dialer, request)).await.unwrap();
    assert_eq!(soon(response.text()).await.unwrap(), "1048576");
    assert!(origin.request().await.body.iter().all(|&byte| byte == 7));
}

#[tokio::test]
async fn every_hop_of_a_redirect_goes_through_the_network() {
    let bait = Bait::new();
    let to_bait = format!("http://{}/", bait.endpoint());
    let origin = Origin::new(move |seen| match seen.path() {
        "/other" => redirect(302, "http://other.invalid:81/address"),
        "/address" => redirect(302, "http://8.8.8.8:82/"),
        "/bait" => redirect(302, &to_bait),
        _ => ok("arrived"),
    })
    .await;
    let (proxy, mut asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = Request::get("http://shop.internal/other").unwrap();
    let response = soon(world.client.send(&dialer, request)).await.unwrap();
    assert_eq!((response.status(), response.url().path()), (StatusCode::OK, "/"));
    for to in ["shop.internal:80", "other.invalid:81", "8.8.8.8:82"] {
        assert_eq!(soon(asked.recv()).await.unwrap().to, endpoint(to));
    }
    // Not even where the network leads there, which it does here, is a server to choose that.
    let request = Request::get("http://shop.internal/bait").unwrap();
    let error = soon(world.client.send(&dialer, request)).await.unwrap_err();
    assert!(matches!(error, HttpError::Redirect { source: RedirectError::Special, .. }), "{error:?}");
    assert!(!error.is_retryable());
    while let Ok(request) = asked.try_recv() {
        assert_eq!(request.to, endpoint("shop.internal:80"));
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn what_the_network_refuses_stays_typed() {
    let relay = Relay::bind("127.0.0.1:0").await.unwrap();
    let proxy = relay.local_addr().unwrap().to_string();
    tokio::spawn(relay.serve(|_| Err(Refusal::NotAllowed)));
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let bait = Bait::new();
    let request = Request::get(&format!("http://{}/", bait.endpoint())).unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let error = soon(world.client.send(&dialer, request)).await.unwrap_err();
    let HttpError::Network(network) = &error else { panic!("{error:?}") };
    assert!(matches!(**network, NetworkError::Connect { .. }), "{network:?}");
    assert_eq!(error.is_retryable(), network.is_retryable());
    assert!(causes(&error).ends_with(&Refusal::NotAllowed.to_string()), "{}", causes(&error));
    bait.assert_untouched();
}

#[tokio::test]
async fn a_network_that_cannot_isolate_makes_no_connection_for_a_key() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (proxy, mut asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let get = || Request::get("http://shop.internal/").unwrap();
    // Not even where a connection without a key waits.
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    soon(world.client.send(&dialer, get())).await.unwrap();
    soon(asked.recv()).await.unwrap();
    origin.request().await;
    let dialer = dialer.isolated("tenant".parse().unwrap());
    let error = soon(world.client.send(&dialer, get())).await.unwrap_err();
    assert!(causes(&error).contains("not supported"), "{}", causes(&error));
    assert!(asked.try_recv().is_err());
    origin.assert_silent();
}

#[tokio::test]
async fn a_network_that_is_gone_is_not_found_even_where_a_connection_waits() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (proxy, _asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let get = || Request::get("http://shop.internal/").unwrap();
    let response = soon(world.client.send(&dialer, get())).await.unwrap();
    soon(response.text()).await.unwrap();
    origin.request().await;

    assert!(world.networks.unregister(&"app:proxy".parse().unwrap()));
    // The connection is not closed yet: nothing else ran since.
    let error = soon(world.client.send(&dialer, get())).await.unwrap_err();
    let HttpError::Network(error) = error else { panic!("{error:?}") };
    assert!(matches!(*error, NetworkError::NotFound { chosen_by: ChosenBy::Frame, .. }), "{error:?}");
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn a_request_is_not_sent_where_a_proxy_has_put_bytes_behind_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let (sender, mut asked) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                seen.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
            let mut request = Vec::new();
            // The client may close it with a reset.
            let _ = stream.read_to_end(&mut request).await;
            sender.send(request).unwrap();
        }
    });
    let world = world(&json!({ "app:proxy": { "kind": "http-connect", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = Request::post("http://shop.internal/").unwrap().body("body");
    let error = soon(world.client.send(&dialer, request)).await.unwrap_err();
    assert!(matches!(error, HttpError::Unsent { attempts: 2, .. }), "{error:?}");
    assert!(error.to_string().starts_with("the request was not sent to shop.internal:80"), "{error}");
    for _ in 0..2 {
        assert_eq!(soon(asked.recv()).await.unwrap(), b"");
    }
    assert!(asked.try_recv().is_err());
}
