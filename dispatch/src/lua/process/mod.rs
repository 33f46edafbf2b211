//! What scripts have of processes.

mod message;
mod start;

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
use crate::process::{Destination, ProcessManager, SendError, SendErrorReason, Started};

/// A [module](LuaModule) with which scripts are processes and deal with others; they find it under `process`.
///
/// ```
/// use frame_dispatch::Functions;
/// use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
/// use frame_dispatch::process::{HostConfig, ProcessManager, Start};
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
/// let main = "local adder = process.start { host = 'app:workers', entry = 'app:adder', monitor = true }
///             for number = 1, ... do process.send(adder, number) end
///             process.cancel(adder, 'that is all')
///             return process.receive(5).result";
/// let main = engine.function("main.lua", main, LuaConfig::process())?;
/// processes.register("app:main".parse()?, Options::new(), main)?;
///
/// let start = Start::new("app:workers".parse()?, "app:main".parse()?).with_payload(json!(6));
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
/// | `start { host, entry, payload, options, name, messages, monitor, link }` | Starts a process; returns its PID. |
/// | `start_or_signal { … }` | The same, or sends the `messages` to who has the `name`; returns its PID, and whether it is new. |
/// | `exec { … }` | Starts a process, waits for its end, and returns its result. |
/// | `send(process, payload)` | Sends a message, and waits for room in the mailbox. |
/// | `try_send(process, payload)` | Sends a message and returns `true`, or `false` where there is no room. |
/// | `cancel(process, reason, grace)` | Asks a process to end, and tells it the `reason`, a string. After `grace` seconds, or 5, it is terminated. |
/// | `terminate(process)` | Ends a process where it is. |
/// | `whereis(name)` | The PID of the process that has a name, or `nil`. |
/// | `unregister(name)` | Takes a name from a process; returns whether any had it. |
///
/// For scripts that run as processes, and not as functions:
///
/// | | |
/// |---|---|
/// | `self()` | Its own PID. |
/// | `receive(timeout)` | Waits for a message, for `timeout` seconds or for ever, and returns it, or `nil`. |
/// | `monitor(process)`, `demonitor(process)` | Receives the exit of a process, once, or no more. |
/// | `link(process)`, `unlink(process)` | Ends where that process fails, and the other way round, or no more. |
/// | `trap_links(boolean)` | Whether it receives the failure of a linked process and lives. |
/// | `register(name)` | Gives itself a name. |
/// | `cancelled()` | Why it was cancelled, or `nil`. |
///
/// A message is a table with a `kind`:
///
/// | `kind` | |
/// |---|---|
/// | `"sent"` | Somebody sent the `payload`: `from` is the PID, or `nil` if that is no process. One that does not fit into the memory left is not there, and `too_large` is `true`. |
/// | `"exited"` | A monitored process ended: `pid`; `reason`, as [`ExitReason::as_str`] names it; `message`, the same in words; the `result`, where it was done, or `result_too_large` if that does not fit; where it failed the `error`, as that of a failed call, if that fits; where a link ended it the `origin`, which failed first. |
/// | `"link_down"` | The same of a linked process. |
/// | `"cancelled"` | It is to end, because of `reason`, in `grace` seconds; `nil` is any time. |
///
/// # What a script may do to others
///
/// PIDs are numbers, so that a script can guess those of processes it was never told of. It can send to any, as it can call
/// any function. All else it can do only to itself and to those that it started: monitor, link, cancel and terminate
/// them, and take their names. For the exit of a process tells its result, a link ends the other as well, and the
/// rest needs no reason. Where all scripts are [trusted](Self::trusted) they can do so to all.
///
/// A script may start every process, and take every name. It may do so on its own host, that of the process that it is or is
/// called by, and on those that its frame [grants](crate::process::SPAWN_HOSTS); hosts
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

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("send", move |lua, ctx, (process, payload): (Value, Value)| {
            let manager = access.manager(&ctx).map_err(fault::raise)?;
            let (to, payload) = (to(&process)?, payload_of(lua, &shared, &payload)?);
            Ok(async move { manager.send(&ctx, to, payload).await.map_err(raised) })
        })?;

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
        module.function("start", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &start)?;
            let manager = access.starting(&ctx, &start).map_err(fault::raise)?;
            Ok(manager.start(&ctx, start).map_err(raised)?.to_string())
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("start_or_signal", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &start)?;
            let access = access.clone();
            Ok(async move {
                let started = access.start_or_signal(&ctx, start).await.map_err(fault::raise)?;
                Ok((started.pid().to_string(), matches!(started, Started::New(_))))
            })
        })?;

        let (access, shared) = (self.access.clone(), Arc::clone(module.shared()));
        module.prepared_function("exec", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &start)?;
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
            access.monitor(&ctx, &text(&other)?).map_err(fault::raise)
        })?;
        module.function("demonitor", |_, ctx, other: Value| {
            guest::demonitor(&ctx, &text(&other)?).map_err(fault::raise)
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
        })
    }
}

impl LuaModule for ProcessModule {
    fn name(&self) -> &'static str {
        "process"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        self.install_messages(module)?;
        self.install_starting(module)?;
        self.install_ending(module)?;
        self.install_relations(module)?;
        self.install_names(module)
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

/// A time that a script gives. One that is too long to be counted is without end.
fn seconds(seconds: f64, name: &str) -> Result<Duration, Refusal> {
    if seconds.is_nan() || seconds < 0.0 {
        let message = format!("{name} is a number of seconds, 0 or more, and not {seconds}");
        return Err(CallError::invalid(message).into());
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
