//! Messages in scripts: the table of a message, its reply, and the pattern that selects messages.

use std::sync::Arc;

use mlua::{AnyUserData, IntoLua, Lua, Table, UserDataFields as _, UserDataRegistry, Value};
use tokio::time::Instant;

use super::{payload_of, raised, text};
use crate::error::CallError;
use crate::lua::convert;
use crate::lua::fault;
use crate::lua::host::{Refusal, invalid};
use crate::lua::module::ModuleBuilder;
use crate::lua::shared::Shared;
use crate::process::guest;
use crate::process::message::in_words;
use crate::process::pattern::{MAX_PATTERN, MessageKind, Pattern};
use crate::process::{Exit, ExitReason, Message, ReplyError, ReplyTo};

/// The memory that a message takes in a VM in addition to a payload or a result, with all its strings.
pub(super) const MESSAGE_MEMORY: usize = 16 << 10;

/// A received message, to be converted for a VM.
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
                    // Otherwise any sender could end the script with one message.
                    None => table.raw_set("too_large", true)?,
                }
                if let Some(reply) = reply {
                    table.raw_set("reply", give_reply(lua, reply)?)?;
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

/// The type of `message.reply`. Calling it replies.
struct Reply(Option<ReplyTo>);

/// Registers the type of `message.reply` in the VM.
pub(super) fn install_reply(module: &ModuleBuilder<'_>) -> mlua::Result<()> {
    let shared = Arc::clone(module.shared());
    let methods = module.functions(|methods| {
        methods.function("is_awaited", |_, _, handle: AnyUserData| {
            let reply = handle.borrow::<Reply>()?;
            Ok(reply.0.as_ref().is_some_and(ReplyTo::is_awaited))
        })
    })?;
    let meta = module.functions(|meta| {
        // `message:reply(payload)` also passes the message, which is not needed.
        meta.function("reply", move |lua, _, (handle, _, payload): (AnyUserData, Value, Value)| {
            // Before the reply is taken, so that a script can reply with another payload if this one is refused.
            let payload = payload_of(lua, &shared, &payload)?;
            let reply = handle.borrow_mut::<Reply>()?.0.take();
            let Some(reply) = reply else {
                return Err(fault::raise(CallError::invalid("the call already has a reply")));
            };
            match reply.send(payload) {
                Ok(()) => Ok(true),
                Err(ReplyError::Late { .. }) => Ok(false),
                Err(error) => Err(raised(error)),
            }
        })
    })?;
    let call: Value = meta.raw_get("reply")?;
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<Reply>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__call", call);
    })
}

fn give_reply(lua: &Lua, reply: ReplyTo) -> mlua::Result<AnyUserData> {
    lua.create_any_userdata(Reply(Some(reply)))
}

/// Reads a pattern of messages.
pub(super) fn take_pattern(lua: &Lua, shared: &Shared, pattern: &Value) -> Result<Pattern, Refusal> {
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
            "payload" => pattern.payload = Some(shared.take_json(lua, &value, "the pattern", MAX_PATTERN)?),
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
