//! HTTP for scripts.

mod all;
mod events;
mod open;
mod pairs;
mod parts;
mod request;
mod response;
mod upload;

use frame_dispatch::lua::{LuaModule, ModuleBuilder, mlua};
use frame_net::http::{HttpClient, Method};
use mlua::Table;

use self::request::{BODY, COMMON, Sender};
use super::members::Members;

/// A [module](LuaModule) with which scripts make HTTP requests; they find it under `http`.
///
/// Every request goes through the network of the frame of the call that makes it, and so does what it is redirected to;
/// see [`frame_net::http`]. There is no option to choose another: who calls a function says which network it has.
///
/// | | |
/// |---|---|
/// | `get(url, options)`, `head(url, options)`, `delete(url, options)` | Makes a request of this method, and returns the response. |
/// | `post(url, body, options)`, `put(…)`, `patch(…)` | The same, with a body: a string, or `nil`. |
/// | `request { method, url, … }` | Makes any request: the `method` is `"GET"` unless given. |
/// | `upload { url, method, length, … }` | Begins a request, a `POST` unless `method` is given, whose body is written piece by piece. Returns an object with `write(data)`, `finish()`, which returns the response, and `close()`. `write` returns `false` if the server has answered and takes no more. The `length` in bytes is optional. |
/// | `events(url, options)` | Server-sent events, for a loop: tables with `event`, `data` and `id`. The object has the methods `next()`, `last_event_id()` and `close()`. |
/// | `all(list, options)` | Makes up to 256 requests, each a URL or a table as for `request`, 8 at a time or as many as the option `concurrency` says, at most 16. Returns a list in the same order: each entry is a response, or has an `error`. |
///
/// | option | |
/// |---|---|
/// | `query` | Is appended to the query of the `url`, percent-encoded: a table of names, or a list of pairs. |
/// | `headers` | A table of headers: a name with a string, or with a list of them. They have at most 64 KiB together. |
/// | `basic` | `{ username, password }`, which are sent as `Authorization: Basic`. |
/// | `bearer` | A token, which is sent as `Authorization: Bearer`. |
/// | `secret` | The id of a [secret](frame_net::secrets) that the request carries: one that the option `secrets` of the frame grants. The script never sees it. |
/// | `sensitive` | A list of names of headers that go to the origin of the `url` only, and not to others that it redirects to. The usual ones do so anyway: see [`Request::header`](frame_net::http::Request::header). |
/// | `decode` | Whether `gzip`, `br` and `zstd` are asked for and decoded; they are unless this is `false` or the request has an `Accept-Encoding` or a `Range`. |
/// | `stream` | Whether the body of the response is read piece by piece. Not for `upload`, `events` and `all`. |
/// | `stall_timeout` | How many seconds a body that is streamed may stand still, in either direction. |
/// | `timeout` | How many seconds the whole of it may take. For what is streamed there is no such limit unless given. |
/// | `connect_timeout` | How many seconds each connection may take. |
/// | `first_byte_timeout` | How many seconds each server may take from when there is a connection until the head of its response is there. |
/// | `max_redirects` | How many redirects are followed; with 0 a redirect is a response as any other. |
/// | `max_body` | How many bytes the body of the response may have. |
/// | `isolation` | Keeps the connections apart from those of other keys, [within](frame_net::IsolationKey::within) the key of the frame. |
///
/// | option of requests with a body | |
/// |---|---|
/// | `body` | The body, as a string of bytes. For `request` and `delete`; the others take it as an argument. |
/// | `file` | The body, as a file below the frame's `fs_root`, which is read while it is sent. |
/// | `json` | The body, as a value that is written as JSON, with its `Content-Type` if none is given. |
/// | `form` | The body, as an HTML form sends it, with its `Content-Type` if none is given: a table of names, or a list of pairs. |
/// | `multipart` | The body, as an HTML form with files sends it: a table of names, or a list of parts. |
/// | `forward_body` | Whether the body goes along where a redirect with 307 or 308 leads to another origin; it is an error otherwise. |
///
/// | option of `events` | |
/// |---|---|
/// | `reconnect` | How many connections in a row may bring no event, before it ends; 0 unless given, which is one connection in all. |
/// | `last_event_id` | The id after which the events begin. |
/// | `max_event` | How many bytes an event may have; 1 MiB unless given. |
///
/// A name in `query` and `form` has a string, a number or a boolean, or a list of these. The names are sent in their order
/// as bytes, since that of a table is another in each VM. A list of pairs, `{ { "name", "value" }, … }`, keeps its order.
///
/// A part has a `name` and a `body`, and may have a `file_name` and a `content_type`. In place of the `body` it may have a
/// `file` below the frame's `fs_root`, which is read while it is sent. In a table of names, each has text, or a part without
/// `name`, or a list of these. Names are sent in UTF-8, as browsers send them. The client sets the `Content-Type`
/// of the request.
///
/// The [configuration](frame_net::http::HttpConfig) of the client says how much each of these can be at most, and what it
/// is where it is left out. The body of a response is never longer than the memory that the script has left.
///
/// | of a response | |
/// |---|---|
/// | `status` | The status, a number. An error status such as 404 is a response. |
/// | `headers` | The headers, under their names in lower case. Where there are several of a name, their values with `", "` in between. |
/// | `header_values` | The same, as a list of the values of each name. |
/// | `body` | The body, as a string of bytes, or an object if the request has `stream = true`. |
/// | `trailers` | The trailers, as `headers`, if there were any and the body is a string. |
/// | `url` | What was asked for in the end, after all redirects. |
/// | `redirects` | How many redirects were followed. |
/// | `version` | The version of the protocol that was spoken: `"HTTP/1.1"` or `"HTTP/2"`, or `"HTTP/1.0"` of an old server. |
/// | `route` | The id of the network that it came through, or `"clearnet"`. |
/// | `response:json()` | The body as a value, read as JSON, where `null` is JSON's null. |
///
/// | of a body that is streamed | |
/// |---|---|
/// | `chunks()` | For a loop: the pieces as they arrive, each at most 64 KiB. |
/// | `read(n)` | The next bytes, at least one and at most `n`, or 64 KiB, or `nil` at the end. |
/// | `read_all(max)` | The rest, at most `max` bytes, or as many as the script has memory left for. |
/// | `save(path)` | Writes the rest to a file below the frame's `fs_root`, and returns how many bytes that were. |
/// | `trailers()` | The trailers, once the body was read to its end. |
/// | `close()` | Closes it. |
///
/// A call has up to 16 bodies, uploads and streams of events open at a time. Each is closed when the call ends, or no variable
/// has it any more, or where a response, an upload or the events are `<close>`. Until then it has a connection of its own,
/// which counts for its unit.
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

/// What a function is given that has a body.
type WithBody = (mlua::LuaString, Option<mlua::LuaString>, Option<Table>);

/// Functions that take a URL and options.
const WITHOUT_BODY: [(&str, Method, &str); 3] = [
    ("delete", Method::DELETE, "the options table of `http.delete`"),
    ("get", Method::GET, "the options table of `http.get`"),
    ("head", Method::HEAD, "the options table of `http.head`"),
];

/// Functions that take a URL, a body and options.
const WITH_BODY: [(&str, Method, &str); 3] = [
    ("patch", Method::PATCH, "the options table of `http.patch`"),
    ("post", Method::POST, "the options table of `http.post`"),
    ("put", Method::PUT, "the options table of `http.put`"),
];

impl LuaModule for HttpModule {
    fn name(&self) -> &'static str {
        "http"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let metatable = response::metatable(module)?;
        let sender = Sender { client: self.client.clone(), values: module.values(), metatable };

        for (name, method, what) in WITHOUT_BODY {
            let this = sender.clone();
            let known =
                if method == Method::DELETE { [&COMMON[..], &BODY].concat() } else { COMMON.to_vec() };
            module.prepared_function(
                name,
                move |lua, ctx, (url, options): (mlua::LuaString, Option<Table>)| {
                    let options = Members::new(options, what, &known)?;
                    let asked = this.asked(lua, &ctx, &method, &url, &options)?;
                    let asked = this.with_body(lua, &ctx, asked, options.string("body")?, &options)?;
                    Ok(this.clone().send(asked))
                },
            )?;
        }

        for (name, method, what) in WITH_BODY {
            let this = sender.clone();
            // The body is an argument.
            let known = [&COMMON[..], &BODY[1..]].concat();
            module.prepared_function(name, move |lua, ctx, (url, body, options): WithBody| {
                let options = Members::new(options, what, &known)?;
                let asked = this.asked(lua, &ctx, &method, &url, &options)?;
                let asked = this.with_body(lua, &ctx, asked, body, &options)?;
                Ok(this.clone().send(asked))
            })?;
        }

        let this = sender.clone();
        module.prepared_function("request", move |lua, ctx, request: Table| {
            Ok(this.clone().send(this.whole(lua, &ctx, request)?))
        })?;

        response::register(module)?;
        upload::install(module, &sender)?;
        events::install(module, &sender)?;
        all::install(module, sender)
    }
}
