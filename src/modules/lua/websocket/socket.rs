//! What a script does with a connection.

use std::time::Duration;

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::http::websocket::{
    CloseFrame, Message, WebSocket, WebSocketError, WebSocketReceiver, WebSocketSender,
};
use mlua::{AnyUserData, IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::raise;
use crate::modules::lua::held::{Handle, opened};
use crate::modules::lua::members::{Members, utf8};
use crate::modules::refusal;

/// A connection of a script.
pub(super) struct Socket {
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
pub(super) fn install(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
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
