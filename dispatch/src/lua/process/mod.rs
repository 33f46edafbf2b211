//! What scripts have of processes.

mod children;
mod group;
mod message;
mod pattern;
mod reply;
mod spawn;
mod timer;

use std::sync::Arc;
use std::time::Duration;

use mlua::{BorrowedStr, Lua, Value};

use self::message::Received;
use super::convert;
use super::fault;
use super::host::{Given, Refusal, invalid, utf8};
use super::module::{LuaModule, ModuleBuilder};
use super::shared::Shared;
use crate::error::CallError;
use crate::payload::Payload;
use crate::process::guest::{self, Access, destination, process};
use crate::process::{Destination, ProcessManager, SendError, SendErrorReason, Spawned};

/// A [module](LuaModule) with which scripts are processes and deal with others; they find it under `process`.
///
/// ```
/// use frame_dispatch::Functions;
/// use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
/// use frame_dispatch::process::{HostConfig, ProcessManager, Spawn};
/// use frame_registry::{App, Options};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let functions = Functions::new(App::builder().build());
/// let processes = ProcessManager::new(functions.clone());
/// processes.register_host("app:workers".parse()?, HostConfig::default())?;
/// let engine = LuaEngine::builder().module(ProcessModule::new(&processes)).build()?;
///
/// let adder = "local sum = 0
///              while true do
///                local message = process.receive()
///                if message.kind ~= 'sent' then return sum end
///                sum = sum + message.payload
///              end";
/// let adder = engine.function("adder.lua", adder, LuaConfig::process())?;
/// processes.register("app:adder".parse()?, Options::new(), adder)?;
///
/// let main = "local adder = process.spawn { host = 'app:workers', entry = 'app:adder', monitor = true }
///             for number = 1, ... do process.send(adder, number) end
///             process.cancel(adder, 'that is all')
///             return process.receive(5).result";
/// let main = engine.function("main.lua", main, LuaConfig::process())?;
/// processes.register("app:main".parse()?, Options::new(), main)?;
///
/// let start = Spawn::new("app:workers".parse()?, "app:main".parse()?).with_payload(json!(6));
/// assert_eq!(processes.exec(&functions.root(), start).await?, json!(21).into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What there is
///
/// A process is given by its PID or its name, as strings. What fails is raised as a failed call is: a table with `kind`,
/// `message` and `retryable`.
///
/// | | |
/// |---|---|
/// | `start { host, entry, payload, options, name, messages, monitor, link, owned }` | Starts a process; returns its PID. One that is `owned` ends with the process that starts it, however that ends, and cannot trap that. |
/// | `spawn_or_signal { … }` | The same, or sends the `messages` to who has the `name`; returns its PID, and whether it is new. |
/// | `exec { … }` | Starts a process, waits for its end, and returns its result. |
/// | `start_child(supervisor, { payload, options, name, restart })` | Starts a [child](#children) of a dynamic supervisor; returns its PID and its id. |
/// | `stop_child(supervisor, child)` | Stops a child that it started, given by its PID or its id, and waits for its end. |
/// | `send(process, payload)` | Sends a message, and waits for room in the mailbox. |
/// | `call(process, payload, { timeout })` | Sends a request, waits for the reply and returns it. The `timeout` is a number of seconds or a string such as `"2s"`, 5 seconds by default. |
/// | `try_send(process, payload)` | Sends a message and returns `true`, or `false` where there is no room. |
/// | `cancel(process, reason, grace)` | Asks a process to end, and tells it the `reason`, a string. After `grace` seconds, or 5, it is terminated. |
/// | `terminate(process)` | Ends a process where it is. |
/// | `whereis(name)` | The PID of the process that has a name, or `nil`. |
/// | `lookup(name, timeout)` | The same, and waits for a process that registers the name: for `timeout`, a number of seconds or a string such as `"2s"`, 5 seconds by default. |
/// | `members(group, { host })` | The PIDs of the members of a [group](#groups), the oldest first. |
/// | `publish(group, payload, { host })` | Sends a message to each member that has room in its mailbox. Returns how many have it, and how many mailboxes were full. |
/// | `unregister(name)` | Takes a name from a process; returns whether any had it. |
///
/// For scripts that run as processes, and not as functions:
///
/// | | |
/// |---|---|
/// | `self()` | Its own PID. |
/// | `receive(timeout)` | Waits for a message, for `timeout` seconds or for ever, and returns it, or `nil`. |
/// | `receive_matching(pattern, timeout)` | The same for a message that matches the [pattern](#selective-receive). |
/// | `monitor(process)` | Receives the exit of a process, once. Returns a reference, which the exit has as its `monitor`. Each of several monitors of one process delivers it. |
/// | `demonitor(monitor)` | Ends one monitor. Its exit is not received any more. Returns whether there was anything to undo. The PID is the reference of the monitor that `start` set up. |
/// | `link(process)`, `unlink(process)` | Ends where that process fails, and the other way round, or no more. |
/// | `trap_links(boolean)` | Whether it receives the failure of a linked process and lives. |
/// | `register(name)` | Gives itself a name. |
/// | `join(group, { host })`, `leave(group, { host })` | Becomes a member of a [group](#groups), or is none any more. Returns whether that changed anything. |
/// | `watch(group, { host })`, `unwatch(group, { host })` | Is told when members join or leave a [group](#groups), or no more. Returns whether that changed anything. |
/// | `cancelled()` | Why it was cancelled, or `nil`. |
/// | `send_after(time, payload)` | Sends itself the `payload` after `time`, a number of seconds or a string such as `"500ms"`. Returns the reference of the timer. |
/// | `send_every(period, payload)` | The same, again and again. Ticks that come due while one is unread are skipped, and counted. |
/// | `cancel_timer(timer)` | Ends a timer. No message of it is received any more. Returns whether there was anything to undo. |
///
/// A message is a table with a `kind`:
///
/// | `kind` | |
/// |---|---|
/// | `"sent"` | A message or a call. `from` is the PID of the process that sent the `payload`, itself or through a function, or `nil`. A payload that does not fit into the memory left is not there, and `too_large` is `true`. If it is a call, it has `reply`. |
/// | `"exited"` | A monitored process ended: `pid`; `monitor`, the reference of the monitor; `reason`, as [`ExitReason::as_str`] names it; `message`, the same in words; the `result`, where it was done, or `result_too_large` if that does not fit; where it failed the `error`, as that of a failed call, if that fits; where a link ended it the `origin`, which failed first. |
/// | `"link_down"` | The same of a linked process. |
/// | `"timer"` | A timer that it set was due: `timer`, the reference; `payload` or `too_large`; `from`, its own PID; and `missed`, how many further ticks came due before this one was received. |
/// | `"group_changed"` | Members have joined or left the `group` of the `host`, which it watches. One is unread at most. |
/// | `"cancelled"` | It is to end, because of `reason`, in `grace` seconds; `nil` is any time. |
///
/// `message:reply(payload)` replies to a call, once. It returns `true`, or `false` if the caller waits no longer; a second reply
/// is an error. `message.reply:is_awaited()` returns whether the caller still waits. A script may reply later, after other
/// messages. The caller learns that there is no reply when the script has ended, or the garbage collector has found that the
/// message is in use no more.
///
/// A call fails with `kind`:
///
/// | `kind` | |
/// |---|---|
/// | `"not_found"` | There is no such process, or it had ended. |
/// | `"exhausted"` | Its mailbox stayed full, or too many calls of this process wait for replies. |
/// | `"deadline"` | The reply did not come in time. A late one is discarded. |
/// | `"unavailable"` | The process ended, or dropped the request, before it replied. |
/// | `"invalid"` | The process is this one, or waits for it. A function that a process called counts as that process. |
///
/// # Selective receive
///
/// `receive_matching` takes the oldest message that has all that the pattern sets, and leaves the others in the mailbox, in their
/// order. A pattern is a table with some of: `kind`; `from` or `pid`, a PID, of the process that sent the message or ended;
/// `monitor` or `timer`, a reference; and `payload`, which the payload contains. A table contains one that has fewer members or
/// elements. The JSON of a pattern has 4 096 bytes at most.
///
/// ```lua
/// local answer = process.receive_matching({ from = worker, payload = { tag = "answer", id = 7 } }, 5)
/// ```
///
/// Each message is looked at once for each time that a script waits, without entering the script. If the mailbox is full, the
/// messages of senders that wait for room are looked at, too, and one that matches is let in. So others that fill a mailbox do
/// not keep out what its script waits for, unless that is sent with `try_send`. A message of kind `cancelled` stays in the
/// mailbox unless the pattern matches it; `process.cancelled()` returns the reason at any time.
///
/// # Children
///
/// A [dynamic supervisor](crate::process::supervisor::DynamicSpec) is given by its id, such as `"app:pool"`. It starts a child as its
/// specification says, but for what the script sets: the `payload`; `options`, over those of the specification; the `name`; and
/// `restart`, which is `"permanent"`, `"transient"` or `"temporary"`. A supervisor that is about to start is waited for, for 5 seconds
/// by default. The child inherits from the frame of the script, each time that it
/// is started. It outlives the script, and ends with its supervisor. A restart gives it another PID; it keeps its id.
///
/// ```lua
/// local pid, id = process.start_child("app:pool", { payload = { room = "rust" }, name = "room rust" })
/// process.stop_child("app:pool", id)
/// ```
///
/// A script may start a child where it may start a process: on its own host, and on those that its frame grants. It may stop the
/// children that it started itself. A child that fails too often is removed, and its supervisor goes on.
///
/// # Groups
///
/// A group has a name, and is of a host: that of the process that the script is or is called by, unless `host` names another on
/// which the script may start processes. A member leaves when it ends. A host limits how many
/// [members](crate::process::HostConfig::group_members) each of its groups has, and in how many
/// [groups](crate::process::HostConfig::groups) each of its processes is. `publish` waits for no member, so one whose mailbox is full
/// misses the message. A member receives what it publishes itself.
///
/// # What a script may do to others
///
/// PIDs are numbers, so that a script can guess those of processes it was never told of. It can send to any, as it can call
/// any function. All else it can do only to itself and to those that it started: monitor, link, cancel and terminate
/// them, and take their names. For the exit of a process tells its result, a link ends the other as well, and the
/// rest needs no reason. Where all scripts are [trusted](Self::trusted) they can do so to all.
///
/// A script may start every process, and take every name. It may do so on its own host, that of the process that it is or is
/// called by, and on those that its frame [grants](crate::process::SPAWN_KEY); hosts
/// [bound](crate::process::HostConfig::processes) how many. Where all scripts are trusted they may do so on every host.
///
/// [`ExitReason::as_str`]: crate::process::ExitReason::as_str
#[derive(Debug, Clone)]
pub struct ProcessModule {
    access: Access,
}

impl ProcessModule {
    /// For the processes of `manager`, which this does not keep.
    #[must_use]
    pub fn new(manager: &ProcessManager) -> Self {
        Self { access: Access::new(manager) }
    }

    /// The same, for scripts that may do to all processes what others [may](Self#what-a-script-may-do-to-others) to their
    /// own.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { access: self.access.trusted() }
    }

    fn install_messages(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let shared = Arc::clone(module.shared());
        module.prepared_function("receive", move |lua, ctx, timeout: Option<f64>| {
            let mut process = process(&ctx, "receive").map_err(fault::raise)?;
            let timeout = timeout.map(|timeout| seconds(timeout, "the timeout")).transpose()?;
            if !shared.has_room(lua, message::BARE) {
                // It would be taken out of the mailbox, and lost.
                return Err(fault::out_of_memory());
            }
            let shared = Arc::clone(&shared);
            Ok(async move {
                let message = match timeout {
                    None => Some(process.receive().await),
                    Some(Duration::ZERO) => process.try_receive(),
                    Some(timeout) => process.receive_timeout(timeout).await,
                };
                Ok(Received { message, shared })
            })
        })?;

        let shared = Arc::clone(module.shared());
        module.prepared_function(
            "receive_matching",
            move |lua, ctx, (wanted, timeout): (Value, Option<f64>)| {
                let process = process(&ctx, "receive_matching").map_err(fault::raise)?;
                let wanted = pattern::take(lua, &shared, &wanted)?;
                let timeout = timeout.map(|timeout| seconds(timeout, "the timeout")).transpose()?;
                if !shared.has_room(lua, message::BARE) {
                    return Err(fault::out_of_memory());
                }
                let shared = Arc::clone(&shared);
                Ok(async move {
                    let message = guest::receive_matching(process, wanted, timeout).await;
                    Ok(Received { message, shared })
                })
            },
        )?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("send", move |lua, ctx, (process, payload): (Value, Value)| {
            let manager = access.manager(&ctx).map_err(fault::raise)?;
            let (to, payload) = (to(&process)?, payload_of(lua, &shared, &payload)?);
            Ok(async move { manager.send(&ctx, to, payload).await.map_err(raised) })
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function(
            "call",
            move |lua, ctx, (process, payload, options): (Value, Value, Value)| {
                let (to, payload) = (to(&process)?, payload_of(lua, &shared, &payload)?);
                let timeout = timeout_of(&options)?;
                let (access, shared) = (access.clone(), Arc::clone(&shared));
                Ok(async move {
                    let payload = access.call(&ctx, to, payload, timeout).await.map_err(fault::raise)?;
                    Ok(Given { payload, shared })
                })
            },
        )?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.function("try_send", move |lua, ctx, (process, payload): (Value, Value)| {
            let manager = access.manager(&ctx).map_err(fault::raise)?;
            let (to, payload) = (to(&process)?, payload_of(lua, &shared, &payload)?);
            match manager.try_send(&ctx, to, payload) {
                Ok(()) => Ok(true),
                Err(SendError { reason: SendErrorReason::Full { .. }, .. }) => Ok(false),
                Err(error) => Err(raised(error)),
            }
        })
    }

    fn install_starting(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.function("spawn", move |lua, ctx, start: Value| {
            let start = spawn::take(lua, &shared, &start)?;
            let manager = access.starting(&ctx, &start).map_err(fault::raise)?;
            Ok(manager.spawn(&ctx, start).map_err(raised)?.to_string())
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("spawn_or_signal", move |lua, ctx, start: Value| {
            let start = spawn::take(lua, &shared, &start)?;
            let access = access.clone();
            Ok(async move {
                let started = access.spawn_or_signal(&ctx, start).await.map_err(fault::raise)?;
                Ok((started.pid().to_string(), matches!(started, Spawned::New(_))))
            })
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("exec", move |lua, ctx, start: Value| {
            let start = spawn::take(lua, &shared, &start)?;
            let manager = access.starting(&ctx, &start).map_err(fault::raise)?;
            let shared = Arc::clone(&shared);
            Ok(async move {
                let payload = manager.exec(&ctx, start).await;
                let payload = payload.map_err(|error| fault::raise(guest::exec_error(error)))?;
                Ok(Given { payload, shared })
            })
        })
    }

    fn install_ending(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let access = self.access.clone();
        module.function(
            "cancel",
            move |_, ctx, (process, reason, grace): (Value, mlua::LuaString, Option<f64>)| {
                let grace = grace.map(|grace| seconds(grace, "the grace period")).transpose()?;
                let reason = utf8(&reason, "the reason").map_err(fault::raise)?;
                let cancelled = access.cancel(&ctx, &text(&process)?, &reason, grace);
                cancelled.map_err(fault::raise)
            },
        )?;

        let access = self.access.clone();
        module.function("terminate", move |_, ctx, process: Value| {
            access.terminate(&ctx, &text(&process)?).map_err(fault::raise)
        })?;
        module.function("cancelled", |_, ctx, ()| {
            let process = process(&ctx, "cancelled").map_err(fault::raise)?;
            Ok(process.cancel_reason().map(|reason| reason.to_string()))
        })
    }

    fn install_relations(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let access = self.access.clone();
        module.function("monitor", move |_, ctx, other: Value| {
            Ok(access.monitor(&ctx, &text(&other)?).map_err(fault::raise)?.to_string())
        })?;
        module.function("demonitor", |_, ctx, monitor: Value| {
            guest::demonitor(&ctx, &text(&monitor)?).map_err(fault::raise)
        })?;

        let access = self.access.clone();
        module.function("link", move |_, ctx, other: Value| {
            access.link(&ctx, &text(&other)?).map_err(fault::raise)
        })?;
        let access = self.access.clone();
        module.function("unlink", move |_, ctx, other: Value| {
            access.unlink(&ctx, &text(&other)?).map_err(fault::raise)
        })?;
        module.function("trap_links", |_, ctx, traps: Value| {
            let process = process(&ctx, "trap_links").map_err(fault::raise)?;
            let Value::Boolean(traps) = traps else {
                return Err(raised(invalid("`process.trap_links` takes `true` or `false`")));
            };
            process.trap_links(traps);
            Ok(())
        })
    }

    fn install_names(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.function("self", |_, ctx, ()| {
            Ok(process(&ctx, "self").map_err(fault::raise)?.pid().to_string())
        })?;
        module.function("register", |_, ctx, name: mlua::LuaString| {
            guest::register(&ctx, &name.to_str()?).map_err(fault::raise)
        })?;

        let access = self.access.clone();
        module.function("unregister", move |_, ctx, name: mlua::LuaString| {
            access.unregister(&ctx, &name.to_str()?).map_err(fault::raise)
        })?;

        let access = self.access.clone();
        module.function("whereis", move |_, ctx, name: mlua::LuaString| {
            let pid = access.whereis(&ctx, &name.to_str()?).map_err(fault::raise)?;
            Ok(pid.map(|pid| pid.to_string()))
        })?;

        let access = self.access.clone();
        module.prepared_function("lookup", move |_, ctx, (name, timeout): (mlua::LuaString, Value)| {
            let name = utf8(&name, "the name").map_err(fault::raise)?;
            let timeout = match timeout {
                Value::Nil => None,
                timeout => Some(duration(&timeout, "the timeout")?),
            };
            let access = access.clone();
            Ok(async move {
                let pid = access.lookup(&ctx, &name, timeout).await.map_err(fault::raise)?;
                Ok(pid.map(|pid| pid.to_string()))
            })
        })
    }
}

impl LuaModule for ProcessModule {
    fn name(&self) -> &'static str {
        "process"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        reply::install(module)?;
        self.install_messages(module)?;
        self.install_starting(module)?;
        children::install(module, &self.access)?;
        self.install_ending(module)?;
        self.install_relations(module)?;
        self.install_names(module)?;
        timer::install(module)?;
        group::install(module, &self.access)
    }
}

fn raised(error: impl Into<CallError>) -> mlua::Error {
    fault::raise(error.into())
}

/// What a script names a process with.
fn text(process: &Value) -> Result<BorrowedStr, Refusal> {
    let Value::String(text) = process else {
        let kind = convert::type_of(process);
        let message = format!("a process is given by its PID or its name, which are strings, not by {kind}");
        return Err(CallError::invalid(message).into());
    };
    Ok(text.to_str()?)
}

/// Where a script sends a message, kept for as long as that waits.
fn to(process: &Value) -> Result<Destination<'static>, Refusal> {
    Ok(match destination(&text(process)?)? {
        Destination::Pid(pid) => Destination::Pid(pid),
        Destination::Name(name) => Destination::Name(name.into_owned().into()),
    })
}

fn payload_of(lua: &Lua, shared: &Shared, payload: &Value) -> Result<Payload, Refusal> {
    Ok(shared.take(lua, payload, "the message", shared.payload)?)
}

/// The timeout among the options of a call.
fn timeout_of(options: &Value) -> Result<Option<Duration>, Refusal> {
    let table = match options {
        Value::Nil => return Ok(None),
        Value::Table(table) => table,
        other => {
            let kind = convert::type_of(other);
            let message = format!(
                "the options of `process.call` are a table such as {{ timeout = \"2s\" }}, not {kind}"
            );
            return Err(CallError::invalid(message).into());
        }
    };
    let mut timeout = None;
    for option in table.pairs::<Value, Value>() {
        let (name, value) = option?;
        if name.as_string().is_none_or(|name| name != "timeout") {
            let message = "`process.call` takes no options but `timeout`".to_owned();
            return Err(CallError::invalid(message).into());
        }
        timeout = Some(duration(&value, "the timeout")?);
    }
    Ok(timeout)
}

/// A time that a script gives as a number of seconds or as text.
fn duration(value: &Value, name: &str) -> Result<Duration, Refusal> {
    match value {
        Value::String(text) => Ok(humantime::parse_duration(&text.to_str()?).map_err(|error| {
            invalid(format!("{name} is not a duration such as \"2s\" or \"500ms\": {error}"))
        })?),
        Value::Number(time) => seconds(*time, name),
        #[allow(clippy::cast_precision_loss, reason = "no time is that exact")]
        Value::Integer(time) => seconds(*time as f64, name),
        other => {
            let kind = convert::type_of(other);
            let message = format!("{name} is a number of seconds or a string such as \"2s\", not {kind}");
            Err(CallError::invalid(message).into())
        }
    }
}

/// A time that a script gives. One that is too long to be counted is without end.
fn seconds(seconds: f64, name: &str) -> Result<Duration, Refusal> {
    if seconds.is_nan() || seconds < 0.0 {
        let message = format!("{name} is a number of seconds, 0 or more, and not {seconds}");
        return Err(CallError::invalid(message).into());
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
