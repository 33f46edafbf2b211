//! Responses, as scripts see them.

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_net::Route;
use frame_net::http::{Bytes, HeaderMap, HeaderValue, Version};
use mlua::{IntoLua, Lua, Table, Value};

use crate::modules::lua::members::invalid;

/// What responses have in common. No script can reach it.
pub(super) fn metatable(module: &ModuleBuilder<'_>) -> mlua::Result<Table> {
    let values = module.values();
    let methods = module.functions(|methods| {
        methods.function("json", move |lua, _, response: Table| {
            let Value::String(body) = response.raw_get("body")? else {
                return Err(invalid("a response has a `body`, which is a string: write `response:json()`"));
            };
            values.decode(lua, &body.as_bytes(), "the body of the response")
        })
    })?;
    let metatable = module.lua().create_table()?;
    metatable.raw_set("__index", methods)?;
    metatable.raw_set("__metatable", "response")?;
    metatable.raw_set("__name", "response")?;
    Ok(metatable)
}

/// A response, on its way into a VM.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) url: String,
    pub(super) redirects: usize,
    pub(super) route: Route,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) values: Values,
    pub(super) metatable: Table,
}

impl IntoLua for Answer {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let response = lua.create_table_with_capacity(0, 8)?;
        response.raw_set("body", self.values.string(lua, &self.body, "the body of the response")?)?;
        response.raw_set("status", self.status)?;
        response.raw_set("url", self.url)?;
        response.raw_set("version", version(self.version))?;
        response.raw_set("redirects", self.redirects)?;
        match &self.route {
            Route::Network(id) => response.raw_set("route", id.as_str())?,
            Route::Clearnet => response.raw_set("route", "clearnet")?,
        }
        let (headers, header_values) = (lua.create_table()?, lua.create_table()?);
        for name in self.headers.keys() {
            let values = self.headers.get_all(name);
            let joined = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
            headers.raw_set(name.as_str(), lua.create_string(joined)?)?;
            let values = values.iter().map(|value| lua.create_string(value.as_bytes()));
            let values = values.collect::<mlua::Result<Vec<_>>>()?;
            header_values.raw_set(name.as_str(), lua.create_sequence_from(values)?)?;
        }
        response.raw_set("headers", headers)?;
        response.raw_set("header_values", header_values)?;
        response.set_metatable(Some(self.metatable))?;
        Ok(Value::Table(response))
    }
}

/// A version, as RFC 9110 calls it.
fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
