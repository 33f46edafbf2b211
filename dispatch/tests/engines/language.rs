//! The same functions natively, in Lua and as WebAssembly components, and an app for them.

use std::convert::Infallible;
use std::future::pending;
use std::sync::LazyLock;

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaFunction};
use frame_dispatch::wasm::{WasmConfig, WasmEngine, WasmFunction};
use frame_dispatch::{
    CallContext, CallError, ErrorKind, FunctionId, Functions, FunctionsError, Payload, PoolConfig,
    PoolStatistics, Retired, Task,
};
use frame_registry::{
    App, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext, frame_option, frame_resolver,
};
use serde_json::{Value as Json, json};

#[frame_option(name = "tenant")]
pub(crate) static TENANT: FrameOption<String>;
pub(crate) static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();
/// For the pairs of tasks.
pub(crate) static NOTE: Key<String> = Key::new("note").public();

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(tenant) if tenant == "nobody" => Err("nobody is no tenant".to_owned()),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}

/// Overrides the note of a task where the tenant is `stern`.
#[frame_resolver(order = 200)]
#[allow(clippy::unnecessary_wraps, reason = "a resolver may fail")]
fn stern(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    let is_stern = options.get(&TENANT).is_some_and(|tenant| tenant == "stern");
    Ok(is_stern.then(|| NOTE.pair("resolved".to_owned())))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Native,
    Lua,
    Wasm,
}

pub(crate) const LANGUAGES: [Language; 3] = [Language::Native, Language::Lua, Language::Wasm];

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Gives what it is given.
    Echo,
    /// Gives the value of the frame's public key that its payload names.
    Frame,
    /// Makes the call that [`Language::calling`] describes.
    Call,
    /// Fails as unavailable, so that a retry may help.
    Unavailable,
    /// Fails as invalid.
    Invalid,
    /// Breaks: a panic, an error that was not meant, a trap.
    Break,
    /// Runs without end: natively, awaits without end.
    Spin,
    /// Takes memory without end. Natively this is no limit of ours.
    Hoard,
}

/// How many calls run at once, and for how long, where a test wants to see the limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) calls: usize,
    pub(crate) memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls: 64, memory: 16 << 20 }
    }
}

static LUA: LazyLock<LuaEngine> = LazyLock::new(|| LuaEngine::builder().build().unwrap());
static WASM: LazyLock<WasmEngine> = LazyLock::new(|| WasmEngine::new().unwrap());

/// A function that is registered, to see what its engine does.
#[derive(Debug)]
pub(crate) enum Registered {
    Native,
    Lua(LuaFunction),
    Wasm(WasmFunction),
}

impl Registered {
    /// None for a native function, which has no pool.
    pub(crate) fn statistics(&self) -> Option<PoolStatistics> {
        match self {
            Self::Native => None,
            Self::Lua(function) => Some(function.statistics()),
            Self::Wasm(function) => Some(function.statistics()),
        }
    }

    /// Panics if a call runs, or waits for its turn.
    pub(crate) fn assert_idle(&self) {
        if let Some(statistics) = self.statistics() {
            assert_eq!((statistics.running, statistics.waiting), (0, 0), "{self:?}");
        }
    }
}

pub(crate) fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

pub(crate) fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

pub(crate) fn task(function: &str) -> Task {
    Task::new(id(function))
}

pub(crate) fn options(json: &Json) -> Options {
    Options::from_json(json).unwrap()
}

impl Language {
    pub(crate) fn register(self, functions: &Functions, name: &str, behaviour: Behaviour) -> Registered {
        self.register_with(functions, name, behaviour, &Options::new(), Limits::default()).unwrap()
    }

    pub(crate) fn register_with(
        self,
        functions: &Functions,
        name: &str,
        behaviour: Behaviour,
        options: &Options,
        limits: Limits,
    ) -> Result<Registered, FunctionsError> {
        let (id, options) = (id(name), options.clone());
        Ok(match self {
            Self::Native => {
                functions.register(id, options, move |ctx, payload| native(behaviour, ctx, payload))?;
                Registered::Native
            }
            Self::Lua => {
                let function = lua(behaviour, limits);
                functions.register(id, options, function.clone())?;
                Registered::Lua(function)
            }
            Self::Wasm => {
                let function = wasm(behaviour, limits);
                functions.register(id, options, function.clone())?;
                Registered::Wasm(function)
            }
        })
    }

    pub(crate) fn replace(
        self,
        functions: &Functions,
        name: &str,
        behaviour: Behaviour,
        options: &Options,
    ) -> Result<Retired, FunctionsError> {
        let (id, options) = (id(name), options.clone());
        match self {
            Self::Native => {
                functions.replace(id, options, move |ctx, payload| native(behaviour, ctx, payload))
            }
            Self::Lua => functions.replace(id, options, lua(behaviour, Limits::default())),
            Self::Wasm => functions.replace(id, options, wasm(behaviour, Limits::default())),
        }
    }

    /// The payload that makes a [`Behaviour::Call`] call `function`.
    pub(crate) fn calling(self, function: &str, payload: &Json, options: Option<&Json>) -> Payload {
        match self {
            Self::Native | Self::Lua => {
                json!({ "id": function, "payload": payload, "options": options }).into()
            }
            Self::Wasm => {
                let options = options.map(ToString::to_string).unwrap_or_default();
                format!("{function}\n{options}\n{payload}").into_bytes().into()
            }
        }
    }
}

async fn native(behaviour: Behaviour, ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    match behaviour {
        Behaviour::Echo => Ok(payload),
        Behaviour::Frame => {
            let name = payload.as_json().unwrap().as_str().unwrap();
            Ok(ctx.frame().public(name).transpose().unwrap().unwrap_or_default().into())
        }
        Behaviour::Call => {
            let json = payload.as_json().filter(|json| json.is_object());
            let json = json.ok_or_else(|| CallError::invalid("it says nothing to call"))?;
            let payload = json["payload"].clone();
            let options = match &json["options"] {
                Json::Null => Options::new(),
                given => Options::from_json(given).map_err(|error| CallError::invalid(error.to_string()))?,
            };
            let function = json["id"].as_str().unwrap();
            ctx.call(task(function).with_payload(payload).with_options(options)).await
        }
        Behaviour::Unavailable => Err(CallError::new(ErrorKind::Unavailable, "not now")),
        Behaviour::Invalid => Err(CallError::invalid("not so")),
        Behaviour::Break => panic!("broken"),
        Behaviour::Spin | Behaviour::Hoard => pending().await,
    }
}

fn lua(behaviour: Behaviour, limits: Limits) -> LuaFunction {
    let source = match behaviour {
        Behaviour::Echo => "return ...",
        Behaviour::Frame => "return frame.get(...)",
        Behaviour::Call => {
            "local given = ...
             local options = given.options
             if options == null then options = nil end
             return call(given.id, given.payload, options)"
        }
        Behaviour::Unavailable => "error { kind = 'unavailable', message = 'not now' }",
        Behaviour::Invalid => "error { kind = 'invalid', message = 'not so' }",
        Behaviour::Break => "local nothing; return nothing.field",
        Behaviour::Spin => "while true do end",
        Behaviour::Hoard => "local all = {}; for i = 1, math.huge do all[i] = { i } end",
    };
    let pool = PoolConfig::default().with_size(limits.calls);
    let config = LuaConfig::default().with_pool(pool).with_memory(limits.memory);
    LUA.function("behaviour.lua", source, config).unwrap()
}

fn wasm(behaviour: Behaviour, limits: Limits) -> WasmFunction {
    let failing = |kind: u32, message: &str, is_retryable: u32| {
        // The result's discriminant, then the error: kind, message, retryable.
        frame_guests::component(&format!(
            r#"(data (i32.const 64) "{message}")
               (func (export "run") (param i32 i32 i32) (result i32)
                 (i32.store8 (i32.const 16) (i32.const 1))
                 (i32.store8 (i32.const 20) (i32.const {kind}))
                 (i32.store (i32.const 24) (i32.const 64))
                 (i32.store (i32.const 28) (i32.const {}))
                 (i32.store8 (i32.const 32) (i32.const {is_retryable}))
                 (i32.const 16))"#,
            message.len()
        ))
    };
    let doing = |body: &str| {
        frame_guests::component(&format!(
            r#"(func (export "run") (param i32 i32 i32) (result i32) {body} (unreachable))"#
        ))
    };
    let component = match behaviour {
        Behaviour::Echo => frame_guests::guest("echo"),
        Behaviour::Frame => frame_guests::guest("frame"),
        Behaviour::Call => frame_guests::guest("call"),
        Behaviour::Unavailable => failing(5, "not now", 1),
        Behaviour::Invalid => failing(0, "not so", 0),
        Behaviour::Break => doing(""),
        Behaviour::Spin => doing("(loop (br 0))"),
        // More by a page each time; that it is refused is an end like another.
        Behaviour::Hoard => doing("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))"),
    };
    let config = WasmConfig::default().with_calls(limits.calls).with_memory(limits.memory);
    WASM.function(&component, config).unwrap()
}

/// What a function sees of its frame.
pub(crate) async fn seen(ctx: &CallContext, task: Task, key: &str) -> Result<Json, CallError> {
    let payload = ctx.call(task.with_payload(json!(key))).await?;
    Ok(json_of(&payload))
}

/// A result as JSON, whether it came as such or as its text; of no text null.
pub(crate) fn json_of(payload: &Payload) -> Json {
    match payload {
        Payload::Bytes(text) if text.is_empty() => Json::Null,
        Payload::Bytes(text) => serde_json::from_slice(text).unwrap(),
        other => other.as_json().unwrap().clone(),
    }
}
