//! What is recorded of the attempts of a unit.

mod support;

use std::sync::{Arc, Mutex};

use frame_net::audit::{Attempt, AttemptKind, Audit, Begun, CALLERS, End, Outcome};
use frame_net::http::websocket::WebSocketRequest;
use frame_net::http::{HttpClient, HttpConfig, Request};
use frame_net::{Dialer, IsolationKey, LocalEndpoint, UNIT_OF, Unit, dialer};
use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Key, Options, ResolveContext};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use support::relay::Relay;
use support::{app_with_audit, endpoint, frame, soon};

#[derive(Debug, Default)]
struct Log {
    begun: Mutex<Vec<Arc<Attempt>>>,
    ended: Mutex<Vec<(Arc<Attempt>, Outcome)>>,
}

impl Audit for Log {
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun {
        self.begun.lock().unwrap().push(Arc::clone(attempt));
        Begun::Recorded
    }

    fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        self.ended.lock().unwrap().push((attempt, outcome));
    }

    fn trace_id(&self, frame: &Frame) -> Option<Arc<str>> {
        frame.get(&TRACE).map(|trace| trace.as_str().into())
    }
}

static TRACE: Key<String> = Key::new("audit_test.trace");
static UNIT: Key<String> = Key::new("audit_test.unit");

impl Log {
    /// What has ended since this was last asked.
    async fn next(&self) -> (Arc<Attempt>, Outcome) {
        soon(async {
            loop {
                if let Some(ended) = self.take() {
                    return ended;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    fn take(&self) -> Option<(Arc<Attempt>, Outcome)> {
        let mut ended = self.ended.lock().unwrap();
        if ended.is_empty() { None } else { Some(ended.remove(0)) }
    }

    fn begun(&self) -> usize {
        self.begun.lock().unwrap().len()
    }
}

fn world(config: Value, options: &Value) -> (Dialer, Arc<Log>) {
    let log = Arc::new(Log::default());
    let (app, _) = app_with_audit(config, Some(Arc::clone(&log) as _));
    (dialer(&frame(&app, options), &app).unwrap(), log)
}

/// Clearnet where this host may also be reached.
fn listening() -> Value {
    json!({ "clearnet": { "listen": ["127.0.0.1"], "allow": ["127.0.0.1"] } })
}

/// Echoes what it receives, however many connect.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_is_recorded_with_its_bytes_when_it_is_closed() {
    let address = echo().await;
    let (dialer, log) = world(json!({}), &json!({}));
    let mut stream = soon(dialer.connect(&endpoint(&address))).await.unwrap();
    assert_eq!((log.begun(), log.take().is_none()), (1, true));
    stream.write_all(b"hello").await.unwrap();
    soon(stream.read_exact(&mut [0; 5])).await.unwrap();
    drop(stream);
    let (attempt, outcome) = log.next().await;
    assert_eq!(attempt.kind, AttemptKind::Connect);
    assert_eq!(attempt.destination.to_string(), address);
    assert_eq!(outcome.peer.unwrap().to_string(), address);
    assert_eq!((outcome.sent, outcome.received, outcome.end), (5, 5, End::Closed));
    assert!(outcome.is_begun && !outcome.verdict.is_refused);
}

#[tokio::test]
async fn what_fails_and_what_is_given_up_is_recorded_as_that() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let (dialer, log) = world(json!({}), &json!({}));
    soon(dialer.connect(&endpoint(&closed))).await.unwrap_err();
    assert_eq!(log.next().await.1.end, End::Unreachable);

    soon(dialer.connect(&endpoint("10.0.0.1:80"))).await.unwrap_err();
    let (_, outcome) = log.next().await;
    assert_eq!(outcome.end, End::Refused);
    assert_eq!(outcome.verdict.rule.as_deref(), Some("special address: private (10.0.0.0/8)"));

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = json!({ "kind": "socks5", "proxy": silent.local_addr().unwrap().to_string(), "allow": ["127.0.0.1"] });
    let (dialer, log) =
        world(json!({ "networks": { "app:proxy": proxy } }), &json!({ "network": "app:proxy" }));
    let to = endpoint("127.0.0.1:80");
    tokio::select! {
        _ = dialer.connect(&to) => panic!("the proxy is silent"),
        accepted = silent.accept() => drop(accepted.unwrap()),
    }
    let (attempt, outcome) = log.next().await;
    assert_eq!((outcome.end, outcome.peer), (End::Cancelled, None));
    assert_eq!(attempt.route.to_string(), "network `app:proxy`");
}

#[tokio::test]
async fn what_is_refused_before_anything_leaves_has_no_beginning() {
    let limits = json!({ "limits": { "connections": 1 } });
    let (dialer, log) = world(limits, &json!({}));
    let address = echo().await;
    let stream = soon(dialer.connect(&endpoint(&address))).await.unwrap();
    soon(dialer.connect(&endpoint(&address))).await.unwrap_err();
    let (_, outcome) = log.next().await;
    assert!(!outcome.is_begun && outcome.verdict.is_refused);
    assert_eq!(outcome.verdict.rule.as_deref(), Some("limit: connections"));
    drop(stream);
    let apart = dialer.isolated("tenant".parse::<IsolationKey>().unwrap());
    soon(apart.lookup(&"shop.example".parse().unwrap())).await.unwrap_err();
    log.next().await;
    let (attempt, outcome) = log.next().await;
    assert_eq!(attempt.kind, AttemptKind::Lookup);
    assert_eq!(attempt.isolation.as_ref().unwrap().as_str(), "tenant");
    assert!(!outcome.is_begun && outcome.end == End::Refused, "{outcome:?}");
    assert_eq!(log.begun(), 1);
}

#[tokio::test]
async fn the_networks_on_the_way_are_recorded_and_the_address_of_a_proxy_is_no_peer() {
    let address = echo().await;
    let [first, second] =
        [Relay::bind("127.0.0.1:0").await.unwrap(), Relay::bind("127.0.0.1:0").await.unwrap()];
    let settings = |relay: &Relay, via: Option<&str>| {
        let proxy = relay.local_addr().unwrap().to_string();
        json!({ "kind": "socks5", "proxy": proxy, "via": via, "allow": ["127.0.0.1"] })
    };
    let config = json!({ "networks": {
        "app:first": settings(&first, None), "app:second": settings(&second, Some("app:first")),
    } });
    for relay in [first, second] {
        tokio::spawn(relay.serve(|request| Ok(request.to.to_string().parse().unwrap())));
    }
    let (dialer, log) = world(config, &json!({ "network": "app:second" }));
    drop(soon(dialer.connect(&endpoint(&address))).await.unwrap());
    let (attempt, outcome) = log.next().await;
    assert_eq!(attempt.route.to_string(), "network `app:second`");
    assert_eq!(attempt.via.iter().map(ToString::to_string).collect::<Vec<_>>(), ["app:first"]);
    assert_eq!(outcome.peer, None);
}

/// A server of HTTP/1.1 that answers every request with its path.
async fn server() -> String {
    use hyper::server::conn::http1;
    use hyper::service::service_fn;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let path = request.uri().path().to_owned();
                let mut response = hyper::Response::new(path.clone());
                if path == "/moved" {
                    *response.status_mut() = hyper::StatusCode::FOUND;
                    response.headers_mut().insert("location", "/there?token=hidden".parse().unwrap());
                }
                Ok::<_, std::convert::Infallible>(response)
            });
            let serving =
                http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    address
}

#[tokio::test]
async fn each_request_over_a_connection_that_is_kept_is_recorded_without_its_path() {
    let address = server().await;
    let (dialer, log) = world(json!({}), &json!({}));
    let client = HttpClient::new(HttpConfig::default()).unwrap();
    for body in ["", "0123456789"] {
        let request = Request::post(&format!("http://{address}/upload?token=hidden")).unwrap().body(body);
        let response = soon(client.send(&dialer, request)).await.unwrap();
        assert_eq!(soon(response.text()).await.unwrap(), "/upload");
        let (attempt, outcome) = log.next().await;
        assert_eq!(
            (attempt.kind, attempt.method.as_deref(), attempt.scheme),
            (AttemptKind::Http, Some("POST"), Some("http"))
        );
        assert_eq!(outcome.peer.unwrap().to_string(), address, "also of a connection that is kept");
        assert_eq!(outcome.end, End::Closed);
        let head = format!("POST /upload?token=hidden HTTP/1.1\r\nhost: {address}\r\n").len() as u64;
        assert!(outcome.sent >= head + body.len() as u64, "{outcome:?}");
        assert!(outcome.received >= "/upload".len() as u64 + 40, "{outcome:?}");
        assert!(!format!("{attempt:?}{outcome:?}").contains("hidden"));
    }
    assert_eq!(log.begun(), 2);
}

#[tokio::test]
async fn what_a_redirect_leads_to_is_a_record_of_its_own() {
    let address = server().await;
    let (dialer, log) = world(json!({}), &json!({}));
    let client = HttpClient::new(HttpConfig::default()).unwrap();
    let request = Request::get(&format!("http://{address}/moved")).unwrap();
    let response = soon(client.send(&dialer, request)).await.unwrap();
    assert_eq!(soon(response.text()).await.unwrap(), "/there");
    for _ in 0..2 {
        assert_eq!(log.next().await.1.end, End::Closed);
    }
    assert_eq!(log.begun(), 2);
}

#[tokio::test]
async fn the_bytes_of_a_websocket_are_counted_until_it_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            data_encoding::BASE64.encode(&hash)
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let (dialer, log) = world(json!({}), &json!({}));
    let client = HttpClient::new(HttpConfig::default()).unwrap();
    let socket = soon(client.websocket(&dialer, WebSocketRequest::new(&url).unwrap())).await.unwrap();
    soon(socket.send("x".repeat(1000))).await.unwrap();
    assert!(log.take().is_none());
    drop(socket);
    let (attempt, outcome) = log.next().await;
    assert_eq!((attempt.kind, attempt.scheme), (AttemptKind::WebSocket, Some("ws")));
    assert!(outcome.sent > 1000 && outcome.received > 100, "{outcome:?}");
    soon(served).await.unwrap();
}

#[tokio::test]
async fn each_peer_that_datagrams_are_sent_to_is_recorded_once() {
    let (one, other) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (dialer, log) = world(listening(), &json!({}));
    let datagrams = soon(dialer.bind_datagram(&LocalEndpoint::new([127, 0, 0, 1].into(), 0))).await.unwrap();
    let [to_one, to_other] = [&one, &other].map(|socket| endpoint(&socket.local_addr().unwrap().to_string()));
    for _ in 0..3 {
        soon(datagrams.send_to(b"hello", &to_one)).await.unwrap();
    }
    soon(datagrams.send_to(b"hi", &to_other)).await.unwrap();
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], datagrams.local().port));
    one.send_to(b"back", local).await.unwrap();
    soon(datagrams.receive_from(&mut [0; 16])).await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(b"unasked", local).await.unwrap();
    soon(datagrams.receive_from(&mut [0; 16])).await.unwrap();
    soon(datagrams.send_to(b"no", &endpoint("10.0.0.1:9"))).await.unwrap_err();
    let (attempt, outcome) = log.next().await;
    assert_eq!((attempt.kind, outcome.end), (AttemptKind::Datagram, End::Refused));
    assert!(log.take().is_none());
    drop(datagrams);
    let mut ended = Vec::new();
    for _ in 0..3 {
        let (attempt, outcome) = log.next().await;
        assert_eq!(outcome.end, End::Closed);
        ended.push((attempt.kind, attempt.destination.port().unwrap(), outcome.sent, outcome.received));
    }
    ended.sort_by_key(|(kind, .., sent, _)| (kind.as_str(), *sent));
    let expected = [
        (AttemptKind::Bind, 0, 0, 7),
        (AttemptKind::Datagram, to_other.port(), 2, 0),
        (AttemptKind::Datagram, to_one.port(), 15, 4),
    ];
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn a_socket_that_sends_to_many_peers_keeps_count_of_a_bounded_number() {
    let (dialer, log) = world(listening(), &json!({}));
    let datagrams = soon(dialer.bind_datagram(&LocalEndpoint::new([127, 0, 0, 1].into(), 0))).await.unwrap();
    for port in 10_000..10_300 {
        soon(datagrams.send_to(b"x", &endpoint(&format!("127.0.0.1:{port}")))).await.unwrap();
    }
    let ended = std::iter::from_fn(|| log.take()).count();
    assert_eq!(ended, 300 - 256);
}

#[tokio::test]
async fn a_connection_that_is_accepted_is_recorded() {
    let (dialer, log) = world(listening(), &json!({}));
    let mut listener = soon(dialer.listen(&LocalEndpoint::new([127, 0, 0, 1].into(), 0))).await.unwrap();
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], listener.local().port));
    let peer = tokio::net::TcpStream::connect(to).await.unwrap();
    let (mut stream, from) = soon(listener.accept()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    drop((stream, peer));
    let (attempt, outcome) = log.next().await;
    assert_eq!((attempt.kind, outcome.sent), (AttemptKind::Accept, 5));
    assert_eq!(attempt.destination.to_string(), from.to_string());
    drop(listener);
    assert_eq!(log.next().await.0.kind, AttemptKind::Listen);
}

/// The frame of a unit that `parent` calls.
fn unit(app: &App, name: &str, parent: Option<&Frame>) -> Frame {
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    frame.set(&UNIT, name.to_owned()).set(&TRACE, format!("trace of {name}"));
    app.resolvers().resolve(&ResolveContext::new(app, parent), &Options::new(), frame.pairs_mut()).unwrap();
    frame.seal()
}

#[tokio::test]
async fn a_record_names_the_unit_its_callers_and_its_trace() {
    let log = Arc::new(Log::default());
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.set(&frame_net::audit::AUDIT, Arc::clone(&log) as Arc<dyn Audit>).unwrap();
    app.set(&UNIT_OF, |frame| frame.get(&UNIT).map(|name| Unit::new("task", name.as_str()))).unwrap();
    let config = json!({ "clearnet": { "allow": ["127.0.0.1"] } });
    frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
    let app = app.build();

    let outer = unit(&app, "outer", None);
    assert!(outer.get(&CALLERS).is_none());
    let middle = unit(&app, "middle", Some(&outer));
    let inner = unit(&app, "inner", Some(&middle));
    drop(soon(dialer(&inner, &app).unwrap().connect(&endpoint(&echo().await))).await.unwrap());
    let (attempt, _) = log.next().await;
    assert_eq!((attempt.unit.kind(), attempt.unit.name()), (Some("task"), Some("inner")));
    let callers: Vec<_> = attempt.callers.nearest().iter().map(|unit| unit.name().unwrap()).collect();
    assert_eq!(callers, ["middle", "outer"]);
    assert_eq!(attempt.trace_id.as_deref(), Some("trace of inner"));
}

#[tokio::test]
async fn frames_of_an_app_without_a_log_carry_no_callers() {
    let (app, _) = support::app(json!({}));
    let parent = frame(&app, &json!({}));
    let mut child = parent.fork();
    app.resolvers()
        .resolve(&ResolveContext::new(&app, Some(&parent)), &Options::new(), child.pairs_mut())
        .unwrap();
    assert!(child.seal().get(&CALLERS).is_none());
}

#[tokio::test]
async fn the_rule_that_decided_is_recorded_and_a_refusal_has_no_beginning() {
    let address = echo().await;
    let options = json!({ "egress": ["127.0.0.1", "*.shop.example"] });
    let (dialer, log) = world(listening(), &options);
    drop(soon(dialer.connect(&endpoint(&address))).await.unwrap());
    let (attempt, outcome) = log.next().await;
    assert_eq!(attempt.verdict.rule.as_deref(), Some("egress: 127.0.0.1"));
    assert_eq!(outcome.verdict, attempt.verdict);

    let client = HttpClient::new(HttpConfig::default()).unwrap();
    let begun = log.begun();
    soon(dialer.connect(&endpoint("127.0.0.2:80"))).await.unwrap_err();
    soon(dialer.lookup(&"elsewhere.example".parse().unwrap())).await.unwrap_err();
    soon(client.send(&dialer, Request::get("http://elsewhere.example/").unwrap())).await.unwrap_err();
    let socket = WebSocketRequest::new("wss://elsewhere.example/").unwrap();
    soon(client.websocket(&dialer, socket)).await.unwrap_err();
    let kinds = [AttemptKind::Connect, AttemptKind::Lookup, AttemptKind::Http, AttemptKind::WebSocket];
    for kind in kinds {
        let (attempt, outcome) = log.next().await;
        assert_eq!((attempt.kind, outcome.is_begun, outcome.end), (kind, false, End::Refused));
        let rule = outcome.verdict.rule.unwrap();
        assert!(rule.starts_with("egress: ") && rule.contains("*.shop.example"), "{rule}");
    }
    let at = LocalEndpoint::new([127, 0, 0, 1].into(), 0);
    let datagrams = soon(dialer.bind_datagram(&at)).await.unwrap();
    soon(datagrams.send_to(b"no", &endpoint("127.0.0.2:9"))).await.unwrap_err();
    let (attempt, outcome) = log.next().await;
    assert_eq!((attempt.kind, outcome.is_begun), (AttemptKind::Datagram, false));
    assert_eq!(log.begun(), begun + 1, "the socket alone");
}
