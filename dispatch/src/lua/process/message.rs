//! What scripts are told of processes.

use std::sync::Arc;

use mlua::{IntoLua, Lua, Table, Value};
use tokio::time::Instant;

use crate::error::CallError;
use crate::lua::convert::Shared;
use crate::lua::fault;
use crate::process::{ExecError, Exit, ExitReason, Message, StartError};

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
            Message::Sent { from, payload } => {
                table.raw_set("kind", "sent")?;
                table.raw_set("from", from.map(|pid| pid.to_string()))?;
                table.raw_set("payload", self.shared.marks.give(lua, &payload)?)?;
            }
            Message::Exited(exit) => {
                table.raw_set("kind", "exited")?;
                set_exit(lua, &self.shared, &table, &exit)?;
            }
            Message::LinkDown(exit) => {
                table.raw_set("kind", "link_down")?;
                set_exit(lua, &self.shared, &table, &exit)?;
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
        ExitReason::Failed(error) => {
            table.raw_set("error", fault::give(lua, shared, Arc::clone(error))?)?;
        }
        ExitReason::LinkDown(down) => table.raw_set("origin", down.origin.to_string())?,
        _ => (),
    }
    match &exit.result {
        Some(result) => table.raw_set("result", shared.marks.give(lua, result)?),
        None => Ok(()),
    }
}

/// Why a process ended, without what caused the failure: a script is not told that of a call that failed, either.
fn in_words(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Failed(error) => format!("it failed: {error}"),
        ExitReason::LinkDown(down) => {
            format!(
                "a process that it was linked to, {}, ended before: {}",
                down.origin,
                in_words(&down.reason)
            )
        }
        other => other.to_string(),
    }
}

/// What a script is told that started a process, and what its host is.
pub(super) fn start_error(error: StartError) -> CallError {
    let text = error.to_string();
    CallError::from(error).with_note(format_args!("{text}"))
}

/// What a script is told that waited for the result of a process.
pub(super) fn exec_error(error: ExecError) -> CallError {
    match error {
        ExecError::Start(error) => start_error(error),
        ExecError::Exit { exit } => {
            let message = format!("{} ended without a result: {}", exit.pid, in_words(&exit.reason));
            let error = CallError::from(ExecError::Exit { exit });
            CallError::new(error.kind(), message).with_retryable(error.is_retryable())
        }
        over @ ExecError::Over { .. } => over.into(),
    }
}
