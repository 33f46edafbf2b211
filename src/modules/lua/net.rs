//! Connections for scripts.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use frame_dispatch::lua::{LuaModule, ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use frame_net::{BoxStream, Endpoint, Host, Route};
use mlua::{AnyUserData, IntoLua, Lua, Table, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::held::{self, Handle, Held, Opened, opened};
use super::members::{Members, invalid, utf8};
use crate::modules::connect::Way;

/// A [module](LuaModule) with which scripts make connections; they find it under `net`.
///
/// Everything goes through the network of the frame of the call that asks for it. There is no option to choose another:
/// who calls a function says which network it has.
///
/// | | |
/// |---|---|
/// | `connect(host, port, options)`, `connect("host:port", options)` | Connects, and returns the connection. |
/// | `lookup(name)` | A list of the addresses of a name, as the network sees them. Many networks cannot say; to connect to a name it is not needed. |
/// | `route()` | The id of the network that the traffic takes, or `"clearnet"`. |
///
/// | option | |
/// |---|---|
/// | `isolation` | Keeps the connection apart from those of other keys, [within](frame_net::IsolationKey::within) the key of the frame. |
/// | `timeout` | How many seconds it may take until the connection is there. |
///
/// | of a connection | |
/// |---|---|
/// | `read(n)` | The next bytes, at least one and at most `n`, or `nil` at the end. |
/// | `read_line(max)` | The next line without what ends it (`\n` or `\r\n`), or `nil` at the end. It has at most `max` bytes, or 65536. |
/// | `read_all(max)` | All the bytes until the end, at most `max`, or as many as the script has memory left for. |
/// | `write(data)` | Writes all of a string. |
/// | `shutdown()` | Says that nothing more will be written. What comes can still be read. |
/// | `close()` | Closes it. |
///
/// Connections are closed when the call ends that made them, at the latest, and before that where a script has them in a
/// variable that is `<close>`. A call, or a process, has [some](Self::with_connections) at a time. All calls of a function
/// together, and all functions and processes, have as many as the [limits](frame_net::LimitsConfig) of the app say.
///
/// What goes wrong is raised as a failed call is, a table with `kind`, `message` and `retryable`: `invalid` for what is no
/// address, `denied` where the rules of the network forbid it, `deadline` where it took too long, `exhausted` where a limit
/// was reached or no descriptor is left, and `unavailable` for all else. The message names what the script asked for.
/// Addresses that a name has, rules, proxies and remedies are in the log, and in the sources of the error that the caller of
/// the program gets. Text that is not UTF-8 is refused.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_runtime::modules::lua::NetModule;
///
/// let engine = LuaEngine::builder().module(NetModule::new()).build()?;
/// let source = r#"
///     local whois <close> = net.connect("whois.example", 43, { timeout = 10 })
///     whois:write(... .. "\r\n")
///     whois:shutdown()
///     return whois:read_all(100000)
/// "#;
/// engine.function("whois.lua", source, LuaConfig::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct NetModule {
    connections: usize,
}

impl NetModule {
    /// The module, with which a call has up to 64 connections at a time.
    #[must_use]
    pub fn new() -> Self {
        Self { connections: 64 }
    }

    /// The same, where a call has up to so many connections at a time.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections }
    }

    fn install_connect(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        held::register::<Connection>(module, "connection", install_methods)?;
        let (values, most) = (module.values(), self.connections);
        module.prepared_function("connect", move |lua, ctx, (host, port, options): Connect| {
            let (to, options) = destination(&host, port, options)?;
            let options =
                Members::new(options, "the options table of `net.connect`", &["isolation", "timeout"])?;
            let timeout = options.seconds("timeout")?;
            let isolation = options.text("isolation")?;
            let way = Way::of(&ctx, isolation.as_deref()).map_err(Values::raise)?;
            let held: Arc<Held<Connection>> = values.of_call()?;
            held.check_room(lua, most, "connections")?;
            Ok(async move {
                let stream = way.connect(&to, timeout).await.map_err(Values::raise)?;
                let name = format!("{to} through {}", way.route());
                Ok(Opened(Handle::new(&held, Connection::new(name, stream))))
            })
        })
    }
}

impl Default for NetModule {
    fn default() -> Self {
        Self::new()
    }
}

impl LuaModule for NetModule {
    fn name(&self) -> &'static str {
        "net"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        self.install_connect(module)?;
        module.prepared_function("lookup", |_, ctx, name: mlua::LuaString| {
            let host = utf8(&name, "the name")?;
            let host: Host = host.parse().map_err(|error| invalid(format!("{error}")))?;
            let way = Way::of(&ctx, None).map_err(Values::raise)?;
            Ok(async move {
                let addresses = match host {
                    Host::Address(address) => vec![address],
                    Host::Name(name) => way.lookup(&name).await.map_err(Values::raise)?,
                };
                Ok(addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>())
            })
        })?;
        module.function("route", |_, ctx, ()| {
            let way = Way::of(&ctx, None).map_err(Values::raise)?;
            Ok(match way.route() {
                Route::Clearnet => "clearnet".to_owned(),
                Route::Network(id) => id.to_string(),
            })
        })
    }
}

/// What `connect` is given.
type Connect = (mlua::LuaString, Value, Option<Table>);

/// Where to connect to, of a host and a port, or of both in one; and the options behind that.
fn destination(
    host: &mlua::LuaString,
    port: Value,
    options: Option<Table>,
) -> mlua::Result<(Endpoint, Option<Table>)> {
    let host = utf8(host, "the host")?;
    match port {
        Value::Nil => Ok((endpoint(&host)?, options)),
        Value::Table(table) if options.is_none() => Ok((endpoint(&host)?, Some(table))),
        port => {
            let number = port.as_integer().and_then(|port| u16::try_from(port).ok());
            let number = number.ok_or_else(|| invalid("the port is an integer from 1 to 65535"))?;
            let host: Host = host.parse().map_err(|error| invalid(format!("{error}")))?;
            let to = Endpoint::new(host, number).map_err(|error| invalid(error.to_string()))?;
            Ok((to, options))
        }
    }
}

fn endpoint(text: &str) -> mlua::Result<Endpoint> {
    text.parse().map_err(|error: frame_net::EndpointError| invalid(error.to_string()))
}

/// How long a line is at most, where a script does not say.
const LONGEST_LINE: usize = 64 << 10;
/// How many bytes are read at once at most.
const MOST_AT_ONCE: usize = 64 << 10;

/// A connection of a script.
struct Connection {
    /// Where it leads and through what, for errors.
    name: String,
    /// A script does one thing at a time, so that nobody waits for this.
    stream: tokio::sync::Mutex<BufReader<BoxStream>>,
}

impl Connection {
    fn new(name: String, stream: BoxStream) -> Self {
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
fn install_methods(methods: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
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
