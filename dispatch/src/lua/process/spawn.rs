//! The table that a script starts a process with.

use frame_registry::{Id, IdKind, nearest};
use mlua::{Lua, Table, Value};

use crate::lua::convert;
use crate::lua::host::{Refusal, invalid, utf8};
use crate::lua::shared::Shared;
use crate::process::Spawn;

const MEMBERS: [&str; 9] =
    ["entry", "host", "link", "messages", "monitor", "name", "options", "owned", "payload"];

/// What a script wants to start.
pub(super) fn take(lua: &Lua, shared: &Shared, start: &Value) -> Result<Spawn, Refusal> {
    let Value::Table(table) = start else {
        let kind = convert::type_of(start);
        let example = "{ host = \"app:workers\", entry = \"app:worker\" }";
        return Err(
            invalid(format!("a process is started with a table such as {example}, not {kind}")).into()
        );
    };
    check_members(table)?;
    let mut start = Spawn::new(id(table, "host")?, id(table, "entry")?);
    let payload: Value = table.raw_get("payload")?;
    start = start.with_payload(shared.take(lua, &payload, "the payload", shared.payload)?);
    start = start.with_options(shared.options(lua, &table.raw_get("options")?)?);
    match table.raw_get("messages")? {
        Value::Nil => (),
        Value::Table(messages) => {
            let messages = shared.take_all(lua, &messages, "`messages`", shared.payload)?;
            for message in messages {
                start = start.with_message(message);
            }
        }
        other => return Err(unfit("messages", "a list of payloads", &other)),
    }
    match table.raw_get("name")? {
        Value::Nil => (),
        Value::String(name) => start = start.with_name(utf8(&name, "`name`")?),
        other => return Err(unfit("name", "a string", &other)),
    }
    if flag(table, "monitor")? {
        start = start.with_monitor();
    }
    if flag(table, "link")? {
        start = start.with_link();
    }
    if flag(table, "owned")? {
        start = start.with_owner();
    }
    Ok(start)
}

/// A member that is misspelt is not one that is left out.
fn check_members(table: &Table) -> Result<(), Refusal> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        let name = match &key {
            Value::String(name) => name.to_string_lossy(),
            other => {
                return Err(invalid(format!(
                    "a process is started with named members, and not with one under {}",
                    convert::type_of(other)
                ))
                .into());
            }
        };
        if MEMBERS.contains(&name.as_str()) {
            continue;
        }
        let shown: String = name.chars().take(40).collect();
        let right = match nearest(&name, MEMBERS) {
            Some(member) => format!("did you mean `{member}`?"),
            None => format!("there are {}", MEMBERS.join(", ")),
        };
        return Err(invalid(format!("a process is not started with `{shown}`; {right}")).into());
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
