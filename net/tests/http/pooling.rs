//! Which requests share a connection, and for how long it is kept.

use std::sync::Arc;
use std::time::Duration;

use frame_net::http::{HttpConfig, HttpError, Method, Request};
use frame_net::socks5::{Socks5, Socks5Config};
use frame_net::{
    BoxFuture, BoxStream, Cause, Dialer, DriverError, DriverStep, Endpoint, IsolationKey, Network, NetworkId,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::origin::{Answer, Origin, ok, redirect};
use crate::support::{endpoint, soon};
use crate::{World, isolating_relay, relay, world, world_with};

fn id() -> NetworkId {
    "app:proxy".parse().unwrap()
}

/// Asks for what is there, through `dialer`, and reads all of it.
async fn get(world: &World, dialer: &Dialer) -> String {
    let request = Request::get("http://shop.internal/").unwrap();
    let response = soon(world.client.send(dialer, request)).await.unwrap();
    soon(response.text()).await.unwrap()
}

/// A world with a network of a relay that leads to `origin`.
async fn overlay(origin: &Origin) -> (World, Dialer) {
    let (proxy, _asked) = relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    (world, dialer)
}

/// Another network in the place of the one that is there.
async fn replace(world: &World, origin: &Origin) {
    let (proxy, _asked) = relay(origin.address).await;
    let new = Socks5::new(Socks5Config::new(endpoint(&proxy)), &world.networks);
    world.networks.replace(&id(), Arc::new(new)).unwrap();
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let mut origin =
        Origin::new(|seen| if seen.path() == "/moved" { redirect(302, "/") } else { ok("hello") }).await;
    let (world, dialer) = overlay(&origin).await;
    for _ in 0..3 {
        get(&world, &dialer).await;
        assert_eq!(origin.request().await.connection, 0);
    }
    // Those of another frame of the same network, too, and of redirects.
    let request = Request::get("http://shop.internal/moved").unwrap();
    let other = world.dialer(&json!({ "network": "app:proxy" }));
    soon(world.client.clone().send(&other, request)).await.unwrap();
    assert_eq!((origin.request().await.connection, origin.request().await.connection), (0, 0));
}

#[tokio::test]
async fn networks_and_origins_share_none() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (a, _) = relay(origin.address).await;
    let (b, _) = relay(origin.address).await;
    let networks =
        json!({ "app:a": { "kind": "socks5", "proxy": a }, "app:b": { "kind": "socks5", "proxy": b } });
    let world = world(&networks);
    let url = origin.url("/");
    for (number, (network, url)) in [
        ("app:a", &url),
        ("app:b", &url),
        ("", &url),
        ("app:a", &"http://h/".into()),
        ("app:a", &"http://h:81/".into()),
    ]
    .into_iter()
    .enumerate()
    {
        let options = if network.is_empty() { json!({}) } else { json!({ "network": network }) };
        let dialer = world.dialer(&options);
        let response = soon(world.client.send(&dialer, Request::get(url).unwrap())).await.unwrap();
        soon(response.text()).await.unwrap();
        assert_eq!(origin.request().await.connection, number, "{network} {url}");
    }
}

#[tokio::test]
async fn isolation_keys_share_none() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (proxy, mut asked) = isolating_relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy, "isolate": true } }));
    let of = |key: &str| world.dialer(&json!({ "network": "app:proxy", "isolation": key }));
    for (key, connection) in [("a", 0), ("b", 1), ("a", 0), ("b", 1)] {
        get(&world, &of(key)).await;
        assert_eq!(origin.request().await.connection, connection, "{key}");
    }
    let mut username = async || soon(asked.recv()).await.unwrap().username;
    assert_ne!(username().await, username().await);
    assert!(asked.is_empty());
}

#[tokio::test]
async fn without_a_key_an_isolating_network_has_a_connection_for_each_request() {
    let mut origin =
        Origin::new(|seen| if seen.path() == "/" { redirect(302, "/a") } else { ok("hello") }).await;
    let (proxy, _asked) = isolating_relay(origin.address).await;
    let world = world(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy, "isolate": true } }));
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    for first in [0, 2] {
        get(&world, &dialer).await;
        assert_eq!(origin.request().await.connection, first);
        let mut connections = [0; 2];
        for _ in 0..3 {
            match origin.event().await {
                crate::origin::Event::Request(seen) => assert_eq!(seen.connection, first + 1),
                crate::origin::Event::Closed(connection) => connections[connection - first] += 1,
            }
        }
        assert_eq!(connections, [1, 1], "each is closed when its request is done");
    }
}

#[tokio::test]
async fn connections_that_wait_are_closed_when_the_network_is_replaced() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (world, dialer) = overlay(&origin).await;
    get(&world, &dialer).await;
    assert_eq!(origin.request().await.connection, 0);
    replace(&world, &origin).await;
    assert_eq!(origin.closed().await, 0);
    get(&world, &dialer).await;
    assert_eq!(origin.request().await.connection, 1);
}

#[tokio::test]
async fn connections_that_wait_are_closed_when_the_network_is_unregistered() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let (world, dialer) = overlay(&origin).await;
    get(&world, &dialer).await;
    assert_eq!(origin.request().await.connection, 0);
    world.networks.unregister(&id());
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn a_response_on_its_way_is_read_to_its_end_though_the_network_is_replaced() {
    let mut origin = Origin::new(|_| ok("x".repeat(4 << 20))).await;
    let (world, dialer) = overlay(&origin).await;
    let request = Request::get("http://shop.internal/").unwrap();
    let response = soon(world.client.send(&dialer, request)).await.unwrap();
    assert_eq!(origin.request().await.connection, 0);
    replace(&world, &origin).await;
    assert_eq!(soon(response.bytes()).await.unwrap().len(), 4 << 20);
    assert_eq!(origin.closed().await, 0, "and is not used again");
}

/// Connects to one address, when it is let.
struct Gate {
    to: std::net::SocketAddr,
    begun: Semaphore,
    open: Semaphore,
}

impl Network for Gate {
    fn kind(&self) -> &'static str {
        "gate"
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move {
            self.begun.add_permits(1);
            self.open.acquire().await.unwrap().forget();
            let connected = TcpStream::connect(self.to).await;
            let stream =
                connected.map_err(|error| DriverError::new(DriverStep::Connect, to, Cause::Io(error)))?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

#[tokio::test]
async fn a_connection_that_is_made_while_its_network_is_replaced_is_not_kept() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world(&json!({}));
    let gate = Arc::new(Gate { to: origin.address, begun: Semaphore::new(0), open: Semaphore::new(0) });
    world.networks.register(id(), Arc::clone(&gate) as Arc<dyn Network>).unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let (client, request) = (world.client.clone(), Request::get("http://shop.internal/").unwrap());
    let sent = {
        let dialer = dialer.clone();
        tokio::spawn(async move { client.send(&dialer, request).await?.text().await })
    };
    soon(gate.begun.acquire()).await.unwrap().forget();
    replace(&world, &origin).await;
    gate.open.add_permits(1);
    assert_eq!(soon(sent).await.unwrap().unwrap(), "hello");
    assert_eq!(origin.request().await.connection, 0);
    assert_eq!(origin.closed().await, 0);
    get(&world, &dialer).await;
    assert_eq!(origin.request().await.connection, 1);
}

#[tokio::test]
async fn no_request_that_is_made_after_a_change_takes_the_network_before_it() {
    let origins = [Origin::new(|_| ok("0")).await, Origin::new(|_| ok("1")).await];
    let (world, dialer) = overlay(&origins[0]).await;
    let get = |dialer: &Dialer| {
        let (client, dialer) = (world.client.clone(), dialer.clone());
        let request = Request::get("http://shop.internal/").unwrap();
        tokio::spawn(async move { client.send(&dialer, request).await?.text().await })
    };
    for round in 0..100 {
        // These are on their way, or wait for a connection, while the network is replaced.
        let before: Vec<_> = (0..4).map(|_| get(&dialer)).collect();
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        let current = round % 2;
        replace(&world, &origins[current]).await;
        let after: Vec<_> = (0..4).map(|_| get(&dialer)).collect();
        for request in before {
            soon(request).await.unwrap().unwrap();
        }
        for request in after {
            assert_eq!(soon(request).await.unwrap().unwrap(), current.to_string());
        }
    }
}

#[tokio::test]
async fn the_same_network_in_the_place_again_is_another() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world(&json!({}));
    let gate = Arc::new(Gate { to: origin.address, begun: Semaphore::new(0), open: Semaphore::new(9) });
    world.networks.register(id(), Arc::clone(&gate) as Arc<dyn Network>).unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    get(&world, &dialer).await;
    assert_eq!(origin.request().await.connection, 0);
    world.networks.unregister(&id());
    world.networks.register(id(), gate).unwrap();
    get(&world, &dialer).await;
    let events = [origin.event().await, origin.event().await];
    assert!(events.iter().any(|event| matches!(event, crate::origin::Event::Closed(0))), "{events:?}");
    assert!(
        events
            .iter()
            .any(|event| matches!(event, crate::origin::Event::Request(seen) if seen.connection == 1)),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_connection_is_kept_for_the_idle_timeout() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let mut config = HttpConfig::default();
    config.idle_timeout = Duration::from_millis(50);
    let world = world_with(&json!({}), config);
    world.text(&origin.url("/")).await;
    assert_eq!(origin.request().await.connection, 0);
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn no_more_connections_are_kept_than_allowed() {
    for (max_idle, max_idle_per_host, kept) in [(2, 8, 2), (8, 3, 3), (0, 8, 0), (8, 0, 0)] {
        let mut origin = Origin::new(|_| ok("hello")).await;
        let mut config = HttpConfig::default();
        (config.max_idle, config.max_idle_per_host) = (Some(max_idle), max_idle_per_host);
        let world = world_with(&json!({}), config);
        let mut responses = Vec::new();
        for number in 0..5 {
            responses.push(world.get(&origin.url("/")).await.unwrap());
            assert_eq!(origin.request().await.connection, number);
        }
        for response in responses {
            soon(response.text()).await.unwrap();
        }
        let mut closed = Vec::new();
        for _ in kept..5 {
            closed.push(origin.closed().await);
        }
        closed.sort_unstable();
        assert_eq!(closed, (0..5 - kept).collect::<Vec<_>>(), "those that waited longest");
        origin.assert_silent();
    }
}

#[tokio::test]
async fn all_connections_are_closed_with_the_client() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world(&json!({}));
    world.text(&origin.url("/")).await;
    let response = world.get(&origin.url("/")).await.unwrap();
    assert_eq!((origin.request().await.connection, origin.request().await.connection), (0, 0));
    drop(world);
    assert_eq!(soon(response.text()).await.unwrap(), "hello", "what is on its way is read");
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_serves_nobody() {
    let mut origin =
        Origin::new(|_| Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())).await;
    let world = world(&json!({}));
    for connection in 0..3 {
        let request = Request::post(&origin.url("/")).unwrap().body("body");
        soon(world.send(request).await.unwrap().text()).await.unwrap();
        assert_eq!(origin.request().await.connection, connection);
        assert_eq!(origin.closed().await, connection);
    }
}

/// Hands the far end of each connection to who holds the other end of the channel.
struct Hand(UnboundedSender<DuplexStream>);

impl Network for Hand {
    fn kind(&self) -> &'static str {
        "hand"
    }

    fn connect<'a>(
        &'a self,
        _: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        let (near, far) = tokio::io::duplex(1024);
        self.0.send(far).unwrap();
        Box::pin(async { Ok(Box::new(near) as BoxStream) })
    }
}

#[tokio::test]
async fn what_a_server_cannot_have_seen_is_sent_again() {
    let world = world(&json!({}));
    let (sender, mut connections) = unbounded_channel();
    world.networks.register(id(), Arc::new(Hand(sender))).unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let mut answered = None;
    for _ in 0..3 {
        let sent = async {
            let request = Request::post("http://shop.internal/").unwrap().body("body");
            world.client.send(&dialer, request).await?.text().await
        };
        let answer = async {
            let mut server = connections.recv().await.unwrap();
            let mut received = [0; 1024];
            let len = server.read(&mut received).await.unwrap();
            assert!(received[..len].starts_with(b"POST / HTTP/1.1\r\n"));
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
            server
        };
        // Nothing runs between this and the request, so that who sends it cannot know it yet.
        drop(answered);
        let (sent, server) = soon(Box::pin(async { tokio::join!(biased; sent, answer) })).await;
        assert_eq!(sent.unwrap(), "hello");
        answered = Some(server);
    }
    assert!(connections.is_empty());
}

/// Answers at `/`. At other paths it closes the connection, without a byte or after the first ones, but if asked
/// over its first connection only.
async fn closing(bytes: &'static str, is_always: bool) -> Origin {
    Origin::new(move |seen| {
        if seen.path() == "/" || seen.connection > 0 && !is_always {
            ok("hello")
        } else {
            Answer::Close(bytes.into())
        }
    })
    .await
}

#[tokio::test]
async fn an_idempotent_request_is_sent_again_if_a_kept_connection_closes_without_an_answer() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let mut origin = closing("", false).await;
        let world = world(&json!({}));
        world.text(&origin.url("/")).await;
        let request = Request::new(method.clone(), &origin.url("/closed")).unwrap();
        assert_eq!(world.send(request).await.unwrap().status(), 200, "{method}");
        assert_eq!((origin.request().await.connection, origin.request().await.connection), (0, 0));
        // The next attempt and the end of the first connection are in any order.
        let mut events = [format!("{:?}", origin.event().await), format!("{:?}", origin.event().await)];
        events.sort();
        assert!(events[0] == "Closed(0)" && events[1].contains("connection: 1"), "{events:?}");
    }
}

#[tokio::test]
async fn what_a_server_may_have_seen_is_not_sent_again() {
    let cases = [
        // Not idempotent.
        (Method::POST, "", true),
        (Method::PATCH, "", true),
        // Something of an answer came.
        (Method::GET, "HTTP/1.1 2", true),
        // The connection is new.
        (Method::GET, "", false),
    ];
    for (method, bytes, is_kept) in cases {
        let mut origin = closing(bytes, true).await;
        let world = world(&json!({}));
        if is_kept {
            world.text(&origin.url("/")).await;
            origin.request().await;
        }
        let request = Request::new(method.clone(), &origin.url("/closed")).unwrap();
        let error = world.send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }) && error.is_retryable(), "{method}: {error:?}");
        assert_eq!(origin.request().await.connection, 0);
        assert_eq!(origin.closed().await, 0);
        origin.assert_silent();
    }
}

#[test]
fn runtimes_share_none() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = runtime();
    let mut origin = servers.block_on(Origin::new(|_| ok("hello")));
    let world = world(&json!({}));
    let url = origin.url("/");
    let (is_done, done) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || servers.block_on(done));
    // A runtime that is not dropped, and that nobody runs: what it drives stands still.
    let (still, other) = (runtime(), runtime());
    for (number, runtime) in [&still, &other, &still, &other].into_iter().enumerate() {
        assert_eq!(runtime.block_on(world.text(&url)), "hello");
        assert_eq!(other.block_on(origin.request()).connection, number % 2);
    }
    is_done.send(()).unwrap();
}

#[test]
fn a_connection_is_closed_with_its_network_whoever_read_the_response() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (opener, reader) = (runtime(), runtime());
    let (mut origin, world, response) = opener.block_on(async {
        let origin = Origin::new(|_| ok("hello")).await;
        let (world, dialer) = overlay(&origin).await;
        let request = Request::get("http://shop.internal/").unwrap();
        let response = soon(world.client.send(&dialer, request)).await.unwrap();
        (origin, world, response)
    });
    // What drives the connection runs meanwhile, and who reads is gone before the network is.
    let (is_read, read) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            opener.block_on(soon(read)).unwrap();
            opener
        });
        assert_eq!(reader.block_on(async { soon(response.text()).await.unwrap() }), "hello");
        drop(reader);
        is_read.send(()).unwrap();
        opener.join().unwrap().block_on(async {
            assert_eq!(origin.request().await.connection, 0);
            assert!(world.networks.unregister(&id()));
            assert_eq!(origin.closed().await, 0);
        });
    });
}
