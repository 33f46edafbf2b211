//! What scripts have of processes.

mod message;
mod start;

use std::sync::Arc;
use std::time::Duration;

use mlua::{Lua, Value};

use self::message::{Received, exec_error, start_error};
use super::convert::Shared;
use super::fault;
use super::host::{Given, Refusal, invalid};
use super::module::{LuaModule, ModuleBuilder};
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::frame::PID;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::process::{
    Destination, ProcessCtx, ProcessError, ProcessManager, SendError, SendErrorReason, Started, WeakManager,
};

/// How long a process that is cancelled has, unless it is said.
const GRACE: Duration = Duration::from_secs(5);
/// Longer than any PID or name in text, in bytes.
const LONGEST_DESTINATION: usize = 512;

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
/// | `cancel(process, reason, grace)` | Asks a process to end within `grace` seconds, or 5; then it is terminated. |
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
/// | `"sent"` | Somebody sent the `payload`: `from` is the PID, or `nil` if that is no process. |
/// | `"exited"` | A monitored process ended: `pid`; `reason`, as [`ExitReason::as_str`] names it; `message`, the same in words; the `result`, where it was done; where it failed the `error`, as that of a failed call; where a link ended it the `origin`, which failed first. |
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
/// Every process, and every name, is there to be started or taken by every script: hosts
/// [bound](crate::process::HostConfig::processes) how many.
///
/// [`ExitReason::as_str`]: crate::process::ExitReason::as_str
#[derive(Clone)]
pub struct ProcessModule {
    /// Held weakly, because it holds what the scripts are registered with.
    manager: WeakManager,
    is_trusted: bool,
}

impl ProcessModule {
    /// For the processes of `manager`, which this does not keep.
    #[must_use]
    pub fn new(manager: &ProcessManager) -> Self {
        Self { manager: manager.downgrade(), is_trusted: false }
    }

    /// The same, for scripts that may do to all processes what others [may](Self#what-a-script-may-do-to-others) to their
    /// own.
    #[must_use]
    pub const fn trusted(mut self) -> Self {
        self.is_trusted = true;
        self
    }

    /// Those that the script is one of, or those that it was given.
    fn manager(&self, ctx: &Ctx) -> Result<ProcessManager, CallError> {
        match ProcessCtx::of(ctx) {
            Some(process) => Ok(process.processes().clone()),
            None => self.manager.upgrade().ok_or_else(|| {
                CallError::new(ErrorKind::Unavailable, "there are no processes any more")
                    .with_retryable(false)
            }),
        }
    }

    /// A process that the script may do more to than send.
    fn own(&self, ctx: &Ctx, process: &Value, to_do: &str) -> Result<(ProcessManager, Pid), Refusal> {
        let manager = self.manager(ctx)?;
        let pid = find(&manager, process)?;
        self.check_own(&manager, ctx, pid, to_do)?;
        Ok((manager, pid))
    }

    fn check_own(&self, manager: &ProcessManager, ctx: &Ctx, pid: Pid, to_do: &str) -> Result<(), CallError> {
        // What `ProcessManager::start` takes for the parent.
        let script = ctx.frame().get(&PID).copied();
        if self.is_trusted || script == Some(pid) || (script.is_some() && manager.parent(pid) == script) {
            return Ok(());
        }
        let message = format!("this script may not {to_do} {pid}, which it did not start");
        Err(CallError::new(ErrorKind::Denied, message))
    }

    fn install_messages(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let shared = Arc::clone(module.shared());
        module.prepared_function("receive", move |_, ctx, timeout: Option<f64>| {
            let mut process = process(&ctx, "receive")?;
            let timeout = timeout.map(|timeout| seconds(timeout, "the timeout")).transpose()?;
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

        let (this, shared) = (self.clone(), Arc::clone(module.shared()));
        module.prepared_function("send", move |lua, ctx, (process, payload): (Value, Value)| {
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            let (to, payload) = (destination(&process)?, payload_of(lua, &shared, &payload)?);
            Ok(async move { manager.send(&ctx, to, payload).await.map_err(raised) })
        })?;

        let (this, shared) = (self.clone(), Arc::clone(module.shared()));
        module.function("try_send", move |lua, ctx, (process, payload): (Value, Value)| {
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            let (to, payload) = (destination(&process)?, payload_of(lua, &shared, &payload)?);
            match manager.try_send(&ctx, to, payload) {
                Ok(()) => Ok(true),
                Err(SendError { reason: SendErrorReason::Full { .. }, .. }) => Ok(false),
                Err(error) => Err(raised(error)),
            }
        })
    }

    fn install_starting(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let (this, shared) = (self.clone(), Arc::clone(module.shared()));
        module.function("start", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &ctx, &start)?;
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            let started = manager.start(&ctx, start);
            Ok(started.map_err(|error| fault::raise(start_error(error)))?.to_string())
        })?;

        let (this, shared) = (self.clone(), Arc::clone(module.shared()));
        module.prepared_function("start_or_signal", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &ctx, &start)?;
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            Ok(async move {
                let started = manager.start_or_signal(&ctx, start).await;
                let started = started.map_err(|error| fault::raise(start_error(error)))?;
                Ok((started.pid().to_string(), matches!(started, Started::New(_))))
            })
        })?;

        let (this, shared) = (self.clone(), Arc::clone(module.shared()));
        module.prepared_function("exec", move |lua, ctx, start: Value| {
            let start = start::take(lua, &shared, &ctx, &start)?;
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            let shared = Arc::clone(&shared);
            Ok(async move {
                let payload = manager.exec(&ctx, start).await;
                let payload = payload.map_err(|error| fault::raise(exec_error(error)))?;
                Ok(Given { payload, shared })
            })
        })
    }

    fn install_ending(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let this = self.clone();
        module.function(
            "cancel",
            move |_, ctx, (process, reason, grace): (Value, mlua::String, Option<f64>)| {
                let grace = grace.map_or(Ok(GRACE), |grace| seconds(grace, "the grace period"))?;
                let (manager, pid) = this.own(&ctx, &process, "cancel")?;
                let reason = fault::shortened(&reason.to_string_lossy());
                manager.cancel(pid, &reason, grace).map_err(raised)
            },
        )?;

        let this = self.clone();
        module.function("terminate", move |_, ctx, process: Value| {
            let (manager, pid) = this.own(&ctx, &process, "terminate")?;
            manager.terminate(pid).map_err(raised)
        })?;
        module.function("cancelled", |_, ctx, ()| {
            Ok(process(&ctx, "cancelled")?.cancel_reason().map(|reason| reason.to_string()))
        })
    }

    fn install_relations(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let this = self.clone();
        module.function("monitor", move |_, ctx, other: Value| {
            let process = process(&ctx, "monitor")?;
            let (_, pid) = this.own(&ctx, &other, "monitor")?;
            process.monitor(pid).map_err(raised)
        })?;
        module.function("demonitor", |_, ctx, other: Value| {
            let process = process(&ctx, "demonitor")?;
            Ok(match destination(&other)? {
                Destination::Pid(pid) => process.demonitor(pid),
                Destination::Name(name) => {
                    process.processes().whereis(&name).is_some_and(|pid| process.demonitor(pid))
                }
            })
        })?;

        let this = self.clone();
        module.function("link", move |_, ctx, other: Value| {
            let process = process(&ctx, "link")?;
            let (_, pid) = this.own(&ctx, &other, "link to")?;
            process.link(pid).map_err(raised)
        })?;
        let this = self.clone();
        module.function("unlink", move |_, ctx, other: Value| {
            let process = process(&ctx, "unlink")?;
            let (_, pid) = this.own(&ctx, &other, "end a link to")?;
            process.unlink(pid);
            Ok(())
        })?;
        module.function("trap_links", |_, ctx, traps: Value| {
            let process = process(&ctx, "trap_links")?;
            let Value::Boolean(traps) = traps else {
                return Err(raised(invalid("`process.trap_links` takes `true` or `false`")));
            };
            process.trap_links(traps);
            Ok(())
        })
    }

    fn install_names(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.function("self", |_, ctx, ()| Ok(process(&ctx, "self")?.pid().to_string()))?;
        module.function("register", |_, ctx, name: mlua::String| {
            let process = process(&ctx, "register")?;
            process.processes().register_name(&name.to_str()?, process.pid()).map_err(raised)
        })?;

        let this = self.clone();
        module.function("unregister", move |_, ctx, name: mlua::String| {
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            let name = name.to_str()?;
            let Some(pid) = manager.whereis(&name) else { return Ok(false) };
            this.check_own(&manager, &ctx, pid, "take a name from").map_err(raised)?;
            Ok(manager.unregister_name_of(&name, pid))
        })?;

        let this = self.clone();
        module.function("whereis", move |_, ctx, name: mlua::String| {
            let manager = this.manager(&ctx).map_err(Refusal::Call)?;
            Ok(manager.whereis(&name.to_str()?).map(|pid| pid.to_string()))
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

impl std::fmt::Debug for ProcessModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessModule").field("is_trusted", &self.is_trusted).finish_non_exhaustive()
    }
}

fn raised(error: impl Into<CallError>) -> mlua::Error {
    fault::raise(error.into())
}

/// The process that the script is, for what only one can do.
fn process(ctx: &Ctx, function: &str) -> Result<ProcessCtx, Refusal> {
    ProcessCtx::of(ctx).ok_or_else(|| {
        let message = format!("`process.{function}` is for scripts that run as processes, not as functions");
        Refusal::Call(CallError::invalid(message))
    })
}

fn destination(process: &Value) -> Result<Destination<'static>, Refusal> {
    let Value::String(text) = process else {
        let kind = process.type_name();
        let message =
            format!("a process is given by its PID or its name, which are strings, not by a {kind}");
        return Err(CallError::invalid(message).into());
    };
    let text = text.to_str()?;
    if text.len() > LONGEST_DESTINATION {
        let message = format!("{} bytes are too long for a PID or a name", text.len());
        return Err(CallError::invalid(message).into());
    }
    Ok(match Destination::from_text(&text).map_err(invalid)? {
        Destination::Pid(pid) => Destination::Pid(pid),
        Destination::Name(name) => Destination::Name(name.into_owned().into()),
    })
}

fn find(manager: &ProcessManager, process: &Value) -> Result<Pid, Refusal> {
    match destination(process)? {
        Destination::Pid(pid) => Ok(pid),
        Destination::Name(name) => manager.whereis(&name).ok_or_else(|| {
            Refusal::Call(ProcessError::Unknown { process: Destination::Name(name).to_string() }.into())
        }),
    }
}

fn payload_of(lua: &Lua, shared: &Shared, payload: &Value) -> Result<Payload, Refusal> {
    let room = shared.room(lua)?;
    Ok(shared.marks.take(payload, "the message", shared.payload, &shared.watch, room)?)
}

/// A time that a script gives. One that is too long to be counted is without end.
fn seconds(seconds: f64, name: &str) -> Result<Duration, Refusal> {
    if seconds.is_nan() || seconds < 0.0 {
        let message = format!("{name} is a number of seconds, 0 or more, and not {seconds}");
        return Err(CallError::invalid(message).into());
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
