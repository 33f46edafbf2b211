//! Whatever a script does where its frame has an overlay network that is broken, nothing of it goes over clearnet: not a
//! connection, not a request, not a name. Clearnet itself is open to every call here, so that nothing but the overlay keeps
//! anything in.
//!
//! Each test runs where every packet is seen: in the harness of the tests of `frame-net`.

mod choices;
mod egress;
mod faults;
#[path = "../../net/tests/never_open/sealed.rs"]
mod sealed;
#[path = "../shared/servers.rs"]
mod servers;
#[path = "../../net/tests/support/mod.rs"]
mod support;

use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
use frame_dispatch::process::{HostConfig, ProcessManager, SPAWN_KEY, SpawnHosts};
use frame_dispatch::{CallError, Functions, Payload, Task};
use frame_net::NetworkRegistry;
use frame_net::http::{HttpClient, HttpConfig};
use frame_registry::{App, FrameResolvers, Options};
use frame_runtime::modules::lua::{HttpModule, JsonModule, NetModule, WebSocketModule};
use serde_json::{Value as Json, json};

use sealed::sealed_tests;
use support::soon;

/// Tries every way out to the first address it is given, a host with a port; gives what each failed with, or `"open"`.
const TRY: &str = r#"
    local to = ...
    local function outcome(f, ...)
      local ok, e = pcall(f, ...)
      if ok then return "open" end
      return type(e) == "table" and e.kind or tostring(e)
    end
    local host = to:match("^%[?(.-)%]?:%d+$")
    return {
      outcome(http.get, "http://" .. to .. "/", { timeout = 20 }),
      outcome(http.get, "https://" .. to .. "/", { timeout = 20 }),
      outcome(http.post, "http://" .. to .. "/", "body", { timeout = 20 }),
      outcome(net.connect, to, { timeout = 20 }),
      outcome(websocket.connect, "ws://" .. to .. "/", { timeout = 20 }),
      host:find("^[%d.]+$") == nil and host:find(":") == nil and outcome(net.lookup, host) or "no name",
    }"#;

/// How many of those make a connection of their own.
const CONNECTING: u64 = 5;

/// An app whose clearnet leads everywhere, with scripts.
struct Sandbox {
    functions: Functions,
    processes: ProcessManager,
    networks: NetworkRegistry,
    engine: LuaEngine,
}

impl Sandbox {
    /// With `app:overlay`, which is this, and a network `app:direct` that leads where clearnet does.
    fn new(overlay: &Json) -> Self {
        Self::with(json!({
            "networks": { "app:overlay": overlay, "app:direct": open_direct() },
        }))
    }

    fn with(mut networks: Json) -> Self {
        networks["clearnet"] = json!({ "allow": ["0.0.0.0/0", "::/0"] });
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        let networks = frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("app:host".parse().unwrap(), HostConfig::default()).unwrap();
        let client = HttpClient::new(HttpConfig::default()).unwrap();
        let engine = LuaEngine::builder()
            .module(HttpModule::new(client.clone()))
            .module(NetModule::new())
            .module(JsonModule::new())
            .module(ProcessModule::new(&processes))
            .module(WebSocketModule::new(client))
            .build()
            .unwrap();
        let sandbox = Self { functions, processes, networks, engine };
        sandbox.add("app:try", TRY, Options::new());
        sandbox
    }

    fn add(&self, id: &str, source: &str, preset: Options) {
        let script = self.engine.function(id, source, LuaConfig::default()).unwrap();
        self.functions.register(id.parse().unwrap(), preset.clone(), script.clone()).unwrap();
        self.processes.register(id.parse().unwrap(), preset, script).unwrap();
    }

    /// Calls a function through `app:overlay`.
    async fn call(&self, id: &str, payload: Json) -> Result<Json, CallError> {
        self.call_with(id, payload, json!({ "network": "app:overlay" })).await
    }

    #[allow(clippy::needless_pass_by_value, reason = "what is given is made on the spot")]
    async fn call_with(&self, id: &str, payload: Json, options: Json) -> Result<Json, CallError> {
        let options = Options::from_json(&options).unwrap();
        // What is called may start processes, too.
        let host = SPAWN_KEY.pair(["app:host".parse().unwrap()].into_iter().collect::<SpawnHosts>());
        let task = Task::new(id.parse().unwrap()).with_payload(payload).with_options(options).with_pair(host);
        match soon(self.functions.root().call(task)).await? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is no JSON"),
        }
    }
}

fn open_direct() -> Json {
    json!({ "kind": "direct", "allow": ["0.0.0.0/0", "::/0"] })
}

fn socks5(proxy: &str) -> Json {
    json!({ "kind": "socks5", "proxy": proxy, "allow": support::everything(), "deadline": "10s" })
}

/// What is no way out.
fn is_shut(outcome: &Json) -> bool {
    ["unavailable", "denied", "deadline", "invalid", "no name"].iter().any(|shut| outcome == shut)
}

#[track_caller]
fn assert_shut(outcomes: &Json) {
    let outcomes = outcomes.as_array().unwrap();
    assert!(outcomes.len() == 6 && outcomes.iter().all(is_shut), "{outcomes:?}");
}

sealed_tests! {
    /// What the other tests say means nothing unless this sees what they must not.
    async fn what_a_script_does_over_clearnet_is_seen(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        let [v4, v6, loopback, local, remote] = world.ways_to_the_decoy();
        sandbox.add("app:connect", "net.connect(...)", Options::new());
        sandbox.add("app:get", "http.get('http://' .. ... .. '/')", Options::new());
        sandbox.add("app:socket", "websocket.connect('ws://' .. ... .. '/')", Options::new());
        for to in [v4, v6, loopback, local] {
            sandbox.call_with("app:connect", json!(to), json!({})).await.unwrap();
            world.decoy_is_reached().await;
            // The decoy does not answer, so the request goes on until it is dropped.
            for id in ["app:get", "app:socket"] {
                let asked = sandbox.call_with(id, json!(to), json!({}));
                tokio::select! {
                    () = world.decoy_is_reached() => (),
                    ended = asked => panic!("{id} {to}: {ended:?}"),
                }
            }
        }
        sandbox.call_with("app:connect", json!(remote), json!({})).await.unwrap_err();
        assert!(world.dns_was_asked());
        // And by choice, where it is trusted code that chooses.
        let to = &world.ways_to_the_decoy()[0];
        sandbox.call_with("app:connect", json!(to), json!({ "network": "app:direct" })).await.unwrap();
        world.decoy_is_reached().await;
    }
}
