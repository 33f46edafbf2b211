//! The module `websocket` of scripts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use data_encoding::BASE64;
use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
use frame_dispatch::process::{HostConfig, HostId, ProcessManager, Spawn};
use frame_dispatch::{ErrorKind, Functions, Payload};
use frame_net::http::{HttpClient, HttpConfig};
use frame_registry::{App, FrameResolvers, Options};
use frame_runtime::modules::lua::WebSocketModule;
use serde_json::{Value as Json, json};
use sha1::{Digest as _, Sha1};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::support::{Script, answers, server, soon};

/// Completes the handshake. Returns the head of the request, too.
fn accept(mut stream: TcpStream, further: &str) -> (String, WebSocket<TcpStream>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let accept = BASE64.encode(&hash);
    let answer = format!(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{further}\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    (head, WebSocket::from_raw_socket(stream, Role::Server, None))
}

/// A server that does what `serve` says with one WebSocket.
fn socket_server<T: Send + 'static>(
    serve: impl FnOnce(&mut WebSocket<TcpStream>) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let (address, served) = server(|stream| serve(&mut accept(stream, "").1));
    (format!("ws://{address}/"), served)
}

/// A server that echoes messages to any number of clients.
pub(crate) fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| {
                let (_, mut socket) = accept(stream.unwrap(), "");
                while let Ok(message) = socket.read() {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).unwrap();
                    }
                }
            });
        }
    });
    format!("ws://{address}/")
}

/// Until the client has closed.
fn until_closed(socket: &mut WebSocket<TcpStream>) {
    while socket.read().is_ok() {}
}

async fn returned(source: &str, payload: impl Into<Json>) -> Json {
    Script::new(source).call(payload.into()).await.unwrap()
}

/// Whether a script fails, the kind, the message, and whether it may be tried again.
async fn failed(source: &str, payload: impl Into<Json>) -> Json {
    let source = format!(
        "local url = ... local ok, e = pcall(function() {source} end) return {{ ok, e.kind, e.message, e.retryable }}"
    );
    returned(&source, payload).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways() {
    let source = r#"
        local socket <close> = websocket.connect(..., { timeout = 30 })
        local got = {}
        for _, data in ipairs { "hello", "", "ä🦀", ("x"):rep(100000) } do
          socket:send(data)
          local text, kind = socket:receive { timeout = 30 }
          got[#got + 1] = text == data and kind
          socket:send(data .. "\0\xff", { binary = true, timeout = 30 })
          local bytes, kind = socket:receive()
          got[#got + 1] = bytes == data .. "\0\xff" and kind
        end
        return { got, socket:protocol() == nil, type(socket), getmetatable(socket) == false, { socket:close() },
                 #{ socket:close() } }"#;
    let kinds = ["text", "binary"].repeat(4);
    let got = returned(source, echo()).await;
    assert_eq!(got, json!([kinds, true, "userdata", true, [1000, ""], 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_subprotocols_are_those_of_the_script() {
    let (address, served) = server(|stream| {
        let (head, mut socket) = accept(stream, "Sec-WebSocket-Protocol: v1\r\n");
        until_closed(&mut socket);
        head
    });
    let source = r#"
        local socket = websocket.connect(..., {
          headers = { ["X-B"] = { "1", "2" }, ["x-a"] = "3" }, protocols = { "v2", "v1" },
        })
        return socket:protocol()"#;
    assert_eq!(returned(source, format!("ws://{address}/path?query")).await, "v1");
    let head = served.join().unwrap();
    assert!(head.starts_with("GET /path?query HTTP/1.1\r\n"), "{head}");
    let own: Vec<_> = head.lines().filter(|line| line.starts_with("x-")).collect();
    assert_eq!(own, ["x-a: 3", "x-b: 1", "x-b: 2"]);
    assert!(head.contains("sec-websocket-protocol: v2, v1\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_is_told_how_the_server_closes() {
    let (url, _served) = socket_server(|socket| {
        socket.send(Message::text("last")).unwrap();
        socket.close(Some(CloseFrame { code: 4001.into(), reason: "enough".into() })).unwrap();
        until_closed(socket);
    });
    let source = r#"
        local socket = websocket.connect(...)
        local got = { { socket:receive() }, { socket:receive() }, { socket:receive() } }
        local ok, e = pcall(socket.send, socket, "x")
        return { got[1], { got[2][1] == nil, got[2][2], got[2][3] }, { got[3][2], got[3][3] }, ok, e.kind, e.message,
                 { socket:close() } }"#;
    let got = returned(source, url.clone()).await;
    let (host, enough) = (url.trim_start_matches("ws://").trim_end_matches('/'), json!([4001, "enough"]));
    let message = format!("the connection to {host} through clearnet is closed: 4001 enough");
    let expected =
        json!([["last", "text"], [true, 4001, "enough"], enough, false, "unavailable", message, enough]);
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_how_the_script_closes() {
    for (source, expected) in [
        ("socket:close()", Some((1000, ""))),
        ("socket:close(4000, 'done')", Some((4000, "done"))),
        // The server need not see this one: it is not waited for.
        ("do local scoped <close> = socket end", Some((1001, ""))),
        ("error('x')", Some((1001, ""))),
    ] {
        let (url, served) = socket_server(|socket| {
            loop {
                match socket.read() {
                    Ok(Message::Close(frame)) => {
                        break frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                    }
                    Ok(_) => {}
                    Err(_) => break None,
                }
            }
        });
        let script = Script::new(&format!("local socket = websocket.connect(...) {source}"));
        let _ = script.call(json!(url)).await;
        let said = served.join().unwrap();
        assert_eq!(said.as_ref().map(|(code, reason)| (*code, &reason[..])), expected, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_call_that_made_it() {
    let (url, served) = socket_server(until_closed);
    // Neither closed nor collected: the VM is kept for the next call, and has all that the script left in it.
    let script = Script::new("kept = websocket.connect(...)");
    script.call(json!(url)).await.unwrap();
    served.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_deadline_of_its_call() {
    let (url, served) = socket_server(until_closed);
    let script = Script::new("websocket.connect(...):receive()");
    let timeout = json!({ "timeout": "200ms" });
    let error = script.call_with(&script.functions.root(), json!(url), timeout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    served.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_cannot_be_used() {
    let source = r#"
        local url = ...
        local socket = websocket.connect(url)
        socket:close()
        local inner
        do
          local scoped <close> = websocket.connect(url)
          inner = scoped
        end
        local got = {}
        for _, socket in ipairs { socket, inner } do
          for _, method in ipairs { "send", "receive", "protocol" } do
            local ok, e = pcall(socket[method], socket, method == "send" and "x" or nil)
            got[#got + 1] = not ok and e.kind .. ": " .. e.message
          end
        end
        return got"#;
    let got = returned(source, echo()).await;
    assert_eq!(got, json!(["invalid: the connection is closed"; 6].to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_so_many_at_a_time() {
    let source = r"
        local url = ...
        local one, two = websocket.connect(url), websocket.connect(url)
        local ok, e = pcall(websocket.connect, url)
        one:close()
        local three = websocket.connect(url)
        two, three = nil, nil
        local four = websocket.connect(url)
        return { ok, e.kind, e.retryable, e.message }";
    let message = "a call has at most 2 WebSockets at a time; close some";
    assert_eq!(returned(source, echo()).await, json!([false, "exhausted", false, message]));
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_in_words() {
    for (source, words) in [
        ("websocket.connect('http://h/')", "the scheme must be `ws` or `wss`"),
        ("websocket.connect('ws://u:p@h/')", "use the header `Authorization`"),
        ("websocket.connect('ws://h/', { timeot = 1 })", "did you mean `timeout`?"),
        (
            "websocket.connect('ws://h/', { headers = { upgrade = 'x' } })",
            "cannot be given the header `upgrade`",
        ),
        (
            "websocket.connect('ws://h/', { headers = { ['sec-websocket-key'] = 'x' } })",
            "header `sec-websocket-key`",
        ),
        ("websocket.connect('ws://h/', { protocols = { 'a b' } })", "a subprotocol is a token"),
        ("websocket.connect('ws://h/', { protocols = { 1 } })", "`protocols` is a list of strings"),
        ("websocket.connect('ws://h/', { protocols = 'a' })", "`protocols` is a table"),
        ("websocket.connect('ws://h/', { ping_interval = 0.5 })", "`ping_interval` is at least 1 second"),
    ] {
        let got = failed(source, json!(null)).await;
        assert_eq!(
            (&got[0], &got[1], &got[3]),
            (&json!(false), &json!("invalid"), &json!(false)),
            "{source}: {got}"
        );
        assert!(got[2].as_str().unwrap().contains(words), "{source}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_and_the_connection_stays() {
    let source = r#"
        local socket = websocket.connect(..., { max_message = 5 })
        local function refused(...)
          local ok, e = pcall(...)
          return { ok, e.kind, e.message }
        end
        local got = {
          refused(socket.send, socket, "\xff"),
          refused(socket.send, socket, "123456"),
          refused(socket.send, socket, "x", { binry = true }),
          refused(socket.close, socket, 1005),
          refused(socket.close, socket, 1000, ("x"):rep(124)),
        }
        socket:send("12345")
        return { got, (socket:receive()) }"#;
    let got = returned(source, echo()).await;
    let kinds: Vec<_> = got[0].as_array().unwrap().iter().map(|refused| &refused[1]).collect();
    assert_eq!(kinds, ["invalid", "exhausted", "invalid", "invalid", "invalid"]);
    let words = [
        "a message without `binary = true` has to be text in UTF-8",
        "5 bytes",
        "`binary`",
        "1005",
        "123 bytes",
    ];
    for (refused, words) in got[0].as_array().unwrap().iter().zip(words) {
        assert!(refused[0] == false && refused[2].as_str().unwrap().contains(words), "{refused}");
    }
    assert_eq!(got[1], "12345");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_narrows_the_size_of_a_message_and_does_not_widen_it() {
    let mut http = HttpConfig::default();
    http.websocket.max_message = 10;
    let source = "local url, max = table.unpack(...) local socket = websocket.connect(url, { max_message = max }) \
                  local ok, e = pcall(socket.receive, socket) return { e.kind, e.message, e.retryable }";
    for (max, limit) in [(5, 5), (1000, 10)] {
        let (url, _served) = socket_server(|socket| {
            socket.send(Message::text("x".repeat(11))).unwrap();
            until_closed(socket);
        });
        let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
        let script = Script::with_config(source, networks, http.clone(), LuaConfig::default());
        let got = script.call(json!([url, max])).await.unwrap();
        assert_eq!((&got[0], &got[2]), (&json!("exhausted"), &json!(false)), "{got}");
        let said = format!("more than {limit} bytes at once, the limit of `max_message`");
        assert!(got[1].as_str().unwrap().ends_with(&said), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_refuse_or_break_the_protocol_are_told_apart() {
    let answer = |answer: &'static str| format!("ws://{}/secret?secret", answers(answer).0);
    let got = failed("websocket.connect(url)", answer("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!((&got[1], &got[3]), (&json!("unavailable"), &json!(true)), "{got}");
    assert!(got[2].as_str().unwrap().ends_with("with status 503 Service Unavailable"), "{got}");
    let moved = "HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    let got = failed("websocket.connect(url)", answer(moved)).await;
    assert!(got[2].as_str().unwrap().ends_with("302 Found; redirects are not followed"), "{got}");
    let wrong =
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let got = failed("websocket.connect(url)", answer(wrong)).await;
    assert_eq!((&got[1], &got[3]), (&json!("unavailable"), &json!(false)), "{got}");
    let said = "the header `Sec-WebSocket-Accept` of the response does not follow from the request";
    assert!(got[2].as_str().unwrap().ends_with(said), "{got}");

    let (url, _served) = socket_server(|socket| socket.get_mut().write_all(b"\xf1\x00").unwrap());
    let got = failed("websocket.connect(url):receive()", url).await;
    assert_eq!((&got[1], &got[3]), (&json!("unavailable"), &json!(false)), "{got}");
    assert!(
        got[2].as_str().unwrap().ends_with("breaks the protocol: a frame has a reserved bit set"),
        "{got}"
    );

    let (url, _served) = socket_server(|_| ());
    let got = failed("websocket.connect(url):receive()", url).await;
    assert_eq!((&got[1], &got[3]), (&json!("unavailable"), &json!(true)), "{got}");
    assert!(got[2].as_str().unwrap().ends_with("broke"), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_given_up_and_nothing_is_lost() {
    let source = r#"
        local socket = websocket.connect(...)
        local ok, e = pcall(socket.receive, socket, { timeout = 0.05 })
        socket:send("go")
        return { ok, e.kind, e.retryable, e.message, (socket:receive()) }"#;
    let (url, _served) = socket_server(|socket| {
        socket.read().unwrap();
        socket.send(Message::text("one")).unwrap();
        until_closed(socket);
    });
    let host = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let message = format!("nothing was received from {host} through clearnet within 50ms");
    assert_eq!(returned(source, url).await, json!([false, "deadline", true, message, "one"]));

    // A server that does not read.
    let (url, served) = socket_server(|socket| {
        thread::sleep(Duration::from_secs(1));
        until_closed(socket);
    });
    let source = r#"
        local socket, ok, e = websocket.connect(url)
        local data = ("x"):rep(1000000)
        repeat socket:send(data, { binary = true, timeout = 0.1 }) until false"#;
    let got = failed(source, url).await;
    assert_eq!((&got[1], &got[3]), (&json!("deadline"), &json!(false)), "{got}");
    served.join().unwrap();

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", silent.local_addr().unwrap());
    let got = failed("websocket.connect(url, { timeout = 0.05 })", url).await;
    assert_eq!((&got[1], &got[3]), (&json!("deadline"), &json!(true)), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_is_noticed_by_pings() {
    let (url, _served) = socket_server(|socket| {
        // It reads, and does not answer.
        let mut rest = Vec::new();
        let _ = socket.get_mut().read_to_end(&mut rest);
    });
    let got =
        failed("websocket.connect(url, { ping_interval = 1, pong_timeout = 0.1 }):receive()", url).await;
    assert_eq!((&got[1], &got[3]), (&json!("deadline"), &json!(true)), "{got}");
    assert!(got[2].as_str().unwrap().ends_with("did not answer a ping within 100ms"), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_keeps_its_connection_from_message_to_message_and_answers_pings_meanwhile() {
    let (url, served) = socket_server(|socket| {
        let mut got = Vec::new();
        while got.len() < 2 {
            // The process waits for a message, and not for this.
            socket.send(Message::Ping(b"there?".as_ref().into())).unwrap();
            let mut both = [socket.read().unwrap(), socket.read().unwrap()];
            both.sort_by_key(Message::is_text);
            let [Message::Pong(pong), Message::Text(text)] = both else { panic!("{both:?}") };
            assert_eq!(&pong[..], b"there?");
            socket.send(Message::text(format!("{text}!"))).unwrap();
            got.push(text.to_string());
        }
        until_closed(socket);
        got
    });
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
    let functions = Functions::new(app.build());
    let processes = ProcessManager::new(functions.clone());
    let host: HostId = "app:host".parse().unwrap();
    processes.register_host(host.clone(), HostConfig::default()).unwrap();
    let engine = LuaEngine::builder()
        .module(ProcessModule::new(&processes))
        .module(WebSocketModule::new(HttpClient::new(HttpConfig::default()).unwrap()))
        .build()
        .unwrap();
    let source = r"
        local socket = websocket.connect(...)
        while true do
          local message = process.receive()
          socket:send(message.payload)
          message:reply((socket:receive()))
        end";
    let script = engine.function("app:feed", source, LuaConfig::default()).unwrap();
    processes.register("app:feed".parse().unwrap(), Options::new(), script).unwrap();
    let root = functions.root();
    let start = Spawn::new(host, "app:feed".parse().unwrap()).with_payload(json!(url));
    let pid = processes.spawn(&root, start).unwrap();
    for text in ["one", "two"] {
        let answer = soon(processes.call(&root, pid, json!(text))).await.unwrap();
        let Payload::Json(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(answer, json!(format!("{text}!")));
    }
    processes.terminate(pid).unwrap();
    assert_eq!(served.join().unwrap(), ["one", "two"]);
}

#[tokio::test]
async fn what_the_network_forbids_is_denied() {
    let script = Script::with_networks(
        "local ok, e = pcall(websocket.connect, 'ws://127.0.0.1:1/') return { e.kind, e.message }",
        json!({}),
    );
    let got = script.call(json!(null)).await.unwrap();
    assert_eq!(got, json!(["denied", "connecting to 127.0.0.1:1 through clearnet is not allowed"]));
}
