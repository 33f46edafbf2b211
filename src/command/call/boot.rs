//! The functions of an app, of what is in its manifest.

use std::collections::BTreeMap;
use std::path::Path;

use frame_dispatch::Functions;
use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_net::NetConfig;
use frame_registry::Options;
use serde::Deserialize;

use crate::command::Failure;

#[derive(Deserialize)]
struct Manifest {
    functions: BTreeMap<String, Function>,
}

#[derive(Deserialize)]
struct Function {
    source: String,
    #[serde(default)]
    options: serde_json::Map<String, serde_json::Value>,
}

pub(super) fn functions(manifest: &Path) -> Result<Functions, Failure> {
    let text = std::fs::read_to_string(manifest).map_err(Failure::usage)?;
    let read: Manifest = toml::from_str(&text).map_err(Failure::usage)?;
    let booted = crate::app::boot(NetConfig::default())?;
    let lua = LuaEngine::builder().build()?;
    for (id, function) in read.functions {
        let source =
            std::fs::read_to_string(manifest.with_file_name(&function.source)).map_err(Failure::usage)?;
        let options = Options::from_json(&function.options.into())?;
        let compiled = lua.function(&function.source, &source, LuaConfig::default())?;
        booted.functions.register(id.parse()?, options, compiled)?;
    }
    Ok(booted.functions)
}
