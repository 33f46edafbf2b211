//! What scripts and components may do with processes, and what they are told of them. They name processes in text, and are
//! not trusted.

use std::time::Duration;

use frame_registry::IdError;

use super::call::ProcessCallError;
use super::cell::ProcessCell;
use super::context::ProcessContext;
use super::error::{ExecError, ProcessError, SpawnError};
use super::exit::in_words;
use super::group::GroupId;
use super::lookup::LookupError;
use super::manager::{ProcessManager, WeakManager};
use super::message::{Destination, Message};
use super::monitor::MonitorRef;
use super::pattern::Pattern;
use super::spawn::{Spawn, Spawned};
use super::spawn_hosts;
use super::timer::TimerRef;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};
use crate::printable::shortened;

/// How long a process that a guest cancels has, unless that is said.
const GRACE: Duration = Duration::from_secs(5);
/// Longer than any PID, name or id in text, in bytes.
const LONGEST_DESTINATION: usize = 512;

/// The processes, as the guests of an engine have them.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Held weakly, because it holds what the guests are registered with.
    manager: WeakManager,
    is_trusted: bool,
}

impl Access {
    pub(crate) fn new(manager: &ProcessManager) -> Self {
        Self { manager: manager.downgrade(), is_trusted: false }
    }

    /// The same, for guests that may do to all processes what others may to their own.
    pub(crate) fn trusted(self) -> Self {
        Self { is_trusted: true, ..self }
    }

    pub(super) const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The processes that the guest is one of, or those that it was given.
    pub(crate) fn manager(&self, ctx: &CallContext) -> Result<ProcessManager, CallError> {
        match ProcessContext::of(ctx) {
            Some(process) => Ok(process.processes().clone()),
            None => self.manager.upgrade().ok_or_else(|| {
                CallError::new(ErrorKind::Unavailable, "there are no processes any more")
                    .with_retryable(false)
            }),
        }
    }

    /// The same, for a guest that starts one of them, which it may on [some hosts](super::SPAWN_KEY) only. A function cannot own it,
    /// be linked to it, nor be told of its exit.
    pub(crate) fn starting(&self, ctx: &CallContext, start: &Spawn) -> Result<ProcessManager, CallError> {
        if start.monitor {
            process(ctx, "monitor")?;
        }
        if start.link {
            process(ctx, "link")?;
        }
        if start.owner.is_some() {
            process(ctx, "owned")?;
        }
        if !self.is_trusted && !spawn_hosts::may_spawn(ctx, &start.host) {
            return Err(self.not_granted(ctx, start));
        }
        self.manager(ctx)
    }

    /// Why a guest may not start a process on a host. One that there is not is most likely misspelt.
    fn not_granted(&self, ctx: &CallContext, start: &Spawn) -> CallError {
        let found = match self.manager(ctx) {
            Ok(manager) => manager.what_and_where(start),
            Err(error) => return error,
        };
        if let Err(error @ SpawnError::UnknownHost { .. }) = found {
            return error.into();
        }
        let message =
            format!("not allowed to start processes on `{}`; grant it by the option `spawn`", start.host);
        CallError::new(ErrorKind::Denied, message)
    }

    /// As [`ProcessManager::spawn_or_signal`], where who has the name is monitored and linked to only if it may be.
    pub(crate) async fn spawn_or_signal(
        &self,
        ctx: &CallContext,
        start: Spawn,
    ) -> Result<Spawned, CallError> {
        let manager = self.starting(ctx, &start)?;
        let may_relate_to = |pid| self.check_own(&manager, ctx, pid, "monitor or link to");
        let started =
            manager.start_or_signal_if(ctx, start, |pid| may_relate_to(pid).map_err(Refused::Denied));
        started.await.map_err(|refused| match refused {
            Refused::Start(error) => start_error(error),
            Refused::Denied(error) => error,
        })
    }

    /// Calls a process, for `timeout` or as long as configured.
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
        Ok(manager.cancel(pid, &shortened(reason), grace.unwrap_or(GRACE))?)
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
        self.check_own(&manager, ctx, pid, "take a name from")?;
        // Another may have it by now, of which nothing is checked.
        Ok(manager.unregister_name_of(name, pid))
    }

    pub(crate) fn whereis(&self, ctx: &CallContext, name: &str) -> Result<Option<Pid>, CallError> {
        Ok(self.manager(ctx)?.whereis(name))
    }

    /// Looks for a process by its name, for `timeout` or as long as a call waits.
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

    /// A group that the guest may use: of its own host, unless it names another, on which it may start processes.
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
        if !self.is_trusted && !spawn_hosts::may_spawn(ctx, &host) {
            let message = format!("not allowed to use groups of `{host}`; grant it by the option `spawn`");
            return Err(CallError::new(ErrorKind::Denied, message));
        }
        Ok((self.manager(ctx)?, GroupId::new(host, name)?))
    }

    /// Makes the guest a member of a group, or ends that.
    pub(crate) fn join(&self, ctx: &CallContext, name: &str, host: Option<&str>) -> Result<bool, CallError> {
        let process = process(ctx, "join")?;
        Ok(process.join(&self.group(ctx, name, host)?.1)?)
    }

    pub(crate) fn leave(&self, ctx: &CallContext, name: &str, host: Option<&str>) -> Result<bool, CallError> {
        let process = process(ctx, "leave")?;
        Ok(process.leave(&self.group(ctx, name, host)?.1))
    }

    /// Has the guest told of changes of a group, or no more.
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

    /// The members of a group, as text.
    pub(crate) fn members(
        &self,
        ctx: &CallContext,
        name: &str,
        host: Option<&str>,
    ) -> Result<Vec<String>, CallError> {
        let (manager, group) = self.group(ctx, name, host)?;
        Ok(manager.members(&group).iter().map(ToString::to_string).collect())
    }

    /// A process that the guest may do more to than send.
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
        // What `ProcessManager::spawn` takes for the parent.
        let guest = ctx.unit();
        if self.is_trusted || guest == Some(pid) || (guest.is_some() && manager.parent(pid) == guest) {
            return Ok(());
        }
        // The same of a process that never was: it would tell which there are.
        let message = format!("only {pid} itself and the unit that started it may {to_do} it");
        Err(CallError::new(ErrorKind::Denied, message))
    }
}

/// Why a guest neither started a process nor signalled one.
enum Refused {
    Start(SpawnError),
    /// It may not do that to who has the name.
    Denied(CallError),
}

impl From<SpawnError> for Refused {
    fn from(error: SpawnError) -> Self {
        Self::Start(error)
    }
}

/// The process that the guest is, for what only one can do.
pub(crate) fn process(ctx: &CallContext, to_do: &str) -> Result<ProcessContext, CallError> {
    ProcessContext::of(ctx)
        .ok_or_else(|| CallError::invalid(format!("`{to_do}` is for processes, and this is a function")))
}

/// A PID in text.
pub(crate) fn pid(text: &str) -> Result<Pid, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| pid_error(&error))
}

/// Receives a message that matches, for no longer than `timeout`.
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

/// Ends a monitor, given by its reference in text.
pub(crate) fn demonitor(ctx: &CallContext, monitor: &str) -> Result<bool, CallError> {
    Ok(process(ctx, "demonitor")?.demonitor(monitor_ref(monitor)?))
}

/// The reference of a monitor in text.
pub(crate) fn monitor_ref(text: &str) -> Result<MonitorRef, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| match error {
        PidError::Malformed { .. } | PidError::Parts { .. } => CallError::invalid(format!(
            "{text:?} is not the reference of a monitor; pass what `monitor` returned, or the PID if the start set it up"
        )),
        error @ PidError::UnknownHost { .. } => pid_error(&error),
    })
}

/// The reference of a timer in text.
pub(crate) fn timer_ref(text: &str) -> Result<TimerRef, CallError> {
    check_length(text)?;
    text.parse().map_err(|error| match error {
        PidError::Malformed { .. } | PidError::Parts { .. } => CallError::invalid(format!(
            "{text:?} is not the reference of a timer; pass what `send_after` or `send_every` returned"
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

pub(super) fn check_length(text: &str) -> Result<(), CallError> {
    if text.len() > LONGEST_DESTINATION {
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

/// What a guest is told that did not start a process. It may keep that for as long as it likes, so what it sent is not kept
/// with it, nor how another process ended.
pub(crate) fn start_error(error: SpawnError) -> CallError {
    let (holder, what, reason, cause) = match error {
        SpawnError::NotSignalled { holder, source } => {
            (holder, "sent the messages", source.reason.to_string(), CallError::from(*source))
        }
        SpawnError::NotMonitored { holder, source } => {
            let cause = CallError::from(*source);
            (holder, "monitored", cause.message().to_owned(), cause)
        }
        error => return error.into(),
    };
    let message = format!("the process was not started: {holder} has the name, and was not {what}: {reason}");
    CallError::new(cause.kind(), message).with_retryable(cause.is_retryable())
}

/// The failure of a call that a guest made, without what caused the end of the other process.
pub(crate) fn process_call_error(error: ProcessCallError) -> CallError {
    let message = match &error {
        ProcessCallError::Ended { exit } => {
            format!("{} ended before it replied: {}", exit.pid, in_words(&exit.reason))
        }
        _ => return error.into(),
    };
    let error = CallError::from(error);
    CallError::new(error.kind(), message).with_retryable(error.is_retryable())
}

/// What a guest is told that waited for the result of a process.
pub(crate) fn exec_error(error: ExecError) -> CallError {
    let ExecError::Exit { exit } = &error else { return error.into() };
    let message = format!("{} ended without a result: {}", exit.pid, in_words(&exit.reason));
    let error = CallError::from(error);
    CallError::new(error.kind(), message).with_retryable(error.is_retryable())
}
