//! How scripts set timers.

use std::sync::Arc;

use mlua::Value;

use super::{duration, payload_of, raised, text};
use crate::lua::fault;
use crate::lua::module::ModuleBuilder;
use crate::process::guest::{process, timer_ref};

pub(super) fn install(module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let shared = Arc::clone(module.shared());
    module.function("send_after", move |lua, ctx, (time, payload): (Value, Value)| {
        let process = process(&ctx, "send_after").map_err(fault::raise)?;
        let (time, payload) = (duration(&time, "the time")?, payload_of(lua, &shared, &payload)?);
        Ok(process.send_after(time, payload).map_err(raised)?.to_string())
    })?;

    let shared = Arc::clone(module.shared());
    module.function("send_every", move |lua, ctx, (period, payload): (Value, Value)| {
        let process = process(&ctx, "send_every").map_err(fault::raise)?;
        let (period, payload) = (duration(&period, "the period")?, payload_of(lua, &shared, &payload)?);
        Ok(process.send_every(period, payload).map_err(raised)?.to_string())
    })?;

    module.function("cancel_timer", |_, ctx, timer: Value| {
        let process = process(&ctx, "cancel_timer").map_err(fault::raise)?;
        Ok(process.cancel_timer(timer_ref(&text(&timer)?).map_err(fault::raise)?))
    })
}
