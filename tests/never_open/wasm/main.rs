//! Whatever goes wrong with an overlay network, nothing of what a component asks for goes over clearnet instead: not a
//! request, not the name of its server. Clearnet itself is open to every call here, so that nothing but the overlay
//! keeps anything in.
//!
//! Each test runs where every packet is seen, as those of `frame-net` do.

mod egress;
mod faults;
#[path = "../../modules/wasi_http/guest.rs"]
mod guest;
mod other_kinds;
mod redirects;
#[path = "../../../net/tests/never_open/sealed.rs"]
#[allow(dead_code, unreachable_pub, reason = "not every test of the network has one for components")]
mod sealed;
#[path = "../../shared/servers.rs"]
mod servers;
#[path = "../../../net/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};

use guest::{Ask, Outcome, World as App};
use sealed::sealed_tests;

/// An app whose clearnet leads everywhere, with this overlay network as `app:overlay`.
fn app_with(overlay: &Value) -> App {
    app_with_all(&json!({ "app:overlay": overlay }))
}

fn app_with_all(networks: &Value) -> App {
    App::with(&json!({ "clearnet": { "allow": ["0.0.0.0/0", "::/0"] }, "networks": networks }), json!({}))
}

/// The settings of a SOCKS5 network.
fn socks5(proxy: &str) -> Value {
    json!({ "kind": "socks5", "proxy": proxy, "allow": support::everything(), "deadline": "10s" })
}

/// What a component is told that makes a request through the overlay network, over each scheme in turn.
async fn refused(app: &App, to: &str) -> [&'static str; 2] {
    let mut codes = [""; 2];
    for (scheme, code) in (0..).zip(&mut codes) {
        let ask = Ask { scheme, ..Ask::get(to) };
        match app.ask(&ask, Some("app:overlay")).await {
            Outcome::Failed(failed) => *code = failed,
            outcome => panic!("{to}: {outcome:?}"),
        }
    }
    codes
}

sealed_tests! {
    /// What the other tests say means nothing unless this sees what they must not.
    async fn what_goes_over_clearnet_is_seen(world: World) {
        let app = app_with(&socks5("127.0.0.1:1"));
        let [v4, v6, loopback, local, remote] = world.ways_to_the_decoy();
        // The decoy takes connections, and says nothing.
        let ask = |to: &str| {
            let timeouts = [None, Some(Duration::from_millis(100)), None];
            Ask { timeouts, ..Ask::get(to) }
        };
        for (opened, to) in [v4, v6, loopback, local].iter().enumerate() {
            assert_eq!(sealed::connections_opened(), opened as u64);
            assert_eq!(app.ask(&ask(to), None).await, Outcome::Failed("connection-read-timeout"), "{to}");
            world.decoy_is_reached().await;
            assert!(!world.dns_was_asked(), "{to}");
        }
        assert_eq!(app.ask(&ask(&remote), None).await, Outcome::Failed("DNS-error"));
        assert!(world.dns_was_asked());
    }
}
