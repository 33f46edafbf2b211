//! A call of a script that adds one, and the same with mlua alone.

mod at_once;
#[path = "../harness/mod.rs"]
mod harness;

use std::hint::black_box;

use at_once::at_once;
use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallContext, Functions, Payload, Task};
use frame_registry::{App, FrameResolvers, Options};
use harness::{Suite, opaque};
use mlua::{Function, Lua, LuaOptions, StdLib, Table};
use serde_json::json;

const SCRIPT: &str = "local n = ... return n + 1";
/// Uses a library and makes a table, as most scripts do.
const LARGER: &str = "local n = ... return { text = string.format('%d', n), list = { n, n + 1 } }";

fn main() {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let functions = Functions::new(app.build());
    let engine = LuaEngine::builder().build().expect("there are no modules");
    let config = LuaConfig::default();
    let function = |source| engine.function("bench.lua", source, config.clone()).expect("it compiles");
    let register = |id: &str, source| {
        functions
            .register(id.parse().expect("it is one"), Options::new(), function(source))
            .expect("it is free");
    };
    register("bench:adds", SCRIPT);
    register("bench:larger", LARGER);
    functions
        .register(
            "bench:native".parse().expect("it is one"),
            Options::new(),
            async |_: CallContext, payload: Payload| Ok(payload),
        )
        .expect("it is free");
    let root = functions.root();
    let call = |id: &str| {
        let task = Task::new(id.parse().expect("it is one")).with_payload(json!(41));
        assert!(at_once(root.call(task)).is_ok());
    };

    let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::new()).expect("it has room");
    let alone = Alone::new(lua, SCRIPT);

    let mut suite = Suite::new("lua");
    suite
        .case("mlua alone: fresh environment, thread, awaited", || {
            let result = at_once(alone.call(*opaque(&41)));
            assert_eq!(result.expect("it adds"), 42);
        })
        .case("a native function, through the executor", || call("bench:native"))
        .case("adds one", || call("bench:adds"))
        .case("string.format, and a table of two", || call("bench:larger"))
        .case("a new VM and its script", || {
            black_box(function(SCRIPT));
        });
    suite.finish();
}

/// As one writes it who runs scripts of his own.
struct Alone {
    lua: Lua,
    script: Function,
    globals: Table,
}

impl Alone {
    fn new(lua: Lua, source: &str) -> Self {
        let script = lua.load(source).into_function().expect("it compiles");
        let globals = lua.create_table().expect("it has room");
        globals.set("__index", lua.globals()).expect("it has room");
        Self { lua, script, globals }
    }

    async fn call(&self, payload: i64) -> mlua::Result<i64> {
        let environment = self.lua.create_table()?;
        environment.set_metatable(Some(self.globals.clone()))?;
        self.script.set_environment(environment)?;
        self.lua.create_thread(self.script.clone())?.into_async(payload)?.await
    }
}
