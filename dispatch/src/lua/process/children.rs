//! How scripts start and stop the children of dynamic supervisors.

use std::sync::Arc;

use mlua::{Lua, Value};

use super::{raised, text};
use crate::lua::convert;
use crate::lua::fault;
use crate::lua::host::{Refusal, invalid, utf8};
use crate::lua::module::ModuleBuilder;
use crate::lua::shared::Shared;
use crate::process::guest::Access;
use crate::process::supervisor::{DynamicChild, Restart};

pub(super) fn install(module: &mut ModuleBuilder<'_>, access: &Access) -> mlua::Result<()> {
    let (started_by, shared) = (access.clone(), Arc::clone(module.shared()));
    module.prepared_function("start_child", move |lua, ctx, (supervisor, child): (Value, Value)| {
        let (supervisor, child) = (id(&supervisor)?, take(lua, &shared, &child)?);
        let access = started_by.clone();
        Ok(async move {
            let started = access.start_child(&ctx, &supervisor, child).await.map_err(raised)?;
            Ok((started.pid.to_string(), started.id.to_string()))
        })
    })?;

    let access = access.clone();
    module.prepared_function("stop_child", move |_, ctx, (supervisor, child): (Value, Value)| {
        let (supervisor, child) = (id(&supervisor)?, text(&child)?.to_owned());
        let access = access.clone();
        Ok(async move { access.stop_child(&ctx, &supervisor, &child).await.map_err(fault::raise) })
    })
}

fn id(supervisor: &Value) -> Result<String, Refusal> {
    match supervisor {
        Value::String(id) => Ok(utf8(id, "the id of the supervisor")?),
        other => {
            let kind = convert::type_of(other);
            Err(invalid(format!("a supervisor is given by its id, such as \"app:pool\", not by {kind}"))
                .into())
        }
    }
}

/// How a child differs from what its supervisor says.
fn take(lua: &Lua, shared: &Shared, child: &Value) -> Result<DynamicChild, Refusal> {
    let table = match child {
        Value::Nil => return Ok(DynamicChild::new()),
        Value::Table(table) => table,
        other => {
            let kind = convert::type_of(other);
            let example = "{ payload = 5, name = \"five\" }";
            return Err(invalid(format!("a child is a table such as {example}, not {kind}")).into());
        }
    };
    let mut child = DynamicChild::new();
    for member in table.pairs::<Value, Value>() {
        let (name, value) = member?;
        let name = name.as_string().map(mlua::LuaString::to_string_lossy);
        child = match name.as_deref() {
            Some("payload") => child.with_payload(shared.take(lua, &value, "the payload", shared.payload)?),
            Some("options") => child.with_options(shared.options(lua, &value)?),
            Some("name") => child.with_name(name_of(&value)?),
            Some("restart") => child.with_restart(restart(&value)?),
            _ => {
                let message = "a child has the members `payload`, `options`, `name` and `restart` only";
                return Err(invalid(message).into());
            }
        };
    }
    Ok(child)
}

fn name_of(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::String(name) => Ok(utf8(name, "`name`")?),
        other => Err(invalid(format!("`name` is a string, not {}", convert::type_of(other))).into()),
    }
}

fn restart(value: &Value) -> Result<Restart, Refusal> {
    let name = value.as_string().map(mlua::LuaString::to_string_lossy);
    let restart = name.as_deref().and_then(Restart::from_name);
    restart.ok_or_else(|| invalid("`restart` is \"permanent\", \"transient\" or \"temporary\"").into())
}
