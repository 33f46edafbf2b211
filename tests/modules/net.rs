//! The module `net` of scripts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use frame_dispatch::{ErrorKind, Task};
use serde_json::{Value as Json, json};

use crate::support::{GENEROUS, Script, server, soon};

/// A server that gives back what it gets, until the end, to any number of connections.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut sink = stream.try_clone().unwrap();
                std::io::copy(&mut stream, &mut sink).and_then(|_| sink.shutdown(std::net::Shutdown::Write))
            });
        }
    });
    address
}

async fn returned(source: &str, payload: impl Into<Json>) -> Json {
    Script::new(source).call(payload.into()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_bytes_both_ways() {
    let source = r#"
        local host, port = (...):match("(.*):(%d+)")
        local stream = net.connect(host, tonumber(port), { timeout = 30 })
        stream:write("one\r\ntwo\n\nthr")
        local lines = { stream:read_line(), stream:read_line(), stream:read_line() }
        local some = stream:read(1)
        stream:write("ee\0\xff")
        stream:shutdown()
        local rest = stream:read_all(100)
        return { lines[1], lines[2], lines[3], some, rest == "hree\0\xff", stream:read(1) == nil,
                 stream:read_line() == nil, stream:read_all(), type(stream) }"#;
    let got = returned(source, echo().to_string()).await;
    assert_eq!(got, json!(["one", "two", "", "t", true, true, true, "", "userdata"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_longer_than_was_asked_for_is_refused() {
    let source = r#"
        local function failed(method, max)
          local stream <close> = net.connect(...)
          stream:write("12345\n") stream:shutdown()
          local ok, e = pcall(stream[method], stream, max)
          return ok and e or e.kind
        end
        return { failed("read_line", 4), failed("read_line", 5), failed("read_all", 5), failed("read_all", 6),
                 failed("read", 0) }"#;
    let source = source.replace("net.connect(...)", "net.connect(to)");
    let got = returned(&format!("local to = ... {source}"), echo().to_string()).await;
    assert_eq!(got, json!(["exhausted", "12345", "exhausted", "12345\n", "invalid"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_call_that_made_it() {
    let (address, served) = server(|mut stream| {
        stream.write_all(b"x").unwrap();
        stream.read_to_end(&mut Vec::new()).is_ok()
    });
    // Neither closed nor collected: the VM is kept for the next call, and has all that the script left in it.
    let script = Script::new("local stream = net.connect(...) kept = stream return stream:read(1)");
    assert_eq!(script.call(json!(address.to_string())).await.unwrap(), "x");
    assert!(served.join().unwrap(), "the server sees the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_where_the_script_says_so() {
    let source = r#"
        local to = ...
        local stream = net.connect(to)
        stream:close()
        stream:close()
        local ok, e = pcall(stream.read, stream, 1)
        local inner
        do
          local scoped <close> = net.connect(to)
          inner = scoped
        end
        local ok2, e2 = pcall(inner.write, inner, "x")
        return { ok, e.kind, e.message, ok2, getmetatable(stream) == false, pcall(net.connect, {}) }"#;
    let got = returned(source, echo().to_string()).await;
    assert_eq!(got[1], "invalid");
    assert_eq!(
        (&got[0], &got[2], &got[3], &got[4], &got[5]),
        (&json!(false), &json!("the connection is closed"), &json!(false), &json!(true), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_so_many_connections_at_a_time() {
    let source = r"
        local to = ...
        local one, two = net.connect(to), net.connect(to)
        local ok, e = pcall(net.connect, to)
        one:close()
        local three = net.connect(to)
        two, three = nil, nil
        local four = net.connect(to)
        return { ok, e.kind, e.retryable, e.message }";
    let got = returned(source, echo().to_string()).await;
    let message = "a call has at most 2 connections at a time; close some";
    assert_eq!(got, json!([false, "exhausted", false, message]));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_of_a_unit_share_what_it_may_have() {
    let source = r"
        local to, wait = table.unpack(...)
        local ok, one
        repeat ok, one = pcall(net.connect, to) until ok
        if wait then one:read(1) end
        local two = net.connect(to)
        return 'two'";
    let networks =
        json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": { "connections_per_unit": 3 } });
    let script = Script::with_networks(source, networks);
    let to = echo().to_string();
    let (mut holds, wait) = (Vec::new(), json!([to, true]));
    // Each waits for something to read, with one connection.
    for _ in 0..2 {
        let (functions, wait) = (script.functions.clone(), wait.clone());
        let task = Task::new("app:script".parse().unwrap()).with_payload(wait);
        holds.push(tokio::spawn(async move { functions.root().call(task).await }));
    }
    let refused = async {
        loop {
            if let Err(error) = script.call(json!([to, false])).await {
                break error;
            }
        }
    };
    let error = soon(refused).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true), "{error}");
    let said = "this unit has 3 connections, which is the limit for one unit; close some, or try again later";
    assert!(error.message().ends_with(said), "{error}");
    for hold in holds {
        hold.abort();
        let _ = hold.await;
    }
    let freed = async { while script.call(json!([to, false])).await.is_err() {} };
    soon(freed).await;
}

#[tokio::test]
async fn what_is_no_address_is_refused_in_words() {
    for (source, words) in [
        ("net.connect('h')", "the port is missing; write `host:port`"),
        ("net.connect('h', 0)", "1 to 65535"),
        ("net.connect('h', 65536)", "1 to 65535"),
        ("net.connect('h', '80')", "1 to 65535"),
        ("net.connect('127.1', 80)", ""),
        ("net.connect('h:80', { timeot = 1 })", "did you mean `timeout`?"),
        ("net.lookup('')", ""),
    ] {
        let script = Script::new(source);
        let error = script.call(json!(null)).await.unwrap_err();
        assert_eq!(error.kind(), frame_dispatch::ErrorKind::Invalid, "{source}: {error}");
        assert!(error.message().contains(words), "{source}: {error}");
    }
}

#[tokio::test]
async fn what_the_network_forbids_is_denied() {
    let script = Script::with_networks(
        "local ok, e = pcall(net.connect, '127.0.0.1:1') return { e.kind, e.message }",
        json!({}),
    );
    let got = script.call(json!(null)).await.unwrap();
    assert_eq!(got[0], "denied");
    assert_eq!(got[1], "connecting to 127.0.0.1:1 through clearnet is not allowed");
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_given_up() {
    // A proxy that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let networks = json!({
        "networks": { "app:silent": { "kind": "socks5", "proxy": silent.local_addr().unwrap() } },
    });
    let source = "local ok, e = pcall(net.connect, 'h:80', { timeout = 0.1 }) return { e.kind, e.message }";
    let script = Script::with_networks(source, networks);
    let root = script.functions.root();
    let got = script.call_with(&root, json!(null), json!({ "network": "app:silent" })).await.unwrap();
    assert_eq!(got, json!(["deadline", "no connection to h:80 through network `app:silent` within 100ms"]));
    assert!(GENEROUS.as_secs() > 30, "the network itself would have taken longer");
}

#[tokio::test]
async fn a_script_is_told_its_route_and_the_addresses_of_a_name() {
    let networks = json!({ "networks": { "app:tor": { "kind": "socks5", "proxy": "127.0.0.1:1" } } });
    let source = "local ok, e = pcall(net.lookup, 'h') return { net.route(), ok or e.kind, net.lookup('10.0.0.1')[1] }";
    let script = Script::with_networks(source, networks);
    let root = script.functions.root();
    let got = script.call_with(&root, json!(null), json!({ "network": "app:tor" })).await.unwrap();
    assert_eq!(got, json!(["app:tor", "unavailable", "10.0.0.1"]));
    assert_eq!(returned("return net.route()", json!(null)).await, "clearnet");
}

/// Replaced by U+FFFD they would all be one key, and so one identity.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_utf8_is_refused_and_not_replaced() {
    let source = r#"
        local function refused(f, ...)
          local ok, e = pcall(f, ...)
          return { ok, e.kind, e.message }
        end
        return {
          refused(net.connect, "127.0.0.1:1", { isolation = "\xff" }),
          refused(net.connect, "127.0.0.1\xff:1"), refused(net.connect, "a\xff", 1),
          refused(net.lookup, "a\xff.example"),
          refused(http.get, "http://127.0.0.1:1/", { isolation = "\xfe" }),
          refused(http.get, "http://127.0.0.1:1/\xff"),
          refused(call, "app:script\xff"),
          refused(call, "app:script", nil, { isolation = "\xff" }),
        }"#;
    let refused = returned(source, json!(null)).await;
    for (index, what) in
        ["`isolation`", "the host", "the host", "the name", "`isolation`", "the URL", "the id", ""]
            .iter()
            .enumerate()
    {
        let refused = &refused[index];
        assert_eq!((&refused[0], &refused[1]), (&json!(false), &json!("invalid")), "{refused}");
        let message = refused[2].as_str().unwrap();
        assert!(message.contains(what) && message.contains("UTF-8"), "{message}");
    }
}

/// A name that leads to a special address, addresses, and rules: a script learns that it may not, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_nothing_of_addresses_rules_or_remedies() {
    let networks = json!({
        "clearnet": { "deny": ["*.corp.example", "127.0.0.2"], "allow": ["*.test.example"] },
        "networks": {
            "app:guarded": { "kind": "socks5", "proxy": "proxy.corp.example:1080" },
            "app:behind": { "kind": "socks5", "proxy": "127.0.0.2:1080", "via": "app:guarded" },
        },
    });
    let source = r#"
        local function refused(f, ...)
          local ok, e = pcall(f, ...)
          return { e.kind, e.message, tostring(e) }
        end
        return {
          refused(net.connect, "localhost", 80), refused(net.lookup, "localhost"),
          refused(net.connect, "db.corp.example", 80), refused(net.connect, "127.0.0.2", 80),
          refused(net.lookup, "x.onion"), refused(http.get, "http://localhost/secret?path"),
        }"#;
    let script = Script::with_networks(source, networks.clone());
    let refused = script.call(json!(null)).await.unwrap();
    let expected = [
        "connecting to localhost:80 through clearnet is not allowed",
        "looking up localhost through clearnet is not allowed",
        "connecting to db.corp.example:80 through clearnet is not allowed",
        "connecting to 127.0.0.2:80 through clearnet is not allowed",
        "looking up x.onion through clearnet is not allowed",
        "connecting to localhost:80 through clearnet is not allowed",
    ];
    for (refused, expected) in refused.as_array().unwrap().iter().zip(expected) {
        assert_eq!(
            (&refused[0], &refused[1], &refused[2]),
            (&json!("denied"), &json!(expected), &json!(expected))
        );
    }

    // The caller of the program has the whole story.
    let uncaught = Script::with_networks("return net.connect('localhost', 80)", networks.clone());
    let error = uncaught.call(json!(null)).await.unwrap_err();
    assert_eq!(error.message(), "connecting to localhost:80 through clearnet is not allowed");
    let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let story = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(story.contains("loopback") && story.contains("to allow it, add"), "{story}");

    // Where a proxy cannot be reached, nothing of the proxy.
    let script = Script::with_networks(
        "local _, e = pcall(net.connect, 'shop.example', 80) return e.message",
        networks,
    );
    for network in ["app:guarded", "app:behind"] {
        let told =
            script.call_with(&script.functions.root(), json!(null), json!({ "network": network })).await;
        let told = told.unwrap().to_string();
        assert!(told.contains("shop.example:80"), "{told}");
        assert!(
            !["corp", "127.0", "1080", "deny", "rule"].iter().any(|secret| told.contains(secret)),
            "{told}"
        );
    }
}
