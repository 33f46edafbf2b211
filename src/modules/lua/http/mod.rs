//! HTTP for scripts.

mod request;
mod response;

use frame_dispatch::lua::{LuaModule, ModuleBuilder, mlua};
use frame_net::http::{HttpClient, Method};
use mlua::Table;

use self::request::{COMMON, Sender};
use super::members::{Members, invalid, shown};

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

impl LuaModule for HttpModule {
    fn name(&self) -> &'static str {
        "http"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let metatable = response::metatable(module)?;
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
