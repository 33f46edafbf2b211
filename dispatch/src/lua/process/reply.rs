//! How scripts reply to calls.

use mlua::{AnyUserData, Lua, UserDataFields as _, UserDataRegistry, Value};

use super::{payload_of, raised};
use crate::error::CallError;
use crate::lua::fault;
use crate::lua::module::ModuleBuilder;
use crate::process::ReplyTo;

/// What `message.reply` is. Calling it replies.
struct Reply(Option<ReplyTo>);

/// Makes the type known to the VM.
pub(super) fn install(module: &ModuleBuilder<'_>) -> mlua::Result<()> {
    let shared = std::sync::Arc::clone(module.shared());
    let methods = module.functions(|methods| {
        methods.function("is_awaited", |_, _, handle: AnyUserData| {
            let reply = handle.borrow::<Reply>()?;
            Ok(reply.0.as_ref().is_some_and(ReplyTo::is_awaited))
        })
    })?;
    let meta = module.functions(|meta| {
        // `message:reply(payload)` passes the message, too, which says nothing more.
        meta.function("reply", move |lua, _, (handle, _, payload): (AnyUserData, Value, Value)| {
            // Before it is used up, so that a payload which is refused can be replaced by another.
            let payload = payload_of(lua, &shared, &payload)?;
            let reply = handle.borrow_mut::<Reply>()?.0.take();
            let Some(reply) = reply else {
                return Err(fault::raise(CallError::invalid("the call has its reply already")));
            };
            match reply.send(payload) {
                Ok(()) => Ok(true),
                Err(crate::process::ReplyError::Late { .. }) => Ok(false),
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

pub(super) fn give(lua: &Lua, reply: ReplyTo) -> mlua::Result<AnyUserData> {
    lua.create_any_userdata(Reply(Some(reply)))
}
