//! How much memory a program takes that moves large bodies: a process of its own, by the kernel's count.
#![cfg(target_os = "linux")]

#[path = "../authority/mod.rs"]
mod authority;
mod http2;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use frame_net::http::{Body, HttpClient, Request, Version};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

/// What says to the child which body it moves, and how.
const TASK: &str = "FRAME_TEST_MEMORY_TASK";

/// The most that the child may take, all of it: code, threads, buffers.
const LIMIT_KIB: u64 = 32 << 10;

/// How many bytes are moved: 256 MiB, or as many MiB as `FRAME_TEST_MEMORY_MIB` says.
fn size() -> u64 {
    let mib = std::env::var("FRAME_TEST_MEMORY_MIB").map_or(256, |mib| mib.parse().expect("a number of MiB"));
    mib << 20
}

/// Moves a body over HTTP/1.1 in a process of its own, and holds its peak of memory against the limit.
fn measure(task: &str) {
    let server = server::start(size());
    measure_with(&format!("{task} http://{server}"));
}

/// The same over HTTP/2.
fn measure_http2(task: &str) {
    let (authority, folder) = (authority::Authority::new(), tempfile::tempdir().unwrap());
    let server = http2::start(authority.acceptor("127.0.0.1"), size());
    let root = authority.file(&folder);
    measure_with(&format!("{task} https://{server} {}", root.display()));
}

fn measure_with(task: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--ignored", "--nocapture"]);
    child.env(TASK, task);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let peak = text.lines().find_map(|line| line.split_once("peak: ")?.1.parse::<u64>().ok());
    let peak = peak.expect("the child says it");
    println!("{task}: {} MiB moved, peak {peak} KiB", size() >> 20);
    assert!(peak < LIMIT_KIB, "{task}: a peak of {peak} KiB");
}

#[test]
fn a_download_of_any_size_takes_little_memory() {
    measure("down");
}

#[test]
fn an_upload_of_any_size_takes_little_memory() {
    measure("up");
}

#[test]
fn a_download_over_http_2_of_any_size_takes_little_memory() {
    measure_http2("down");
}

#[test]
fn an_upload_over_http_2_of_any_size_takes_little_memory() {
    measure_http2("up");
}

#[test]
fn a_download_that_is_decoded_takes_little_memory() {
    measure("gzip");
    measure("br");
    measure("zstd");
}

#[test]
#[ignore = "it is the process that the other tests start"]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut words = task.split(' ');
    let (task, base, root) = (words.next().unwrap(), words.next().unwrap(), words.next());
    let config = root.map_or(json!({}), |root| json!({ "ca_files": [root], "roots": "only" }));
    let version = if root.is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (app, _networks) = support::app(json!({ "clearnet": { "allow": ["127.0.0.0/8"] } }));
        let dialer = frame_net::dialer(&support::frame(&app, &json!({})), &app).unwrap();
        let client = HttpClient::new(serde_json::from_value(config).unwrap()).unwrap();
        if task == "up" {
            let body = Body::from_reader(tokio::io::repeat(7).take(size()));
            let request = Request::post(base).unwrap().body(body);
            let response = client.send(&dialer, request).await.unwrap();
            assert_eq!(response.version(), version);
            assert_eq!(response.text().await.unwrap(), size().to_string());
        } else {
            let request = Request::get(&format!("{base}/{task}")).unwrap().streamed();
            let mut response = client.send(&dialer, request).await.unwrap();
            assert_eq!(response.version(), version);
            let mut count = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                count += u64::try_from(chunk.len()).unwrap();
            }
            assert_eq!(count, size());
        }
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak: {}", peak.trim().trim_end_matches(" kB"));
}
