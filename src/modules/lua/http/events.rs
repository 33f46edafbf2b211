//! Server-sent events for scripts.

use std::sync::Arc;

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_net::http::{Event, EventSource, HttpError, Method};
use mlua::{AnyUserData, IntoLua, Lua, Table, UserDataFields as _, UserDataRegistry, Value};
use tokio::sync::Mutex;

use super::open::{Handle, Item, Open};
use super::request::{Asked, COMMON, Sender, Terms};
use crate::modules::connect;
use crate::modules::lua::members::{Members, invalid};

/// Events that are being read.
pub(super) struct Source {
    terms: Terms,
    /// A script does one thing at a time, so no other task waits for this lock.
    source: Mutex<EventSource>,
}

impl Source {
    async fn next(&self) -> mlua::Result<Option<Event>> {
        self.source.lock().await.next().await.map_err(|error: HttpError| {
            self.terms.way.log(&error);
            Values::raise(self.terms.bound.told(error))
        })
    }
}

/// What a script has of events.
struct Events(Handle);

/// Events, on their way into a VM: what a loop takes, which closes them at its end.
struct OpenedEvents(Handle);

impl mlua::IntoLuaMulti for OpenedEvents {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<mlua::MultiValue> {
        let events = lua.create_any_userdata(Events(self.0))?;
        (events.clone(), Value::Nil, Value::Nil, events).into_lua_multi(lua)
    }
}

/// An event, on its way into a VM; or the end.
struct Next(Option<Event>, Values);

impl IntoLua for Next {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let Self(Some(event), values) = self else { return Ok(Value::Nil) };
        let table = lua.create_table_with_capacity(0, 3)?;
        table.raw_set("event", values.string(lua, event.event.as_bytes(), "an event")?)?;
        table.raw_set("data", values.string(lua, event.data.as_bytes(), "an event")?)?;
        table.raw_set("id", values.string(lua, event.id.as_bytes(), "an event")?)?;
        Ok(Value::Table(table))
    }
}

fn source(events: &AnyUserData) -> mlua::Result<Arc<Source>> {
    match events.borrow::<Events>()?.0.item("the stream of events")? {
        Item::Events(source) => Ok(source),
        _ => Err(invalid("this is not a stream of events")),
    }
}

/// Adds `http.events`.
pub(super) fn install(module: &mut ModuleBuilder<'_>, sender: &Sender) -> mlua::Result<()> {
    register(module)?;
    let sender = sender.clone();
    module.prepared_function("events", move |lua, ctx, (url, options): (mlua::LuaString, Option<Table>)| {
        const OWN: [&str; 3] = ["last_event_id", "max_event", "reconnect"];
        let known: Vec<_> = COMMON.iter().filter(|name| **name != "stream").chain(&OWN).copied().collect();
        let options = Members::new(options, "the options table of `http.events`", &known)?;
        let open = Open::of_call(lua, &sender.values)?;
        let Asked { mut request, terms, .. } = sender.asked(lua, &ctx, &Method::GET, &url, &options)?;
        // As for everything that is streamed, the `time_limit` of the client does not bound the script's own limit.
        if let Some(timeout) = options.seconds("timeout")? {
            request = request.time_limit(timeout);
        }
        // However many events there are, the script has room for one at a time.
        let most = options.count("max_body")?.unwrap_or(u64::MAX);
        let source = terms.way.events(&sender.client, request.max_response_body(most));
        let mut source = source.map_err(|error| Values::raise(connect::of_http(error)))?;
        let failures = options.count("reconnect")?.unwrap_or(0);
        source = source.max_failures(u32::try_from(failures).unwrap_or(u32::MAX));
        if let Some(max) = options.count("max_event")? {
            source =
                source.max_event(usize::try_from(max).unwrap_or(usize::MAX).min(sender.values.room(lua)?));
        }
        if let Some(id) = options.text("last_event_id")? {
            source = source.resume_after(id);
        }
        let source = Source { terms, source: Mutex::new(source) };
        Ok(async move { Ok(OpenedEvents(open.add(Item::Events(source.into())))) })
    })
}

/// Gives the VM the type of streams of events.
fn register(module: &ModuleBuilder<'_>) -> mlua::Result<()> {
    let methods = module.functions(|methods| {
        let values = methods.values();
        // A loop passes on what it got last.
        methods.prepared_function("next", move |_, _, (events, _, _): (AnyUserData, Value, Value)| {
            let (source, values) = (source(&events)?, values.clone());
            Ok(async move { Ok(Next(source.next().await?, values)) })
        })?;
        methods.prepared_function("last_event_id", |_, _, events: AnyUserData| {
            let source = source(&events)?;
            Ok(async move { Ok(source.source.lock().await.last_event_id().to_owned()) })
        })?;
        methods.function("close", |_, _, (events, _): (AnyUserData, Value)| {
            events.borrow::<Events>().map(|events| events.0.close())
        })
    })?;
    let (close, next): (Value, Value) = (methods.raw_get("close")?, methods.raw_get("next")?);
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<Events>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__call", next);
        registry.add_meta_field("__close", close);
        registry.add_meta_field("__name", "events");
    })
}
