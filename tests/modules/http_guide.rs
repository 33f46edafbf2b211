//! The examples of the guide's page on HTTP do what the page says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use frame_dispatch::lua::LuaConfig;
use serde_json::{Map, Value as Json, json};

use crate::relay::Relay;
use crate::support::{GENEROUS, Script};

/// A server that answers with what it was asked, and redirects from `/elsewhere`.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        // A client that has enough closes the connection.
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut line = lines.next().unwrap().split(' ');
    let (method, path) = (line.next().unwrap(), line.next().unwrap());
    let mut headers = Map::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = name.to_lowercase();
        let value = match headers.get(&name).and_then(Json::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.to_owned(),
        };
        headers.insert(name, value.into());
    }
    let length = headers.get("content-length").and_then(|length| length.as_str()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    let seen = json!({
        "method": method, "path": path, "headers": headers, "body": String::from_utf8_lossy(&body),
    });
    let seen = if method == "HEAD" { String::new() } else { seen.to_string() };
    let status = match path {
        "/elsewhere" => "307 Temporary Redirect\r\nLocation: http://other.example/",
        _ => "200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2",
    };
    let response =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{seen}", seen.len());
    let _ = stream.write_all(response.as_bytes());
}

/// The examples in Lua, and the lines that they begin at.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut current: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (&mut current, line) {
            (None, "```lua") => current = Some((number, String::new())),
            (Some(_), "```") => examples.extend(current.take()),
            (Some((_, example)), line) => {
                example.push_str(line);
                example.push('\n');
            }
            _ => {}
        }
    }
    examples
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_guide_run() {
    let to = echo();
    let relay = Relay::bind("127.0.0.1:0").await.unwrap().with_any_credentials();
    let proxy = relay.local_addr().unwrap().to_string();
    tokio::spawn(relay.serve(move |_| Ok(to)));
    let networks =
        json!({ "networks": { "app:tor": { "kind": "socks5", "proxy": proxy, "isolate": true } } });

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/http.md");
    let examples = examples(&fs::read_to_string(path).unwrap());
    assert!(examples.len() >= 15, "{}", examples.len());
    let script = Script::with_networks("", networks);
    for (line, example) in examples {
        let id = format!("app:line-{line}");
        // What is shown with TLS is served without.
        script.add(&id, &example.replace("https://", "http://"), LuaConfig::default());
        let options = json!({ "network": "app:tor" });
        let done = script.call_function(&id, json!(null), options).await;
        done.unwrap_or_else(|error| panic!("docs/src/http.md:{line}: {error}"));
    }
}

#[test]
fn the_pages_have_all_options_and_members() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src");
    let pages = ["http.md", "streams.md"].map(|page| fs::read_to_string(guide.join(page)).unwrap()).concat();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/modules/lua/http/mod.rs");
    let documented = fs::read_to_string(source).unwrap();
    let names = documented.lines().filter_map(|line| line.strip_prefix("/// | `")?.split('`').next());
    let names: Vec<_> = names.map(|name| name.split(['(', ' ', ':']).next().unwrap_or(name)).collect();
    assert!(names.len() > 20, "{names:?}");
    let reference = fs::read_to_string(guide.join("lua-reference.md")).unwrap();
    for name in names {
        assert!(pages.contains(name), "docs/src/http.md and streams.md do not mention `{name}`");
        assert!(reference.contains(name), "docs/src/lua-reference.md does not mention `{name}`");
    }
}
