//! The table that says which messages a script waits for.

use mlua::{Lua, Value};

use super::text;
use crate::lua::convert;
use crate::lua::host::{Refusal, invalid};
use crate::lua::shared::Shared;
use crate::process::guest;
use crate::process::pattern::{LONGEST, MessageKind, Pattern};

/// What a script waits for.
pub(super) fn take(lua: &Lua, shared: &Shared, pattern: &Value) -> Result<Pattern, Refusal> {
    let Value::Table(table) = pattern else {
        let kind = convert::type_of(pattern);
        let example = "{ payload = { tag = \"answer\" } }";
        return Err(invalid(format!("a pattern is a table such as {example}, not {kind}")).into());
    };
    let mut pattern = Pattern::default();
    for member in table.pairs::<Value, Value>() {
        let (name, value) = member?;
        let Value::String(name) = &name else {
            let kind = convert::type_of(&name);
            return Err(invalid(format!("a pattern has named members, and not one under {kind}")).into());
        };
        match &*name.to_string_lossy() {
            "kind" => pattern.kind = Some(kind(&value)?),
            "from" | "pid" => pattern.sender = Some(guest::pid(&text(&value)?)?),
            "timer" => pattern.timer = Some(guest::timer_ref(&text(&value)?)?),
            "monitor" => pattern.monitor = Some(guest::monitor_ref(&text(&value)?)?),
            "payload" => pattern.payload = Some(shared.take_json(lua, &value, "the pattern", LONGEST)?),
            _ => {
                let message =
                    "a pattern has the members `kind`, `from`, `pid`, `monitor`, `timer` and `payload` only";
                return Err(invalid(message).into());
            }
        }
    }
    Ok(pattern)
}

fn kind(value: &Value) -> Result<MessageKind, Refusal> {
    let kind = value.as_string().map(mlua::LuaString::to_string_lossy);
    Ok(match kind.as_deref() {
        Some("sent") => MessageKind::Sent,
        Some("exited") => MessageKind::Exited,
        Some("link_down") => MessageKind::LinkDown,
        Some("timer") => MessageKind::Timer,
        Some("group_changed") => MessageKind::GroupChanged,
        Some("cancelled") => MessageKind::Cancelled,
        _ => {
            let message = "`kind` is \"sent\", \"exited\", \"link_down\", \"timer\", \"group_changed\" or \"cancelled\"";
            return Err(invalid(message).into());
        }
    })
}
