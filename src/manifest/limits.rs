//! Tables `limits`.

use frame_dispatch::PoolConfig;
use frame_dispatch::lua::LuaConfig;
#[cfg(feature = "wasm")]
use frame_dispatch::wasm::WasmConfig;

use super::function::Role;
use super::model::{Engine, Limits};
use super::reader::{Read, Reported, Table, Value};

/// Those of all engines.
const ALL: [&str; 5] = ["memory", "time", "payload", "calls", "wait"];
/// Those of scripts alone.
const LUA: [&str; 3] = ["idle", "warm", "fresh_vm"];
/// Those of components alone.
const WASM: [&str; 3] = ["table_elements", "json_memory", "host_memory"];

/// A payload of less could not even be `null`, and no engine would have memory for more.
const BYTES: std::ops::RangeInclusive<u64> = 4..=1 << 40;
/// The least that a script can be compiled in, by far.
const LUA_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
/// The engine gives a component 4 memories of 4 GiB.
#[cfg(feature = "wasm")]
const WASM_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 30;
/// The least that a component with some files and requests gets by with.
#[cfg(feature = "wasm")]
const HOST_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
/// As many as the engine has room for in a component.
#[cfg(feature = "wasm")]
const TABLE_ELEMENTS: std::ops::RangeInclusive<u64> = 0..=20_000;

/// The member `limits`, with the defaults of the engine for what it does not say.
pub(super) fn limits(table: &Table<'_>, engine: Engine, role: Role) -> Read<Limits> {
    let table = table.optional("limits", |value| value.table("`limits`", "{ memory = \"32MiB\" }"))?;
    if let Some(table) = &table {
        only(table, engine);
    }
    of(table.as_ref(), engine, role)
}

/// What the engine has where nothing is given.
pub(super) fn unless_given(engine: Engine, role: Role) -> Read<Limits> {
    of(None, engine, role)
}

fn of(table: Option<&Table<'_>>, engine: Engine, role: Role) -> Read<Limits> {
    match engine {
        Engine::Lua => lua(table, role).map(Limits::Lua),
        #[cfg(feature = "wasm")]
        Engine::Wasm => wasm(table, role).map(Limits::Wasm),
        // Refused where the engine was read.
        #[cfg(not(feature = "wasm"))]
        Engine::Wasm => Err(Reported),
    }
}

/// Reports limits that the engine does not have.
fn only(table: &Table<'_>, engine: Engine) {
    let (own, others, others_are) = match engine {
        Engine::Lua => (&LUA[..], &WASM[..], "components"),
        Engine::Wasm => (&WASM[..], &LUA[..], "scripts"),
    };
    let known = [&ALL[..], own].concat();
    for (name, _) in table.entries().filter(|(name, _)| !known.contains(&name.text)) {
        let reader = table.reader;
        let problem = if others.contains(&name.text) {
            reader.problem(name.span, format_args!("`{}` is a limit of {others_are}", name.text))
        } else {
            reader.problem(name.span, format_args!("there is no limit `{}`", name.text))
        };
        let known = known.iter().copied();
        reader.report(reader.with_suggestion(problem, name.text, known, "available limits:"));
    }
}

fn lua(table: Option<&Table<'_>>, role: Role) -> Read<LuaConfig> {
    let default = if role == Role::Function { LuaConfig::default() } else { LuaConfig::process() };
    let memory = or(table, "memory", default.memory, |value| value.size(LUA_MEMORY, "\"32MiB\""));
    let time = or(table, "time", default.time, |value| value.time_or_unlimited("\"30s\""));
    let payload = or(table, "payload", default.payload, |value| value.size(BYTES, "\"16MiB\""));
    let fresh_vm = or(table, "fresh_vm", default.fresh_vm, Value::bool);
    let pool = pool(table, default.pool, fresh_vm == Ok(true));
    let config = LuaConfig::default().with_memory(memory?).with_time(time?).with_payload(payload?);
    Ok(config.with_fresh_vm(fresh_vm?).with_pool(pool?))
}

fn pool(table: Option<&Table<'_>>, default: PoolConfig, is_fresh: bool) -> Read<PoolConfig> {
    let size = or(table, "calls", default.size, |value| value.count(1, "64"));
    let wait = or(table, "wait", default.max_wait, wait);
    // Some are made at once, so there cannot be more of them than are ever used.
    let most = size.unwrap_or(usize::MAX) as u64;
    let kept = |name, default: usize| {
        or(table, name, default.min(size.unwrap_or(default)), |value| {
            if is_fresh {
                let problem =
                    value.problem(format_args!("`{name}` has no effect where every call has a fresh VM"));
                return Err(value
                    .reader
                    .report(problem.with_help(format_args!("take out `{name}`, or `fresh_vm`"))));
            }
            let kept = value.integer(0..=most, "1")?;
            usize::try_from(kept).map_err(|_| Reported)
        })
    };
    let (idle, warm) = (kept("idle", default.idle), kept("warm", default.warm));
    Ok(PoolConfig::default().with_size(size?).with_idle(idle?).with_warm(warm?).with_max_wait(wait?))
}

#[cfg(feature = "wasm")]
fn wasm(table: Option<&Table<'_>>, role: Role) -> Read<WasmConfig> {
    let default = if role == Role::Function { WasmConfig::default() } else { WasmConfig::process() };
    let memory = or(table, "memory", default.memory, |value| value.size(WASM_MEMORY, "\"64MiB\""));
    let elements = or(table, "table_elements", default.table_elements, |value| {
        let elements = value.integer(TABLE_ELEMENTS, "20_000")?;
        usize::try_from(elements).map_err(|_| Reported)
    });
    let time = or(table, "time", default.time, |value| value.time_or_unlimited("\"30s\""));
    let payload = or(table, "payload", default.payload, |value| value.size(BYTES, "\"16MiB\""));
    let json = or(table, "json_memory", default.json_memory, |value| value.size(BYTES, "\"32MiB\""));
    let host = or(table, "host_memory", default.host_memory, |value| value.size(HOST_MEMORY, "\"64MiB\""));
    let calls = or(table, "calls", default.calls, |value| value.count(1, "64"));
    let wait = or(table, "wait", default.max_wait, wait);
    let config = WasmConfig::default().with_memory(memory?).with_table_elements(elements?).with_time(time?);
    Ok(config
        .with_payload(payload?)
        .with_json_memory(json?)
        .with_host_memory(host?)
        .with_calls(calls?)
        .with_max_wait(wait?))
}

/// How long a call waits for its turn: not at all is possible, too.
fn wait(value: &Value<'_>) -> Read<std::time::Duration> {
    value.duration("\"5s\"")
}

/// The member `name` as `read` reads it, or else `default`.
fn or<'t, T>(
    table: Option<&Table<'t>>,
    name: &str,
    default: T,
    read: impl FnOnce(&Value<'t>) -> Read<T>,
) -> Read<T> {
    match table.and_then(|table| table.get(name)) {
        Some(value) => read(&value),
        None => Ok(default),
    }
}
