//! The guide's page `lua-reference.md` names every function that scripts have, and none that they do not have.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use frame_dispatch::lua::mlua::{self, AnyUserData, Table, Value};
use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaModule, ModuleBuilder, ProcessModule};
use frame_dispatch::process::{HostConfig, ProcessManager, Spawn};
use frame_dispatch::{Functions, Task};
use frame_net::http::{HttpClient, HttpConfig};
use frame_registry::{App, FrameResolvers, Options};
use frame_runtime::fs_root::{FS_BASE, Root};
use frame_runtime::modules::lua::{FsModule, HttpModule, JsonModule, NetModule, WebSocketModule};
use serde_json::{Value as Json, json};

use crate::support::soon;

/// The names of methods that a script has seen, such as `body:read`.
type Seen = Arc<Mutex<BTreeSet<String>>>;

/// Lists what scripts have, and the methods of a value that a script shows: only the host can list them.
struct Methods(Seen);

impl LuaModule for Methods {
    fn name(&self) -> &'static str {
        "methods"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let seen = Arc::clone(&self.0);
        module.function("libraries", move |lua, _, ()| {
            let mut seen = seen.lock().unwrap();
            // Lua's own register of libraries, which the engine keeps for its messages.
            let libraries: Table = lua.named_registry_value("_LOADED")?;
            for library in libraries.pairs::<String, Table>() {
                let (library, members) = library?;
                for member in members.pairs::<String, Value>() {
                    let (name, _) = member?;
                    seen.insert(if library == "_G" { name } else { format!("{library}.{name}") });
                }
            }
            Ok(())
        })?;

        let seen = Arc::clone(&self.0);
        module.function("of", move |_, _, (name, value): (String, Value)| {
            let index = match value {
                Value::Table(table) => table.metatable().expect("it has methods").raw_get("__index")?,
                Value::UserData(value) => index(&value)?,
                other => panic!("{name} is {other:?}"),
            };
            let mut seen = seen.lock().unwrap();
            for method in index.pairs::<String, Value>() {
                seen.insert(format!("{name}:{}", method?.0));
            }
            Ok(())
        })
    }
}

fn index(value: &AnyUserData) -> mlua::Result<Table> {
    value.metatable()?.get("__index")
}

/// The names in the first column of the page's tables of functions, methods and values.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/src/lua-reference.md");
    let mut names = BTreeSet::new();
    let mut is_of_functions = false;
    let mut before = "";
    for line in page.lines().filter(|line| !line.starts_with("|---")) {
        let Some(cells) = line.strip_prefix("| ") else {
            (is_of_functions, before) = (false, line);
            continue;
        };
        let first = cells.split(" | ").next().unwrap_or_default();
        if before.is_empty() {
            is_of_functions = ["function", "method", "value"].contains(&first);
        } else if is_of_functions {
            for code in first.split('`').skip(1).step_by(2) {
                let name = code.split(['(', ' ']).next().unwrap_or_default();
                assert!(names.insert(name.to_owned()), "`{name}` is there twice");
            }
        }
        before = line;
    }
    names
}

/// Shows the methods of everything that has some. Others are of the same types.
const SHOW: &str = r#"
    local base, address = (...).base, (...).address
    local response <close> = http.get(base .. "/bytes/10", { stream = true })
    methods.of("response", response)
    methods.of("body", response.body)
    local upload <close> = http.upload { url = base .. "/echo" }
    methods.of("upload", upload)
    local events = http.events(base .. "/bytes/0")
    methods.of("events", events)
    events:close()
    local connection <close> = net.connect(address)
    methods.of("connection", connection)
"#;

const SHOW_SOCKET: &str = r#"methods.of("socket", websocket.connect(...))"#;

const CALLEE: &str = r#"
    local message = process.receive()
    methods.of("reply", message.reply)
    return message:reply(true)
"#;

/// The app, and what its scripts have shown.
struct World {
    functions: Functions,
    processes: ProcessManager,
    engine: LuaEngine,
    seen: Seen,
    _base: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&FS_BASE, Root::open(base.path()).unwrap()).unwrap();
        let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
        frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
        let client = HttpClient::new(HttpConfig::default()).unwrap();
        let seen = Seen::default();
        let engine = LuaEngine::builder()
            .module(FsModule::new())
            .module(HttpModule::new(client.clone()))
            .module(JsonModule::new())
            .module(NetModule::new())
            .module(ProcessModule::new(&processes))
            .module(WebSocketModule::new(client))
            .module(Methods(Arc::clone(&seen)))
            .build()
            .unwrap();
        Self { functions, processes, engine, seen, _base: base }
    }

    async fn call(&self, name: &str, source: &str, payload: Json) {
        let function = self.engine.function(name, source, LuaConfig::default()).unwrap();
        let id = format!("app:{name}").parse().unwrap();
        self.functions.register(id, Options::new(), function).unwrap();
        let task = Task::new(format!("app:{name}").parse().unwrap()).with_payload(payload);
        soon(self.functions.root().call(task)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_names_what_scripts_have() {
    let world = World::new();
    let documented = documented();
    assert!(documented.len() > 150, "{documented:?}");

    world.call("libraries", "methods.libraries()", json!(null)).await;
    let server = crate::http_streams::Server::new();
    let payload = json!({ "base": server.base(), "address": server.address.to_string() });
    world.call("show", SHOW, payload).await;
    world.call("show-socket", SHOW_SOCKET, json!(crate::websocket::echo())).await;

    let callee = world.engine.function("callee", CALLEE, LuaConfig::process()).unwrap();
    world.processes.register("app:callee".parse().unwrap(), Options::new(), callee).unwrap();
    let spawn = Spawn::new("app:workers".parse().unwrap(), "app:callee".parse().unwrap()).with_name("callee");
    let root = world.functions.root();
    world.processes.spawn(&root, spawn).unwrap();
    world.call("caller", "return process.call('callee', nil)", json!(null)).await;

    let mut there = world.seen.lock().unwrap().clone();
    there.retain(|name| !name.starts_with("methods."));
    // The globals have themselves as a member.
    there.insert("_G".to_owned());
    // What replies is the call of `message.reply`.
    there.insert("message:reply".to_owned());

    let missing: Vec<_> = there.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&there).collect();
    assert!(missing.is_empty(), "lua-reference.md does not name {missing:?}");
    assert!(invented.is_empty(), "scripts do not have {invented:?}");
}
