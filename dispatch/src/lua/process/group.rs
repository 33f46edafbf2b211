//! Groups in scripts.

use std::sync::Arc;

use mlua::{LuaString, Value};

use super::payload_of;
use crate::error::CallError;
use crate::lua::convert;
use crate::lua::fault;
use crate::lua::host::{Refusal, utf8};
use crate::lua::module::ModuleBuilder;
use crate::process::guest::Access;

pub(super) fn install(module: &mut ModuleBuilder<'_>, access: &Access) -> mlua::Result<()> {
    let own = access.clone();
    module.function("join", move |_, ctx, (group, options): (LuaString, Value)| {
        let (group, host) = (name(&group)?, host(&options, "join")?);
        own.join(&ctx, &group, host.as_deref()).map_err(fault::raise)
    })?;
    let own = access.clone();
    module.function("leave", move |_, ctx, (group, options): (LuaString, Value)| {
        let (group, host) = (name(&group)?, host(&options, "leave")?);
        own.leave(&ctx, &group, host.as_deref()).map_err(fault::raise)
    })?;
    let own = access.clone();
    module.function("watch", move |_, ctx, (group, options): (LuaString, Value)| {
        let (group, host) = (name(&group)?, host(&options, "watch")?);
        own.watch_group(&ctx, &group, host.as_deref()).map_err(fault::raise)
    })?;
    let own = access.clone();
    module.function("unwatch", move |_, ctx, (group, options): (LuaString, Value)| {
        let (group, host) = (name(&group)?, host(&options, "unwatch")?);
        own.unwatch_group(&ctx, &group, host.as_deref()).map_err(fault::raise)
    })?;
    let own = access.clone();
    module.function("members", move |_, ctx, (group, options): (LuaString, Value)| {
        let (group, host) = (name(&group)?, host(&options, "members")?);
        own.members(&ctx, &group, host.as_deref()).map_err(fault::raise)
    })?;

    let (own, shared) = (access.clone(), Arc::clone(module.shared()));
    module.prepared_function(
        "publish",
        move |lua, ctx, (group, payload, options): (LuaString, Value, Value)| {
            let (group, host) = (name(&group)?, host(&options, "publish")?);
            let payload = payload_of(lua, &shared, &payload)?;
            let (manager, group) = own.group(&ctx, &group, host.as_deref()).map_err(fault::raise)?;
            Ok(async move {
                let published = manager.publish(&ctx, &group, payload).await;
                Ok((published.delivered, published.full))
            })
        },
    )
}

fn name(group: &LuaString) -> Result<String, Refusal> {
    Ok(utf8(group, "the name of the group")?)
}

/// Reads the host from the options of a function.
fn host(options: &Value, function: &str) -> Result<Option<String>, Refusal> {
    let table = match options {
        Value::Nil => return Ok(None),
        Value::Table(table) => table,
        other => {
            let kind = convert::type_of(other);
            let example = "{ host = \"app:workers\" }";
            let message =
                format!("the options of `process.{function}` are a table such as {example}, not {kind}");
            return Err(CallError::invalid(message).into());
        }
    };
    let mut host = None;
    for option in table.pairs::<Value, Value>() {
        let (option, value) = option?;
        if option.as_string().is_none_or(|option| option != "host") {
            let message = format!("`process.{function}` takes no options but `host`");
            return Err(CallError::invalid(message).into());
        }
        let Value::String(value) = &value else {
            let kind = convert::type_of(&value);
            let message = format!("`host` is the id of a host, such as \"app:workers\", not {kind}");
            return Err(CallError::invalid(message).into());
        };
        host = Some(utf8(value, "`host`")?);
    }
    Ok(host)
}
