//! The tables with which scripts spawn processes, and start children of dynamic supervisors.

use std::sync::Arc;

use frame_registry::{Id, IdKind, text};
use mlua::{Lua, Table, Value};

use super::{raised, text};
use crate::lua::convert;
use crate::lua::fault;
use crate::lua::host::{Refusal, invalid, options, utf8};
use crate::lua::module::ModuleBuilder;
use crate::lua::shared::Shared;
use crate::process::Spawn;
use crate::process::guest::Access;
use crate::process::supervisor::{DynamicChild, Restart};

const MEMBERS: [&str; 9] =
    ["entry", "host", "link", "messages", "monitor", "name", "options", "owned", "payload"];

/// Reads the table of a process to be spawned.
pub(super) fn take_spawn(lua: &Lua, shared: &Shared, spawn: &Value) -> Result<Spawn, Refusal> {
    let Value::Table(table) = spawn else {
        let kind = convert::type_of(spawn);
        let example = "{ host = \"app:workers\", entry = \"app:worker\" }";
        return Err(
            invalid(format!("a process is spawned with a table such as {example}, not {kind}")).into()
        );
    };
    check_members(table)?;
    let mut spawn = Spawn::new(id(table, "host")?, id(table, "entry")?);
    let payload: Value = table.raw_get("payload")?;
    spawn = spawn.with_payload(shared.take(lua, &payload, "the payload", shared.payload)?);
    spawn = spawn.with_options(options(shared, lua, &table.raw_get("options")?)?);
    match table.raw_get("messages")? {
        Value::Nil => (),
        Value::Table(messages) => {
            let messages = shared.take_all(lua, &messages, "`messages`", shared.payload)?;
            for message in messages {
                spawn = spawn.with_message(message);
            }
        }
        other => return Err(unfit("messages", "a list of payloads", &other)),
    }
    match table.raw_get("name")? {
        Value::Nil => (),
        Value::String(name) => spawn = spawn.with_name(utf8(&name, "`name`")?),
        other => return Err(unfit("name", "a string", &other)),
    }
    if flag(table, "monitor")? {
        spawn = spawn.with_monitor();
    }
    if flag(table, "link")? {
        spawn = spawn.with_link();
    }
    if flag(table, "owned")? {
        spawn = spawn.with_owner();
    }
    Ok(spawn)
}

/// Refuses unknown members, so that a misspelt one is not ignored.
fn check_members(table: &Table) -> Result<(), Refusal> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        let name = match &key {
            Value::String(name) => name.to_string_lossy(),
            other => {
                return Err(invalid(format!(
                    "a process is spawned with named members, and not with one under {}",
                    convert::type_of(other)
                ))
                .into());
            }
        };
        if MEMBERS.contains(&name.as_str()) {
            continue;
        }
        let shown = text::excerpt(&name, 40);
        let right = match text::nearest(&name, MEMBERS) {
            Some(member) => format!("did you mean `{member}`?"),
            None => format!("the members are {}", MEMBERS.join(", ")),
        };
        return Err(invalid(format!("unknown member `{shown}` of a process to be spawned; {right}")).into());
    }
    Ok(())
}

fn id<K: IdKind>(table: &Table, member: &str) -> Result<Id<K>, Refusal> {
    match table.raw_get(member)? {
        Value::String(id) => Ok(utf8(&id, &format!("`{member}`"))?.parse().map_err(invalid)?),
        other => Err(unfit(member, &format!("the id of a {}, such as \"{}\"", K::NOUN, K::EXAMPLE), &other)),
    }
}

fn flag(table: &Table, member: &str) -> Result<bool, Refusal> {
    match table.raw_get(member)? {
        Value::Nil => Ok(false),
        Value::Boolean(is_set) => Ok(is_set),
        other => Err(unfit(member, "`true` or `false`", &other)),
    }
}

fn unfit(member: &str, expected: &str, given: &Value) -> Refusal {
    let given = if given.is_nil() { "missing" } else { convert::type_of(given) };
    invalid(format!("`{member}` is {expected}; it is {given}")).into()
}

pub(super) fn install_children(module: &mut ModuleBuilder<'_>, access: &Access) -> mlua::Result<()> {
    let (started_by, shared) = (access.clone(), Arc::clone(module.shared()));
    module.prepared_function("start_child", move |lua, ctx, (supervisor, child): (Value, Value)| {
        let (supervisor, child) = (supervisor_id(&supervisor)?, take_child(lua, &shared, &child)?);
        let access = started_by.clone();
        Ok(async move {
            let started = access.start_child(&ctx, &supervisor, child).await.map_err(raised)?;
            Ok((started.pid.to_string(), started.id.to_string()))
        })
    })?;

    let access = access.clone();
    module.prepared_function("stop_child", move |_, ctx, (supervisor, child): (Value, Value)| {
        let (supervisor, child) = (supervisor_id(&supervisor)?, text(&child)?.to_owned());
        let access = access.clone();
        Ok(async move { access.stop_child(&ctx, &supervisor, &child).await.map_err(fault::raise) })
    })
}

fn supervisor_id(supervisor: &Value) -> Result<String, Refusal> {
    match supervisor {
        Value::String(id) => Ok(utf8(id, "the id of the supervisor")?),
        other => {
            let kind = convert::type_of(other);
            Err(invalid(format!("a supervisor is given by its id, such as \"app:pool\", not by {kind}"))
                .into())
        }
    }
}

/// Reads how a child differs from the specification of its supervisor.
fn take_child(lua: &Lua, shared: &Shared, child: &Value) -> Result<DynamicChild, Refusal> {
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
            Some("options") => child.with_options(options(shared, lua, &value)?),
            Some("name") => child.with_name(child_name(&value)?),
            Some("restart") => child.with_restart(restart(&value)?),
            _ => {
                let message = "a child has the members `payload`, `options`, `name` and `restart` only";
                return Err(invalid(message).into());
            }
        };
    }
    Ok(child)
}

fn child_name(value: &Value) -> Result<String, Refusal> {
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
