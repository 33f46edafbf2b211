//! The network of an HTTP proxy against proxies that play a script: what it sends is compared byte by byte, and whatever a
//! proxy does wrong, the connection is refused and nobody is connected to directly.

mod authority;
mod support;

use std::sync::Arc;

use frame_net::http_connect::{
    ConnectStage, HttpConnect, HttpConnectConfig, HttpConnectError, HttpConnectTlsError, Trust,
};
use frame_net::{Cause, Direct, DriverStep, NetworkError, NetworkRegistry, dialer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use authority::Authority;
use support::{Bait, Scripted, Then, app, connect_through, endpoint, expect, failure, frame, send, soon};

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn through(address: &str) -> Value {
    json!({ "kind": "http-connect", "proxy": address })
}

fn with_credentials(address: &str) -> Value {
    let mut config = through(address);
    config["credentials"] = json!({ "username": "app", "password": "xyzzy" });
    config
}

fn asked_for(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

fn cause(error: &NetworkError) -> &Cause {
    match error {
        NetworkError::Connect { source, .. } => source.cause(),
        _ => panic!("{error:?}"),
    }
}

fn refusal(error: &NetworkError) -> HttpConnectError {
    match cause(error) {
        Cause::HttpConnect(error) => *error,
        cause => panic!("{cause:?}"),
    }
}

/// What comes of an answer of a proxy, with the bait untouched, nothing more sent, and the connection closed.
async fn refused_with(answer: impl AsRef<[u8]>, then: Then, config: fn(&str) -> Value) -> NetworkError {
    let bait = Bait::new();
    let proxy = Scripted::new(&[expect(b"CONNECT "), send(answer)], then).await;
    let error = connect_through(config(&proxy.address), &bait.endpoint()).await.unwrap_err();
    bait.assert_untouched();
    let (step, text) = failure(&error);
    assert_eq!(step, DriverStep::HttpConnect(ConnectStage::Request), "{text}");
    assert!(text.contains("network `app:proxy`") && text.contains(&proxy.address), "{text}");
    assert!(!format!("{text}{error:?}").contains("xyzzy"), "{text}");
    assert!(!text.contains("31337") && !text.contains(char::is_control), "{text:?}");
    error
}

#[tokio::test]
async fn hosts_go_to_the_proxy_as_they_are() {
    for to in ["does-not.invalid:443", "A.example.:1", "192.0.2.7:80", "[2001:db8::1]:80", "localhost:81"] {
        let moves = [expect(asked_for(to)), send(OPEN), expect(b"ping"), send(b"pong")];
        let proxy = Scripted::new(&moves, Then::Wait).await;
        let mut stream = connect_through(through(&proxy.address), &endpoint(to)).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        soon(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"pong");
        drop(stream);
        assert_eq!(proxy.rest().await, b"");
    }
}

#[tokio::test]
async fn credentials_go_with_the_first_request() {
    let request = "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nProxy-Authorization: Basic YXBwOnh5enp5\r\n\r\n";
    let proxy = Scripted::new(&[expect(request), send(OPEN)], Then::Wait).await;
    connect_through(with_credentials(&proxy.address), &endpoint("h:80")).await.unwrap();
    assert_eq!(proxy.rest().await, b"");
}

#[tokio::test]
async fn any_status_of_success_opens_the_tunnel_whatever_it_says_of_a_body() {
    for head in [
        "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
        "HTTP/1.1 200 \r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 299 Fine\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        // At once with what the other end says first, and in pieces.
        for cut in [head.len(), 1, head.len() - 1] {
            let (first, second) = head.split_at(cut);
            let moves = [expect(asked_for("h:22")), send(first), send(format!("{second}SSH-2.0"))];
            let proxy = Scripted::new(&moves, Then::Close).await;
            let mut stream = connect_through(through(&proxy.address), &endpoint("h:22")).await.unwrap();
            let mut received = String::new();
            soon(stream.read_to_string(&mut received)).await.unwrap();
            assert_eq!(received, "SSH-2.0", "{head:?}");
        }
    }
}

#[tokio::test]
async fn every_status_of_failure_is_an_error_of_its_own() {
    let mut cases = JoinSet::new();
    for status in (101..=101).chain(300..=599).filter(|&status| status != 407) {
        cases.spawn(async move {
            let answer = format!("HTTP/1.1 {status} 31337\r\nContent-Length: 5\r\n\r\n31337");
            let error = refused_with(answer, Then::Wait, through).await;
            assert_eq!(refusal(&error), HttpConnectError::Refused { status });
            assert!(failure(&error).1.ends_with(&format!("(status {status})")), "{error}");
            let may_pass = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 506..);
            assert_eq!(error.is_retryable(), may_pass, "{status}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_that_asks_who_this_is_is_told_so_for_good() {
    let basic = "HTTP/1.1 407 31337\r\nProxy-Authenticate: Negotiate, basic realm=\"31337\"\r\n\r\n";
    let silent = "HTTP/1.1 407 31337\r\n\r\n";
    let other =
        "HTTP/1.1 407 31337\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basics x=\"y\"\r\n\r\n";
    let cases = [
        (basic, through as fn(&str) -> Value, HttpConnectError::CredentialsRequired),
        (silent, through, HttpConnectError::CredentialsRequired),
        (basic, with_credentials, HttpConnectError::CredentialsRefused),
        (silent, with_credentials, HttpConnectError::CredentialsRefused),
        (other, with_credentials, HttpConnectError::OtherAuthentication),
    ];
    for (answer, config, expected) in cases {
        let error = refused_with(answer, Then::Wait, config).await;
        assert_eq!(refusal(&error), expected);
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn what_is_no_answer_of_http_is_refused() {
    let not_http = |first| HttpConnectError::NotHttp { first };
    let line = HttpConnectError::Malformed("a line does not end in CR and LF");
    let malformed = HttpConnectError::Malformed;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(65));
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(16 * 1024));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    let cases: &[(&[u8], HttpConnectError)] = &[
        (b"\x05\x00", not_http(5)),
        (b"\x15\x03\x01\x00\x02\x02\x46", not_http(0x15)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", not_http(b'S')),
        (b"HTTP/2 200\r\n\r\n", not_http(b'H')),
        (b"http/1.1 200 OK\r\n\r\n", not_http(b'h')),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", not_http(b'\r')),
        (b"HTTP/1.9 200 OK\r\n\r\n", malformed("it is not of the version 1.0 or 1.1")),
        (b"HTTP/1.1 20x OK\r\n\r\n", malformed("the status line is none")),
        (b"HTTP/1.1  200 OK\r\n\r\n", malformed("the status line is none")),
        (b"HTTP/1.1 2000 OK\r\n\r\n", malformed("the status line is none")),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", malformed("the status line is none")),
        (b"HTTP/1.1 200 OK\n\n", line),
        (b"HTTP/1.1 200 OK\r\n\n", line),
        (b"HTTP/1.1 200 OK\r\r\n\r\n", line),
        (b"HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", line),
        (b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", malformed("the name of a header field is none")),
        (b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n", malformed("the name of a header field is none")),
        (b"HTTP/1.1 200 OK\r\na : c\r\n\r\n", malformed("the name of a header field is none")),
        (b"HTTP/1.1 200 OK\r\n: c\r\n\r\n", malformed("the name of a header field is none")),
        (b"HTTP/1.1 200 OK\r\na: \x01\r\n\r\n", malformed("the value of a header field is none")),
        (many.as_bytes(), malformed("there are more than 64 header fields in it")),
        (long.as_bytes(), HttpConnectError::HeadTooLong),
        (interim.as_bytes(), HttpConnectError::TooManyInterim),
    ];
    for (answer, expected) in cases {
        let error = refused_with(answer, Then::Wait, through).await;
        assert_eq!(refusal(&error), *expected, "{}", String::from_utf8_lossy(answer));
        assert!(error.is_retryable());
        assert_eq!(failure(&error).1.contains("set `tls = true`"), answer.first() == Some(&0x15));
    }
}

#[tokio::test]
async fn one_deadline_ends_silence_at_every_step() {
    let bait = Bait::new();
    for answer in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let proxy = Scripted::new(&[expect(b"CONNECT "), send(answer)], Then::Wait).await;
        let mut config = through(&proxy.address);
        config["deadline"] = json!("300ms");
        let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
        assert_eq!(failure(&error).0, DriverStep::HttpConnect(ConnectStage::Request));
        assert!(matches!(cause(&error), Cause::TimedOut { limit } if limit.as_millis() == 300), "{error:?}");
        assert!(error.is_retryable());
    }
    // A proxy that expects the client to speak TLS says nothing either, and one that is to speak TLS may not.
    let proxy = Scripted::new(&[expect(b"\x16\x03")], Then::Wait).await;
    let mut config = through(&proxy.address);
    config["deadline"] = json!("300ms");
    config["tls"] = json!(true);
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    assert_eq!(failure(&error).0, DriverStep::HttpConnect(ConnectStage::Tls));
    assert!(matches!(cause(&error), Cause::TimedOut { .. }), "{error:?}");
    bait.assert_untouched();
}

#[tokio::test]
async fn a_proxy_that_is_down_or_closes_is_no_reason_to_go_without() {
    let bait = Bait::new();
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = connect_through(through(&down), &bait.endpoint()).await.unwrap_err();
    assert_eq!(failure(&error).0, DriverStep::Connect);
    assert!(matches!(cause(&error), Cause::Io(_)) && error.is_retryable(), "{error:?}");
    bait.assert_untouched();

    for answer in ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let bait = Bait::new();
        let to = bait.endpoint();
        let moves = [expect(asked_for(&to.to_string())), send(answer)];
        let proxy = Scripted::new(&moves, Then::Close).await;
        let error = connect_through(through(&proxy.address), &to).await.unwrap_err();
        assert!(matches!(cause(&error), Cause::Closed) && error.is_retryable(), "{answer:?}: {error:?}");
        bait.assert_untouched();
    }
}

#[tokio::test]
async fn dropping_a_connect_closes_the_connection_to_the_proxy() {
    let mut proxy = Scripted::new(&[expect(asked_for("h:80")), send("HTTP/1.1 200")], Then::Wait).await;
    let config = through(&proxy.address);
    let dialing = tokio::spawn(async move { connect_through(config, &endpoint("h:80")).await });
    proxy.played().await;
    dialing.abort();
    assert!(soon(dialing).await.unwrap_err().is_cancelled());
    assert_eq!(proxy.rest().await, b"");
}

#[tokio::test]
async fn connections_of_one_key_have_the_same_credentials_and_no_others_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut network = through(&listener.local_addr().unwrap().to_string());
    network["isolate"] = json!(true);
    let (app, _) = app(json!({ "networks": { "app:proxy": network } }));
    let mut seen = Vec::new();
    for key in [None, None, Some("a"), Some("a"), Some("b")] {
        let mut options = json!({ "network": "app:proxy" });
        if let Some(key) = key {
            options["isolation"] = json!(key);
        }
        let dialer = dialer(&frame(&app, &options), &app).unwrap();
        let answer = async {
            let mut client = listener.accept().await.unwrap().0;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(client.read_u8().await.unwrap());
            }
            client.write_all(OPEN.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let to = endpoint("h:80");
        let (connected, request) = soon(async { tokio::join!(dialer.connect(&to), answer) }).await;
        connected.unwrap();
        let (_, credentials) = request.split_once("Proxy-Authorization: Basic ").unwrap();
        seen.push(credentials.trim_end().to_owned());
    }
    assert_eq!(seen[2], seen[3]);
    seen.remove(3);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");

    // Without `isolate` there is nothing that could keep them apart, so nobody is asked.
    let (app, _) = support::app(json!({ "networks": { "app:proxy": through("127.0.0.1:1") } }));
    let keyed = dialer(&frame(&app, &json!({ "network": "app:proxy", "isolation": "a" })), &app).unwrap();
    let error = keyed.connect(&endpoint("h:80")).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::NotSupported { kind: "http-connect", .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_proves_who_it_is_is_spoken_to_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let proxy = tokio::spawn(async move {
        let mut client = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "what is spoken inside");
        let expected =
            "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nProxy-Authorization: Basic YXBwOnh5enp5\r\n\r\n";
        let mut request = vec![0; expected.len()];
        client.read_exact(&mut request).await.unwrap();
        assert_eq!(String::from_utf8(request).unwrap(), expected);
        client.write_all(format!("{OPEN}hello").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
    });
    let mut config = with_credentials(&address);
    config["tls"] = json!(true);
    config["ca_file"] = json!(authority.file(&folder));
    let mut stream = connect_through(config, &endpoint("h:80")).await.unwrap();
    let mut received = String::new();
    soon(stream.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "hello");
    soon(proxy).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_does_not_prove_who_it_is_gets_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let cases = [(Authority::new(), "127.0.0.1"), (authority, "proxy.example")];
    for (authority, name) in cases {
        let trusted = if name == "127.0.0.1" { &Authority::new() } else { &authority };
        let acceptor = authority.acceptor(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = with_credentials(&listener.local_addr().unwrap().to_string());
        config["tls"] = json!(true);
        config["ca_file"] = json!(trusted.file(&folder));
        let proxy = tokio::spawn(async move {
            acceptor.accept(listener.accept().await.unwrap().0).await.unwrap_err();
        });
        let bait = Bait::new();
        let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
        assert_eq!(failure(&error).0, DriverStep::HttpConnect(ConnectStage::Tls));
        assert!(matches!(cause(&error), Cause::Tls(_)) && !error.is_retryable(), "{error:?}");
        bait.assert_untouched();
        soon(proxy).await.unwrap();
    }
}

#[tokio::test]
async fn what_speaks_no_tls_is_refused_and_gets_no_request() {
    let bait = Bait::new();
    let proxy =
        Scripted::new(&[expect(b"\x16\x03"), send("HTTP/1.1 400 Bad Request\r\n\r\n")], Then::Wait).await;
    let mut config = with_credentials(&proxy.address);
    config["tls"] = json!(true);
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    assert_eq!(failure(&error).0, DriverStep::HttpConnect(ConnectStage::Tls));
    bait.assert_untouched();
    let rest = proxy.rest().await;
    assert!(!rest.windows(7).any(|window| window == b"CONNECT"), "{rest:?}");
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused_when_the_network_is_made() {
    let networks = NetworkRegistry::new(Arc::new(Direct::default()));
    let proxy = format!("{}.example:1", "a".repeat(64)).parse().unwrap();
    let config = HttpConnectConfig::new(proxy).with_tls(Trust::default());
    let error = HttpConnect::new(config.clone(), &networks).unwrap_err();
    assert!(matches!(error, HttpConnectTlsError::Name), "{error:?}");
    let mut config = config;
    config.tls = None;
    HttpConnect::new(config, &networks).unwrap();
}

#[tokio::test]
async fn it_goes_via_another_network_and_others_go_via_it() {
    // Each is asked for the next, whose address no rule of the one in front allows.
    let front_asked = asked_for("10.0.0.1:3128");
    let behind_asked =
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nProxy-Authorization: Basic YXBwOnh5enp5\r\n\r\n";
    let moves = [expect(front_asked), send(OPEN), expect(behind_asked), send(OPEN), send(b"hello")];
    let proxy = Scripted::new(&moves, Then::Close).await;
    let mut behind = with_credentials("10.0.0.1:3128");
    behind["via"] = json!("app:front");
    let (app_, _) =
        app(json!({ "networks": { "app:front": through(&proxy.address), "app:behind": behind } }));
    let dialer_ = dialer(&frame(&app_, &json!({ "network": "app:behind" })), &app_).unwrap();
    let mut stream = soon(dialer_.connect(&endpoint("h:80"))).await.unwrap();
    let mut received = String::new();
    soon(stream.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "hello");

    // SOCKS5 through it.
    let moves = [expect(asked_for("localhost:1080")), send(OPEN), expect([5, 1, 0]), send([5, 0xff])];
    let proxy = Scripted::new(&moves, Then::Wait).await;
    let (app_, _) = app(json!({ "networks": {
        "app:front": through(&proxy.address),
        "app:behind": { "kind": "socks5", "proxy": "localhost:1080", "via": "app:front" },
    } }));
    let dialer_ = dialer(&frame(&app_, &json!({ "network": "app:behind" })), &app_).unwrap();
    let error = soon(dialer_.connect(&endpoint("h:80"))).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Handshake(_)), "{error:?}");

    // With the one in front gone there is none.
    let (app_, networks) = app(json!({ "networks": {
        "app:front": through("127.0.0.1:1"),
        "app:behind": { "kind": "http-connect", "proxy": "127.0.0.1:1", "via": "app:front" },
    } }));
    let dialer_ = dialer(&frame(&app_, &json!({ "network": "app:behind" })), &app_).unwrap();
    assert!(networks.unregister(&"app:front".parse().unwrap()));
    let error = soon(dialer_.connect(&endpoint("h:80"))).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Via(_)) && !error.is_retryable(), "{error:?}");
}
