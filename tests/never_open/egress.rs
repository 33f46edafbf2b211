//! Scripts that may not reach where they try to go, on clearnet that leads everywhere.

use frame_registry::Options;
use serde_json::{Value as Json, json};

use crate::sealed::sealed_tests;
use crate::support;
use crate::{Sandbox, socks5};

fn options(options: &Json) -> Options {
    Options::from_json(options).unwrap()
}

/// Every way out was refused by the option: nothing was tried.
#[track_caller]
fn assert_denied(outcomes: &Json) {
    let outcomes = outcomes.as_array().unwrap();
    let is_denied = |outcome: &Json| outcome == "denied" || outcome == "no name";
    assert!(outcomes.len() == 6 && outcomes.iter().all(is_denied), "{outcomes:?}");
}

sealed_tests! {
    async fn a_script_that_egress_does_not_allow(world: World) {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let sandbox = Sandbox::new(&socks5(&proxy));
        for to in world.ways_to_the_decoy() {
            for egress in [json!([]), json!(["other.example", "*.decoy.example", "10.0.0.0/8"])] {
                for network in ["app:direct", "app:overlay"] {
                    let given = json!({ "network": network, "egress": egress });
                    assert_denied(&sandbox.call_with("app:try", json!(to), given).await.unwrap());
                }
                assert_denied(&sandbox.call_with("app:try", json!(to), json!({ "egress": egress })).await.unwrap());
            }
        }
        world.assert_silent_but_for(0);
    }

    async fn three_levels_of_which_each_allows_something_else(world: World) {
        let sandbox = Sandbox::with(json!({}));
        let wide = options(&json!({ "egress": ["*.example", "0.0.0.0/0", "::/0"] }));
        // A preset that is wide, a script that asks for all, and a process.
        sandbox.add("app:inner", crate::TRY, wide.clone());
        sandbox.add(
            "app:middle",
            "local to = ...
             return process.exec { host = 'app:host', entry = 'app:inner', payload = to,
                                   options = { egress = { '*.example', '0.0.0.0/0', '::/0' } } }",
            wide,
        );
        sandbox.add("app:outer", "return call('app:middle', ..., { egress = { 'other.example', '10.0.0.0/8' } })", Options::new());
        for to in world.ways_to_the_decoy() {
            assert_denied(&sandbox.call_with("app:outer", json!(to), json!({})).await.unwrap());
            let narrow = json!({ "egress": ["other.example"] });
            assert_denied(&sandbox.call_with("app:middle", json!(to), narrow).await.unwrap());
        }
        world.assert_silent_but_for(0);
    }

    async fn a_script_that_asks_for_everything(world: World) {
        let sandbox = Sandbox::with(json!({}));
        for (index, egress) in ["{ '*' }", "{ '*:80' }", "'*'", "{ '**' }", "true", "null"].into_iter().enumerate() {
            let id = format!("app:asks-{index}");
            sandbox.add(&id, &format!("return call('app:try', ..., {{ egress = {egress} }})"), Options::new());
            for to in world.ways_to_the_decoy() {
                let error = sandbox.call_with(&id, json!(to), json!({ "egress": ["other.example"] })).await.unwrap_err();
                assert_eq!(error.kind(), frame_dispatch::ErrorKind::Invalid, "{egress}: {error}");
            }
        }
        world.assert_silent_but_for(0);
    }

    async fn what_egress_allows_is_reached(world: World) {
        let sandbox = Sandbox::with(json!({}));
        sandbox.add("app:connect", "net.connect(...)", options(&json!({ "egress": ["decoy.example"] })));
        let local = format!("{}:{}", crate::sealed::LOCAL_NAME, world.port());
        support::soon(sandbox.call_with("app:connect", json!(local), json!({}))).await.unwrap();
        world.decoy_is_reached().await;
    }
}
