//! The module `http` of scripts.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::ErrorKind;
use frame_dispatch::lua::LuaConfig;
use frame_net::http::HttpConfig;
use frame_net::socks5::Refusal;
use serde_json::{Value as Json, json};

use crate::relay::Relay;
use crate::support::{Script, answers, server, soon};

const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// What a script gets that asks for a table of this response.
async fn returned(response: impl Into<Vec<u8>>, source: &str) -> Json {
    let (address, served) = answers(response);
    let script = Script::new(&format!("local url = ... local response = http.get(url) {source}"));
    let returned = script.call(json!(format!("http://{address}/path?query"))).await.unwrap();
    served.join().unwrap();
    returned
}

/// The kind and the message of what a script fails with.
async fn failed(source: &str, payload: Json) -> (String, String) {
    let script = Script::new(&format!(
        "local payload = ... local ok, e = pcall(function() {source} end) return {{ ok, e.kind, e.message }}"
    ));
    let returned = script.call(payload).await.unwrap();
    assert_eq!(returned[0], false, "{source}");
    (returned[1].as_str().unwrap().to_owned(), returned[2].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_as_it_was_asked_for_and_with_nothing_else() {
    let (address, served) = answers(EMPTY);
    let script = Script::new(
        r#"return http.request {
             method = "PATCH", url = ..., json = { items = array {}, none = null },
             headers = { ["X-One"] = "1", ["x-many"] = { "a", "b" } },
           }.status"#,
    );
    assert_eq!(script.call(json!(format!("http://{address}/a?b=c"))).await.unwrap(), 204);
    let (head, body) = served.join().unwrap();
    let mut lines: Vec<_> = head.trim_end().lines().map(str::to_lowercase).collect();
    lines.sort();
    let mut expected = vec![
        "patch /a?b=c http/1.1".to_owned(),
        format!("host: {address}"),
        "accept-encoding: gzip, br, zstd".to_owned(),
        "x-one: 1".to_owned(),
        "x-many: a".to_owned(),
        "x-many: b".to_owned(),
        "content-type: application/json".to_owned(),
        format!("content-length: {}", body.len()),
    ];
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), json!({ "items": [], "none": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_bytes_in_both_directions() {
    let (address, served) = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\x00\r\n".to_vec());
    let script = Script::new(r#"return { http.post(..., "\0\xfe").body:byte(1, -1) }"#);
    assert_eq!(script.call(json!(format!("http://{address}"))).await.unwrap(), json!([255, 0, 13, 10]));
    assert_eq!(served.join().unwrap().1, b"\0\xfe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_its_status_its_headers_and_its_url() {
    let response =
        "HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX: y\r\nContent-Length: 0\r\n\r\n";
    let got = returned(
        response,
        "return { response.status, response.headers['set-cookie'], response.header_values['set-cookie'],
                  response.headers.x, response.url:match('/path.*'), response.body }",
    )
    .await;
    assert_eq!(got, json!([404, "a=1, b=2", ["a=1", "b=2"], "y", "/path?query", ""]));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_with_the_conventions_of_payloads() {
    let body = r#"{"empty":[],"none":null,"n":9007199254740993,"deep":[[1.5,"\u00e4"]]}"#;
    let response = || format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(returned(response(), "return response:json()").await.to_string(), {
        let json: Json = serde_json::from_str(body).unwrap();
        json.to_string()
    });
    assert_eq!(returned(response(), "return response:json().none == null").await, true);
    let got = returned(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{x",
        "local ok, e = pcall(response.json, response) return { ok, e.kind }",
    );
    assert_eq!(got.await, json!([false, "invalid"]));
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_words() {
    for (source, words) in [
        ("http.get('ftp://h/')", "the scheme must be `http` or `https`"),
        ("http.get('http://u:p@h/')", "a URL cannot have a user name or a password in it"),
        ("http.get('http://h/', { timout = 1 })", "did you mean `timeout`?"),
        ("http.get('http://h/', { body = 'x' })", "`http.get` has no member `body`"),
        ("http.get('http://h/', { timeout = 0 })", "`timeout` is a number of seconds, more than 0; it is 0"),
        ("http.get('http://h/', { max_body = -1 })", "`max_body` is an integer, 0 or more; it is -1"),
        ("http.get('http://h/', { headers = { host = 'x' } })", "cannot be given the header `host`"),
        ("http.get('http://h/', { headers = { a = 1 } })", "the header `a` is a string"),
        ("http.get('http://h/', { headers = { ['a b'] = '1' } })", "no header can be called `a b`"),
        ("http.get('http://h/', { headers = { a = 'x\\r\\nb: c' } })", "the value of the header `a`"),
        (
            "local s, h = ('x'):rep(1000000), {} for i = 1, 900 do h['a' .. i] = s end http.get('http://h/', { headers = h })",
            "the headers of a request have at most 65536 bytes",
        ),
        (
            "local h = {} for i = 1, 900 do h[i] = ('x'):rep(100) end http.get('http://h/', { headers = { a = h } })",
            "the headers of a request have at most 65536 bytes",
        ),
        ("http.request { method = 'A B', url = 'http://h/' }", "there is no method `A B`"),
        ("http.request { method = 'CONNECT', url = 'http://h/' }", "cannot have the method CONNECT"),
        ("http.request { }", "a request has a `url`; it is missing"),
        ("http.post('http://h/', 'x', { json = 1 })", "and not several"),
        ("http.post('http://h/', nil, { json = print })", "`json` is a function"),
        ("http.get('http://h/', { isolation = '' })", "`isolation`: an isolation key has 1 to 1024 bytes"),
    ] {
        let (kind, message) = failed(source, json!(null)).await;
        assert_eq!(kind, "invalid", "{source}: {message}");
        assert!(message.contains(words), "{source}: {message}");
    }
}

#[tokio::test]
async fn what_the_network_forbids_is_denied_and_the_error_names_the_route() {
    let script = Script::with_networks(
        "local ok, e = pcall(http.get, 'http://127.0.0.1:1/secret?token') return { e.kind, e.message, e.retryable }",
        json!({}),
    );
    let got = script.call(json!(null)).await.unwrap();
    assert_eq!((&got[0], &got[2]), (&json!("denied"), &json!(false)));
    let message = got[1].as_str().unwrap();
    assert_eq!(message, "connecting to 127.0.0.1:1 through clearnet is not allowed");
}

#[tokio::test]
async fn what_nobody_answers_is_unavailable_and_worth_a_retry() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = Script::new("http.get(...)");
    let error = script.call(json!(format!("http://{closed}/"))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused() {
    let long = || format!("HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n{}", "x".repeat(5_000_000));
    let (address, _) = answers(long());
    let (kind, message) =
        failed("http.get(payload, { max_body = 100 })", json!(format!("http://{address}/"))).await;
    assert_eq!(kind, "exhausted");
    assert!(message.contains("has more than 100 bytes"), "{message}");

    // A script cannot have more than the client allows, nor more than its memory.
    let limits = [(HttpConfig::default(), 2 << 20), (small_bodies(), 32 << 20)];
    for (http, memory) in limits {
        let (address, _) = answers(long());
        let clearnet = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
        let config = LuaConfig::default().with_memory(memory);
        let script = Script::with_config("http.get(..., { max_body = 1 << 40 })", clearnet, http, config);
        let error = script.call(json!(format!("http://{address}/"))).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    }
}

fn small_bodies() -> HttpConfig {
    serde_json::from_value(json!({ "max_response_body": 1000 })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_given_up() {
    let silent = || server(|mut stream| stream.read_to_end(&mut Vec::new()).is_ok());
    let (address, served) = silent();
    let (kind, message) =
        failed("http.get(payload, { timeout = 0.1 })", json!(format!("http://{address}/"))).await;
    assert_eq!(kind, "deadline", "{message}");
    assert!(served.join().unwrap(), "the connection is closed");

    let (address, served) = silent();
    let script = Script::new("http.get(...)");
    let ctx = script.functions.root().with_timeout(Duration::from_millis(200));
    let error = script.call_with(&ctx, json!(format!("http://{address}/")), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(served.join().unwrap(), "the call's deadline reaches the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_through_the_network_of_the_frame_of_its_call() {
    let relay = Relay::bind("127.0.0.1:0").await.unwrap();
    let networks = json!({
        "networks": { "app:relay": { "kind": "socks5", "proxy": relay.local_addr().unwrap() } },
    });
    let (origin, served) = answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(relay.serve(move |request| {
        seen.lock().unwrap().push(request.to.to_string());
        if request.to.port() == 80 { Ok(origin) } else { Err(Refusal::NotAllowed) }
    }));
    let script = Script::with_networks("return call('app:fetch', 'http://origin.example/').body", networks);
    script.add(
        "app:fetch",
        "local response = http.get(...) return { body = response.body }",
        LuaConfig::default(),
    );
    let root = script.functions.root();
    let got = script.call_with(&root, json!(null), json!({ "network": "app:relay" })).await.unwrap();
    assert_eq!(got, "hello");
    soon(tokio::task::spawn_blocking(|| served.join().unwrap())).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["origin.example:80"]);
}

/// A server that answers each connection in turn, and gives the heads and bodies of what it was asked.
fn several(responses: Vec<String>) -> (std::net::SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let answer = |response: String| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(crate::support::GENEROUS)).unwrap();
            let mut seen = Vec::new();
            let is_whole = |seen: &[u8]| {
                let text = String::from_utf8_lossy(seen).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                body.len() >= length.unwrap_or(0)
            };
            while !is_whole(&seen) {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "the request is whole");
                seen.extend(&bytes[..read]);
            }
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(seen).unwrap()
        };
        responses.into_iter().map(answer).collect()
    });
    (address, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_sent_in_the_order_of_their_names_whatever_the_vm() {
    let names = ["zeta", "Alpha", "mid", "X-Very", "accept", "x-other", "beta", "Omega"];
    let headers = names.map(|name| format!("['{name}'] = 'v', ")).concat();
    for _ in 0..5 {
        let (address, served) = answers(EMPTY);
        let script = Script::new(&format!("return http.get(..., {{ headers = {{ {headers} }} }}).status"));
        script.call(json!(format!("http://{address}/"))).await.unwrap();
        let head = served.join().unwrap().0.to_lowercase();
        let sent: Vec<_> = head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        let expected = [
            "host",
            "accept",
            "alpha",
            "beta",
            "mid",
            "omega",
            "x-other",
            "x-very",
            "zeta",
            "accept-encoding",
        ];
        assert_eq!(sent, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usual_method_may_be_in_lower_case() {
    for (given, sent) in [("get", "GET "), ("Delete", "DELETE "), ("put", "PUT "), ("patch", "patch ")] {
        let (address, served) = answers(EMPTY);
        let script = Script::new(&format!("return http.request {{ method = '{given}', url = ... }}.status"));
        script.call(json!(format!("http://{address}/"))).await.unwrap();
        assert!(served.join().unwrap().0.starts_with(sent), "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_keys_go_to_another_origin_only_if_asked() {
    let moved = |to: std::net::SocketAddr| {
        format!("HTTP/1.1 307 X\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n")
    };
    let (there, served) = several(vec![EMPTY.to_owned()]);
    let (here, _) = several(vec![moved(there), moved(there)]);
    let post = |options: &str| {
        format!(
            "http.post(payload, 'the body', {{ headers = {{ ['X-Api-Key'] = 'k1', ['X-Mine'] = 'k2', a = 'open' }},
               sensitive = {{ 'X-Mine' }}, {options} }})"
        )
    };
    let (kind, message) = failed(&post(""), json!(format!("http://{here}/"))).await;
    assert_eq!(kind, "denied");
    assert!(message.contains("set `forward_body`"), "{message}");

    let script = Script::new(&format!("local payload = ... {}", post("forward_body = true")));
    script.call(json!(format!("http://{here}/"))).await.unwrap();
    let seen = served.join().unwrap().remove(0);
    assert!(seen.ends_with("the body") && seen.contains("a: open"), "{seen}");
    assert!(!seen.contains("k1") && !seen.contains("k2"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_has_a_limit_of_its_own() {
    let silent = || server(|mut stream| stream.read_to_end(&mut Vec::new()).is_ok());
    let (address, _) = silent();
    let source = "http.get(payload, { first_byte_timeout = 0.1 })";
    let (kind, message) = failed(source, json!(format!("http://{address}/"))).await;
    assert_eq!(kind, "deadline");
    assert!(message.contains("did not answer within 100ms"), "{message}");

    // A proxy that says nothing is a black hole.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = hole.local_addr().unwrap();
    let networks = json!({ "networks": { "app:hole": { "kind": "socks5", "proxy": proxy.to_string() } } });
    let ask = "local ok, e = pcall(http.get, 'http://h.example/', OPTIONS) return { e.kind, e.message, e.retryable }";
    let in_options = (ask.replace("OPTIONS", "{ connect_timeout = 0.1 }"), json!({}));
    let in_settings = (ask.replace("OPTIONS", "nil"), json!({ "connect_limit": "100ms" }));
    // A script cannot have more than the client allows.
    let in_both = (ask.replace("OPTIONS", "{ connect_timeout = 1000 }"), json!({ "connect_limit": "100ms" }));
    for (source, http) in [in_options, in_settings, in_both] {
        let http = serde_json::from_value(http).unwrap();
        let script = Script::with_config(&source, networks.clone(), http, LuaConfig::default());
        let root = script.functions.root();
        let got = script.call_with(&root, json!(null), json!({ "network": "app:hole" })).await.unwrap();
        assert_eq!((&got[0], &got[2]), (&json!("deadline"), &json!(true)), "{got}");
        let message = got[1].as_str().unwrap();
        assert!(
            message.contains("no connection to h.example:80") || message.contains("within 100ms"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_exhausted_and_named() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200));
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(100_000));
    for (response, setting) in [(many, "`max_response_headers`"), (long, "`max_response_head`")] {
        let (address, _) = answers(response);
        let script = Script::new("http.get(...)");
        let error = script.call(json!(format!("http://{address}/"))).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
        assert!(error.message().contains(setting), "{error}");
    }
}

#[tokio::test]
async fn native_callers_get_the_causes_of_what_a_script_did_not_catch() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Script::new("http.get(...)").call(json!(format!("http://{closed}/"))).await.unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |&cause| cause.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    assert!(!error.message().contains("refused"), "{error}");
    assert!(causes.iter().any(|cause| cause.contains("refused")), "{causes:?}");
}
