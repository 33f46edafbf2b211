//! Responses, as scripts see them.

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_net::Route;
use frame_net::http::{Bytes, HeaderMap, HeaderValue, Version};
use mlua::{IntoLua, Lua, Table, Value};

use super::stream::{self, Opened};
use crate::modules::lua::members::invalid;

/// What responses have in common. No script can reach it.
pub(super) fn metatable(module: &ModuleBuilder<'_>) -> mlua::Result<Table> {
    let values = module.values();
    let methods = module.functions(|methods| {
        methods.function("json", move |lua, _, response: Table| {
            let Value::String(body) = response.raw_get("body")? else {
                return Err(invalid(
                    "`response:json()` needs a `body` that is a string; read a streamed one with \
                     `json.decode(response.body:read_all())`",
                ));
            };
            values.decode(lua, &body.as_bytes(), "the body of the response")
        })
    })?;
    let closing = module.functions(|functions| {
        functions.function("close", |_, _, (response, _): (Table, Value)| {
            stream::close(&response.raw_get("body")?);
            Ok(())
        })
    })?;
    let metatable = module.lua().create_table()?;
    metatable.raw_set("__index", methods)?;
    metatable.raw_set("__close", closing.raw_get::<Value>("close")?)?;
    metatable.raw_set("__metatable", "response")?;
    metatable.raw_set("__name", "response")?;
    Ok(metatable)
}

/// The body of a response.
pub(super) enum Body {
    Whole(Bytes),
    Stream(Opened),
}

/// A response, on its way into a VM.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) url: String,
    pub(super) redirects: usize,
    pub(super) route: Route,
    pub(super) headers: HeaderMap,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) body: Body,
    pub(super) values: Values,
    pub(super) metatable: Table,
}

impl IntoLua for Answer {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let response = lua.create_table_with_capacity(0, 9)?;
        let body = match self.body {
            Body::Whole(body) => Value::String(self.values.string(lua, &body, "the body of the response")?),
            Body::Stream(stream) => stream.into_lua(lua)?,
        };
        response.raw_set("body", body)?;
        if let Some(trailers) = &self.trailers {
            response.raw_set("trailers", joined(lua, trailers)?)?;
        }
        response.raw_set("status", self.status)?;
        response.raw_set("url", self.url)?;
        response.raw_set("version", version(self.version))?;
        response.raw_set("redirects", self.redirects)?;
        match &self.route {
            Route::Network(id) => response.raw_set("route", id.as_str())?,
            Route::Clearnet => response.raw_set("route", "clearnet")?,
        }
        let (headers, header_values) = (joined(lua, &self.headers)?, lua.create_table()?);
        for name in self.headers.keys() {
            let values = self.headers.get_all(name);
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

/// Fields under their names, where the values of one name are joined.
pub(super) fn joined(lua: &Lua, fields: &HeaderMap) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for name in fields.keys() {
        let values = fields.get_all(name);
        let joined = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        table.raw_set(name.as_str(), lua.create_string(joined)?)?;
    }
    Ok(table)
}
