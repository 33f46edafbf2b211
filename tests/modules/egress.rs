//! The option `egress` across calls of functions in every language, processes and supervisors.

use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
use frame_dispatch::process::supervisor::{ChildSpec, Strategy, Supervisor};
use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, SPAWN_KEY, Spawn, SpawnHosts};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_net::dialer;
use frame_registry::{App, Frame, FrameResolvers, Options};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use crate::support::{Script, soon};

/// Where the functions at the end of a chain of calls try to go.
const DESTINATIONS: [&str; 7] = [
    "a.example:443",
    "a.example:80",
    "b.example:443",
    "c.example:443",
    "a.other:443",
    "10.0.0.1:443",
    "192.0.2.1:443",
];

/// Those of the destinations that `frame` may reach.
fn reached(frame: &Frame, app: &App) -> Json {
    let dialer = dialer(frame, app).unwrap();
    let reached = |to: &&&str| dialer.verdict(&to.parse().unwrap()).is_allowed();
    json!(DESTINATIONS.iter().filter(reached).collect::<Vec<_>>())
}

async fn report(ctx: CallContext, _: Payload) -> Result<Payload, CallError> {
    Ok(reached(ctx.frame(), ctx.app()).into())
}

/// Calls what it is told to call, as trusted code does.
async fn native(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    let Some(next) = payload.as_json() else { return Err(CallError::invalid("JSON is expected")) };
    let options =
        Options::from_json(&next["options"]).map_err(|error| CallError::invalid(error.to_string()))?;
    let payload = next["bytes"].as_str().map_or_else(
        || Payload::from(next["payload"].clone()),
        |bytes| Payload::from(bytes.as_bytes().to_vec()),
    );
    let id = next["id"].as_str().unwrap_or_default().parse().unwrap();
    ctx.call(Task::new(id).with_payload(payload).with_options(options)).await
}

const LUA: &str = r"
    local next = ...
    local payload = next.payload
    if next.bytes then payload = bytes(next.bytes) end
    return call(next.id, payload, next.options)";

/// Starts a process, and returns what that returns.
const LUA_PROCESS: &str = r"
    local next = ...
    return process.exec { host = 'app:host', entry = next.id, payload = next.payload, options = next.options }";

struct Chain {
    functions: Functions,
    processes: ProcessManager,
    engine: LuaEngine,
}

impl Chain {
    fn new() -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        frame_net::boot(&mut app, serde_json::from_value(json!({})).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("app:host".parse().unwrap(), HostConfig::default()).unwrap();
        let engine = LuaEngine::builder().module(ProcessModule::new(&processes)).build().unwrap();
        let chain = Self { functions, processes, engine };
        chain.functions.register("app:report".parse().unwrap(), Options::new(), report).unwrap();
        chain.functions.register("app:native".parse().unwrap(), Options::new(), native).unwrap();
        chain.add("app:lua", LUA, json!({}));
        chain.add("app:lua-process", LUA_PROCESS, json!({}));
        let reports =
            async |ctx: ProcessContext, _: Payload| Ok(reached(ctx.frame(), ctx.processes().app()).into());
        chain.processes.register("app:report".parse().unwrap(), Options::new(), reports).unwrap();
        #[cfg(feature = "wasm")]
        chain.add_component();
        chain
    }

    #[cfg(feature = "wasm")]
    fn add_component(&self) {
        use frame_dispatch::wasm::{WasmConfig, WasmEngine};

        let engine = WasmEngine::builder().instances(4).build().unwrap();
        let guest = engine.function(&frame_guests::guest("call"), WasmConfig::default()).unwrap();
        self.functions.register("app:wasm".parse().unwrap(), Options::new(), guest).unwrap();
    }

    /// Registers a script as a function and as a process, with this preset.
    #[allow(clippy::needless_pass_by_value, reason = "what is given is made on the spot")]
    fn add(&self, id: &str, source: &str, preset: Json) {
        let script = self.engine.function(id, source, LuaConfig::default()).unwrap();
        let preset = Options::from_json(&preset).unwrap();
        self.functions.register(id.parse().unwrap(), preset.clone(), script.clone()).unwrap();
        self.processes.register(id.parse().unwrap(), preset, script).unwrap();
    }

    async fn call(&self, id: &str, payload: impl Into<Payload>, options: Json) -> Result<Json, CallError> {
        let host = SPAWN_KEY.pair(["app:host".parse().unwrap()].into_iter().collect::<SpawnHosts>());
        let task = Task::new(id.parse().unwrap()).with_payload(payload).with_pair(host);
        let task = task.with_options(Options::from_json(&options).unwrap());
        match soon(self.functions.root().call(task)).await? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is not JSON"),
        }
    }
}

/// The payload with which a function of `kind` calls `id`.
fn calling(kind: &str, id: &str, options: &Json, payload: &Payload) -> Payload {
    match (kind, payload) {
        ("wasm", Payload::Json(json)) => Payload::from(format!("{id}\n{options}\n{json}").into_bytes()),
        (_, Payload::Json(json)) => json!({ "id": id, "options": options, "payload": json }).into(),
        (_, Payload::Bytes(bytes)) => {
            json!({ "id": id, "options": options, "bytes": std::str::from_utf8(bytes).unwrap() }).into()
        }
        (kind, other) => panic!("{kind} does not pass {other:?} on"),
    }
}

/// Lists that each allow something that another does not.
fn lists() -> [Json; 4] {
    [
        json!(["*.example", "10.0.0.0/8"]),
        json!(["a.example", "b.example:443", "a.other", "0.0.0.0/0"]),
        json!(["*.example:443", "a.other", "10.0.0.1", "192.0.2.1"]),
        json!(["a.example", "c.example", "a.other", "0.0.0.0/0:443"]),
    ]
}

async fn narrows_through(kinds: [&str; 3]) {
    let chain = Chain::new();
    let [outermost, first, second, third] = lists();
    let mut payload = Payload::from(json!(null));
    let mut id = "app:report".to_owned();
    for (kind, list) in kinds.iter().zip([third, second, first]) {
        payload = calling(kind, &id, &json!({ "egress": list }), &payload);
        id = format!("app:{kind}");
    }
    let got = chain.call(&id, payload, json!({ "egress": outermost })).await.unwrap();
    assert_eq!(got, json!(["a.example:443", "10.0.0.1:443"]), "{kinds:?}, the innermost first");
}

#[tokio::test]
async fn each_level_of_scripts_and_native_functions_only_narrows() {
    for kinds in [
        ["lua", "lua", "lua"],
        ["native", "native", "native"],
        ["native", "lua", "native"],
        ["lua", "native", "lua"],
    ] {
        narrows_through(kinds).await;
    }
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn each_level_of_components_scripts_and_native_functions_only_narrows() {
    for kinds in [
        ["lua", "wasm", "native"],
        ["lua", "native", "wasm"],
        ["wasm", "lua", "native"],
        ["wasm", "native", "lua"],
        ["native", "lua", "wasm"],
        ["native", "wasm", "lua"],
    ] {
        narrows_through(kinds).await;
    }
}

#[tokio::test]
async fn processes_have_the_lists_of_what_starts_them() {
    let chain = Chain::new();
    let [outermost, first, second, third] = lists();
    // A function starts a process, which calls a function, which starts a process.
    let innermost = json!({ "id": "app:report", "options": { "egress": third }, "payload": null });
    let called = json!({ "id": "app:lua-process", "options": { "egress": second }, "payload": innermost });
    let process = json!({ "id": "app:lua", "options": { "egress": first }, "payload": called });
    let got = chain.call("app:lua-process", process, json!({ "egress": outermost })).await.unwrap();
    assert_eq!(got, json!(["a.example:443", "10.0.0.1:443"]));
}

#[tokio::test]
async fn the_preset_of_a_callee_does_not_widen() {
    let chain = Chain::new();
    let wide = json!({ "egress": ["*.example", "*.other", "0.0.0.0/0"] });
    chain.add("app:wide", "return call('app:report')", wide.clone());
    chain.add(
        "app:asks",
        "return call('app:wide', nil, { egress = { 'a.example', 'a.other', '192.0.2.1' } })",
        json!({}),
    );
    chain.processes.unregister(&"app:report".parse().unwrap());
    let reports =
        async |ctx: ProcessContext, _: Payload| Ok(reached(ctx.frame(), ctx.processes().app()).into());
    chain
        .processes
        .register("app:report".parse().unwrap(), Options::from_json(&wide).unwrap(), reports)
        .unwrap();

    let narrow = json!({ "egress": ["a.example:443"] });
    let next = json!({ "id": "app:report" });
    for (id, payload) in [("app:wide", json!(null)), ("app:asks", json!(null)), ("app:lua-process", next)] {
        assert_eq!(chain.call(id, payload, narrow.clone()).await.unwrap(), json!(["a.example:443"]), "{id}");
    }
    // Where the caller has no list the preset holds, and what a script gives holds beside it.
    assert_eq!(chain.call("app:asks", json!(null), json!({})).await.unwrap().as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_a_script_gives_as_everything_grants_nothing() {
    let chain = Chain::new();
    for egress in ["{ '*' }", "{ '*:443' }", "'*'", "{ '**' }", "{ '*.' }", "true", "{ a = 'a.example' }"] {
        let source = format!("return call('app:report', nil, {{ egress = {egress} }})");
        let id = format!("app:asks-{}", egress.len());
        chain.functions.unregister(&id.parse().unwrap());
        chain.processes.unregister(&id.parse().unwrap());
        chain.add(&id, &source, json!({}));
        for options in [json!({}), json!({ "egress": ["a.example:443"] })] {
            let error = chain.call(&id, json!(null), options).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::Invalid, false),
                "{egress}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn the_empty_table_of_a_script_is_the_empty_list() {
    let chain = Chain::new();
    for egress in ["{}", "array{}"] {
        let source = format!("return #call('app:report', nil, {{ egress = {egress} }})");
        let id = format!("app:asks-{}", egress.len());
        chain.add(&id, &source, json!({}));
        assert_eq!(chain.call(&id, json!(null), json!({})).await.unwrap(), 0, "{egress}");
    }
}

#[tokio::test]
async fn a_script_that_nests_ever_more_lists_is_refused_and_can_say_so() {
    let chain = Chain::new();
    let source = "local level = ...
        local ok, result = pcall(call, 'app:nests', level + 1, { egress = { 'a.example', level .. '.example' } })
        if ok then return result end
        return { level, result.kind, result.retryable }";
    chain.add("app:nests", source, json!({}));
    let got = chain.call("app:nests", json!(0), json!({})).await.unwrap();
    assert_eq!(got, json!([32, "denied", false]));
}

#[tokio::test]
async fn the_children_of_a_supervisor_have_its_lists() {
    let chain = Chain::new();
    let (reported, mut reports) = mpsc::unbounded_channel();
    let child = move |ctx: ProcessContext, _: Payload| {
        reported.send(reached(ctx.frame(), ctx.processes().app())).unwrap();
        async { Err::<Payload, _>(CallError::invalid("it is started again")) }
    };
    let wide = Options::from_json(&json!({ "egress": ["*.example", "*.other"] })).unwrap();
    chain.processes.register("app:child".parse().unwrap(), wide.clone(), child).unwrap();
    let start = Spawn::new("app:host".parse().unwrap(), "app:child".parse().unwrap()).with_options(wide);
    let supervisor =
        Supervisor::builder(Strategy::OneForOne).child(ChildSpec::new("child", start)).build().unwrap();
    let narrow = Options::from_json(&json!({ "egress": ["a.example", "b.example:443"] })).unwrap();
    chain.processes.register("app:top".parse().unwrap(), narrow, supervisor).unwrap();
    let top = Spawn::new("app:host".parse().unwrap(), "app:top".parse().unwrap());
    chain.processes.spawn(&chain.functions.root(), top).unwrap();
    for _ in 0..2 {
        let got = soon(reports.recv()).await.unwrap();
        assert_eq!(got, json!(["a.example:443", "a.example:80", "b.example:443"]));
    }
}

/// A script learns which destination it is about, and that the option does not allow it; no rules, and no addresses.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_told_the_destination_and_no_rules() {
    let source = r#"
        local function refused(f, ...)
          local ok, e = pcall(f, ...)
          return { e.kind, e.message, e.retryable }
        end
        return {
          refused(net.connect, "db.example", 5432), refused(net.connect, "127.0.0.1", 80),
          refused(net.lookup, "db.example"), refused(http.get, "http://db.example/secret?path"),
          refused(websocket.connect, "ws://db.example/"),
        }"#;
    let script = Script::new(source);
    let root = script.functions.root();
    let got = script.call_with(&root, json!(null), json!({ "egress": ["secret.example"] })).await.unwrap();
    let expected = [
        "connecting to db.example:5432 is not allowed by `egress`",
        "connecting to 127.0.0.1:80 is not allowed by `egress`",
        "looking up db.example is not allowed by `egress`",
        "connecting to db.example:80 is not allowed by `egress`",
        "connecting to db.example:80 is not allowed by `egress`",
    ];
    for (got, expected) in got.as_array().unwrap().iter().zip(expected) {
        assert_eq!(got, &json!(["denied", expected, false]));
    }
    // The caller of the program has the whole story.
    let uncaught = Script::new("return net.connect('db.example', 5432)");
    let options = json!({ "egress": ["secret.example"] });
    let error = uncaught.call_with(&uncaught.functions.root(), json!(null), options).await.unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let story = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let cause = "`db.example:5432` is not covered by `egress`, which is [secret.example]; to allow it, add \"db.example:5432\"";
    assert!(story.contains(cause), "{story}");
}

/// The rules are not for scripts to read.
#[tokio::test]
async fn a_script_does_not_see_the_lists_of_its_frame() {
    let chain = Chain::new();
    chain.add(
        "app:reads",
        "return tostring(frame.get('net.egress'))",
        json!({ "egress": ["secret.example"] }),
    );
    assert_eq!(chain.call("app:reads", json!(null), json!({})).await.unwrap(), "nil");
}
