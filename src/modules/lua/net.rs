//! Connections for scripts.

mod connection;

use std::net::IpAddr;
use std::sync::Arc;

use frame_dispatch::lua::{LuaModule, ModuleBuilder, Values, mlua};
use frame_net::{Endpoint, Host, Route};
use mlua::{Table, Value};

use self::connection::Connection;
use super::held::{self, Handle, Held, Opened};
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
        held::register::<Connection>(module, "connection", connection::install)?;
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
