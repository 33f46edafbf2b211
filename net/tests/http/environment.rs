//! What the environment says about proxies.

use std::process::Command;

use serde_json::json;

use crate::origin::{Origin, ok};
use crate::support::Bait;
use crate::world;

const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The environment of a process that has threads cannot be changed, so this runs in two: the outer one sets it.
#[test]
fn proxies_of_the_environment_are_not_looked_at() {
    const NAME: &str = "environment::proxies_of_the_environment_are_not_looked_at";
    const INNER: &str = "FRAME_NET_TEST_INNER";

    if std::env::var_os(INNER).is_some() {
        return inner();
    }
    let bait = Bait::new();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([NAME, "--exact", "--nocapture"]).env(INNER, "1").env("NO_PROXY", "").env("no_proxy", "");
    for name in PROXIES {
        test.env(name, format!("http://{}", bait.endpoint()));
    }
    let output = test.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    bait.assert_untouched();
}

#[tokio::main(flavor = "current_thread")]
async fn inner() {
    assert!(PROXIES.iter().all(|name| std::env::var_os(name).is_some()));
    let mut origin = Origin::new(|_| ok("hello")).await;
    assert_eq!(world(&json!({})).text(&origin.url("/")).await, "hello");
    assert_eq!(origin.request().await.line(), "GET / HTTP/1.1");
}
