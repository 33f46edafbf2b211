//! What scripts are told of processes.

use std::sync::Arc;

use mlua::{IntoLua, Lua, Table, Value};
use tokio::time::Instant;

use super::reply;
use crate::lua::fault;
use crate::lua::shared::Shared;
use crate::process::exit::in_words;
use crate::process::{Exit, ExitReason, Message};

/// How much memory a message takes besides what was sent or given back, with all its texts.
pub(super) const BARE: usize = 16 << 10;

/// What a process received, on its way into a VM.
pub(super) struct Received {
    pub(super) message: Option<Message>,
    pub(super) shared: Arc<Shared>,
}

impl IntoLua for Received {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let Some(message) = self.message else { return Ok(Value::Nil) };
        let table = lua.create_table()?;
        match message {
            Message::Sent { from, payload, reply } => {
                table.raw_set("kind", "sent")?;
                table.raw_set("from", from.map(|pid| pid.to_string()))?;
                match self.shared.give(lua, &payload)? {
                    Some(payload) => table.raw_set("payload", payload)?,
                    // Anybody could end it otherwise, with one message.
                    None => table.raw_set("too_large", true)?,
                }
                if let Some(reply) = reply {
                    table.raw_set("reply", reply::give(lua, reply)?)?;
                }
            }
            Message::Exited { monitor, exit } => {
                table.raw_set("kind", "exited")?;
                table.raw_set("monitor", monitor.to_string())?;
                set_exit(lua, &self.shared, &table, &exit)?;
            }
            Message::LinkDown(exit) => {
                table.raw_set("kind", "link_down")?;
                set_exit(lua, &self.shared, &table, &exit)?;
            }
            Message::Timer(tick) => {
                table.raw_set("kind", "timer")?;
                table.raw_set("from", tick.timer.process().to_string())?;
                table.raw_set("timer", tick.timer.to_string())?;
                table.raw_set("missed", i64::try_from(tick.missed).unwrap_or(i64::MAX))?;
                match self.shared.give(lua, &tick.payload)? {
                    Some(payload) => table.raw_set("payload", payload)?,
                    None => table.raw_set("too_large", true)?,
                }
            }
            Message::GroupChanged(group) => {
                table.raw_set("kind", "group_changed")?;
                table.raw_set("group", group.name())?;
                table.raw_set("host", group.host().as_str())?;
            }
            Message::Cancelled { reason, deadline } => {
                table.raw_set("kind", "cancelled")?;
                table.raw_set("reason", &*reason)?;
                let grace = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                table.raw_set("grace", grace.map(|grace| grace.as_secs_f64()))?;
            }
        }
        Ok(Value::Table(table))
    }
}

fn set_exit(lua: &Lua, shared: &Shared, table: &Table, exit: &Exit) -> mlua::Result<()> {
    table.raw_set("pid", exit.pid.to_string())?;
    table.raw_set("reason", exit.reason.as_str())?;
    table.raw_set("message", in_words(&exit.reason))?;
    match &exit.reason {
        ExitReason::Failed(error) if shared.has_room(lua, fault::bytes(error)) => {
            table.raw_set("error", fault::give(lua, shared, Arc::clone(error))?)?;
        }
        ExitReason::LinkDown(down) => table.raw_set("origin", down.origin.to_string())?,
        _ => (),
    }
    let Some(result) = &exit.result else { return Ok(()) };
    match shared.give(lua, result)? {
        Some(result) => table.raw_set("result", result),
        None => table.raw_set("result_too_large", true),
    }
}
