//! What every script has of the host: `call`, `frame` and `log`.

use std::sync::Arc;

use frame_registry::Options;
use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;

use super::convert::{ConvertError, Shared};
use super::fault;
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::executor::FUNCTION;
use crate::frame::PID;
use crate::payload::Payload;
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
            let (ctx, task) = match task {
                Ok(task) => task,
                Err(ConvertError::Lua(error)) => return Err(error),
                Err(error) => return Ok(Outcome { result: Err(refused(&error)), shared }),
            };
            let result = match task {
                Ok(task) => shared.watch.wait(ctx.call(task)).await,
                Err(error) => Err(error),
            };
            Ok(Outcome { result, shared })
        }
    })?;
    natives.raw_set("call", call)
}

fn refused(error: &ConvertError) -> CallError {
    let kind = match error {
        ConvertError::TooLarge(_) | ConvertError::NoRoom(_) => ErrorKind::Exhausted,
        ConvertError::Unfit { .. } | ConvertError::Lua(_) => ErrorKind::Invalid,
    };
    CallError::new(kind, error.to_string()).with_retryable(false)
}

/// What came of a call, on its way into a VM.
struct Outcome {
    result: Result<Payload, CallError>,
    shared: Arc<Shared>,
}

impl IntoLuaMulti for Outcome {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        match self.result {
            Ok(payload) => (true, self.shared.marks.give(lua, &payload)?).into_lua_multi(lua),
            Err(error) => (false, fault::give(lua, &self.shared, Arc::new(error))?).into_lua_multi(lua),
        }
    }
}

impl Shared {
    /// The call that a script asks for, and what it is made from.
    fn task(
        &self,
        lua: &Lua,
        id: &Value,
        payload: &Value,
        options: &Value,
    ) -> Result<(Ctx, Result<Task, CallError>), ConvertError> {
        let ctx = self.watch.ctx()?;
        let room = self.room(lua)?;
        let Value::String(id) = id else {
            let message =
                format!("the id of a function is a string, such as \"app:hello\", not a {}", id.type_name());
            return Ok((ctx, Err(CallError::invalid(message))));
        };
        let id = match id.to_string_lossy().parse() {
            Ok(id) => id,
            Err(error) => {
                return Ok((ctx, Err(CallError::invalid(format!("{error}")))));
            }
        };
        let mut task = Task::new(id).with_payload(self.marks.take(
            payload,
            "the payload",
            self.payload,
            &self.watch,
            room,
        )?);
        if !options.is_nil() {
            let largest = LARGEST_OPTIONS.min(self.payload);
            let options = match self.marks.take_json(options, "the options", largest, &self.watch, room) {
                Err(ConvertError::TooLarge(_)) => {
                    let message =
                        format!("the options are larger than {largest} bytes: give data as the payload");
                    return Ok((ctx, Err(CallError::invalid(message))));
                }
                options => options?,
            };
            match Options::from_json(&options) {
                Ok(options) => task = task.with_options(options),
                Err(error) => return Ok((ctx, Err(CallError::invalid(error.to_string())))),
            }
        }
        Ok((ctx, Ok(task)))
    }

    fn log(&self, lua: &Lua, level: &str, message: &mlua::String, fields: &Value) -> mlua::Result<()> {
        let ctx = self.watch.ctx()?;
        let message = message.as_bytes();
        let message = String::from_utf8_lossy(&message[..message.len().min(LONGEST_EVENT)]);
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

fn emit(ctx: &Ctx, level: &str, message: &str, fields: Option<&Json>) {
    let function = ctx.frame().get(&FUNCTION).map(tracing::field::display);
    let pid = ctx.frame().get(&PID).map(tracing::field::display);
    let fields = fields.map(tracing::field::display);
    match level {
        "trace" => tracing::trace!(function, pid, fields, "{message}"),
        "debug" => tracing::debug!(function, pid, fields, "{message}"),
        "info" => tracing::info!(function, pid, fields, "{message}"),
        "warn" => tracing::warn!(function, pid, fields, "{message}"),
        _ => tracing::error!(function, pid, fields, "{message}"),
    }
}
