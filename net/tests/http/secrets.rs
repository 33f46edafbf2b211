//! Secrets that requests carry, and that nothing else has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use frame_net::audit::{AUDIT, Attempt, Audit, Begun, End, Outcome};
use frame_net::http::websocket::{Message, WebSocketError, WebSocketRequest};
use frame_net::http::{
    Body, EventSource, HeaderMap, HttpClient, HttpConfig, HttpError, Method, Request, Response,
};
use frame_net::secrets::{SECRET_STORE, SecretError, SecretId, SecretStore, StoredSecret};
use frame_net::{Dialer, NetConfig, dialer};
use frame_registry::{App, FrameResolvers};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::origin::{Answer, Origin, Seen, ok, redirect, response};
use crate::support::{everything, frame, soon};
use crate::tls::Authority;
use crate::{causes, relay};

const VALUE: &str = "sk_live/31337+xyzzy";

fn id() -> SecretId {
    "app:stripe".parse().unwrap()
}

fn stored(value: &str, hosts: &[&str]) -> StoredSecret {
    StoredSecret::new(value, hosts.iter().map(|host| host.parse().unwrap())).unwrap()
}

/// An app with a secret for `shop.internal`, and with a network that leads everywhere.
struct World {
    app: App,
    client: HttpClient,
    store: SecretStore,
    log: Arc<Log>,
}

/// An audit log that keeps all that it is given, in text.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>, Mutex<Vec<End>>);

impl Audit for Log {
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun {
        self.0.lock().unwrap().push(format!("begun {attempt:?}"));
        Begun::Recorded
    }

    fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        self.0.lock().unwrap().push(format!("{attempt:?} {outcome:?}"));
        self.1.lock().unwrap().push(outcome.end);
    }
}

impl World {
    /// How the attempts ended that have.
    fn ends(&self) -> Vec<&'static str> {
        self.log.1.lock().unwrap().iter().map(|end| end.as_str()).collect()
    }

    fn new(network: Value, config: HttpConfig, secret: StoredSecret) -> Self {
        let mut network = network;
        network["allow"] = everything();
        let store: SecretStore = [(id(), secret)].into_iter().collect();
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&SECRET_STORE, store.clone()).unwrap();
        let log = Arc::<Log>::default();
        app.set(&AUDIT, Arc::clone(&log) as Arc<dyn Audit>).unwrap();
        let config_of_net = json!({ "networks": { "app:proxy": network } });
        let config_of_net: NetConfig = serde_json::from_value(config_of_net).unwrap();
        frame_net::boot(&mut app, config_of_net).unwrap();
        Self { app: app.build(), client: HttpClient::new(config).unwrap(), store, log }
    }

    /// All hosts are at `to`.
    async fn leading_to(to: SocketAddr, config: HttpConfig) -> Self {
        let (proxy, _asked) = relay(to).await;
        let network = json!({ "kind": "socks5", "proxy": proxy });
        Self::new(network, config, stored(VALUE, &["shop.internal"]))
    }

    fn dialer(&self) -> Dialer {
        self.dialer_of(&json!({ "secrets": ["app:stripe"] }))
    }

    fn dialer_of(&self, options: &Value) -> Dialer {
        let mut options = options.clone();
        options["network"] = json!("app:proxy");
        dialer(&frame(&self.app, &options), &self.app).unwrap()
    }

    async fn send(&self, request: Request) -> Result<Response, HttpError> {
        soon(self.client.send(&self.dialer(), request.secret(id()))).await
    }

    async fn get(&self, url: &str) -> Result<Response, HttpError> {
        self.send(Request::get(url).unwrap()).await
    }

    /// The whole body of what is at `url`.
    async fn text(&self, url: &str) -> Result<String, HttpError> {
        soon(self.get(url).await?.text()).await
    }
}

/// A server over TLS that is each of `names`, and a world that leads there.
async fn shop(names: &[&str], answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (World, Origin) {
    let authority = Authority::new();
    let origin = Origin::tls(authority.server_of(names, &[]), answer).await;
    (World::leading_to(origin.address, authority.trusted()).await, origin)
}

/// The next request, whatever becomes of connections.
async fn next_request(origin: &mut Origin) -> Seen {
    loop {
        if let crate::origin::Event::Request(seen) = origin.event().await {
            return seen;
        }
    }
}

fn secret_error(error: &HttpError) -> &SecretError {
    match error {
        HttpError::Secret(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Whether the error was one about a secret that was sent back, which shows nothing of it.
fn assert_echoed(error: &HttpError) {
    assert!(matches!(secret_error(error), SecretError::Echoed { .. }), "{error:?}");
    assert!(!error.is_retryable());
    assert_absent(format!("{error:?} {}", causes(error)).as_bytes(), "the error");
}

/// How a value may be written, so that it can be read again.
fn forms(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let hex = data_encoding::HEXLOWER.encode(bytes);
    let percent: String = bytes
        .iter()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() { char::from(*byte).to_string() } else { format!("%{byte:02X}") }
        })
        .collect();
    let mut forms = vec![value.to_owned(), hex.to_uppercase(), hex, percent];
    // As a part of something longer it is written in one of three ways, and what is around it changes its ends.
    for skipped in 0..3 {
        let text = data_encoding::BASE64.encode(&[&vec![b' '; skipped], bytes].concat());
        let inside = text[4..text.len() - 4].to_owned();
        forms.push(inside.replace('+', "-").replace('/', "_"));
        forms.push(inside);
    }
    forms
}

fn assert_absent(text: &[u8], place: &str) {
    for form in forms(VALUE) {
        let is_there = text.windows(form.len()).any(|window| window == form.as_bytes());
        assert!(!is_there, "`{form}` is in {place}: {}", String::from_utf8_lossy(text));
    }
}

#[tokio::test]
async fn a_request_carries_its_secret_in_one_header() {
    let (world, mut origin) = shop(&["shop.internal"], |_| ok("paid")).await;
    let request = Request::post("https://shop.internal/pay").unwrap().header("x-a", "1").unwrap().body("7");
    let response = world.send(request).await.unwrap();
    assert_absent(format!("{response:?}").as_bytes(), "the response");
    assert_eq!(soon(response.text()).await.unwrap(), "paid");
    let seen = origin.request().await;
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")));
    assert_eq!(seen.head.matches(VALUE).count(), 1, "{}", seen.head);
    assert_eq!((seen.header("x-a"), &seen.body[..]), (Some("1"), &b"7"[..]));
}

#[tokio::test]
async fn a_request_that_shares_the_connection_does_not_have_the_secret() {
    let (world, mut origin) = shop(&["shop.internal"], |_| ok("")).await;
    world.text("https://shop.internal/").await.unwrap();
    assert!(origin.request().await.header("authorization").is_some());
    let plain = Request::get("https://shop.internal/").unwrap();
    soon(soon(world.client.send(&world.dialer(), plain)).await.unwrap().text()).await.unwrap();
    let seen = origin.request().await;
    assert_eq!((seen.connection, seen.header("authorization")), (0, None));
}

#[tokio::test]
async fn a_request_that_cannot_carry_its_secret_makes_no_connection() {
    let (proxy, mut asked) = relay("127.0.0.1:1".parse().unwrap()).await;
    let network = json!({ "kind": "socks5", "proxy": proxy });
    let secret = stored(VALUE, &["shop.internal", "*.wild.internal"]).in_header("x-api-key", "{}").unwrap();
    let world = World::new(network, HttpConfig::default(), secret);
    let granted = world.dialer();
    let get = |url: &str| Request::get(url).unwrap();
    let trailers = Body::from("x").with_trailers(["x-api-key".parse().unwrap()]);
    let url = "https://shop.internal/";
    let cases = [
        (get("http://shop.internal/"), "sent over TLS only"),
        (get("http://shop.internal:443/"), "sent over TLS only"),
        (get("https://shop.internal:8443/"), "may not be sent to shop.internal:8443"),
        (get("https://a.shop.internal/"), "may not be sent to a.shop.internal:443"),
        (get("https://shop.internal.evil/"), "may not be sent to"),
        (get("https://wild.internal/"), "may not be sent to"),
        (get("https://127.0.0.1/"), "may not be sent to"),
        (Request::new(Method::TRACE, url).unwrap(), "`TRACE`"),
        (Request::new("trace".parse().unwrap(), url).unwrap(), "`TRACE`"),
        (get(url).header("X-Api-Key", "mine").unwrap(), "has the header `x-api-key` itself"),
        (Request::post(url).unwrap().body(trailers), "has the header `x-api-key` itself"),
    ];
    for (request, expected) in cases {
        let error = soon(world.client.send(&granted, request.secret(id()))).await.unwrap_err();
        assert!(secret_error(&error).to_string().contains(expected), "{error}");
        assert!(!error.is_retryable());
    }
    for options in [json!({}), json!({ "secrets": [] })] {
        let error = soon(world.client.send(&world.dialer_of(&options), get(url).secret(id()))).await;
        let error = error.unwrap_err();
        assert!(matches!(secret_error(&error), SecretError::NotGranted { .. }), "{error}");
    }
    let other = get(url).secret("app:other".parse().unwrap());
    let error = soon(world.client.send(&granted, other)).await.unwrap_err();
    assert!(matches!(secret_error(&error), SecretError::NotGranted { .. }), "{error}");
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn a_server_that_proves_nothing_gets_nothing() {
    let mut origin = Origin::tls(Authority::new().server("shop.internal", &[]), |_| ok("")).await;
    let world = World::leading_to(origin.address, Authority::new().trusted()).await;
    let error = world.get("https://shop.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::UntrustedIssuer { .. }), "{error:?}");
    origin.assert_silent();
}

#[tokio::test]
async fn a_redirect_takes_the_secret_along_within_the_origin_only() {
    let names = ["shop.internal", "a.shop.internal", "other.internal"];
    for (to, keeps) in [
        ("/arrived", true),
        ("https://shop.internal/arrived", true),
        ("https://SHOP.internal:443/arrived", true),
        ("https://a.shop.internal/arrived", false),
        ("https://other.internal/arrived", false),
        ("https://shop.internal:8443/arrived", false),
        ("https://shop.internal./arrived", false),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let (world, mut origin) = shop(&names, move |seen| match seen.path() {
                "/" => redirect(status, to),
                _ => ok("here"),
            })
            .await;
            assert_eq!(world.text("https://shop.internal/").await.unwrap(), "here", "{to}");
            assert!(origin.request().await.header("authorization").is_some());
            let second = next_request(&mut origin).await;
            assert_eq!(second.path(), "/arrived");
            assert_eq!(second.header("authorization").is_some(), keeps, "{status} {to}");
            if !keeps {
                assert_absent(second.head.as_bytes(), to);
            }
        }
    }
}

#[tokio::test]
async fn a_secret_does_not_come_back_with_a_redirect() {
    let (world, mut origin) = shop(&["shop.internal", "other.internal"], |seen| match seen.path() {
        "/" => redirect(307, "https://other.internal/there"),
        "/there" => redirect(307, "https://shop.internal/back"),
        _ => ok(""),
    })
    .await;
    world.text("https://shop.internal/").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = next_request(&mut origin).await;
        seen.push((request.path().to_owned(), request.header("authorization").is_some()));
    }
    let expected = [("/", true), ("/there", false), ("/back", false)];
    assert_eq!(seen, expected.map(|(path, has)| (path.to_owned(), has)));
}

#[tokio::test]
async fn a_redirect_to_cleartext_does_not_have_the_secret() {
    let plain = Arc::new(Mutex::new(Vec::new()));
    let authority = Authority::new();
    let acceptor = authority.server("shop.internal", &[]);
    let seen = Arc::clone(&plain);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        let mut first = acceptor.accept(first).await.unwrap();
        let _ = first.read(&mut [0; 4096]).await.unwrap();
        let to = "HTTP/1.1 302 X\r\nLocation: http://shop.internal/\r\nContent-Length: 0\r\n\r\n";
        first.write_all(to.as_bytes()).await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let len = second.read(&mut head).await.unwrap();
        seen.lock().unwrap().extend_from_slice(&head[..len]);
        second.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let _ = second.read(&mut head).await;
    });
    let mut config = authority.trusted();
    config.allow_downgrade = true;
    let world = World::leading_to(address, config).await;
    assert_eq!(world.text("https://shop.internal/").await.unwrap(), "ok");
    let plain = plain.lock().unwrap();
    assert!(plain.starts_with(b"GET / HTTP/1.1\r\n"));
    assert_absent(&plain, "a request in cleartext");
}

/// A relay of bytes to `to`, and what came from the client.
async fn tapped(to: SocketAddr) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let tap = Arc::clone(&sent);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let tap = Arc::clone(&tap);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                let ((mut from, mut back), (mut answers, mut onward)) = (client.split(), server.split());
                let copy = async {
                    let mut buffer = [0; 4096];
                    while let Ok(len @ 1..) = from.read(&mut buffer).await {
                        tap.lock().unwrap().extend_from_slice(&buffer[..len]);
                        onward.write_all(&buffer[..len]).await.unwrap();
                    }
                };
                tokio::select! { () = copy => {}, _ = tokio::io::copy(&mut answers, &mut back) => {} }
            });
        }
    });
    (address, sent)
}

/// A proxy for `CONNECT` that leads everyone to `to`.
async fn connect_proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_does_not_see_the_secret() {
    let authority = Authority::new();
    let mut origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("paid")).await;
    let (socks5, _asked) = relay(origin.address).await;
    let connect = connect_proxy(origin.address).await;
    for (kind, proxy) in [("socks5", socks5.parse().unwrap()), ("http-connect", connect)] {
        let (tapped, sent) = tapped(proxy).await;
        let secret = stored(VALUE, &["shop.internal"]);
        let world = World::new(json!({ "kind": kind, "proxy": tapped }), authority.trusted(), secret);
        assert_eq!(world.text("https://shop.internal/").await.unwrap(), "paid");
        assert!(origin.request().await.header("authorization").is_some());
        drop(world);
        origin.closed().await;
        let sent = sent.lock().unwrap();
        assert!(sent.windows(13).any(|window| window == b"shop.internal"), "{kind}");
        assert_absent(&sent, kind);
    }
}

fn gzipped(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_request_that_decodes_by_itself_does_not_see_its_secret() {
    let (world, _origin) = shop(&["shop.internal"], |seen| {
        let (sent, accepted) =
            (seen.header("authorization").unwrap(), seen.header("accept-encoding").unwrap());
        let body = match seen.path() {
            "/asked" if accepted == "identity" => return ok("plain"),
            _ => gzipped(sent),
        };
        let coding = if seen.path() == "/twice" { "gzip, gzip" } else { "gzip" };
        let head =
            format!("HTTP/1.1 200 X\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
        Answer::Keep([head.as_bytes(), &body].concat())
    })
    .await;
    let get = |path: &str| Request::get(&format!("https://shop.internal/{path}")).unwrap();
    let own = |path: &str, name: &str, value: &str| get(path).header(name, value).unwrap();
    for request in [
        own("anyway", "accept-encoding", "gzip"),
        own("anyway", "range", "bytes=0-"),
        get("anyway").decode(false),
        get("twice"),
    ] {
        let error = world.send(request).await.map(drop).unwrap_err();
        assert!(matches!(secret_error(&error), SecretError::Encoded { .. }), "{error}");
    }
    // The server is asked not to.
    let response = world.send(own("asked", "accept-encoding", "gzip, br")).await.unwrap();
    assert_eq!(soon(response.text()).await.unwrap(), "plain");
}

#[tokio::test]
async fn a_response_that_has_the_secret_in_it_is_not_passed_on() {
    let (world, _origin) = shop(&["shop.internal"], |seen| {
        let sent = seen.header("authorization").unwrap().to_owned();
        match seen.path() {
            "/header" => response(200, &[("X-Echo", &sent)], ""),
            "/error" => response(401, &[("WWW-Authenticate", &format!("Bearer error=\"{sent}\""))], ""),
            "/location" => redirect(302, &format!("https://elsewhere.internal/?{VALUE}")),
            "/body" => ok(format!("you sent {sent}, as json")),
            "/start" => ok(VALUE),
            "/events" => {
                let headers = [("Content-Type", "text/event-stream")];
                response(200, &headers, format!("data: hello\n\ndata: {sent}\n\n"))
            }
            "/trailers" => {
                let head = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nTrailer: x-echo\r\n\r\n";
                Answer::Keep(format!("{head}2\r\nok\r\n0\r\nX-Echo: {sent}\r\n\r\n").into())
            }
            "/chunks" => {
                let mut text = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for byte in format!("sk_live: {sent}").bytes() {
                    text.extend([b'1', b'\r', b'\n', byte, b'\r', b'\n']);
                }
                text.extend(b"0\r\n\r\n");
                Answer::Keep(text)
            }
            "/gzip" => {
                let body = gzipped(&sent);
                let head = "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length:";
                Answer::Keep([format!("{head} {}\r\n\r\n", body.len()).as_bytes(), &body].concat())
            }
            _ => ok("sk_live/31337+xyzz and sk_live/31337+xyzz"),
        }
    })
    .await;
    for path in ["header", "error", "location"] {
        let error = world.get(&format!("https://shop.internal/{path}")).await.unwrap_err();
        assert_echoed(&error);
    }
    for path in ["body", "start", "trailers", "chunks", "gzip"] {
        let mut response = world.get(&format!("https://shop.internal/{path}")).await.unwrap();
        let mut passed = Vec::new();
        let error = loop {
            match soon(response.chunk()).await {
                Ok(Some(piece)) => passed.extend_from_slice(&piece),
                Ok(None) => panic!("{path} was passed on"),
                Err(error) => break error,
            }
        };
        assert_echoed(&error);
        assert!(!passed.ends_with(b"s") && !passed.windows(9).any(|window| window == b"sk_live/3"), "{path}");
        assert!(response.trailers().is_none());
        // It stays so.
        assert_echoed(&soon(response.chunk()).await.unwrap_err());
    }
    let request = Request::get("https://shop.internal/events").unwrap().secret(id());
    let mut events = EventSource::new(world.client.clone(), world.dialer(), request).unwrap();
    let error = loop {
        match soon(events.next()).await {
            Ok(event) => assert_eq!(event.unwrap().data, "hello"),
            Err(error) => break error,
        }
    };
    assert_echoed(&error);
    let ends = world.ends();
    assert!(!ends.is_empty() && ends.iter().all(|end| *end == "withheld"), "{ends:?}");
    // What only begins like it is passed on, all of it.
    let text = world.text("https://shop.internal/alike").await.unwrap();
    assert_eq!(text, "sk_live/31337+xyzz and sk_live/31337+xyzz");
}

/// A server of HTTP/2 that answers the first request of a connection with what `script` makes of its header block.
async fn http2_server(
    authority: &Authority,
    script: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> (SocketAddr, UnboundedReceiver<Vec<u8>>) {
    let acceptor = authority.server("shop.internal", &[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, blocks) = tokio::sync::mpsc::unbounded_channel();
    let serve = async move || {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        // Settings, empty.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == 1 {
                let answer = script(&payload);
                stream.write_all(&answer).await.unwrap();
                sender.send(payload).unwrap();
                // A server that goes away does.
                if answer[3] == 7 {
                    return stream.shutdown().await.unwrap();
                }
            }
        }
    };
    tokio::spawn(async move {
        loop {
            serve().await;
        }
    });
    (address, blocks)
}

#[tokio::test]
async fn http2_keeps_the_secret_out_of_its_tables() {
    let authority = Authority::new();
    // `:status: 200`, of the static table, and the end of the stream.
    let (address, mut blocks) = http2_server(&authority, |_| vec![0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]).await;
    let world = World::leading_to(address, authority.trusted()).await;
    assert_eq!(world.text("https://shop.internal/").await.unwrap(), "");
    let block = soon(blocks.recv()).await.unwrap();
    // RFC 7541, section 6.2.3: a literal that is never indexed, with the name 23 of the static table, `authorization`.
    assert!(block.windows(2).any(|window| window == [0x1f, 0x08]), "{block:02x?}");
}

#[tokio::test]
async fn an_error_of_a_library_does_not_show_the_secret() {
    let authority = Authority::new();
    let (address, _blocks) = http2_server(&authority, |_| {
        // GOAWAY before the first stream with the code ENHANCE_YOUR_CALM, and what is wrong in words.
        let debug = format!("no such key: {VALUE}");
        let payload = [&[0, 0, 0, 0, 0, 0, 0, 11], debug.as_bytes()].concat();
        let len = u8::try_from(payload.len()).unwrap();
        [&[0, 0, len, 7, 0, 0, 0, 0, 0], &payload[..]].concat()
    })
    .await;
    let world = World::leading_to(address, authority.trusted()).await;
    let error = world.text("https://shop.internal/").await.unwrap_err();
    assert_echoed(&error);
}

#[tokio::test]
async fn a_default_header_does_not_stand_beside_the_secret() {
    let authority = Authority::new();
    let mut origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("")).await;
    let mut config: HttpConfig = serde_json::from_value(json!({ "headers": {
        "authorization": { "value": "Basic default", "hosts": ["shop.internal"] },
    } }))
    .unwrap();
    config.trust = authority.trusted().trust;
    let world = World::leading_to(origin.address, config).await;
    world.text("https://shop.internal/").await.unwrap();
    let head = origin.request().await.head;
    assert!(head.contains(VALUE) && !head.contains("default"), "{head}");
    let plain = Request::get("https://shop.internal/").unwrap();
    soon(soon(world.client.send(&world.dialer(), plain)).await.unwrap().text()).await.unwrap();
    assert_eq!(origin.request().await.header("authorization"), Some("Basic default"));
}

#[tokio::test]
async fn a_request_keeps_the_value_that_it_began_with() {
    let (world, mut origin) = shop(&["shop.internal"], |seen| match seen.path() {
        "/" => redirect(307, "/arrived"),
        _ => ok(""),
    })
    .await;
    let other = [(id(), Arc::new(stored("another-31337", &["shop.internal"])))];
    // The request is polled once, which begins it, and then the value is replaced.
    let request = Request::get("https://shop.internal/").unwrap().secret(id());
    let dialer = world.dialer();
    let mut sending = Box::pin(world.client.send(&dialer, request));
    assert!(futures_util::poll!(&mut sending).is_pending());
    let before = world.store.replace(other.into());
    assert_eq!(*before[&id()], stored(VALUE, &["shop.internal"]));
    soon(soon(sending).await.unwrap().text()).await.unwrap();
    world.text("https://shop.internal/").await.unwrap();
    for expected in [VALUE, VALUE, "another-31337", "another-31337"] {
        let seen = next_request(&mut origin).await;
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {expected}")));
    }
    world.store.replace([].into());
    let request = Request::get("https://shop.internal/").unwrap().secret(id());
    let error = soon(world.client.send(&dialer, request)).await.unwrap_err();
    assert!(matches!(secret_error(&error), SecretError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_websocket_carries_a_secret_and_closes_if_it_comes_back() {
    let authority = Authority::new();
    let acceptor = authority.server("shop.internal", &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let (mut stream, head) = crate::websocket::accepted(Box::new(stream)).await;
            sender.send(head).unwrap();
            let reply = match number {
                0 => [crate::websocket::text("hello"), crate::websocket::text(&format!("key={VALUE}"))]
                    .concat(),
                _ => crate::websocket::closed(4000, VALUE),
            };
            stream.write_all(&reply).await.unwrap();
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let world = World::leading_to(address, authority.trusted()).await;
    let dialer = world.dialer();
    let connect =
        |url: &str| world.client.websocket(&dialer, WebSocketRequest::new(url).unwrap().secret(id()));

    let error = soon(connect("ws://shop.internal/")).await.unwrap_err();
    assert!(error.to_string().contains("`wss`"), "{error}");

    let mut socket = soon(connect("wss://shop.internal/feed")).await.unwrap();
    let head: String = soon(heads.recv()).await.unwrap();
    assert!(head.contains(&format!("authorization: Bearer {VALUE}\r\n")), "{head}");
    assert_eq!(soon(socket.receive()).await.unwrap(), Some(Message::from("hello")));
    for _ in 0..2 {
        let error = soon(socket.receive()).await.unwrap_err();
        assert!(
            matches!(&error, WebSocketError::Http(HttpError::Secret(SecretError::Echoed { .. }))),
            "{error:?}"
        );
    }

    let mut socket = soon(connect("wss://shop.internal/feed")).await.unwrap();
    let error = soon(socket.receive()).await.unwrap_err();
    assert!(
        matches!(&error, WebSocketError::Http(HttpError::Secret(SecretError::Echoed { .. }))),
        "{error:?}"
    );
    assert_eq!(socket.close_frame(), None);
    let shown = format!("{socket:?} {error:?}");
    drop(socket);
    soon(async {
        while world.ends().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The first was refused before anything left.
    assert_eq!(world.ends(), ["refused", "withheld", "withheld"]);
    assert_absent(shown.as_bytes(), "the WebSocket");
}

#[tokio::test]
async fn nothing_that_is_shown_has_the_value() {
    let (world, _origin) = shop(&["shop.internal"], |_| ok("")).await;
    let request = Request::get("https://shop.internal/").unwrap().secret(id());
    let shown = format!(
        "{request:?} {:?} {:?} {:?} {:?} {:?}",
        request.headers(),
        world.store,
        world.dialer(),
        world.client,
        frame(&world.app, &json!({ "secrets": ["app:stripe"] })),
    );
    assert_absent(shown.as_bytes(), "what is shown");
    assert!(shown.contains("app:stripe"));
    assert!(request.headers() == &HeaderMap::new());
}

#[tokio::test]
async fn the_audit_log_has_the_id_of_a_secret_and_not_its_value() {
    let (world, _origin) = shop(&["shop.internal"], |_| ok("")).await;
    world.text("https://shop.internal/").await.unwrap();
    world.get("http://shop.internal/").await.map(drop).unwrap_err();
    let log = world.log.0.lock().unwrap().clone();
    assert_eq!(log.len(), 3, "{log:#?}");
    assert!(log.iter().all(|record| record.contains("secret: Some(\"app:stripe\")")), "{log:#?}");
    assert!(
        log[2].contains("is_begun: false") && log[2].contains("secrets: the secret `app:stripe`"),
        "{}",
        log[2]
    );
    assert_absent(log.concat().as_bytes(), "the audit log");
}
