//! `max_connections_per_host`: requests beyond it wait for one of the connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_net::http::{Bytes, HttpClient, HttpConfig, HttpError, Request};
use frame_net::{Dialer, UNIT_OF, Unit, dialer};
use frame_registry::{App, FrameBuilder, FrameResolvers, Key, Options, ResolveContext};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::isolating_relay;
use crate::support::{everything, soon};
use crate::tls::{Authority, overlay};

/// What a frame is of.
static OF: Key<String> = Key::new("host_limit_test.unit");

/// A server of HTTP/1.1 that answers when it is told to.
struct Server {
    address: SocketAddr,
    /// The paths that were asked for.
    asked: UnboundedReceiver<String>,
    /// Has a permit for each answer.
    answers: Arc<Semaphore>,
    /// How many connections there were, and how many there are at most at a time.
    accepted: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let (accepted, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&accepted), Arc::clone(&most));
        tokio::spawn({
            let answers = Arc::clone(&answers);
            async move {
                let mut open: Vec<std::sync::Weak<()>> = Vec::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    counts.0.fetch_add(1, Ordering::SeqCst);
                    // What was closed before is noticed first.
                    for _ in 0..16 {
                        tokio::task::yield_now().await;
                    }
                    let this = Arc::new(());
                    open.retain(|connection| connection.strong_count() > 0);
                    open.push(Arc::downgrade(&this));
                    counts.1.fetch_max(open.len(), Ordering::SeqCst);
                    tokio::spawn(serve(stream, sender.clone(), Arc::clone(&answers), this));
                }
            }
        });
        Self { address, asked, answers, accepted, most }
    }

    async fn asked(&mut self) -> String {
        soon(self.asked.recv()).await.unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: UnboundedSender<String>,
    answers: Arc<Semaphore>,
    _open: Arc<()>,
) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(len @ 1..) = stream.read(&mut buffer).await else { return };
        let head = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let _ = asked.send(path.clone());
        // A client that hangs up is noticed at once, as it is by real servers.
        tokio::select! {
            answer = answers.acquire() => answer.unwrap().forget(),
            _ = stream.read(&mut buffer) => return,
        }
        let (status, headers) = match path.as_str() {
            "/moved" => ("302 X", "Location: /arrived\r\n"),
            _ => ("200 X", ""),
        };
        let close = if path == "/close" { "Connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n{headers}{close}\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() || !close.is_empty() {
            return;
        }
    }
}

struct World {
    app: App,
    client: HttpClient,
}

fn world(networks: &Value, max: usize) -> World {
    let mut config = HttpConfig::default();
    config.max_connections_per_host = NonZeroUsize::new(max);
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.set(&UNIT_OF, |frame| frame.get(&OF).map(|of| Unit::new("unit", of.as_str()))).unwrap();
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "networks": networks });
    frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
    World { app: app.build(), client: HttpClient::new(config).unwrap() }
}

impl World {
    fn dialer(&self, unit: &str, options: &Value) -> Dialer {
        let mut frame = FrameBuilder::new();
        frame.set(&OF, unit.to_owned());
        let options = Options::from_json(options).unwrap();
        self.app
            .resolvers()
            .resolve(&ResolveContext::new(&self.app, None), &options, frame.pairs_mut())
            .unwrap();
        dialer(&frame.seal(), &self.app).unwrap()
    }

    /// Begins a request, and lets it come as far as it does at once.
    async fn begin(&self, dialer: &Dialer, request: Request) -> JoinHandle<Result<String, HttpError>> {
        let (client, dialer) = (self.client.clone(), dialer.clone());
        let begun = tokio::spawn(async move { client.send(&dialer, request).await?.text().await });
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        begun
    }
}

fn get(server: &Server, path: &str) -> Request {
    Request::get(&format!("http://{}{path}", server.address)).unwrap()
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_in_their_order() {
    let mut server = Server::new().await;
    let world = world(&json!({}), 2);
    let dialer = world.dialer("a", &json!({}));
    let mut begun = Vec::new();
    for number in 0..10 {
        begun.push(world.begin(&dialer, get(&server, &format!("/{number}"))).await);
    }
    let mut first = [server.asked().await, server.asked().await];
    first.sort();
    assert_eq!(first, ["/0", "/1"]);
    assert!(server.asked.try_recv().is_err());
    for number in 2..10 {
        server.answers.add_permits(1);
        assert_eq!(server.asked().await, format!("/{number}"));
        assert!(server.asked.try_recv().is_err());
    }
    server.answers.add_permits(2);
    for request in begun {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_its_place_to_the_next() {
    let mut server = Server::new().await;
    let world = world(&json!({}), 1);
    let dialer = world.dialer("a", &json!({}));
    let first = world.begin(&dialer, get(&server, "/first")).await;
    assert_eq!(server.asked().await, "/first");
    let waits = world.begin(&dialer, get(&server, "/waits")).await;
    let next = world.begin(&dialer, get(&server, "/next")).await;
    waits.abort();
    // One that has a connection closes it, and that makes room, too.
    first.abort();
    assert_eq!(server.asked().await, "/next");
    server.answers.add_permits(1);
    assert_eq!(soon(next).await.unwrap().unwrap(), "ok");
    assert_eq!(server.accepted.load(Ordering::SeqCst), 2);
    assert_eq!(server.most.load(Ordering::SeqCst), 1, "one is closed before the next is made");
}

#[tokio::test]
async fn a_request_waits_no_longer_than_it_may_take() {
    let mut server = Server::new().await;
    let world = world(&json!({}), 1);
    let dialer = world.dialer("a", &json!({}));
    let first = world.begin(&dialer, get(&server, "/first")).await;
    assert_eq!(server.asked().await, "/first");
    let short = Duration::from_millis(100);
    // To wait for others takes none of the time for a connection.
    let patient = get(&server, "/patient").connect_limit(short);
    let patient = world.begin(&dialer, patient).await;
    let late = world.begin(&dialer, get(&server, "/late").time_limit(short * 2)).await;
    let error = soon(late).await.unwrap().unwrap_err();
    assert!(matches!(error, HttpError::HostBusy { limit: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("`max_connections_per_host`") && error.is_retryable(), "{error}");
    server.answers.add_permits(2);
    assert_eq!(soon(first).await.unwrap().unwrap(), "ok");
    assert_eq!(soon(patient).await.unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn no_unit_and_no_isolation_key_waits_for_another() {
    let mut server = Server::new().await;
    let (proxy, _asked) = isolating_relay(server.address).await;
    let networks = json!({
        "app:proxy": { "kind": "socks5", "proxy": proxy, "isolate": true, "allow": everything() }
    });
    let world = world(&networks, 1);
    let key = |key: &str| json!({ "network": "app:proxy", "isolation": key });
    let ways = [
        ("a", json!({})),
        ("b", json!({})),
        ("a", key("1")),
        ("a", key("2")),
        ("b", key("2")),
        // Each of these has a connection of its own, which shows nothing of others.
        ("a", json!({ "network": "app:proxy" })),
        ("a", json!({ "network": "app:proxy" })),
    ];
    let mut begun = Vec::new();
    // Each takes all it gets, and the first request of each is served.
    for (index, (unit, options)) in ways.iter().enumerate() {
        let dialer = world.dialer(unit, options);
        begun.push(world.begin(&dialer, get(&server, &format!("/{index}"))).await);
        assert_eq!(server.asked().await, format!("/{index}"));
    }
    let waits = world.begin(&world.dialer("a", &key("1")), get(&server, "/waits")).await;
    server.answers.add_permits(ways.len());
    for request in begun {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    assert_eq!(server.asked().await, "/waits");
    server.answers.add_permits(1);
    assert_eq!(soon(waits).await.unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn one_connection_is_enough_for_redirects_and_for_servers_that_close() {
    let mut server = Server::new().await;
    server.answers.add_permits(100);
    let world = world(&json!({}), 1);
    let dialer = world.dialer("a", &json!({}));
    let paths = ["/moved", "/close", "/moved", "/close", "/plain"];
    let mut begun = Vec::new();
    for path in paths {
        begun.push(world.begin(&dialer, get(&server, path)).await);
    }
    for request in begun {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    let mut asked = Vec::new();
    while let Ok(path) = server.asked.try_recv() {
        asked.push(path);
    }
    assert_eq!(asked.len(), 7, "{asked:?}");
    assert_eq!(server.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_over_http_2_share_the_one_connection() {
    let authority = Authority::new();
    let acceptor = authority.server("shop.internal", &[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = service_fn(async |_| {
                        Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from("ok"))))
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    });
    let mut config = authority.trusted();
    config.max_connections_per_host = NonZeroUsize::new(1);
    let world = overlay(address, config).await;
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    for _ in 0..2 {
        let mut begun = Vec::new();
        for _ in 0..50 {
            let (client, dialer) = (world.client.clone(), dialer.clone());
            begun.push(tokio::spawn(async move {
                client.send(&dialer, Request::get("https://shop.internal/")?).await?.text().await
            }));
        }
        for request in begun {
            assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
        }
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}
