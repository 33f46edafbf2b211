//! What scripts and components may do with processes, and what they learn of them. They name processes in text, and are not
//! trusted.

use std::time::Duration;

use frame_registry::IdError;
use tokio::time::timeout;

use super::call::ProcessCallError;
use super::cell::ProcessCell;
use super::cell::monitor::MonitorRef;
use super::context::ProcessContext;
use super::error::{ExecError, ProcessError, SpawnError};
use super::group::GroupId;
use super::manager::{ProcessManager, WeakManager};
use super::message::{Destination, Message, in_words};
use super::names::LookupError;
use super::names::spawn_or_signal::{Spawned, spawn_or_signal};
use super::pattern::Pattern;
use super::policy::may_spawn;
use super::spawn::{self, EntryId, Spawn};
use super::supervisor::{ChildRef, ControlError, DynamicChild, StartedChild, SupervisorHandle};
use super::timer::TimerRef;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind, shorten_message};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// The default grace period of a process that a guest cancels.
const GRACE: Duration = Duration::from_secs(5);
/// The most bytes of a PID, a name or an id in text. All valid ones are shorter.
const MAX_DESTINATION: usize = 512;

/// The access of an engine's guests to processes.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Weak, because the manager holds the functions and processes, these the engine, and the engine this.
    manager: WeakManager,
    is_trusted: bool,
}

impl Access {
    pub(crate) fn new(manager: &ProcessManager) -> Self {
        Self { manager: manager.downgrade(), is_trusted: false }
    }

    /// Lets guests do to all processes what others may do to their own.
    pub(crate) fn trusted(self) -> Self {
        Self { is_trusted: true, ..self }
    }

    /// Returns the manager of the guest, if that is a process, or else the one that the engine was given.
    pub(crate) fn manager(&self, ctx: &CallContext) -> Result<ProcessManager, CallError> {
        match ProcessContext::of(ctx) {
            Some(process) => Ok(process.processes().clone()),
            None => self.manager.upgrade().ok_or_else(|| {
                CallError::new(ErrorKind::Unavailable, "the process manager has been dropped")
                    .with_retryable(false)
            }),
        }
    }

    /// Returns the manager for a spawn. Guests may spawn on [some hosts](super::SPAWN_KEY) only. A function can neither own, link to
    /// nor monitor what it spawns.
    pub(crate) fn manager_for_spawn(
        &self,
        ctx: &CallContext,
        spawn: &Spawn,
    ) -> Result<ProcessManager, CallError> {
        if spawn.monitor {
            process(ctx, "monitor")?;
        }
        if spawn.link {
            process(ctx, "link")?;
        }
        if spawn.owner.is_some() {
            process(ctx, "owned")?;
        }
        if !self.is_trusted && !may_spawn(ctx, &spawn.host) {
            return Err(self.not_granted(ctx, spawn));
        }
        self.manager(ctx)
    }

    /// Returns why a guest may not spawn a process. An unknown host is most likely misspelt.
    fn not_granted(&self, ctx: &CallContext, spawn: &Spawn) -> CallError {
        let found = match self.manager(ctx) {
            Ok(manager) => spawn::lookup(&manager, spawn),
            Err(error) => return error,
        };
        if let Err(error @ SpawnError::UnknownHost { .. }) = found {
            return error.into();
        }
        let message =
            format!("not allowed to spawn processes on `{}`; grant it by the option `spawn`", spawn.host);
        CallError::new(ErrorKind::Denied, message)
    }

    /// [Spawns or signals](ProcessManager::spawn_or_signal) a process. Monitors and links to one that has the name only if the guest
    /// may do so.
    pub(crate) async fn spawn_or_signal(
        &self,
        ctx: &CallContext,
        spawn: Spawn,
    ) -> Result<Spawned, CallError> {
        let manager = self.manager_for_spawn(ctx, &spawn)?;
        let may_relate_to = |pid| self.check_own(&manager, ctx, pid, "monitor or link to");
        let may_relate_to = |pid| may_relate_to(pid).map_err(NotSpawned::Denied);
        spawn_or_signal(&manager, ctx, spawn, may_relate_to).await.map_err(|error| match error {
            NotSpawned::Spawn(error) => spawn_error(error),
            NotSpawned::Denied(error) => error,
        })
    }

    /// Calls a process. Waits for `timeout`, or else for the configured time.
    pub(crate) async fn call(
        &self,
        ctx: &CallContext,
        to: Destination<'_>,
        request: Payload,
        timeout: Option<Duration>,
    ) -> Result<Payload, CallError> {
        let manager = self.manager(ctx)?;
        let timeout = timeout.unwrap_or(manager.config().call_timeout);
        manager.call_timeout(ctx, to, request, timeout).await.map_err(process_call_error)
    }

    pub(crate) fn cancel(
        &self,
        ctx: &CallContext,
        to: &str,
        reason: &str,
        grace: Option<Duration>,
    ) -> Result<(), CallError> {
        let (manager, pid) = self.own(ctx, to, "cancel")?;
        Ok(manager.cancel(pid, &shorten_message(reason), grace.unwrap_or(GRACE))?)
    }

    pub(crate) fn terminate(&self, ctx: &CallContext, to: &str) -> Result<(), CallError> {
        let (manager, pid) = self.own(ctx, to, "terminate")?;
        Ok(manager.terminate(pid)?)
    }

    pub(crate) fn monitor(&self, ctx: &CallContext, other: &str) -> Result<MonitorRef, CallError> {
        let process = process(ctx, "monitor")?;
        let (_, pid) = self.own(ctx, other, "monitor")?;
        Ok(process.monitor(pid)?)
    }

    pub(crate) fn link(&self, ctx: &CallContext, other: &str) -> Result<(), CallError> {
        let process = process(ctx, "link")?;
        let (_, pid) = self.own(ctx, other, "link to")?;
        Ok(process.link(pid)?)
    }

    pub(crate) fn unlink(&self, ctx: &CallContext, other: &str) -> Result<(), CallError> {
        let process = process(ctx, "unlink")?;
        let (_, pid) = self.own(ctx, other, "end a link to")?;
        process.unlink(pid);
        Ok(())
    }

    pub(crate) fn unregister(&self, ctx: &CallContext, name: &str) -> Result<bool, CallError> {
        let manager = self.manager(ctx)?;
        let Some(pid) = manager.whereis(name) else { return Ok(false) };
        self.check_own(&manager, ctx, pid, "unregister a name of")?;
        // From the checked process only, because another may have the name by now.
        let holder = manager.cells().find(pid);
        Ok(holder.is_some_and(|holder| manager.names().unregister_from(name, &holder)))
    }

    pub(crate) fn whereis(&self, ctx: &CallContext, name: &str) -> Result<Option<Pid>, CallError> {
        Ok(self.manager(ctx)?.whereis(name))
    }

    /// Looks up a process by its name. Waits for `timeout`, or else for as long as a call.
    pub(crate) async fn lookup(
        &self,
        ctx: &CallContext,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Pid>, CallError> {
        let manager = self.manager(ctx)?;
        let timeout = timeout.unwrap_or(manager.config().call_timeout);
        match manager.lookup(ctx, name, timeout).await {
            Ok(pid) => Ok(Some(pid)),
            Err(LookupError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a group that the guest may use: of its own host, or of another on which it may spawn processes.
    pub(crate) fn group(
        &self,
        ctx: &CallContext,
        name: &str,
        host: Option<&str>,
    ) -> Result<(ProcessManager, GroupId), CallError> {
        let own = ProcessCell::containing(ctx).map(|process| &process.host.id);
        let host = match (host, own) {
            (Some(host), _) => {
                host.parse().map_err(|error: IdError| CallError::invalid(error.to_string()))?
            }
            (None, Some(own)) => own.clone(),
            (None, None) => {
                let message = "no process has called this function, so it has no host of its own; name the host of the group";
                return Err(CallError::invalid(message));
            }
        };
        if !self.is_trusted && !may_spawn(ctx, &host) {
            let message = format!("not allowed to use groups of `{host}`; grant it by the option `spawn`");
            return Err(CallError::new(ErrorKind::Denied, message));
        }
        Ok((self.manager(ctx)?, GroupId::new(host, name)?))
    }

    /// Makes the guest a member of a group.
    pub(crate) fn join(&self, ctx: &CallContext, name: &str, host: Option<&str>) -> Result<bool, CallError> {
        let process = process(ctx, "join")?;
        Ok(process.join(&self.group(ctx, name, host)?.1)?)
    }

    pub(crate) fn leave(&self, ctx: &CallContext, name: &str, host: Option<&str>) -> Result<bool, CallError> {
        let process = process(ctx, "leave")?;
        Ok(process.leave(&self.group(ctx, name, host)?.1))
    }

    /// Notifies the guest of changes of a group from now on.
    pub(crate) fn watch_group(
        &self,
        ctx: &CallContext,
        name: &str,
        host: Option<&str>,
    ) -> Result<bool, CallError> {
        let process = process(ctx, "watch")?;
        Ok(process.watch_group(&self.group(ctx, name, host)?.1)?)
    }

    pub(crate) fn unwatch_group(
        &self,
        ctx: &CallContext,
        name: &str,
        host: Option<&str>,
    ) -> Result<bool, CallError> {
        let process = process(ctx, "unwatch")?;
        Ok(process.unwatch_group(&self.group(ctx, name, host)?.1))
    }

    /// Returns the members of a group as text.
    pub(crate) fn members(
        &self,
        ctx: &CallContext,
        name: &str,
        host: Option<&str>,
    ) -> Result<Vec<String>, CallError> {
        let (manager, group) = self.group(ctx, name, host)?;
        Ok(manager.members(&group).iter().map(ToString::to_string).collect())
    }

    /// Starts a child of a dynamic supervisor. A supervisor that is about to start is waited for, as long as for a reply to a call.
    pub(crate) async fn start_child(
        &self,
        ctx: &CallContext,
        supervisor: &str,
        child: DynamicChild,
    ) -> Result<StartedChild, CallError> {
        let handle = self.supervisor(ctx, supervisor)?;
        let patience = self.manager(ctx)?.config().call_timeout;
        // `start_child` reports a supervisor that does not run.
        let _ = timeout(patience, handle.ready()).await;
        let started = if self.is_trusted {
            handle.start_child(ctx, child).await
        } else {
            handle.start_child_of_guest(ctx, child).await
        };
        started.map_err(|error| control_error(error, supervisor))
    }

    /// Stops a child, given by its PID or its id. A guest may stop the children that it started.
    pub(crate) async fn stop_child(
        &self,
        ctx: &CallContext,
        supervisor: &str,
        child: &str,
    ) -> Result<(), CallError> {
        let handle = self.supervisor(ctx, supervisor)?;
        check_length(child)?;
        let child =
            if child.starts_with('{') { ChildRef::Process(pid(child)?) } else { ChildRef::Id(child.into()) };
        let guest = if self.is_trusted { None } else { ctx.unit() };
        if guest.is_none() && !self.is_trusted {
            return Err(control_error(child.unknown(), supervisor));
        }
        handle.stop_child_of_guest(guest, child).await.map_err(|error| control_error(error, supervisor))
    }

    fn supervisor(&self, ctx: &CallContext, id: &str) -> Result<SupervisorHandle, CallError> {
        check_length(id)?;
        let parsed: EntryId = id.parse().map_err(|error: IdError| CallError::invalid(error.to_string()))?;
        let found = self.manager(ctx)?.supervisor(&parsed);
        found.ok_or_else(|| CallError::new(ErrorKind::NotFound, format!("unknown supervisor `{parsed}`")))
    }

    /// Returns a process to which the guest may do more than send.
    fn own(&self, ctx: &CallContext, process: &str, to_do: &str) -> Result<(ProcessManager, Pid), CallError> {
        let manager = self.manager(ctx)?;
        let pid = match destination(process)? {
            Destination::Pid(pid) => pid,
            Destination::Name(name) => manager
                .whereis(&name)
                .ok_or_else(|| ProcessError::Unknown { process: Destination::Name(name).to_string() })?,
        };
        self.check_own(&manager, ctx, pid, to_do)?;
        Ok((manager, pid))
    }

    fn check_own(
        &self,
        manager: &ProcessManager,
        ctx: &CallContext,
        pid: Pid,
        to_do: &str,
    ) -> Result<(), CallError> {
        // The unit that `ProcessManager::spawn` makes the parent.
        let guest = ctx.unit();
        if self.is_trusted || guest == Some(pid) || (guest.is_some() && manager.parent(pid) == guest) {
            return Ok(());
        }
        // The same for a process that never existed, so that a guest cannot find out which processes exist.
        let message = format!("only {pid} itself and the unit that spawned it may {to_do} it");
        Err(CallError::new(ErrorKind::Denied, message))
    }
}

/// The reason for which a guest neither spawned nor signalled a process.
enum NotSpawned {
    Spawn(SpawnError),
    /// It may not monitor or link to the process that has the name.
    Denied(CallError),
}

impl From<SpawnError> for NotSpawned {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

/// Returns the process that the guest is, for operations of processes.
pub(crate) fn process(ctx: &CallContext, to_do: &str) -> Result<ProcessContext, CallError> {
    ProcessContext::of(ctx)
        .ok_or_else(|| CallError::invalid(format!("`{to_do}` is for processes, and this is a function")))
}

/// Parses a PID.
pub(crate) fn pid(text: &str) -> Result<Pid, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| pid_error(&error))
}

/// Receives a message that matches. Waits for at most `timeout`.
pub(crate) async fn receive_matching(
    mut process: ProcessContext,
    wanted: Pattern,
    timeout: Option<Duration>,
) -> Option<Message> {
    let matches = |message: &Message| wanted.matches(message);
    match timeout {
        None => Some(process.receive_where(matches).await),
        Some(Duration::ZERO) => process.try_receive_where(matches),
        Some(timeout) => process.receive_where_timeout(timeout, matches).await,
    }
}

/// Ends a monitor.
pub(crate) fn demonitor(ctx: &CallContext, monitor: &str) -> Result<bool, CallError> {
    Ok(process(ctx, "demonitor")?.demonitor(monitor_ref(monitor)?))
}

/// Parses the reference of a monitor.
pub(crate) fn monitor_ref(text: &str) -> Result<MonitorRef, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| match error {
        PidError::Malformed { .. } | PidError::Parts { .. } => CallError::invalid(format!(
            "{text:?} is not the reference of a monitor; pass the return value of `monitor`, or the PID if the spawn set it up"
        )),
        error @ PidError::UnknownHost { .. } => pid_error(&error),
    })
}

/// Parses the reference of a timer.
pub(crate) fn timer_ref(text: &str) -> Result<TimerRef, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| match error {
        PidError::Malformed { .. } | PidError::Parts { .. } => CallError::invalid(format!(
            "{text:?} is not the reference of a timer; pass the return value of `send_after` or `send_every`"
        )),
        error @ PidError::UnknownHost { .. } => pid_error(&error),
    })
}

pub(crate) fn register(ctx: &CallContext, name: &str) -> Result<(), CallError> {
    let process = process(ctx, "register")?;
    Ok(process.processes().register_name(name, process.pid())?)
}

pub(crate) fn destination(text: &str) -> Result<Destination<'_>, CallError> {
    check_length(text)?;
    Destination::from_text(text).map_err(|error| pid_error(&error))
}

fn check_length(text: &str) -> Result<(), CallError> {
    if text.len() > MAX_DESTINATION {
        return Err(CallError::invalid(format!(
            "{} bytes are too long for a PID, a name or an id",
            text.len()
        )));
    }
    Ok(())
}

fn pid_error(error: &PidError) -> CallError {
    let kind = match error {
        PidError::UnknownHost { .. } => ErrorKind::NotFound,
        PidError::Malformed { .. } | PidError::Parts { .. } => ErrorKind::Invalid,
    };
    CallError::new(kind, error.to_string())
}

/// Converts a failed spawn for a guest, which may keep the error as long as it likes. So the error contains neither the message nor
/// how another process ended.
fn spawn_error(error: SpawnError) -> CallError {
    let (holder, what, reason, cause) = match error {
        SpawnError::NotSignalled { holder, source } => {
            (holder, "did not receive the messages", source.reason.to_string(), CallError::from(*source))
        }
        SpawnError::NotMonitored { holder, source } => {
            let cause = CallError::from(*source);
            (holder, "was not monitored", cause.message().to_owned(), cause)
        }
        error => return error.into(),
    };
    let message = format!("the process was not spawned: {holder} has the name, and {what}: {reason}");
    CallError::new(cause.kind(), message).with_retryable(cause.is_retryable())
}

/// Converts a failed call for a guest, without the causes of the other process's failure.
fn process_call_error(error: ProcessCallError) -> CallError {
    let message = match &error {
        ProcessCallError::Ended { exit } => {
            format!("{} ended before it replied: {}", exit.pid, in_words(&exit.reason))
        }
        _ => return error.into(),
    };
    let error = CallError::from(error);
    CallError::new(error.kind(), message).with_retryable(error.is_retryable())
}

/// Converts a failed exec for a guest, without the causes of the process's failure.
pub(crate) fn exec_error(error: ExecError) -> CallError {
    let ExecError::Exit { exit } = &error else { return error.into() };
    let message = format!("{} ended without a result: {}", exit.pid, in_words(&exit.reason));
    let error = CallError::from(error);
    CallError::new(error.kind(), message).with_retryable(error.is_retryable())
}

/// Converts an error of a supervisor for a guest, without the causes of a refusal by a resolver or a handler.
fn control_error(error: ControlError, supervisor: &str) -> CallError {
    match error {
        ControlError::NotStarted { source, .. } => source.without_causes(),
        ControlError::NotRunning | ControlError::ShuttingDown => {
            CallError::new(ErrorKind::Unavailable, format!("supervisor `{supervisor}` is not running"))
        }
        ControlError::UnknownChild { .. } | ControlError::UnknownProcess { .. } => {
            let message =
                format!("supervisor `{supervisor}` has no such child that was started by this unit");
            CallError::new(ErrorKind::NotFound, message)
        }
        error => error.into(),
    }
}
