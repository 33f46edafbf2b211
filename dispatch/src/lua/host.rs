//! What every script has of the host: `call`, `frame` and `log`.

use std::fmt::Display;
use std::sync::Arc;

use frame_registry::Options;
use mlua::{IntoLua, IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;

use super::convert::{ConvertError, Shared};
use super::fault;
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind, WithCauses};
use crate::executor::FUNCTION;
use crate::frame::PID;
use crate::payload::Payload;
use crate::printable::printable;
use crate::process::PROCESS;
use crate::task::Task;

/// The longest message of an event, and its fields as JSON. What is longer is cut, or left out.
const LONGEST_EVENT: usize = 16 << 10;
/// How large the options of a call are at most, as JSON: they are names and settings, and no payload.
const LARGEST_OPTIONS: usize = 64 << 10;

/// Puts them into the table of natives.
pub(super) fn install(lua: &Lua, natives: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let this = Arc::clone(shared);
    let get = lua.create_function(move |lua, name: mlua::String| {
        let ctx = this.watch.ctx()?;
        let Some(value) = ctx.frame().public(&name.to_str()?) else { return Ok(Value::Nil) };
        let value = value.map_err(|error| mlua::Error::runtime(format!("the value is no JSON: {error}")))?;
        this.marks.give(lua, &Payload::Json(value))
    })?;
    natives.raw_set("frame_get", get)?;

    let this = Arc::clone(shared);
    let log =
        lua.create_function(move |lua, (level, message, fields): (mlua::String, mlua::String, Value)| {
            this.log(lua, &level.to_str()?, &message, &fields)
        })?;
    natives.raw_set("log", log)?;

    let this = Arc::clone(shared);
    let call = lua.create_async_function(move |lua, (id, payload, options): (Value, Value, Value)| {
        let task = this.task(&lua, &id, &payload, &options);
        // It is in the VM that the future is kept.
        drop(lua);
        let shared = Arc::clone(&this);
        async move {
            let result = match task {
                Ok((ctx, task)) => shared.watch.wait(ctx.call(task)).await,
                Err(Refusal::Call(error)) => Err(error),
                Err(Refusal::Lua(error)) => return Err(error),
            };
            Ok(Outcome { result, shared })
        }
    })?;
    natives.raw_set("call", call)
}

/// Why what a script asks for is not done.
pub(super) enum Refusal {
    /// As a failed call.
    Call(CallError),
    /// As an error of Lua.
    Lua(mlua::Error),
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<mlua::Error> for Refusal {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

impl From<ConvertError> for Refusal {
    fn from(error: ConvertError) -> Self {
        let kind = match error {
            ConvertError::Lua(error) => return Self::Lua(error),
            ConvertError::TooLarge(_) | ConvertError::NoRoom(_) => ErrorKind::Exhausted,
            ConvertError::Unfit { .. } => ErrorKind::Invalid,
        };
        Self::Call(CallError::new(kind, error.to_string()).with_retryable(false))
    }
}

impl From<Refusal> for mlua::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Call(error) => fault::raise(error),
            Refusal::Lua(error) => error,
        }
    }
}

/// A result, on its way into a VM.
pub(super) struct Given {
    pub(super) payload: Payload,
    pub(super) shared: Arc<Shared>,
}

impl IntoLua for Given {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let given = self.shared.give(lua, &self.payload)?;
        given.ok_or_else(|| fault::raise(fault::no_room("the result")))
    }
}

/// What came of a call, on its way into a VM.
struct Outcome {
    result: Result<Payload, CallError>,
    shared: Arc<Shared>,
}

impl IntoLuaMulti for Outcome {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        let error = match self.result {
            Ok(payload) => match self.shared.give(lua, &payload)? {
                Some(given) => return (true, given).into_lua_multi(lua),
                None => fault::no_room("the result"),
            },
            Err(error) => error,
        };
        (false, fault::give(lua, &self.shared, Arc::new(error))?).into_lua_multi(lua)
    }
}

impl Shared {
    /// The call that a script asks for, and what it is made from.
    fn task(&self, lua: &Lua, id: &Value, payload: &Value, options: &Value) -> Result<(Ctx, Task), Refusal> {
        let ctx = self.watch.ctx()?;
        let room = self.room(lua)?;
        let Value::String(id) = id else {
            let message =
                format!("the id of a function is a string, such as \"app:hello\", not a {}", id.type_name());
            return Err(CallError::invalid(message).into());
        };
        let id = id.to_string_lossy().parse().map_err(invalid)?;
        let payload = self.marks.take(payload, "the payload", self.payload, &self.watch, room)?;
        let options = self.options(options, room)?;
        Ok((ctx, Task::new(id).with_payload(payload).with_options(options)))
    }

    /// The options of something that a script asks for.
    pub(super) fn options(&self, options: &Value, room: usize) -> Result<Options, Refusal> {
        if options.is_nil() {
            return Ok(Options::new());
        }
        let largest = LARGEST_OPTIONS.min(self.payload);
        let options = match self.marks.take_json(options, "the options", largest, &self.watch, room) {
            Err(ConvertError::TooLarge(_)) => {
                let message =
                    format!("the options are larger than {largest} bytes: give data as the payload");
                return Err(CallError::invalid(message).into());
            }
            options => options?,
        };
        Ok(Options::from_json(&options).map_err(|error| invalid(WithCauses(&error)))?.untrusted())
    }

    fn log(&self, lua: &Lua, level: &str, message: &mlua::String, fields: &Value) -> mlua::Result<()> {
        let ctx = self.watch.ctx()?;
        let message = message.as_bytes();
        let message = String::from_utf8_lossy(&message[..message.len().min(LONGEST_EVENT)]);
        let message = printable(&message, LONGEST_EVENT);
        let room = self.room(lua)?;
        let fields = match fields {
            Value::Nil => None,
            fields => {
                let fields = self.marks.take_json(fields, "the fields", LONGEST_EVENT, &self.watch, room);
                Some(fields.map_err(|error| match error {
                    ConvertError::Lua(error) => error,
                    other => mlua::Error::runtime(other.to_string()),
                })?)
            }
        };
        emit(&ctx, level, &message, fields.as_ref());
        Ok(())
    }
}

pub(super) fn invalid(error: impl Display) -> CallError {
    CallError::invalid(error.to_string())
}

fn emit(ctx: &Ctx, level: &str, message: &str, fields: Option<&Json>) {
    // It is the one or the other.
    let function = ctx.frame().get(&FUNCTION).map(tracing::field::display);
    let process = ctx.frame().get(&PROCESS).map(tracing::field::display);
    let pid = ctx.frame().get(&PID).map(tracing::field::display);
    let fields = fields.map(tracing::field::display);
    match level {
        "trace" => tracing::trace!(function, process, pid, fields, "{message}"),
        "debug" => tracing::debug!(function, process, pid, fields, "{message}"),
        "info" => tracing::info!(function, process, pid, fields, "{message}"),
        "warn" => tracing::warn!(function, process, pid, fields, "{message}"),
        _ => tracing::error!(function, process, pid, fields, "{message}"),
    }
}
