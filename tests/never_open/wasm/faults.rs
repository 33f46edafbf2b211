//! Faults of a proxy, at every step, and of the registration of its network.

use std::sync::Arc;

use serde_json::json;

use crate::guest::{Ask, GATE, Gate, Outcome, WAITS_AT_FIRST, World as App, outcomes};
use crate::sealed::{self, World};
use crate::support::{Move, Scripted, Then, expect, send, soon};
use crate::{app_with, app_with_all, refused, sealed_tests, socks5};

const GREETING: &[u8] = &[5, 1, 0];
const GREETING_WITH_PASSWORD: &[u8] = &[5, 1, 2];
const CREDENTIALS: &[u8] = b"\x01\x03app\x05xyzzy";

/// Makes a request on every way to the decoy through a proxy that does this, and is told this each time.
async fn refused_by(world: &World, moves: &[Move], then: Then, password: bool, code: &str) {
    let mut opened = sealed::connections_opened();
    for to in world.ways_to_the_decoy() {
        let proxy = Scripted::new(moves, then).await;
        let mut config = socks5(&proxy.address);
        config["deadline"] = json!(if matches!(then, Then::Wait) { "500ms" } else { "10s" });
        if password {
            config["credentials"] = json!({ "username": "app", "password": "xyzzy" });
        }
        let outcome = app_with(&config).ask(&Ask::get(&to), Some("app:overlay")).await;
        assert!(matches!(outcome, Outcome::Failed(failed) if failed == code), "{to}: {outcome:?}");
        opened += 1;
        world.assert_silent_but_for(opened);
    }
}

sealed_tests! {
    async fn a_proxy_that_is_down(world: World) {
        for variable in ["ALL_PROXY", "HTTP_PROXY", "https_proxy", "NO_PROXY"] {
            assert!(std::env::var_os(variable).is_some(), "the harness sets {variable}, which leads nowhere");
        }
        let app = app_with(&socks5("127.0.0.1:1"));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            assert_eq!(refused(&app, to).await, ["destination-unavailable"; 2], "{to}");
            world.assert_silent_but_for(2 * (tried as u64 + 1));
        }
    }

    async fn a_proxy_that_accepts_and_stays_silent(world: World) {
        refused_by(&world, &[expect(GREETING)], Then::Wait, false, "connection-timeout").await;
        refused_by(&world, &[expect(GREETING), send([5, 0])], Then::Wait, false, "connection-timeout").await;
    }

    async fn a_proxy_that_closes_in_the_middle_of_the_handshake(world: World) {
        refused_by(&world, &[], Then::Close, false, "destination-unavailable").await;
        refused_by(&world, &[expect(GREETING), send([5])], Then::Close, false, "destination-unavailable").await;
    }

    async fn a_wrong_password(world: World) {
        let moves = [expect(GREETING_WITH_PASSWORD), send([5, 2]), expect(CREDENTIALS), send([1, 1])];
        refused_by(&world, &moves, Then::Wait, true, "destination-unavailable").await;
        // A proxy that asks for none though some are set is another.
        let moves = [expect(GREETING_WITH_PASSWORD), send([5, 0])];
        refused_by(&world, &moves, Then::Wait, true, "destination-unavailable").await;
    }

    async fn a_proxy_that_refuses(world: World) {
        let codes = [
            "destination-unavailable",
            "HTTP-request-denied",
            "destination-IP-unroutable",
            "destination-not-found",
            "connection-refused",
            "connection-timeout",
            "destination-unavailable",
            "destination-unavailable",
            "destination-unavailable",
        ];
        for (reply, code) in (1..).zip(codes) {
            let moves = [expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, reply])];
            refused_by(&world, &moves, Then::Wait, false, code).await;
        }
    }

    async fn names_go_to_the_proxy_as_they_are(world: World) {
        // Also those that this host could look up in a file.
        for (opened, name) in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"].into_iter().enumerate() {
            let mut asked = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
            asked.extend(name.as_bytes());
            asked.extend(80_u16.to_be_bytes());
            let mut proxy =
                Scripted::new(&[expect(GREETING), send([5, 0]), expect(asked)], Then::Close).await;
            let app = app_with(&socks5(&proxy.address));
            let outcome = app.ask(&Ask::get(name), Some("app:overlay")).await;
            assert_eq!(outcome, Outcome::Failed("destination-unavailable"));
            proxy.played().await;
            world.assert_silent_but_for(opened as u64 + 1);
        }
    }

    async fn a_proxy_in_front_that_is_down(world: World) {
        let mut behind = socks5(&world.ways_to_the_decoy()[4]);
        behind["via"] = json!("app:front");
        let app = app_with_all(&json!({ "app:front": socks5("127.0.0.1:1"), "app:overlay": behind }));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            assert_eq!(refused(&app, to).await, ["destination-unavailable"; 2], "{to}");
            world.assert_silent_but_for(2 * (tried as u64 + 1));
        }
        // With the one in front gone there is no way to the one behind, least of all a direct one.
        assert!(app.networks.unregister(&"app:front".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            assert_eq!(refused(&app, &to).await, ["destination-unavailable"; 2], "{to}");
        }
        world.assert_silent_but_for(10);
    }

    async fn a_network_that_is_not_registered_or_none_at_all(world: World) {
        let app = app_with(&socks5("127.0.0.1:1"));
        for to in world.ways_to_the_decoy() {
            for network in ["app:absent", "app:overlay2", "overlay", " "] {
                let options = json!({ "network": network });
                let Ok(given) = frame_registry::Options::from_json(&options) else { continue };
                drop(given);
                app.call(&Ask::get(&to), &options).await.unwrap_err();
            }
        }
        world.assert_silent_but_for(0);
    }

    async fn a_network_that_is_unregistered_while_a_component_runs(world: World) {
        for to in world.ways_to_the_decoy() {
            let app = app_with(&socks5("127.0.0.1:1"));
            let gate = Gate::new();
            let ask = Ask::get(&to).does(WAITS_AT_FIRST);
            let task = App::task(&ask, &json!({ "network": "app:overlay" }));
            let root = app.functions.root();
            let called = root.call(task.with_pair(GATE.pair(Arc::clone(&gate))));
            let unregistered = async {
                gate.reached().await;
                assert!(app.networks.unregister(&"app:overlay".parse().unwrap()));
                gate.open.add_permits(1);
            };
            let (payload, ()) = soon(async { tokio::join!(called, unregistered) }).await;
            assert_eq!(outcomes(&payload.unwrap(), &ask), [Outcome::Failed("configuration-error")], "{to}");
        }
        world.assert_silent_but_for(0);
    }

    async fn the_default_of_the_app_is_no_way_around(world: World) {
        let app = App::with(
            &json!({
                "default": "app:overlay",
                "clearnet": { "allow": ["0.0.0.0/0", "::/0"] },
                "networks": { "app:overlay": socks5("127.0.0.1:1") },
            }),
            json!({}),
        );
        for to in world.ways_to_the_decoy() {
            let outcomes = app.call(&Ask::get(&to), &json!({})).await.unwrap();
            assert_eq!(outcomes, [Outcome::Failed("destination-unavailable")], "{to}");
        }
        world.assert_silent_but_for(5);
    }

    async fn a_call_that_is_dropped_in_the_middle_of_the_handshake(world: World) {
        let steps: [&[Move]; 2] = [&[expect(GREETING)], &[expect(GREETING), send([5])]];
        let mut opened = 0;
        for moves in steps {
            for to in world.ways_to_the_decoy() {
                let mut proxy = Scripted::new(moves, Then::Wait).await;
                let mut config = socks5(&proxy.address);
                config["deadline"] = json!("60s");
                let (app, ask) = (app_with(&config), Ask::get(&to));
                tokio::select! {
                    outcome = app.ask(&ask, Some("app:overlay")) => panic!("{outcome:?}"),
                    () = proxy.played() => {}
                }
                proxy.rest().await;
                opened += 1;
                world.assert_silent_but_for(opened);
            }
        }
    }
}
