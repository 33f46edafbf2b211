//! WebSockets for scripts.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::lua::{LuaModule, ModuleBuilder, Values, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::http::HttpClient;
use frame_net::http::websocket::{
    CloseFrame, Message, WebSocket, WebSocketError, WebSocketReceiver, WebSocketRequest, WebSocketSender,
};
use mlua::{AnyUserData, IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::headers;
use super::held::{self, Handle, Held, Opened, opened};
use super::members::{self, Members, invalid, utf8};
use crate::modules::connect::{self, Way};
use crate::modules::refusal;

/// A [module](LuaModule) with which scripts talk to WebSockets; they find it under `websocket`.
///
/// Every connection goes through the network of the frame of the call that asks for it; see
/// [`frame_net::http::websocket`]. There is no option to choose another: who calls a function says which network it has.
///
/// | | |
/// |---|---|
/// | `connect(url, options)` | Connects, and returns the connection. The scheme of the `url` is `ws` or, with TLS, `wss`. |
///
/// | option | |
/// |---|---|
/// | `headers` | A table of headers of the handshake: a name with a string, or with a list of them. They have at most 64 KiB together. |
/// | `secret` | The id of a [secret](frame_net::secrets) that the handshake carries, with `wss` only. |
/// | `protocols` | A list of the subprotocols that are offered. |
/// | `timeout` | How many seconds the connection and the handshake may take together. |
/// | `connect_timeout` | How many seconds the connection may take. |
/// | `first_byte_timeout` | How many seconds the server may take from when there is a connection until its response is there. |
/// | `max_message` | How many bytes a message may have, received or sent. |
/// | `ping_interval` | How many seconds there are between pings, at least 1. There are none unless given, or set in the configuration. |
/// | `pong_timeout` | How many seconds the server may take after a ping until anything is received. |
/// | `isolation` | Keeps the connection apart from those of other keys, [within](frame_net::IsolationKey::within) the key of the frame. |
///
/// The [configuration](frame_net::http::HttpConfig) of the client says how much the timeouts of the handshake and
/// `max_message` can be at most, and what each option is where it is left out. No message is larger than the memory that
/// the script had left when it connected.
///
/// | of a connection | |
/// |---|---|
/// | `send(data, options)` | Sends a message of text, which has to be UTF-8, or with `binary = true` one of bytes. It returns when the network has taken all of it, or fails after `timeout` seconds, if given; the message may be sent nevertheless. |
/// | `receive(options)` | The next message, and `"text"` or `"binary"`. Once the server has closed the connection: `nil`, and the code and the reason that it gave. With `timeout` it fails after so many seconds, and no message is lost. |
/// | `protocol()` | The subprotocol that the server selected, or `nil`. |
/// | `close(code, reason)` | Closes it, with 1000 unless given, and waits until the server confirms that. It returns the code and the reason that the server gave. |
///
/// Pings are answered whether or not the script receives, until about 64 KiB of messages wait. Then no more is read, and the
/// server has to wait; it may take that for the end.
///
/// Connections are closed when the call or process ends that made them, at the latest, and before that where a script has
/// them in a variable that is `<close>`. The server is not waited for then. A call, or a process, has
/// [some](Self::with_connections) at a time. They count towards the [limits](frame_net::LimitsConfig) of the app as all
/// connections do.
///
/// What goes wrong is raised as a failed call is, a table with `kind`, `message` and `retryable`: `invalid` for what cannot
/// be asked for or sent, `denied` where the rules of the network forbid it, `deadline` where it took too long, `exhausted`
/// where a limit was reached, and `unavailable` for all else, a server that refuses or breaks the protocol included. The
/// message names the server and the route, and no path, query, header or message. The causes are in the log.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_net::http::{HttpClient, HttpConfig};
/// use frame_runtime::modules::lua::{JsonModule, WebSocketModule};
///
/// let client = HttpClient::new(HttpConfig::default())?;
/// let module = WebSocketModule::new(client);
/// let engine = LuaEngine::builder().module(module).module(JsonModule::new()).build()?;
/// let source = r#"
///     local feed <close> = websocket.connect("wss://feed.example/prices", { timeout = 10, ping_interval = 30 })
///     feed:send(json.encode { subscribe = ... })
///     local message, kind = feed:receive { timeout = 60 }
///     if not message then error("the feed was closed: " .. tostring(kind)) end
///     return json.decode(message)
/// "#;
/// engine.function("price.lua", source, LuaConfig::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct WebSocketModule {
    client: HttpClient,
    connections: usize,
}

impl WebSocketModule {
    /// For connections of this client. A call has up to 16 at a time.
    #[must_use]
    pub fn new(client: HttpClient) -> Self {
        Self { client, connections: 16 }
    }

    /// The same, where a call has up to so many connections at a time. Each holds up to about three messages that were
    /// received, and one that is sent, in memory of the host.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// The request of a script, which narrows what the client may do, and never widens it.
    fn request(
        &self,
        url: &mlua::LuaString,
        options: &Members,
        room: usize,
    ) -> mlua::Result<WebSocketRequest> {
        let config = self.client.config();
        let mut request = WebSocketRequest::new(&utf8(url, "the URL")?).map_err(raise)?;
        if let Some(table) = options.table("headers")? {
            for (name, value) in headers::read(&table, &headers::Names::new())? {
                request = request.header(name, value).map_err(raise)?;
            }
        }
        if let Some(id) = members::secret(options)? {
            request = request.secret(id);
        }
        for name in options.table("protocols")?.iter().flat_map(Table::sequence_values::<Value>) {
            let Value::String(name) = name? else {
                return Err(invalid("`protocols` is a list of strings"));
            };
            request = request.subprotocol(&utf8(&name, "a subprotocol")?).map_err(raise)?;
        }
        if let Some(timeout) = options.seconds("timeout")? {
            request = request.time_limit(timeout.min(config.time_limit));
        }
        if let Some(timeout) = options.seconds("connect_timeout")? {
            request = request.connect_limit(timeout.min(config.connect_limit));
        }
        if let Some(timeout) = options.seconds("first_byte_timeout")? {
            request = request.answer_limit(config.answer_limit.map_or(timeout, |limit| timeout.min(limit)));
        }
        if let Some(interval) = options.seconds("ping_interval")? {
            const SHORTEST: Duration = Duration::from_secs(1);
            if interval < SHORTEST {
                return Err(invalid("`ping_interval` is at least 1 second"));
            }
            request = request.ping_interval(interval);
        }
        if let Some(limit) = options.seconds("pong_timeout")? {
            request = request.pong_limit(limit);
        }
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let most = config.websocket.max_message.min(room);
        Ok(request.max_message(options.count("max_message")?.map_or(most, |max| max.min(most))))
    }
}

/// What `connect` knows.
const OPTIONS: [&str; 10] = [
    "connect_timeout",
    "first_byte_timeout",
    "headers",
    "isolation",
    "max_message",
    "ping_interval",
    "pong_timeout",
    "protocols",
    "secret",
    "timeout",
];

fn raise(error: WebSocketError) -> mlua::Error {
    Values::raise(connect::of_websocket(error))
}

impl LuaModule for WebSocketModule {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        held::register::<Socket>(module, "websocket", install_methods)?;
        let (this, values) = (self.clone(), module.values());
        module.prepared_function(
            "connect",
            move |lua, ctx, (url, options): (mlua::LuaString, Option<Table>)| {
                let options = Members::new(options, "the options table of `websocket.connect`", &OPTIONS)?;
                let request = this.request(&url, &options, values.room(lua)?)?;
                let isolation = options.text("isolation")?;
                let way = Way::of(&ctx, isolation.as_deref()).map_err(Values::raise)?;
                let held: Arc<Held<Socket>> = values.of_call()?;
                held.check_room(lua, this.connections, "WebSockets")?;
                let client = this.client.clone();
                Ok(async move {
                    let socket = way.websocket(&client, request).await.map_err(raise)?;
                    Ok(Opened(Handle::new(&held, Socket::new(socket))))
                })
            },
        )
    }
}

/// A connection of a script.
struct Socket {
    /// Where it leads and through what, for errors.
    name: String,
    protocol: Option<String>,
    sender: WebSocketSender,
    /// A script does one thing at a time, so no other task waits for this lock.
    receiver: tokio::sync::Mutex<WebSocketReceiver>,
}

impl Socket {
    pub(super) fn new(socket: WebSocket) -> Self {
        let (name, protocol) = (socket.peer().to_string(), socket.subprotocol().map(str::to_owned));
        let (sender, receiver) = socket.split();
        Self { name, protocol, sender, receiver: tokio::sync::Mutex::new(receiver) }
    }

    async fn receive(&self) -> Result<Received, WebSocketError> {
        let mut receiver = self.receiver.lock().await;
        Ok(match receiver.receive().await? {
            Some(message) => Received::Message(message),
            None => Received::Closed(receiver.close_frame().cloned()),
        })
    }
}

/// What was received.
enum Received {
    Message(Message),
    Closed(Option<CloseFrame>),
}

/// What was received, on its way into a VM.
struct Returned(Received, Values);

impl IntoLuaMulti for Returned {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        let Self(received, values) = self;
        match received {
            Received::Message(message) => {
                let (bytes, kind) = match &message {
                    Message::Text(text) => (text.as_bytes(), "text"),
                    Message::Binary(bytes) => (&bytes[..], "binary"),
                };
                (values.string(lua, bytes, "the message")?, kind).into_lua_multi(lua)
            }
            Received::Closed(frame) => {
                let (code, reason) = said(frame);
                (Value::Nil, code, reason).into_lua_multi(lua)
            }
        }
    }
}

/// What a script gets of a close frame.
fn said(frame: Option<CloseFrame>) -> (Option<u16>, Option<String>) {
    frame.map(|frame| (frame.code(), frame.reason().to_owned())).unzip()
}

/// Adds the methods of connections.
fn install_methods(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    methods.prepared_function(
        "send",
        |_, ctx, (handle, data, options): (AnyUserData, mlua::LuaString, Option<Table>)| {
            let options = Members::new(options, "the options table of `send`", &["binary", "timeout"])?;
            let message = if options.boolean("binary")?.unwrap_or(false) {
                Message::from(data.as_bytes().to_vec())
            } else {
                Message::from(utf8(&data, "a message without `binary = true`")?)
            };
            let (socket, timeout) = (opened::<Socket>(&handle)?, options.seconds("timeout")?);
            Ok(async move {
                let sent = within(timeout, socket.sender.send(message)).await;
                let late = |limit| {
                    let message = format!(
                        "the message was not sent to {} within {limit:?}; it may be sent later",
                        socket.name
                    );
                    Values::raise(CallError::new(ErrorKind::Deadline, message).with_retryable(false))
                };
                sent.map_err(late)?.map_err(|error| failed(&ctx, error))
            })
        },
    )?;

    let values = methods.values();
    methods.prepared_function(
        "receive",
        move |_, ctx, (handle, options): (AnyUserData, Option<Table>)| {
            let options = Members::new(options, "the options table of `receive`", &["timeout"])?;
            let (socket, timeout) = (opened::<Socket>(&handle)?, options.seconds("timeout")?);
            let values = values.clone();
            Ok(async move {
                let received = within(timeout, socket.receive()).await;
                let late = |limit| {
                    let message = format!("nothing was received from {} within {limit:?}", socket.name);
                    Values::raise(CallError::new(ErrorKind::Deadline, message).with_retryable(true))
                };
                let received = received.map_err(late)?.map_err(|error| failed(&ctx, error))?;
                Ok(Returned(received, values))
            })
        },
    )?;

    methods
        .function("protocol", |_, _, handle: AnyUserData| Ok(opened::<Socket>(&handle)?.protocol.clone()))?;

    methods.prepared_function(
        "close",
        |_, ctx, (handle, code, reason): (AnyUserData, Option<u16>, Option<mlua::LuaString>)| {
            let reason = reason.map_or(Ok(String::new()), |reason| utf8(&reason, "the reason"))?;
            let frame = CloseFrame::new(code.unwrap_or(1000), reason).map_err(raise)?;
            // If this is given up, it is closed as if it were dropped.
            let socket = handle.borrow::<Handle<Socket>>()?.take();
            Ok(async move {
                let Some(socket) = socket else { return Ok((None, None)) };
                let closed = socket.sender.close(frame).await;
                closed.map(said).map_err(|error| failed(&ctx, error))
            })
        },
    )
}

/// Waits for `done`, unless that takes longer than the timeout, which is given back then.
async fn within<T>(timeout: Option<Duration>, done: impl Future<Output = T>) -> Result<T, Duration> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, done).await.map_err(|_| timeout),
        None => Ok(done.await),
    }
}

/// Why something failed, for the log and for the script.
fn failed(call: &CallContext, error: WebSocketError) -> mlua::Error {
    refusal::log(call, &error);
    raise(error)
}
