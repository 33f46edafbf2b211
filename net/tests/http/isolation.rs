//! What servers see of requests of different networks, isolation keys and units: nothing that shows that they belong
//! together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Cursor;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use frame_net::http::rustls::HandshakeKind;
use frame_net::http::{Bytes, HttpClient, Request};
use frame_net::{Dialer, UNIT_OF, Unit, dialer};
use frame_registry::{App, FrameBuilder, FrameResolvers, Key, Options};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::isolating_relay;
use crate::support::{everything, soon};
use crate::tls::Authority;

/// What a frame is of.
static OF: Key<String> = Key::new("http_isolation_test.unit");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http1Tls,
    Http2,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2];

/// A request, as the server sees it.
#[derive(Debug)]
struct Seen {
    connection: usize,
    path: String,
    /// How the connection began, if it speaks TLS.
    hello: Option<Hello>,
    /// What the client has sent since the last request of the connection, as far as it does not depend on time.
    sent: Vec<Vec<u8>>,
}

/// What a client says of itself before anything is encrypted: RFC 8446, section 4.1.2.
#[derive(Debug, Clone)]
struct Hello {
    random: Vec<u8>,
    session: Vec<u8>,
    cipher_suites: Vec<u8>,
    extensions: BTreeMap<u16, Vec<u8>>,
    handshake: HandshakeKind,
}

impl Hello {
    const SESSION_TICKET: u16 = 35;
    const PRE_SHARED_KEY: u16 = 41;
    const EARLY_DATA: u16 = 42;
    const SERVER_NAME: u16 = 0;
    const ALPN: u16 = 16;

    fn parse(record: &[u8], handshake: HandshakeKind) -> Self {
        fn take<'a>(rest: &mut &'a [u8], width: usize) -> &'a [u8] {
            let (len, after) = rest.split_at(width);
            let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let (taken, after) = after.split_at(len);
            *rest = after;
            taken
        }
        // The headers of the record and of the message, and the version.
        let (random, mut rest) = record[5 + 4 + 2..].split_at(32);
        let session = take(&mut rest, 1).to_vec();
        let cipher_suites = take(&mut rest, 2).to_vec();
        take(&mut rest, 1);
        let mut list = take(&mut rest, 2);
        let mut extensions = BTreeMap::new();
        while let [a, b, ..] = *list {
            list = &list[2..];
            extensions.insert(u16::from_be_bytes([a, b]), take(&mut list, 2).to_vec());
        }
        Self { random: random.to_vec(), session, cipher_suites, extensions, handshake }
    }

    /// What must be the same for all identities.
    fn common(&self) -> Common<'_> {
        Common {
            cipher_suites: &self.cipher_suites,
            kinds: self.extensions.keys().copied().collect(),
            server_name: self.extensions.get(&Self::SERVER_NAME).map(Vec::as_slice),
            protocols: self.extensions.get(&Self::ALPN).map(Vec::as_slice),
        }
    }

    fn assert_new(&self) {
        assert_eq!(self.handshake, HandshakeKind::Full);
        for kind in [Self::PRE_SHARED_KEY, Self::EARLY_DATA] {
            assert!(!self.extensions.contains_key(&kind), "{kind}");
        }
        assert!(self.extensions.get(&Self::SESSION_TICKET).is_none_or(Vec::is_empty));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Common<'a> {
    cipher_suites: &'a [u8],
    /// The extensions, which rustls puts into another order each time.
    kinds: Vec<u16>,
    server_name: Option<&'a [u8]>,
    protocols: Option<&'a [u8]>,
}

/// A stream that keeps what was read of it.
struct Recorded<S> {
    stream: S,
    read: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// The frames of HTTP/2 that do not depend on when others arrive: those with settings and with headers.
fn steady_frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    const ACK: u8 = 1;
    let mut frames = Vec::new();
    bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
    while let [a, b, c, kind, flags, ..] = *bytes {
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let (frame, rest) = bytes.split_at(9 + len);
        if kind == HEADERS || kind == SETTINGS && flags & ACK == 0 {
            frames.push(frame.to_vec());
        }
        bytes = rest;
    }
    frames
}

/// A server that is `shop.internal` and `other.internal`, and says what it sees.
async fn server(protocol: Protocol, authority: &Authority) -> (SocketAddr, UnboundedReceiver<Seen>) {
    let spoken: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
    let acceptor = authority.server_of(&["shop.internal", "other.internal"], &[spoken]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, connection, protocol, acceptor.clone(), sender.clone()));
        }
    });
    (address, seen)
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    protocol: Protocol,
    acceptor: TlsAcceptor,
    sender: UnboundedSender<Seen>,
) {
    if protocol == Protocol::Http1 {
        return speak(stream, connection, protocol, None, sender).await;
    }
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).await.unwrap();
    let len = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + len, 0);
    stream.read_exact(&mut record[5..]).await.unwrap();
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(record.clone()).chain(reader), writer);
    let stream = acceptor.accept(stream).await.unwrap();
    let hello = Hello::parse(&record, stream.get_ref().1.handshake_kind().unwrap());
    speak(stream, connection, protocol, Some(hello), sender).await;
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: usize,
    protocol: Protocol,
    hello: Option<Hello>,
    sender: UnboundedSender<Seen>,
) {
    let read = Arc::<Mutex<Vec<u8>>>::default();
    let stream = TokioIo::new(Recorded { stream, read: Arc::clone(&read) });
    let served = AtomicUsize::new(0);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let bytes = std::mem::take(&mut *read.lock().unwrap());
        let sent = if protocol == Protocol::Http2 { steady_frames(&bytes) } else { vec![bytes] };
        let path = request.uri().path().to_owned();
        let is_first = served.fetch_add(1, Ordering::Relaxed) == 0;
        let answer = answer(protocol, &path, is_first);
        // The test may be over.
        let _ = sender.send(Seen { connection, path, hello: hello.clone(), sent });
        async { answer }
    });
    // The client closes when it likes.
    if protocol == Protocol::Http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

/// `/refused` is refused by each connection that has served something before.
fn answer(protocol: Protocol, path: &str, is_first: bool) -> Result<hyper::Response<Full<Bytes>>, h2::Error> {
    let scheme = if protocol == Protocol::Http1 { "http" } else { "https" };
    let to = match path {
        "/refused" if !is_first => return Err(h2::Reason::REFUSED_STREAM.into()),
        "/moved" => Some("/arrived".to_owned()),
        "/elsewhere" => Some(format!("{scheme}://other.internal/arrived")),
        _ => None,
    };
    let mut response = hyper::Response::new(Full::new(Bytes::from_static(b"hello")));
    if let Some(to) = to {
        *response.status_mut() = hyper::StatusCode::FOUND;
        response.headers_mut().insert("location", to.parse().unwrap());
    }
    Ok(response)
}

/// Whom a request is made for: a network, an isolation key and a unit.
type Identity = (&'static str, &'static str, &'static str);

fn identities() -> Vec<Identity> {
    let networks = ["app:a", "app:b"].into_iter();
    networks
        .flat_map(|network| ["x", "y"].map(|key| (network, key)))
        .flat_map(|(network, key)| ["u", "v"].map(|unit| (network, key, unit)))
        .collect()
}

struct World {
    app: App,
    client: HttpClient,
}

impl World {
    /// A world whose networks all lead to `to`.
    async fn new(to: SocketAddr, authority: &Authority) -> Self {
        let mut networks = json!({});
        for id in ["app:a", "app:b"] {
            let (proxy, _asked) = isolating_relay(to).await;
            networks[id] =
                json!({ "kind": "socks5", "proxy": proxy, "isolate": true, "allow": everything() });
        }
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&UNIT_OF, |frame| frame.get(&OF).map(|of| Unit::new("unit", of.as_str()))).unwrap();
        let config = serde_json::from_value(json!({ "networks": networks })).unwrap();
        frame_net::boot(&mut app, config).unwrap();
        Self { app: app.build(), client: HttpClient::new(authority.trusted()).unwrap() }
    }

    fn dialer(&self, (network, key, unit): Identity) -> Dialer {
        let options = Options::from_json(&json!({ "network": network, "isolation": key })).unwrap();
        let mut frame = FrameBuilder::new();
        frame.set(&OF, unit.to_owned());
        let context = frame_registry::ResolveContext::new(&self.app, None);
        self.app.resolvers().resolve(&context, &options, frame.pairs_mut()).unwrap();
        dialer(&frame.seal(), &self.app).unwrap()
    }
}

/// What the server has seen of one identity: its connections in their order, and each request.
#[derive(Default)]
struct View {
    connections: Vec<usize>,
    requests: Vec<(usize, String, Vec<Vec<u8>>)>,
    hellos: Vec<Hello>,
}

#[tokio::test]
async fn a_server_cannot_tell_that_two_networks_keys_or_units_are_one_client() {
    for protocol in PROTOCOLS {
        let authority = Authority::new();
        let (address, mut seen) = server(protocol, &authority).await;
        let world = World::new(address, &authority).await;
        let scheme = if protocol == Protocol::Http1 { "http" } else { "https" };
        let mut views: HashMap<Identity, View> = HashMap::new();
        let mut owners = HashMap::new();
        // The order in which the identities take turns changes, so that each comes after each other one.
        for (round, path) in
            ["/", "/moved", "/", "/elsewhere", "/refused", "/elsewhere", "/refused", "/"].iter().enumerate()
        {
            let mut turns = identities();
            turns.rotate_left(round);
            if round % 2 == 1 {
                turns.reverse();
            }
            for identity in turns {
                let request = Request::get(&format!("{scheme}://shop.internal{path}")).unwrap();
                let headers = [("x-b", "1"), ("accept", "text/html"), ("x-a", "2"), ("user-agent", "frame")];
                let request = headers
                    .into_iter()
                    .fold(request, |request, (name, value)| request.header(name, value).unwrap());
                let dialer = world.dialer(identity);
                let sent = async { world.client.send(&dialer, request).await?.text().await };
                assert_eq!(soon(sent).await.unwrap(), "hello");
                let view = views.entry(identity).or_default();
                while let Ok(Seen { connection, path, hello, sent }) = seen.try_recv() {
                    assert_eq!(
                        *owners.entry(connection).or_insert(identity),
                        identity,
                        "{protocol:?} {path}"
                    );
                    if !view.connections.contains(&connection) {
                        view.connections.push(connection);
                        view.hellos.extend(hello);
                    }
                    let index = view.connections.iter().position(|&other| other == connection).unwrap();
                    view.requests.push((index, path, sent));
                }
            }
        }
        assert_eq!(views.len(), 8);
        let first = &views[&identities()[0]];
        assert!(first.connections.len() > 2, "redirects and retries have made some: {:?}", first.connections);
        assert!(first.requests.iter().filter(|(_, path, _)| path == "/refused").count() > 2);
        for view in views.values() {
            assert_eq!(view.requests, first.requests, "{protocol:?}");
            assert_eq!(view.hellos.len(), first.hellos.len());
            for (hello, other) in view.hellos.iter().zip(&first.hellos) {
                assert_eq!(hello.common(), other.common());
            }
        }
        let hellos: Vec<_> = views.values().flat_map(|view| &view.hellos).collect();
        assert_eq!(hellos.len(), if protocol == Protocol::Http1 { 0 } else { owners.len() });
        for hello in &hellos {
            hello.assert_new();
        }
        let different =
            |of: fn(&Hello) -> &Vec<u8>| hellos.iter().map(|hello| of(hello)).collect::<BTreeSet<_>>();
        assert_eq!(different(|hello| &hello.random).len(), hellos.len());
        assert_eq!(different(|hello| &hello.session).len(), hellos.len());
    }
}

#[tokio::test]
async fn names_of_one_certificate_and_one_address_share_no_connection() {
    let authority = Authority::new();
    let (address, mut seen) = server(Protocol::Http2, &authority).await;
    let world = World::new(address, &authority).await;
    let dialer = world.dialer(("app:a", "x", "u"));
    for (name, connection) in [("shop", 0), ("other", 1), ("shop", 0), ("other", 1)] {
        let request = Request::get(&format!("https://{name}.internal/")).unwrap();
        soon(world.client.send(&dialer, request)).await.unwrap();
        assert_eq!(soon(seen.recv()).await.unwrap().connection, connection, "{name}");
    }
}

#[tokio::test]
async fn a_server_is_told_not_to_push() {
    let authority = Authority::new();
    let (address, mut seen) = server(Protocol::Http2, &authority).await;
    let world = World::new(address, &authority).await;
    let request = Request::get("https://shop.internal/").unwrap();
    soon(world.client.send(&world.dialer(("app:a", "x", "u")), request)).await.unwrap();
    let settings = soon(seen.recv()).await.unwrap().sent.swap_remove(0);
    assert_eq!(settings[3], SETTINGS);
    let settings: Vec<_> = settings[9..].chunks(6).collect();
    assert!(settings.contains(&[0, 2, 0, 0, 0, 0].as_slice()), "{settings:?}");
}
