//! What every script has of the host: `call`, `frame` and `log`.

use std::fmt::Display;
use std::sync::Arc;

use frame_registry::Options;
use mlua::{FromLuaMulti, Function, IntoLua, IntoLuaMulti, Lua, LuaString, Table, Value};
use tracing::Level;

use super::bridge;
use super::convert::{self, ConvertError};
use super::fault;
use super::shared::Shared;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind, WithCauses};
use crate::log::{LONGEST, Log, LogBudget, LogFields};
use crate::payload::Payload;
use crate::task::Task;

/// How large the fields of a log message are at most, as JSON.
const LARGEST_FIELDS: usize = 16 << 10;
/// How large the options of a call are at most, as JSON: they are names and settings, and no payload.
const LARGEST_OPTIONS: usize = 64 << 10;

/// Puts the functions into the library `frame`, and returns `call`, and what logs a message: given a level, the message and
/// fields.
pub(super) fn install(lua: &Lua, shared: &Arc<Shared>, frame: &Table) -> mlua::Result<(Function, Function)> {
    let this = Arc::clone(shared);
    let get = bridge::function(lua, shared, move |lua, arguments| {
        let name = mlua::LuaString::from_lua_args(arguments, 1, Some("get"), lua)?;
        let ctx = this.watch.ctx()?;
        let Some(value) = ctx.frame().public(&name.to_str()?) else { return Value::Nil.into_lua_multi(lua) };
        let value = value.map_err(|error| mlua::Error::runtime(format!("the value is not JSON: {error}")))?;
        convert::give(lua, &Payload::Json(value))?.into_lua_multi(lua)
    })?;
    frame.raw_set("get", get)?;

    let this = Arc::clone(shared);
    let log = bridge::function(lua, shared, move |lua, arguments| {
        type Log = (mlua::LuaString, mlua::LuaString, Value);
        let (level, message, fields) = Log::from_lua_multi(arguments, lua)?;
        write_log(&this, lua, &level.to_str()?, &message, &fields)?.into_lua_multi(lua)
    })?;

    let this = Arc::clone(shared);
    let call = bridge::waiting_function(lua, shared, move |lua, arguments| {
        let (id, payload, options) = <(Value, Value, Value)>::from_lua_multi(arguments, lua)?;
        let (ctx, task) = task(&this, lua, &id, &payload, &options)?;
        let shared = Arc::clone(&this);
        Ok(async move {
            let payload = ctx.call(task).await.map_err(fault::pass_on)?;
            Ok(HostResult { payload, shared })
        })
    })?;
    Ok((call, log))
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
pub(super) struct HostResult {
    pub(super) payload: Payload,
    pub(super) shared: Arc<Shared>,
}

impl IntoLua for HostResult {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let given = self.shared.give(lua, &self.payload)?;
        given.ok_or_else(|| fault::raise(fault::no_room("the result")))
    }
}

/// The call that a script asks for, and what it is made from.
fn task(
    shared: &Shared,
    lua: &Lua,
    id: &Value,
    payload: &Value,
    options: &Value,
) -> Result<(CallContext, Task), Refusal> {
    let ctx = shared.watch.ctx()?;
    let Value::String(id) = id else {
        let kind = convert::type_of(id);
        let message = format!("the id of a function is a string, such as \"app:hello\", not {kind}");
        return Err(CallError::invalid(message).into());
    };
    let id = utf8(id, "the id of a function")?.parse().map_err(invalid)?;
    let payload = shared.take(lua, payload, "the payload", shared.payload)?;
    let options = self::options(shared, lua, options)?;
    Ok((ctx, Task::new(id).with_payload(payload).with_options(options)))
}

/// The options of something that a script asks for.
pub(super) fn options(shared: &Shared, lua: &Lua, options: &Value) -> Result<Options, Refusal> {
    if options.is_nil() {
        return Ok(Options::new());
    }
    let largest = LARGEST_OPTIONS.min(shared.payload);
    let options = match shared.take_json(lua, options, "the options", largest) {
        Err(ConvertError::TooLarge(_)) => {
            let message = format!("the options are larger than {largest} bytes: give data as the payload");
            return Err(CallError::invalid(message).into());
        }
        options => options?,
    };
    Ok(Options::from_untrusted_json(&options).map_err(|error| invalid(WithCauses(&error)))?)
}

fn write_log(
    shared: &Shared,
    lua: &Lua,
    level: &str,
    message: &mlua::LuaString,
    fields: &Value,
) -> mlua::Result<()> {
    let ctx = shared.watch.ctx()?;
    let message = message.as_bytes();
    // One more, so that it is seen that the message was longer.
    let message = String::from_utf8_lossy(&message[..message.len().min(LONGEST + 1)]);
    let fields = match fields {
        Value::Nil => None,
        fields => {
            let fields = shared.take_json(lua, fields, "fields", LARGEST_FIELDS);
            Some(LogFields::new(fields.map_err(|error| match error {
                ConvertError::Lua(error) => error,
                other => mlua::Error::runtime(other.to_string()),
            })?))
        }
    };
    let level = level.parse().unwrap_or(Level::ERROR);
    Log::with_budget(ctx, shared.watch.of_call::<LogBudget>()?).write(level, None, &message, fields.as_ref());
    Ok(())
}

/// The text of a string of a script, which is `what`. What is not UTF-8 is refused: replaced by other characters, two
/// strings could become one.
pub(super) fn utf8(string: &LuaString, what: &str) -> Result<String, CallError> {
    let text = string.to_str().map_err(|_| invalid(format_args!("{what} has to be text in UTF-8")))?;
    Ok(text.to_owned())
}

pub(super) fn invalid(error: impl Display) -> CallError {
    CallError::invalid(error.to_string())
}
