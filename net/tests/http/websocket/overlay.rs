//! Through networks, and counted for units.

use frame_net::NetworkError;
use frame_net::http::websocket::{CloseFrame, WebSocketError, WebSocketRequest};
use frame_net::http::{HttpConfig, HttpError, Request};
use serde_json::json;

use super::{connect, connected, drain, echo, world};
use crate::origin::{Origin, ok};
use crate::servers::microsocks::Microsocks;
use crate::support::{self, Bait, endpoint, frame, soon};
use crate::{causes, isolating_relay, relay, world as world_of};

#[tokio::test]
async fn the_name_goes_to_the_network_and_each_connection_is_of_its_own() {
    let address = echo(None).await;
    let (proxy, mut asked) = relay(address).await;
    let world = world_of(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    for (url, to) in [
        ("ws://nowhere.invalid/", "nowhere.invalid:80"),
        ("ws://nowhere.invalid/", "nowhere.invalid:80"),
        ("ws://bücher.invalid:81/", "xn--bcher-kva.invalid:81"),
        ("ws://duskgytldkxiuqc6.onion/", "duskgytldkxiuqc6.onion:80"),
        ("ws://[2001:db8::7]/", "[2001:db8::7]:80"),
    ] {
        let request = WebSocketRequest::new(url).unwrap();
        let mut socket = soon(world.client.websocket(&dialer, request)).await.unwrap();
        assert_eq!(&socket.peer().route, dialer.route());
        socket.send("hello").await.unwrap();
        assert_eq!(soon(socket.receive()).await.unwrap(), Some("hello".into()));
        soon(socket.close(CloseFrame::normal())).await.unwrap();
        assert_eq!(soon(asked.recv()).await.unwrap().to, endpoint(to));
    }
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_that_waits_for_requests_is_not_used_and_none_is_left_for_them() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world();
    world.text(&origin.url("/")).await;
    assert_eq!(origin.request().await.connection, 0);
    let request = WebSocketRequest::new(&origin.url("/").replace("http", "ws")).unwrap();
    connect(&world, request).await.unwrap_err();
    assert_eq!(origin.request().await.connection, 1);
    assert_eq!(origin.closed().await, 1);
    world.text(&origin.url("/")).await;
    assert_eq!(origin.request().await.connection, 0);
}

#[tokio::test]
async fn keys_go_to_the_proxy_as_those_of_requests_do() {
    let address = echo(None).await;
    let (proxy, mut asked) = isolating_relay(address).await;
    let world = world_of(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy, "isolate": true } }));
    let mut names = Vec::new();
    for key in ["one", "two", "one"] {
        let dialer = world.dialer(&json!({ "network": "app:proxy" })).isolated(key.parse().unwrap());
        let request = WebSocketRequest::new("ws://h/").unwrap();
        soon(world.client.websocket(&dialer, request)).await.unwrap();
        names.push(soon(asked.recv()).await.unwrap().username);
    }
    assert!(names[0].is_some());
    assert_eq!(names[0], names[2]);
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn a_network_that_fails_is_an_error_and_no_other_is_tried() {
    let bait = Bait::new();
    let world = world_of(&json!({ "app:proxy": { "kind": "socks5", "proxy": "127.0.0.1:1" } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = || WebSocketRequest::new(&format!("ws://{}/", bait.endpoint())).unwrap();
    let error = soon(world.client.websocket(&dialer, request())).await.unwrap_err();
    let WebSocketError::Http(HttpError::Network(network)) = &error else { panic!("{error:?}") };
    assert!(matches!(**network, NetworkError::Connect { .. }), "{error:?}");
    assert!(world.networks.unregister(&"app:proxy".parse().unwrap()));
    let error = soon(world.client.websocket(&dialer, request())).await.unwrap_err();
    let WebSocketError::Http(HttpError::Network(network)) = &error else { panic!("{error:?}") };
    assert!(matches!(**network, NetworkError::NotFound { .. }), "{error:?}");
    bait.assert_untouched();
}

#[tokio::test]
async fn what_the_rules_forbid_is_refused() {
    let bait = Bait::new();
    let (app, _) = support::app(json!({ "clearnet": {} }));
    let dialer = frame_net::dialer(&frame(&app, &json!({})), &app).unwrap();
    let request = WebSocketRequest::new(&format!("ws://{}/", bait.endpoint())).unwrap();
    let error = soon(world().client.websocket(&dialer, request)).await.unwrap_err();
    let WebSocketError::Http(error) = &error else { panic!("{error:?}") };
    assert!(causes(error).contains("in no address rule of `allow`"), "{}", causes(error));
    bait.assert_untouched();
}

#[tokio::test]
async fn it_counts_as_a_connection_as_long_as_it_is_open() {
    let (app, _) = support::app(json!({
        "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": { "connections_per_unit": 2 },
    }));
    let dialer = frame_net::dialer(&frame(&app, &json!({})), &app).unwrap();
    let address = echo(None).await;
    let client = world().client;
    let connect = async || {
        let request = WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
        soon(client.websocket(&dialer, request)).await
    };
    let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
    let error = connect().await.unwrap_err();
    assert!(
        matches!(&error, WebSocketError::Http(HttpError::Network(_))) && error.is_retryable(),
        "{error:?}"
    );
    // The server closes first, and then there is room.
    soon(one.close(CloseFrame::normal())).await.unwrap();
    let freed = async {
        while connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(freed).await;
    drop(two);
    let freed = async {
        while connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(freed).await;
}

#[tokio::test]
async fn connections_that_wait_for_requests_make_room() {
    let (app, _) = support::app(json!({
        "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": { "connections_per_unit": 1 },
    }));
    let dialer = frame_net::dialer(&frame(&app, &json!({})), &app).unwrap();
    let mut config = HttpConfig::default();
    config.max_idle = Some(8);
    let client = frame_net::http::HttpClient::new(config).unwrap();
    let mut origin = Origin::new(|_| ok("hello")).await;
    let response = soon(client.send(&dialer, Request::get(&origin.url("/")).unwrap())).await.unwrap();
    soon(response.text()).await.unwrap();
    origin.request().await;
    let address = echo(None).await;
    let request = WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
    soon(client.websocket(&dialer, request)).await.unwrap();
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn it_stays_open_when_its_network_is_unregistered() {
    let address = echo(None).await;
    let (proxy, _asked) = relay(address).await;
    let world = world_of(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = WebSocketRequest::new("ws://h/").unwrap();
    let mut socket = soon(world.client.websocket(&dialer, request)).await.unwrap();
    assert!(world.networks.unregister(&"app:proxy".parse().unwrap()));
    socket.send("hello").await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), Some("hello".into()));
}

#[tokio::test]
async fn microsocks_carries_it() {
    let Some(proxy) = Microsocks::with_credentials("app", "xyzzy").await else { return };
    let address = echo(None).await;
    let world = world_of(&json!({ "app:proxy": {
        "kind": "socks5", "proxy": proxy.address.to_string(), "credentials": { "username": "app", "password": "xyzzy" },
    } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = WebSocketRequest::new(&format!("ws://{address}/")).unwrap();
    let mut socket = soon(world.client.websocket(&dialer, request)).await.unwrap();
    for len in [1, 100_000, 1 << 20] {
        soon(socket.send(vec![7; len])).await.unwrap();
        assert_eq!(soon(socket.receive()).await.unwrap().unwrap().len(), len);
    }
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_the_connection() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut socket, _server) = runtime.block_on(connected(drain));
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(socket.receive()).unwrap_err();
    assert!(matches!(error, WebSocketError::Broken { .. }), "{error:?}");
    runtime.block_on(socket.send("x")).unwrap_err();
}
