//! Whatever goes wrong with an overlay network, nothing goes over clearnet instead: not a connection, not the name that was
//! to be connected to. Clearnet itself is open to every call here, so that nothing but the overlay keeps anything in.
//!
//! Each test runs where every packet is seen; see `sealed`.

mod audit;
#[path = "../bridge/mod.rs"]
mod bridge;
mod egress;
mod faults;
mod frames;
mod http;
mod http_connect;
mod i2p;
#[path = "../wireguard/raw.rs"]
mod raw;
mod sealed;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod wireguard;

use std::time::Duration;

use frame_net::{BoxStream, NetworkError, NetworkRegistry, dialer};
use frame_registry::{App, Frame};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use sealed::sealed_tests;
use support::{endpoint, frame};

/// An app whose clearnet leads everywhere, with this overlay network as `app:overlay`.
fn app_with(overlay: &Value) -> (App, NetworkRegistry, Frame) {
    let (app, networks) = support::app(json!({
        "clearnet": { "allow": ["0.0.0.0/0", "::/0"] },
        "networks": { "app:overlay": overlay },
    }));
    let frame = frame(&app, &json!({ "network": "app:overlay" }));
    (app, networks, frame)
}

/// The settings of a SOCKS5 network.
fn socks5(proxy: &str) -> Value {
    json!({ "kind": "socks5", "proxy": proxy, "allow": support::everything(), "deadline": "10s" })
}

fn with_password(proxy: &str) -> Value {
    let mut config = socks5(proxy);
    config["credentials"] = json!({ "username": "app", "password": "xyzzy" });
    config
}

async fn connect(app: &App, frame: &Frame, to: &str) -> Result<BoxStream, NetworkError> {
    dialer(frame, app)?.connect(&endpoint(to)).await
}

/// Sends something. A connection that leads nowhere may say so only then.
async fn use_up(mut stream: BoxStream) {
    let _ = stream.write_all(b"to nobody").await;
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.shutdown()).await;
}

sealed_tests! {
    /// What the other tests say means nothing unless this sees what they must not.
    async fn what_goes_over_clearnet_is_seen(world: World) {
        let (app, _, _) = app_with(&socks5("127.0.0.1:1"));
        let on_clearnet = frame(&app, &json!({}));
        let [v4, v6, loopback, local, remote] = world.ways_to_the_decoy();
        for (opened, to) in [v4, v6, loopback, local].iter().enumerate() {
            assert_eq!(sealed::connections_opened(), opened as u64);
            connect(&app, &on_clearnet, to).await.unwrap();
            world.decoy_is_reached().await;
            assert!(!world.dns_was_asked(), "{to}");
        }
        connect(&app, &on_clearnet, &remote).await.unwrap_err();
        assert!(world.dns_was_asked());
    }
}
