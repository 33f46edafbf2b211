//! Scripts that choose another network for what they call.

use frame_dispatch::FunctionId;
use frame_dispatch::lua::LuaConfig;
use frame_net::NETWORK;
use frame_registry::Options;
use serde_json::{Value as Json, json};

use crate::sealed::sealed_tests;
use crate::{CONNECTING, Sandbox, assert_shut, open_direct, socks5};

/// A script that calls, and then starts, `app:try` with options; gives the kinds of what went wrong, or the outcomes.
fn chooser(options: &str) -> String {
    format!(
        "local to = ...
         local function outcome(f, ...)
           local ok, result = pcall(f, ...)
           return ok and result or result.kind
         end
         return {{
           outcome(call, 'app:try', to, {options}),
           outcome(process.exec, {{ host = 'app:host', entry = 'app:try', payload = to, options = {options} }}),
         }}"
    )
}

async fn chosen(sandbox: &Sandbox, options: &str, to: &str) -> Json {
    let function = sandbox.engine.function("choose", chooser(options), LuaConfig::default()).unwrap();
    let id: FunctionId = "app:choose".parse().unwrap();
    sandbox.functions.unregister(&id);
    sandbox.functions.register(id, Options::new(), function).unwrap();
    sandbox.call("app:choose", json!(to)).await.unwrap()
}

sealed_tests! {
    async fn a_network_that_is_not_for_scripts_to_choose(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        for to in world.ways_to_the_decoy() {
            let outcomes = chosen(&sandbox, "{ network = 'app:direct' }", &to).await;
            assert_eq!(outcomes, json!(["denied", "denied"]));
        }
        world.assert_silent_but_for(0);
    }

    async fn options_that_choose_nothing_leave_the_network(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        let [to, ..] = world.ways_to_the_decoy();
        let all = ["nil", "{}", "{ network = '' }", "{ network = nil }", "{ network = 'app:overlay' }", "{ isolation = '' }"];
        for (tried, options) in all.into_iter().enumerate() {
            let outcomes = chosen(&sandbox, options, &to).await;
            assert_shut(&outcomes[0]);
            assert_shut(&outcomes[1]);
            world.assert_silent_but_for(2 * CONNECTING * (tried as u64 + 1));
        }
    }

    async fn options_that_are_none_call_nothing(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        let [to, ..] = world.ways_to_the_decoy();
        for options in [
            "{ netwrok = 'app:direct' }",
            "{ Network = 'app:direct' }",
            "{ network = null }",
            "{ network = false }",
            "{ network = 0 }",
            "{ network = {} }",
            "{ network = { 'app:direct' } }",
            "{ network = 'direct' }",
            "{ network = 'clearnet' }",
            "{ network = ' ' }",
            "{ network = 'app:direct\\n' }",
            "{ network = 'app:overlay\\0' }",
        ] {
            assert_eq!(chosen(&sandbox, options, &to).await, json!(["invalid", "invalid"]), "{options}");
        }
        // This one is a name, and nothing is called it.
        assert_eq!(chosen(&sandbox, "{ network = 'app:absent' }", &to).await, json!(["denied", "denied"]));
        world.assert_silent_but_for(0);
    }

    async fn a_preset_is_not_for_scripts_to_replace(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        let preset = Options::new().with(&NETWORK, "app:overlay".parse().unwrap());
        sandbox.add("app:through", crate::TRY, preset);
        // The caller is on the network that it names: only the preset speaks against it.
        sandbox.add("app:outer", "return call('app:through', ..., { network = 'app:direct' })", Options::new());
        let [to, ..] = world.ways_to_the_decoy();
        let direct = json!({ "network": "app:direct" });
        let error = sandbox.call_with("app:outer", json!(to), direct.clone()).await.unwrap_err();
        assert_eq!(error.kind(), frame_dispatch::ErrorKind::Denied);
        world.assert_silent_but_for(0);

        sandbox.add("app:plain", "return call('app:through', ...)", Options::new());
        assert_shut(&sandbox.call_with("app:plain", json!(to), direct).await.unwrap());
        world.assert_silent_but_for(CONNECTING);
    }

    async fn a_network_that_was_marked_for_scripts_to_choose(world: World) {
        let mut direct = open_direct();
        direct["selectable"] = json!(true);
        let sandbox = Sandbox::with(json!({
            "networks": { "app:overlay": socks5("127.0.0.1:1"), "app:direct": direct },
        }));
        sandbox.add("app:connect", "net.connect(...)", Options::new());
        sandbox.add("app:outer", "call('app:connect', ..., { network = 'app:direct' })", Options::new());
        let [to, ..] = world.ways_to_the_decoy();
        sandbox.call("app:outer", json!(to)).await.unwrap();
        world.decoy_is_reached().await;

        // A reload takes the mark away.
        let unmarked = serde_json::from_value(open_direct()).unwrap();
        sandbox.networks.update(&"app:direct".parse().unwrap(), &unmarked).unwrap();
        sandbox.call("app:outer", json!(to)).await.unwrap_err();
        world.assert_silent_but_for(1);
    }
}
