//! The connections of a call.

use std::io;

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use frame_net::BoxStream;
use mlua::{AnyUserData, IntoLua, Lua, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::modules::lua::held::{Handle, opened};
use crate::modules::lua::members::invalid;

/// How long a line is at most, where a script does not say.
const LONGEST_LINE: usize = 64 << 10;
/// How many bytes are read at once at most.
const MOST_AT_ONCE: usize = 64 << 10;

/// A connection of a script.
pub(super) struct Connection {
    /// Where it leads and through what, for errors.
    name: String,
    /// A script does one thing at a time, so that nobody waits for this.
    stream: tokio::sync::Mutex<BufReader<BoxStream>>,
}

impl Connection {
    pub(super) fn new(name: String, stream: BoxStream) -> Self {
        Self { name, stream: tokio::sync::Mutex::new(BufReader::new(stream)) }
    }
}

/// Bytes, on their way into a VM; or the end.
struct Received(Option<Vec<u8>>, Values);

impl IntoLua for Received {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let Self(bytes, values) = self;
        bytes.map_or(Ok(Value::Nil), |bytes| {
            values.string(lua, &bytes, "what was received").map(Value::String)
        })
    }
}

/// Adds the methods of connections.
pub(super) fn install(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    install_reading(methods)?;
    install_writing(methods)?;
    methods.function("close", |_, _, handle: AnyUserData| {
        handle.borrow::<Handle<Connection>>().map(|handle| drop(handle.take()))
    })
}

fn install_reading(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let values = methods.values();
    methods.prepared_function("read", move |_, _, (handle, most): (AnyUserData, usize)| {
        if most == 0 {
            return Err(invalid("at least one byte is read; give how many at most"));
        }
        let (connection, values) = (opened::<Connection>(&handle)?, values.clone());
        Ok(async move {
            let mut bytes = vec![0; most.min(MOST_AT_ONCE)];
            let read = connection.stream.lock().await.read(&mut bytes).await;
            bytes.truncate(read.map_err(|error| broken(&connection, &error))?);
            Ok(Received((!bytes.is_empty()).then_some(bytes), values))
        })
    })?;

    let values = methods.values();
    methods.prepared_function("read_line", move |lua, _, (handle, most): (AnyUserData, Option<usize>)| {
        let most = most.unwrap_or(LONGEST_LINE).min(values.room(lua)?);
        let (connection, values) = (opened::<Connection>(&handle)?, values.clone());
        Ok(async move {
            let mut line = Vec::new();
            // With what ends it, and one more, to see that it is too long.
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(3);
            let mut stream = connection.stream.lock().await;
            let read = (&mut *stream).take(limit).read_until(b'\n', &mut line).await;
            read.map_err(|error| broken(&connection, &error))?;
            if line.is_empty() {
                return Ok(Received(None, values));
            }
            if line.pop_if(|last| *last == b'\n').is_some() {
                line.pop_if(|last| *last == b'\r');
            }
            if line.len() > most {
                return Err(too_long(&connection, "the line", most));
            }
            Ok(Received(Some(line), values))
        })
    })?;

    let values = methods.values();
    methods.prepared_function("read_all", move |lua, _, (handle, most): (AnyUserData, Option<usize>)| {
        let most = most.unwrap_or(usize::MAX).min(values.room(lua)?);
        let (connection, values) = (opened::<Connection>(&handle)?, values.clone());
        Ok(async move {
            let mut bytes = Vec::new();
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            let mut stream = connection.stream.lock().await;
            let read = (&mut *stream).take(limit).read_to_end(&mut bytes).await;
            read.map_err(|error| broken(&connection, &error))?;
            if bytes.len() > most {
                return Err(too_long(&connection, "what was sent", most));
            }
            Ok(Received(Some(bytes), values))
        })
    })
}

fn install_writing(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    methods.prepared_function("write", |_, _, (handle, data): (AnyUserData, mlua::LuaString)| {
        let (connection, data) = (opened::<Connection>(&handle)?, data.as_bytes().to_vec());
        Ok(async move {
            let mut stream = connection.stream.lock().await;
            let written = async {
                stream.write_all(&data).await?;
                stream.flush().await
            };
            written.await.map_err(|error| broken(&connection, &error))
        })
    })?;
    methods.prepared_function("shutdown", |_, _, handle: AnyUserData| {
        let connection = opened::<Connection>(&handle)?;
        Ok(async move {
            let ended = connection.stream.lock().await.shutdown().await;
            ended.map_err(|error| broken(&connection, &error))
        })
    })
}

fn broken(connection: &Connection, error: &io::Error) -> mlua::Error {
    let message = format!("the connection to {} broke: {error}", connection.name);
    Values::raise(CallError::new(ErrorKind::Unavailable, message))
}

fn too_long(connection: &Connection, what: &str, most: usize) -> mlua::Error {
    let message = format!("{what} from {} has more than {most} bytes", connection.name);
    Values::raise(CallError::new(ErrorKind::Exhausted, message).with_retryable(false))
}
