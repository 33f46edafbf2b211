//! The connections of a call.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use frame_net::BoxStream;
use mlua::{AnyUserData, IntoLua, Lua, UserDataFields as _, UserDataRegistry, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::modules::lua::members::invalid;

/// How long a line is at most, where a script does not say.
const LONGEST_LINE: usize = 64 << 10;
/// How many bytes are read at once at most.
const MOST_AT_ONCE: usize = 64 << 10;

/// The connections that a call has open. They are closed when it is dropped.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    by_number: HashMap<u64, Arc<Connection>>,
}

struct Connection {
    /// Where it leads and through what, for errors.
    name: String,
    /// A script does one thing at a time, so that nobody waits for this.
    stream: tokio::sync::Mutex<BufReader<BoxStream>>,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.open().by_number.len()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, number: u64) -> Option<Arc<Connection>> {
        self.open().by_number.remove(&number)
    }
}

/// What a script has of a connection. It is closed when this is collected, or when the call ends.
pub(super) struct Handle {
    connections: Weak<Connections>,
    number: u64,
}

impl Handle {
    pub(super) fn new(connections: &Arc<Connections>, name: String, stream: BoxStream) -> Self {
        let stream = tokio::sync::Mutex::new(BufReader::new(stream));
        let mut open = connections.open();
        open.last += 1;
        let number = open.last;
        open.by_number.insert(number, Arc::new(Connection { name, stream }));
        Self { connections: Arc::downgrade(connections), number }
    }

    fn close(&self) {
        let closed = self.connections.upgrade().and_then(|connections| connections.remove(self.number));
        drop(closed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// A connection, on its way into a VM.
pub(super) struct Opened(pub(super) Handle);

impl IntoLua for Opened {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_any_userdata(self.0).map(Value::UserData)
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

/// Gives the VM the type of connections.
pub(super) fn register(module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let methods = module.functions(|methods| {
        install_reading(methods)?;
        install_writing(methods)?;
        methods.function("close", |_, _, (handle, _): (AnyUserData, Value)| {
            handle.borrow::<Handle>().map(|handle| handle.close())
        })
    })?;
    let close: Value = methods.raw_get("close")?;
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<Handle>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__close", close);
        registry.add_meta_field("__name", "connection");
    })
}

fn install_reading(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let values = methods.values();
    methods.prepared_function("read", move |_, _, (handle, most): (AnyUserData, usize)| {
        if most == 0 {
            return Err(invalid("at least one byte is read; give how many at most"));
        }
        let (connection, values) = (connection(&handle)?, values.clone());
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
        let (connection, values) = (connection(&handle)?, values.clone());
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
        let (connection, values) = (connection(&handle)?, values.clone());
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
        let (connection, data) = (connection(&handle)?, data.as_bytes().to_vec());
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
        let connection = connection(&handle)?;
        Ok(async move {
            let ended = connection.stream.lock().await.shutdown().await;
            ended.map_err(|error| broken(&connection, &error))
        })
    })
}

/// The connection of a handle, if it is open.
fn connection(handle: &AnyUserData) -> mlua::Result<Arc<Connection>> {
    let handle = handle.borrow::<Handle>()?;
    let open = handle.connections.upgrade();
    let connection = open.and_then(|connections| connections.open().by_number.get(&handle.number).cloned());
    connection.ok_or_else(|| invalid("the connection is closed"))
}

fn broken(connection: &Connection, error: &io::Error) -> mlua::Error {
    let message = format!("the connection to {} broke: {error}", connection.name);
    Values::raise(CallError::new(ErrorKind::Unavailable, message))
}

fn too_long(connection: &Connection, what: &str, most: usize) -> mlua::Error {
    let message = format!("{what} from {} has more than {most} bytes", connection.name);
    Values::raise(CallError::new(ErrorKind::Exhausted, message).with_retryable(false))
}
