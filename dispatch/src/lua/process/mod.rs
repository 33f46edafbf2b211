//! Processes in scripts.

mod group;
mod message;
mod spawn;

use std::sync::Arc;
use std::time::Duration;

use mlua::{BorrowedStr, Lua, Value};

use self::message::{MESSAGE_MEMORY, Received, install_reply, take_pattern};
use self::spawn::{install_children, take_spawn};
use super::convert;
use super::fault;
use super::host::{HostResult, Refusal, invalid, utf8};
use super::module::{LuaModule, ModuleBuilder};
use super::shared::Shared;
use crate::error::CallError;
use crate::payload::Payload;
use crate::process::guest::{self, Access, destination, process};
use crate::process::{Destination, ProcessManager, SendError, SendErrorReason, Spawned};

/// The [module](LuaModule) `process`, with which scripts run as processes and use others.
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
/// # Functions
///
/// A process is given by its PID or its name, as a string. Errors are raised as those of calls are: a table with `kind`, `message`
/// and `retryable`.
///
/// | function | |
/// |---|---|
/// | `spawn { host, entry, payload, options, name, messages, monitor, link, owned }` | Spawns a process. Returns its PID. An `owned` process ends with the process that spawns it, however that ends, and cannot trap that. |
/// | `spawn_or_signal { … }` | Spawns a process, or sends the `messages` to the process that has the `name`. Returns its PID, and whether it is new. |
/// | `exec { … }` | Spawns a process, waits for its end, and returns its result. |
/// | `start_child(supervisor, { payload, options, name, restart })` | Starts a [child](#children) of a dynamic supervisor. Returns its PID and its id. |
/// | `stop_child(supervisor, child)` | Stops a child that it started, given by its PID or its id, and waits for its end. |
/// | `send(process, payload)` | Sends a message, and waits for room in the mailbox. |
/// | `call(process, payload, { timeout })` | Sends a request, waits for the reply and returns it. The `timeout` is a number of seconds or a string such as `"2s"`, 5 seconds by default. |
/// | `try_send(process, payload)` | Sends a message. Returns `false` if there is no room. |
/// | `cancel(process, reason, grace)` | Asks a process to end, for a `reason`, which is a string. It is terminated after `grace` seconds, 5 by default. |
/// | `terminate(process)` | Terminates a process. |
/// | `whereis(name)` | The PID of the process that has a name, or `nil`. |
/// | `lookup(name, timeout)` | The same, but waits for a process that registers the name. The `timeout` is a number of seconds or a string such as `"2s"`, 5 seconds by default. |
/// | `members(group, { host })` | The PIDs of the members of a [group](#groups), the oldest first. |
/// | `publish(group, payload, { host })` | Sends a message to each member that has room in its mailbox. Returns how many have it, and how many mailboxes were full. |
/// | `unregister(name)` | Takes a name from a process. Returns whether one had it. |
///
/// For scripts that run as processes, and not as functions:
///
/// | function | |
/// |---|---|
/// | `self()` | Its own PID. |
/// | `receive(timeout)` | Waits for a message, at most for `timeout` seconds. Returns the message, or `nil`. |
/// | `receive_matching(pattern, timeout)` | The same for a message that matches the [pattern](#selective-receive). |
/// | `monitor(process)` | Monitors a process, whose exit is received once. Returns a reference, which is the `monitor` of the exit. Each of several monitors of one process delivers the exit. |
/// | `demonitor(monitor)` | Ends one monitor. Its exit is not received afterwards. Returns whether there was a monitor or an unread exit. The PID is the reference of the monitor that `spawn` set up. |
/// | `link(process)`, `unlink(process)` | Links it to a process, or ends the link. If one of them fails, the other ends. |
/// | `trap_links(boolean)` | Sets whether it receives the failure of a linked process instead of ending. |
/// | `register(name)` | Registers a name for itself. |
/// | `join(group, { host })`, `leave(group, { host })` | Joins or leaves a [group](#groups). Returns whether that changed anything. |
/// | `watch(group, { host })`, `unwatch(group, { host })` | Starts or stops receiving changes of a [group](#groups). Returns whether that changed anything. |
/// | `cancelled()` | The reason for its cancellation, or `nil`. |
/// | `send_after(time, payload)` | Sends itself the `payload` after `time`, a number of seconds or a string such as `"500ms"`. Returns the reference of the timer. |
/// | `send_every(period, payload)` | The same, repeatedly. Ticks that come due while one is unread are skipped and counted. |
/// | `cancel_timer(timer)` | Cancels a timer. No message of it is received afterwards. Returns whether there was a timer or an unread message. |
///
/// A message is a table with a `kind`:
///
/// | `kind` | |
/// |---|---|
/// | `"sent"` | A message or a call. `from` is the PID of the process that sent the `payload`, itself or through a function, or `nil`. A payload that does not fit into the remaining memory is missing, and `too_large` is `true`. A call has `reply`. |
/// | `"exited"` | A monitored process ended: `pid`; `monitor`, the reference of the monitor; `reason`, a name of [`ExitReason::as_str`]; `message`, the reason in words; `result` after a normal exit, or `result_too_large` if that does not fit; `error` after a failure, as that of a failed call, if it fits; and `origin`, the process that failed first, if a link ended it. |
/// | `"link_down"` | The same, for a linked process. |
/// | `"timer"` | A timer was due: `timer`, the reference; `payload` or `too_large`; `from`, its own PID; and `missed`, the number of further ticks that came due before this one was received. |
/// | `"group_changed"` | Members have joined or left the watched `group` of the `host`. At most one such message of a group is unread. |
/// | `"cancelled"` | It was asked to end, for `reason`, within `grace` seconds. Without a limit `grace` is `nil`. |
///
/// `message:reply(payload)` replies to a call, once. It returns `true`, or `false` if the caller no longer waits. A second reply is an
/// error. `message.reply:is_awaited()` returns whether the caller still waits. A script may reply later, after other messages. The
/// caller learns that there is no reply when the script has ended, or the garbage collector has collected the message.
///
/// A call fails with `kind`:
///
/// | `kind` | |
/// |---|---|
/// | `"not_found"` | The process is unknown, or had ended. |
/// | `"exhausted"` | Its mailbox stayed full, or too many calls of this process wait for replies. |
/// | `"deadline"` | The reply did not come in time. A late one is discarded. |
/// | `"unavailable"` | The process ended, or dropped the request, before it replied. |
/// | `"invalid"` | The process is the caller, or waits for it. A function that a process called counts as that process. |
///
/// # Selective receive
///
/// `receive_matching` takes the oldest message that matches the pattern, and leaves the others in the mailbox, in their order. A pattern is a table with some of: `kind`; `from` or `pid`, a PID, of the process that sent the message or ended;
/// `monitor` or `timer`, a reference; and `payload`, which the payload contains. A table contains one that has fewer members or
/// elements. The JSON of a pattern has 4 096 bytes at most.
///
/// ```lua
/// local answer = process.receive_matching({ from = worker, payload = { tag = "answer", id = 7 } }, 5)
/// ```
///
/// Each message is matched once for each wait, without entering the script. If the mailbox is full, the messages of senders that wait
/// for room are matched too, and one that matches is let in. So others that fill a mailbox cannot keep out the message that its
/// script waits for, unless that is sent with `try_send`. A message of kind `cancelled` stays in the mailbox unless the pattern
/// matches it. `process.cancelled()` returns the reason at any time.
///
/// # Children
///
/// A [dynamic supervisor](crate::process::supervisor::DynamicSpec) is given by its id, such as `"app:pool"`. It starts a child from its
/// specification. The script may set the `payload`; `options`, which take precedence over those of the specification; the `name`; and
/// `restart`, which is `"permanent"`, `"transient"` or `"temporary"`. A supervisor that is about to start is waited for, 5 seconds by
/// default. The child inherits from the frame of the script at each start. It outlives the script, and ends with its supervisor. A
/// restart changes its PID and keeps its id.
///
/// ```lua
/// local pid, id = process.start_child("app:pool", { payload = { room = "rust" }, name = "room rust" })
/// process.stop_child("app:pool", id)
/// ```
///
/// A script may start a child on the hosts on which it may spawn processes: its own, and those that its frame grants. It may stop the
/// children that it started itself. A child that fails too often is removed, and its supervisor goes on.
///
/// # Groups
///
/// A group has a name on a host: that of the process that the script is or is called by, unless `host` names another on which the
/// script may spawn processes. A member leaves when it ends. A host limits how many
/// [members](crate::process::HostConfig::group_members) each of its groups has, and in how many
/// [groups](crate::process::HostConfig::groups) each of its processes is. `publish` waits for no member, so one whose mailbox is full
/// misses the message. A member receives what it publishes itself.
///
/// # What a script may do to others
///
/// PIDs are numbers, so a script can guess those of other processes. It can send to all of them, as it can call any function. It can
/// monitor, link, cancel and terminate, and unregister the names of, only itself and the processes that it spawned: an exit contains
/// the result of the process, and a link ends both. [Trusted](Self::trusted) scripts can do so to all processes.
///
/// A script may spawn every registered process, with every free name, on its own host, which is that of the process that it is or is
/// called by, and on those that its frame [grants](crate::process::SPAWN_KEY). Hosts
/// [limit](crate::process::HostConfig::processes) how many. Trusted scripts may do so on every host.
///
/// [`ExitReason::as_str`]: crate::process::ExitReason::as_str
#[derive(Debug, Clone)]
pub struct ProcessModule {
    access: Access,
}

impl ProcessModule {
    /// Creates the module for the processes of `manager`, to which it holds a weak reference.
    #[must_use]
    pub fn new(manager: &ProcessManager) -> Self {
        Self { access: Access::new(manager) }
    }

    /// Lets scripts do to all processes what others [may](Self#what-a-script-may-do-to-others) do to their own.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { access: self.access.trusted() }
    }

    fn install_messages(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let shared = Arc::clone(module.shared());
        module.prepared_function("receive", move |lua, ctx, timeout: Option<f64>| {
            let mut process = process(&ctx, "receive").map_err(fault::raise)?;
            let timeout = timeout.map(|timeout| seconds(timeout, "the timeout")).transpose()?;
            if !shared.has_room(lua, MESSAGE_MEMORY) {
                // The message would be taken out of the mailbox and lost.
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
                let wanted = take_pattern(lua, &shared, &wanted)?;
                let timeout = timeout.map(|timeout| seconds(timeout, "the timeout")).transpose()?;
                if !shared.has_room(lua, MESSAGE_MEMORY) {
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
                    Ok(HostResult { payload, shared })
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

    fn install_spawning(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.function("spawn", move |lua, ctx, spawn: Value| {
            let spawn = take_spawn(lua, &shared, &spawn)?;
            let manager = access.manager_for_spawn(&ctx, &spawn).map_err(fault::raise)?;
            Ok(manager.spawn(&ctx, spawn).map_err(raised)?.to_string())
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("spawn_or_signal", move |lua, ctx, spawn: Value| {
            let spawn = take_spawn(lua, &shared, &spawn)?;
            let access = access.clone();
            Ok(async move {
                let spawned = access.spawn_or_signal(&ctx, spawn).await.map_err(fault::raise)?;
                Ok((spawned.pid().to_string(), matches!(spawned, Spawned::New(_))))
            })
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("exec", move |lua, ctx, spawn: Value| {
            let spawn = take_spawn(lua, &shared, &spawn)?;
            let manager = access.manager_for_spawn(&ctx, &spawn).map_err(fault::raise)?;
            let shared = Arc::clone(&shared);
            Ok(async move {
                let payload = manager.exec(&ctx, spawn).await;
                let payload = payload.map_err(|error| fault::raise(guest::exec_error(error)))?;
                Ok(HostResult { payload, shared })
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
        install_reply(module)?;
        self.install_messages(module)?;
        self.install_spawning(module)?;
        install_children(module, &self.access)?;
        self.install_ending(module)?;
        self.install_relations(module)?;
        self.install_names(module)?;
        install_timers(module)?;
        group::install(module, &self.access)
    }
}

fn install_timers(module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
    let shared = Arc::clone(module.shared());
    module.function("send_after", move |lua, ctx, (time, payload): (Value, Value)| {
        let process = process(&ctx, "send_after").map_err(fault::raise)?;
        let (time, payload) = (duration(&time, "the time")?, payload_of(lua, &shared, &payload)?);
        Ok(process.send_after(time, payload).map_err(raised)?.to_string())
    })?;

    let shared = Arc::clone(module.shared());
    module.function("send_every", move |lua, ctx, (period, payload): (Value, Value)| {
        let process = process(&ctx, "send_every").map_err(fault::raise)?;
        let (period, payload) = (duration(&period, "the period")?, payload_of(lua, &shared, &payload)?);
        Ok(process.send_every(period, payload).map_err(raised)?.to_string())
    })?;

    module.function("cancel_timer", |_, ctx, timer: Value| {
        let process = process(&ctx, "cancel_timer").map_err(fault::raise)?;
        Ok(process.cancel_timer(guest::timer_ref(&text(&timer)?).map_err(fault::raise)?))
    })
}

fn raised(error: impl Into<CallError>) -> mlua::Error {
    fault::raise(error.into())
}

/// Reads the PID or the name of a process.
fn text(process: &Value) -> Result<BorrowedStr, Refusal> {
    let Value::String(text) = process else {
        let kind = convert::type_of(process);
        let message = format!("a process is given by its PID or its name, which are strings, not by {kind}");
        return Err(CallError::invalid(message).into());
    };
    Ok(text.to_str()?)
}

/// Reads a destination.
fn to(process: &Value) -> Result<Destination<'static>, Refusal> {
    Ok(match destination(&text(process)?)? {
        Destination::Pid(pid) => Destination::Pid(pid),
        Destination::Name(name) => Destination::Name(name.into_owned().into()),
    })
}

fn payload_of(lua: &Lua, shared: &Shared, payload: &Value) -> Result<Payload, Refusal> {
    Ok(shared.take(lua, payload, "the message", shared.payload)?)
}

/// Reads the timeout from the options of a call.
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

/// Reads a duration: a number of seconds, or text.
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

/// Converts a number of seconds. One that is too large becomes [`Duration::MAX`].
fn seconds(seconds: f64, name: &str) -> Result<Duration, Refusal> {
    if seconds.is_nan() || seconds < 0.0 {
        let message = format!("{name} is a number of seconds, 0 or more, and not {seconds}");
        return Err(CallError::invalid(message).into());
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
