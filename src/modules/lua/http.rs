//! HTTP for scripts.

use frame_dispatch::lua::{LuaModule, ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, Ctx, ErrorKind};
use frame_net::http::{Bytes, HeaderMap, HeaderName, HeaderValue, HttpClient, HttpError, Method, Request};
use mlua::{IntoLua, Lua, Table, Value};

use super::members::{Members, invalid, shown, utf8};
use crate::modules::connect::{self, Way};

/// A [module](LuaModule) with which scripts make HTTP requests; they find it under `http`.
///
/// Every request goes through the network of the frame of the call that makes it, and so does what it is redirected to;
/// see [`frame_net::http`]. There is no option to choose another: who calls a function says which network it has.
///
/// | | |
/// |---|---|
/// | `get(url, options)` | Makes a `GET` request, and returns the response. |
/// | `post(url, body, options)` | Makes a `POST` request; the `body` is a string, or `nil`. |
/// | `request { method, url, … }` | Makes any request: the `method` is `"GET"` unless given. |
///
/// | option | |
/// |---|---|
/// | `headers` | A table of headers: a name with a string, or with a list of them. They have at most 64 KiB together. |
/// | `body` | The body, as a string of bytes. For `request` only. |
/// | `json` | The body, as a value that is written as JSON, with its `Content-Type` if none is given. Not for `get`. |
/// | `sensitive` | A list of names of headers that go to the origin of the `url` only, and not to others that it redirects to. The usual ones do so anyway: see [`Request::header`]. |
/// | `forward_body` | Whether the body goes along where a redirect with 307 or 308 leads to another origin; it is an error otherwise. Not for `get`. |
/// | `timeout` | How many seconds the whole of it may take. |
/// | `connect_timeout` | How many seconds each connection may take. |
/// | `first_byte_timeout` | How many seconds each server may take from when there is a connection until the head of its response is there. |
/// | `max_redirects` | How many redirects are followed; with 0 a redirect is a response as any other. |
/// | `max_body` | How many bytes the body of the response may have. |
/// | `isolation` | Keeps the connections apart from those of other keys, [within](frame_net::IsolationKey::within) the key of the frame. |
///
/// The [configuration](frame_net::http::HttpConfig) of the client says how much each of these can be at most, and what it
/// is where it is left out. The body of a response is never longer than the memory that the script has left.
///
/// | of a response | |
/// |---|---|
/// | `status` | The status, a number. An error status such as 404 is a response. |
/// | `headers` | The headers, under their names in lower case. Where there are several of a name, their values with `", "` in between. |
/// | `header_values` | The same, as a list of the values of each name. |
/// | `body` | The body, as a string of bytes. |
/// | `url` | What was asked for in the end, after all redirects. |
/// | `response:json()` | The body as a value, read as JSON, where `null` is JSON's null. |
///
/// What goes wrong is raised as a failed call is, a table with `kind`, `message` and `retryable`: `invalid` for what is no
/// request, `denied` where the rules of the network or of redirects forbid it, `deadline` where it took too long,
/// `exhausted` where a limit was reached, and `unavailable` for all else. The message names the server and the route, and no
/// path, query, header or body. The causes are in the log, with the unit and the trace.
///
/// Headers are sent in the order of their names, so that the order shows nothing of the script or its VM. No header is sent that was not given, but for those that a request cannot be without. That is so for the trace context of
/// the frame, too: `traceparent` would let servers tell that connections belong together which an anonymity network keeps
/// apart. A script that wants to can send it, from `frame.get("trace")`.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_net::http::{HttpClient, HttpConfig};
/// use frame_runtime::modules::lua::HttpModule;
///
/// let client = HttpClient::new(HttpConfig::default())?;
/// let engine = LuaEngine::builder().module(HttpModule::new(client)).build()?;
/// let source = r#"
///     local response = http.request {
///         method = "PUT",
///         url = "https://shop.example/orders/7",
///         headers = { accept = "application/json" },
///         json = { items = array {} },
///         timeout = 5,
///     }
///     if response.status ~= 200 then error("the shop says " .. response.status) end
///     return response:json()
/// "#;
/// engine.function("order.lua", source, LuaConfig::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HttpModule {
    client: HttpClient,
}

impl HttpModule {
    /// For requests of this client.
    #[must_use]
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

/// What `post` is given.
type Post = (mlua::LuaString, Option<mlua::LuaString>, Option<Table>);

/// The options that every request has.
const COMMON: [&str; 8] = [
    "connect_timeout",
    "first_byte_timeout",
    "headers",
    "isolation",
    "max_body",
    "max_redirects",
    "sensitive",
    "timeout",
];

impl LuaModule for HttpModule {
    fn name(&self) -> &'static str {
        "http"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let metatable = response_metatable(module)?;
        let sender = Sender { client: self.client.clone(), values: module.values(), metatable };

        let this = sender.clone();
        module.prepared_function(
            "get",
            move |lua, ctx, (url, options): (mlua::LuaString, Option<Table>)| {
                let options = Members::new(options, "the options of `http.get`", &COMMON)?;
                let asked = this.asked(lua, &ctx, &Method::GET, &url, &options)?;
                Ok(this.clone().send(asked))
            },
        )?;

        let this = sender.clone();
        module.prepared_function("post", move |lua, ctx, (url, body, options): Post| {
            let known = [&COMMON[..], &["forward_body", "json"]].concat();
            let options = Members::new(options, "the options of `http.post`", &known)?;
            let mut asked = this.asked(lua, &ctx, &Method::POST, &url, &options)?;
            asked.request = this.with_body(lua, asked.request, body, &options)?;
            Ok(this.clone().send(asked))
        })?;

        module.prepared_function("request", move |lua, ctx, request: Table| {
            let known = [&COMMON[..], &["body", "forward_body", "json", "method", "url"]].concat();
            let members = Members::new(Some(request), "a request", &known)?;
            let url =
                members.string("url")?.ok_or_else(|| invalid("a request has a `url`; it is missing"))?;
            let method = match members.string("method")? {
                None => Method::GET,
                Some(method) => Method::from_bytes(&method.as_bytes()).map_err(|_| {
                    invalid(format!("there is no method `{}`", shown(&method.to_string_lossy())))
                })?,
            };
            let mut asked = sender.asked(lua, &ctx, &method, &url, &members)?;
            asked.request = sender.with_body(lua, asked.request, members.string("body")?, &members)?;
            Ok(sender.clone().send(asked))
        })
    }
}

/// What responses have in common. No script can reach it.
fn response_metatable(module: &ModuleBuilder<'_>) -> mlua::Result<Table> {
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

/// Makes the requests of one VM.
#[derive(Clone)]
struct Sender {
    client: HttpClient,
    values: Values,
    metatable: Table,
}

/// A request that was read.
struct Asked {
    request: Request,
    way: Way,
    bound: Bound,
}

/// What limits the body of the response.
#[derive(Clone, Copy)]
enum Bound {
    /// How many bytes the script has memory left for.
    Memory(u64),
    /// The option `max_body`.
    Option(u64),
    /// The configuration of the client.
    Setting,
}

impl Sender {
    fn asked(
        &self,
        lua: &Lua,
        ctx: &Ctx,
        method: &Method,
        url: &mlua::LuaString,
        options: &Members,
    ) -> mlua::Result<Asked> {
        let config = self.client.config();
        let failed = |error| Values::raise(connect::of_http(error));
        let mut request = Request::new(method.clone(), &utf8(url, "the URL")?).map_err(failed)?;
        if let Some(headers) = options.table("headers")? {
            request = with_headers(request, &headers, &sensitive(options)?)?;
        }
        // A script narrows what the client may do, and never widens it.
        if let Some(timeout) = options.seconds("timeout")? {
            request = request.time_limit(timeout.min(config.time_limit));
        }
        if let Some(timeout) = options.seconds("connect_timeout")? {
            request = request.connect_limit(timeout.min(config.connect_limit));
        }
        if let Some(timeout) = options.seconds("first_byte_timeout")? {
            request = request.answer_limit(config.answer_limit.map_or(timeout, |limit| timeout.min(limit)));
        }
        if let Some(max) = options.count("max_redirects")? {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            request = request.max_redirects(max.min(config.max_redirects));
        }
        let own_max_body = options.count("max_body")?.filter(|max| *max < config.max_response_body);
        let max_body = own_max_body.unwrap_or(config.max_response_body);
        let room = u64::try_from(self.values.room(lua)?).unwrap_or(u64::MAX);
        request = request.max_response_body(max_body.min(room));
        let isolation = options.text("isolation")?;
        let way = Way::of(ctx, isolation.as_deref()).map_err(Values::raise)?;
        let bound = match own_max_body {
            _ if room < max_body => Bound::Memory(room),
            Some(max) => Bound::Option(max),
            None => Bound::Setting,
        };
        Ok(Asked { request, way, bound })
    }

    fn with_body(
        &self,
        lua: &Lua,
        request: Request,
        body: Option<mlua::LuaString>,
        options: &Members,
    ) -> mlua::Result<Request> {
        let request = request.forward_body(options.boolean("forward_body")?.unwrap_or(false));
        let json = options.value("json")?;
        match (body, json.is_nil()) {
            (Some(_), false) => Err(invalid("a request has a `body`, or the same as `json`, and not both")),
            (Some(body), true) => Ok(request.body(Bytes::copy_from_slice(&body.as_bytes()))),
            (None, false) => {
                let text = self.values.encode(lua, &json, "`json`")?;
                request.json_text(text).map_err(|error| Values::raise(connect::of_http(error)))
            }
            (None, true) => Ok(request),
        }
    }

    async fn send(self, asked: Asked) -> mlua::Result<Answer> {
        let Asked { request, way, bound } = asked;
        let told = |error| Values::raise(told(error, bound));
        let response = way.send(&self.client, request).await.map_err(told)?;
        let (status, url) = (response.status().as_u16(), response.url().to_string());
        let headers = response.headers().clone();
        let body = response.bytes().await.inspect_err(|error| way.log(error)).map_err(told)?;
        Ok(Answer { status, url, headers, body, values: self.values, metatable: self.metatable })
    }
}

/// An error, where the body that was too long may have been so for want of memory, or for the script's own limit.
fn told(error: HttpError, bound: Bound) -> CallError {
    let HttpError::BodyTooLarge { peer, limit } = &error else { return connect::of_http(error) };
    let message = match bound {
        Bound::Memory(room) if *limit == room => format!(
            "the body of the response from {peer} has more than {limit} bytes, which is what the script has memory left for"
        ),
        Bound::Option(max) if *limit == max => {
            format!(
                "the body of the response from {peer} has more than {limit} bytes, the limit of `max_body`"
            )
        }
        _ => return connect::of_http(error),
    };
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false).with_source(error)
}

/// The names of the option `sensitive`, in lower case.
fn sensitive(options: &Members) -> mlua::Result<Vec<Vec<u8>>> {
    let Some(names) = options.table("sensitive")? else { return Ok(Vec::new()) };
    let names = names.sequence_values::<Value>().map(|name| match name? {
        Value::String(name) => Ok(name.as_bytes().to_ascii_lowercase()),
        other => {
            let kind = Values::type_of(&other);
            Err(invalid(format!("`sensitive` is a list of names of headers; there is {kind}")))
        }
    });
    names.collect()
}

/// How many bytes the headers of a request have at most, names and values. They are memory of the host.
const LARGEST_HEADERS: usize = 64 << 10;

fn with_headers(request: Request, headers: &Table, sensitive: &[Vec<u8>]) -> mlua::Result<Request> {
    let mut pairs = Vec::new();
    for pair in headers.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let Value::String(name) = name else {
            let example = "headers = { accept = \"text/html\" }";
            return Err(invalid(format!("a header has a string for its name, as in `{example}`")));
        };
        pairs.push((name, value));
    }
    // The order of a table is another in each VM: servers would recognize one.
    pairs.sort_by_cached_key(|(name, _)| {
        let name = name.as_bytes();
        (name.to_ascii_lowercase(), name.to_vec())
    });
    let mut headers_read = Headers { request, bytes: 0, sensitive };
    for (name, value) in &pairs {
        match value {
            Value::Table(values) => {
                for value in values.sequence_values::<Value>() {
                    headers_read = headers_read.with(name, &value?)?;
                }
            }
            value => headers_read = headers_read.with(name, value)?,
        }
    }
    Ok(headers_read.request)
}

/// A request whose headers are being read.
struct Headers<'a> {
    request: Request,
    sensitive: &'a [Vec<u8>],
    /// How many bytes the headers have so far.
    bytes: usize,
}

impl Headers<'_> {
    fn with(self, name: &mlua::LuaString, value: &Value) -> mlua::Result<Self> {
        // Before anything is copied.
        let bytes = self.bytes.saturating_add(name.as_bytes().len());
        let bytes = bytes.saturating_add(value.as_string().map_or(0, |value| value.as_bytes().len()));
        if bytes > LARGEST_HEADERS {
            return Err(invalid(format!("the headers of a request have at most {LARGEST_HEADERS} bytes")));
        }
        let shown = shown(&name.to_string_lossy());
        let name = HeaderName::from_bytes(&name.as_bytes())
            .map_err(|_| invalid(format!("no header can be called `{shown}`")))?;
        let Value::String(value) = value else {
            let kind = Values::type_of(value);
            return Err(invalid(format!(
                "the header `{shown}` is a string, or a list of strings; there is {kind}"
            )));
        };
        let mut value = HeaderValue::from_bytes(&value.as_bytes())
            .map_err(|_| invalid(format!("the value of the header `{shown}` is not a valid header value")))?;
        value.set_sensitive(self.sensitive.iter().any(|sensitive| sensitive == name.as_str().as_bytes()));
        let request = self.request.header(name, value);
        let request = request.map_err(|error| Values::raise(connect::of_http(error)))?;
        Ok(Self { request, bytes, ..self })
    }
}

/// A response, on its way into a VM.
struct Answer {
    status: u16,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    values: Values,
    metatable: Table,
}

impl IntoLua for Answer {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let response = lua.create_table_with_capacity(0, 5)?;
        response.raw_set("body", self.values.string(lua, &self.body, "the body of the response")?)?;
        response.raw_set("status", self.status)?;
        response.raw_set("url", self.url)?;
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
