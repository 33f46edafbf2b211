//! Responses, as scripts see them.

use std::io;

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use frame_net::Route;
use frame_net::http::{Bytes, HeaderMap, HeaderValue, HttpError, Response, Version};
use mlua::{AnyUserData, IntoLua, Lua, Table, UserDataFields as _, UserDataRegistry, Value};
use tokio::io::AsyncWriteExt as _;

use super::open::{Handle, Item, Open};
use super::request::Bound;
use crate::modules::connect::Way;
use crate::modules::lua::fs::{self, Access, Given};
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
            close(&response.raw_get("body")?);
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
    Stream(OpenedBody),
}

/// A response, on its way into a VM.
pub(super) struct LuaResponse {
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

impl IntoLua for LuaResponse {
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
fn joined(lua: &Lua, fields: &HeaderMap) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for name in fields.keys() {
        let values = fields.get_all(name);
        let joined = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        table.raw_set(name.as_str(), lua.create_string(joined)?)?;
    }
    Ok(table)
}

/// How many bytes a script is given at once, unless it wants fewer.
const PIECE: usize = 64 << 10;

/// A body that is being read.
pub(super) struct Stream {
    way: Way,
    bound: Bound,
    /// A script does one thing at a time, so no other task waits for this lock.
    inner: tokio::sync::Mutex<StreamState>,
}

struct StreamState {
    response: Response,
    /// What was received and not read.
    rest: Bytes,
}

impl Stream {
    pub(super) fn new(response: Response, way: Way, bound: Bound) -> Self {
        let inner = StreamState { response, rest: Bytes::new() };
        Self { way, bound, inner: tokio::sync::Mutex::new(inner) }
    }

    /// The next bytes, at least one and at most `most`, or nothing at the end.
    async fn read(&self, most: usize) -> mlua::Result<Option<Bytes>> {
        let mut inner = self.inner.lock().await;
        if inner.rest.is_empty() {
            match inner.response.chunk().await {
                Ok(Some(chunk)) => inner.rest = chunk,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
        }
        let most = most.min(inner.rest.len());
        Ok(Some(inner.rest.split_to(most)))
    }

    /// All bytes until the end, which must be at most `most`.
    async fn read_all(&self, most: usize) -> mlua::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.read(usize::MAX).await? {
            if piece.len() > most - bytes.len() {
                let message = format!("what is left of the body has more than {most} bytes");
                return Err(Values::raise(
                    CallError::new(ErrorKind::Exhausted, message).with_retryable(false),
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Writes all bytes until the end to `file`, and returns how many that were.
    async fn save(&self, file: &mut tokio::fs::File) -> mlua::Result<Result<u64, io::Error>> {
        let mut written = 0;
        while let Some(piece) = self.read(usize::MAX).await? {
            if let Err(error) = file.write_all(&piece).await {
                return Ok(Err(error));
            }
            written += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        // What was written last may fail only now.
        Ok(file.flush().await.map(|()| written))
    }

    async fn trailers(&self) -> Option<HeaderMap> {
        self.inner.lock().await.response.trailers().cloned()
    }

    fn failed(&self, error: HttpError) -> mlua::Error {
        self.way.log(&error);
        Values::raise(self.bound.told(error))
    }
}

/// What a script has of a body.
struct StreamHandle(Handle);

/// A body, on its way into a VM.
pub(super) struct OpenedBody(Handle);

impl OpenedBody {
    pub(super) fn new(open: &std::sync::Arc<Open>, stream: Stream) -> Self {
        Self(open.add(Item::Stream(stream.into())))
    }
}

impl IntoLua for OpenedBody {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_any_userdata(StreamHandle(self.0)).map(Value::UserData)
    }
}

/// Bytes, on their way into a VM; or the end.
struct ReceivedBody(Option<Bytes>, Values);

impl IntoLua for ReceivedBody {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let Self(bytes, values) = self;
        bytes.map_or(Ok(Value::Nil), |bytes| {
            values.string(lua, &bytes, "what was received").map(Value::String)
        })
    }
}

/// Trailers, on their way into a VM.
struct Trailers(Option<HeaderMap>);

impl IntoLua for Trailers {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        self.0.map_or(Ok(Value::Nil), |trailers| joined(lua, &trailers).map(Value::Table))
    }
}

fn stream(body: &AnyUserData) -> mlua::Result<std::sync::Arc<Stream>> {
    match body.borrow::<StreamHandle>()?.0.item("the body")? {
        Item::Stream(stream) => Ok(stream),
        _ => Err(invalid("this is not the body of a response")),
    }
}

/// Closes `value`, if it is a body of this kind.
fn close(value: &Value) {
    if let Value::UserData(body) = value
        && let Ok(body) = body.borrow::<StreamHandle>()
    {
        body.0.close();
    }
}

/// Gives the VM the type of bodies.
pub(super) fn register(module: &ModuleBuilder<'_>) -> mlua::Result<()> {
    let iterator = module.functions(|functions| {
        let values = functions.values();
        // The loop passes the last piece on, too.
        functions.prepared_function("next", move |_, _, (body, _): (AnyUserData, Value)| {
            let (stream, values) = (stream(&body)?, values.clone());
            Ok(async move { Ok(ReceivedBody(stream.read(PIECE).await?, values)) })
        })
    })?;
    let next: mlua::Function = iterator.raw_get("next")?;
    let methods = module.functions(|methods| {
        methods.function("chunks", move |_, _, body: AnyUserData| Ok((next.clone(), body)))?;
        methods.function("close", |_, _, (body, _): (AnyUserData, Value)| {
            body.borrow::<StreamHandle>().map(|body| body.0.close())
        })?;
        methods.prepared_function("trailers", |_, _, body: AnyUserData| {
            let stream = stream(&body)?;
            Ok(async move { Ok(Trailers(stream.trailers().await)) })
        })?;
        install_reading(methods)
    })?;
    let close: Value = methods.raw_get("close")?;
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<StreamHandle>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__close", close);
        registry.add_meta_field("__name", "body");
    })
}

fn install_reading(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let values = methods.values();
    methods.prepared_function("read", move |_, _, (body, most): (AnyUserData, Option<usize>)| {
        if most == Some(0) {
            return Err(invalid("at least one byte is read; give how many at most"));
        }
        let (stream, values) = (stream(&body)?, values.clone());
        let most = most.unwrap_or(PIECE).min(PIECE);
        Ok(async move { Ok(ReceivedBody(stream.read(most).await?, values)) })
    })?;
    let values = methods.values();
    methods.prepared_function("read_all", move |lua, _, (body, most): (AnyUserData, Option<usize>)| {
        let most = most.unwrap_or(usize::MAX).min(values.room(lua)?);
        let (stream, values) = (stream(&body)?, values.clone());
        Ok(async move {
            let bytes = stream.read_all(most).await?;
            Ok(ReceivedBody(Some(bytes.into()), values))
        })
    })?;
    methods.prepared_function("save", |_, ctx, (body, path): (AnyUserData, Given)| {
        let stream = stream(&body)?;
        let opening = fs::open(&ctx, path, Access::Write);
        Ok(async move {
            let mut file = opening.await.map_err(Values::raise)?;
            let saved = stream.save(&mut file.file).await?;
            saved.map_err(|error| Values::raise(file.failed(error)))
        })
    })
}
