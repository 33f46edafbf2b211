//! Connections that are kept for later requests, in a process that may open few files.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use frame_net::http::{HttpClient, HttpConfig, Request};
use frame_net::{Dialer, dialer};
use serde_json::json;

use crate::support::relay::Relay;
use crate::support::soon;
use crate::{app, frame};

/// Set in the process that may open few files: the addresses of the origin and of the proxy.
const INSIDE: &str = "FRAME_NET_FEW_FILES";

/// Answers requests over any number of connections, each in a thread.
fn origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 1024];
                while let Ok(read) = stream.read(&mut buffer) {
                    head.extend_from_slice(&buffer[..read]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                            return;
                        }
                    }
                    if read == 0 {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Runs `test`, which is the test called `name`, in a process that may open `files`.
fn with_files(files: u32, name: &str, test: impl AsyncFnOnce(&str, &str)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(addresses) = std::env::var(INSIDE) {
        let (origin, proxy) = addresses.split_once(' ').unwrap();
        return runtime.block_on(test(origin, proxy));
    }
    let origin = origin();
    let proxy = runtime.block_on(Relay::bind("127.0.0.1:0")).unwrap().with_any_credentials();
    let addresses = format!("{origin} {}", proxy.local_addr().unwrap());
    runtime.spawn(proxy.serve(move |_| Ok(origin)));
    let output = Command::new("sh")
        .args(["-euc", "ulimit -Sn $1; exec \"$2\" --exact \"$3\" --nocapture", "sh", &files.to_string()])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(INSIDE, addresses)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && shown.contains("1 passed"), "{name}:\n{shown}");
}

async fn get(client: &HttpClient, dialer: &Dialer, origin: &str) {
    let response =
        soon(client.send(dialer, Request::get(&format!("http://{origin}/")).unwrap())).await.unwrap();
    assert_eq!(soon(response.text()).await.unwrap(), "ok");
}

#[test]
fn five_thousand_requests_with_different_keys_use_up_no_files() {
    let name = "descriptors::five_thousand_requests_with_different_keys_use_up_no_files";
    with_files(256, name, async |origin, proxy| {
        let tor = json!({ "kind": "socks5", "proxy": proxy, "isolate": true, "allow": ["127.0.0.0/8"] });
        let app = app(json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "networks": { "app:tor": tor } }));
        let client = HttpClient::new(HttpConfig::default()).unwrap();
        let honest = dialer(&frame(&app, "honest", &json!({})), &app).unwrap();
        for number in 0..5000 {
            let options = json!({ "network": "app:tor", "isolation": format!("key {number}") });
            get(&client, &dialer(&frame(&app, "greedy", &options), &app).unwrap(), origin).await;
            if number % 10 == 0 {
                get(&client, &honest, origin).await;
                soon(tokio::fs::read("/etc/hostname")).await.unwrap();
            }
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open < 128, "{open} files are open");
    });
}

#[test]
fn connections_that_are_kept_make_room_for_new_ones() {
    let name = "descriptors::connections_that_are_kept_make_room_for_new_ones";
    with_files(256, name, async |origin, _| {
        let app = app(json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": { "connections": 8 } }));
        let mut config = HttpConfig::default();
        config.max_idle = Some(100);
        let client = HttpClient::new(config).unwrap();
        let of = |unit: &str| dialer(&frame(&app, unit, &json!({})), &app).unwrap();
        // Of one host connections are reused, so each has another name for it.
        let port = origin.rsplit_once(':').unwrap().1;
        for number in 1..=40 {
            get(&client, &of("greedy"), &format!("127.0.0.1:{port}/{number}")).await;
            get(&client, &of(&format!("unit {number}")), &format!("127.0.0.1:{port}")).await;
        }
        let to = origin.parse().unwrap();
        let mut open = Vec::new();
        while let Ok(stream) = soon(of("greedy").connect(&to)).await {
            open.push(stream);
        }
        assert_eq!(open.len(), 4, "idle connections are as good as none");
        get(&client, &of("another"), origin).await;
    });
}
