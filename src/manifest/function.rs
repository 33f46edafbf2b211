//! `[functions]` and `[processes]`.

use frame_net::NetworkKind;
use serde_json::{Value as Json, json};

use super::document::Known;
use super::limits::{limits, unless_given};
use super::model::{Engine, Function};
use super::options::{Taker, options};
use super::reader::{Read, Reported, Table, Value};
use super::source::source;

/// What a script or a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Function,
    Process,
}

pub(super) fn function(
    table: &Table<'_>,
    role: Role,
    networks: &Known<NetworkKind>,
) -> Read<(Function, Json)> {
    table.only(&["engine", "source", "options", "limits"]);
    let engine = table.required("engine", "\"lua\"").and_then(|value| engine(&value));
    let source = table.required("source", "\"greet.lua\"").and_then(|value| source(&value, engine.ok()));
    let taker = if role == Role::Function { Taker::Function } else { Taker::Process };
    // What is wrong with these was reported, and keeps the manifest from being used. The source is compiled all the same, so
    // that what is wrong with that is said, too.
    let (options, given) = options(table, taker, networks).unwrap_or_default();
    // Which limits there are is up to the engine.
    let limits =
        engine.and_then(|engine| limits(table, engine, role).or_else(|_| unless_given(engine, role)));
    let (source, limits) = (source?, limits?);
    let identity = json!({
        "source": source.path,
        "sha256": &*source.hash,
        "options": given,
        "limits": format!("{limits:?}"),
    });
    Ok((Function { limits, source, options, given }, identity))
}

fn engine(value: &Value<'_>) -> Result<Engine, Reported> {
    let engine = value.choice(&[("lua", Engine::Lua), ("wasm", Engine::Wasm)])?;
    if engine == Engine::Wasm && !cfg!(feature = "wasm") {
        let problem = value.problem("this build of the program runs no components");
        return Err(value.reader.report(problem.with_help("build it with the cargo feature `wasm`")));
    }
    Ok(engine)
}
