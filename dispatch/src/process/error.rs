//! Errors of registering, spawning and addressing processes.

use std::error::Error;
use std::sync::Arc;

use frame_registry::{Id, IdKind, ResolveError};

use super::host::HostId;
use super::message::{Exit, ExitReason, in_words};
use super::send::SendError;
use super::spawn::EntryId;
use crate::error::{CallError, ErrorKind};
use crate::pid::Pid;

/// A process, host or handler was not registered. The manager is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The id is taken.
    #[error("a process `{id}` is already registered; replace it, or unregister it first")]
    EntryTaken {
        /// The id.
        id: EntryId,
    },
    /// An option is set that applies only to function calls, so that no spawn of it would succeed.
    #[error("option `{option}` of `{id}` applies only to function calls; remove it")]
    DispatcherOption {
        /// The id.
        id: EntryId,
        /// The option's name.
        option: &'static str,
    },
    /// There is nothing to replace.
    #[error("no process `{id}` is registered, so it cannot be replaced; register it")]
    NoEntry {
        /// The id.
        id: EntryId,
    },
    /// The id is taken.
    #[error("a host `{id}` is already registered; stop it first")]
    HostTaken {
        /// The id.
        id: HostId,
    },
    /// The host has no runtime, and was not registered on one.
    #[error("host `{id}` has no tokio runtime; set one, or register the host on one")]
    NoRuntime {
        /// The id.
        id: HostId,
    },
    /// The runtime of the host has no timer, so that grace periods could not end.
    #[error("the runtime of host `{id}` has no timer; build it with `enable_time`")]
    NoTimer {
        /// The id.
        id: HostId,
    },
    /// The name of a lifecycle handler is taken.
    #[error(
        "a lifecycle handler `{name}` is already registered; unregister it first, or choose another name"
    )]
    HandlerTaken {
        /// The name.
        name: &'static str,
    },
    /// The manager is stopping, or has stopped.
    #[error("`{id}` was not registered, because the process manager is stopping")]
    Stopping {
        /// What was to be registered.
        id: String,
    },
}

/// A process was not spawned. It has not run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The caller's context has ended.
    #[error("the caller's context has ended")]
    ContextEnded {
        /// The reason.
        source: CallError,
    },
    /// The caller waits for the process, and is nested too deep.
    #[error(transparent)]
    TooDeep {
        /// The limit, and how to raise it.
        source: CallError,
    },
    /// There is no such host.
    #[error("unknown host `{host}`; {}", instead(.nearest.as_ref()))]
    UnknownHost {
        /// Its id.
        host: HostId,
        /// A registered host with a similar id.
        nearest: Option<HostId>,
    },
    /// No process is registered by the id.
    #[error("unknown process `{entry}`; {}", instead(.nearest.as_ref()))]
    UnknownEntry {
        /// Its id.
        entry: EntryId,
        /// A registered process with a similar id.
        nearest: Option<EntryId>,
    },
    /// The host does not run the engine of the entry.
    #[error("host `{host}` does not run `{entry}`, which is {engine}; it runs {engines}")]
    NotRunnable {
        /// The host.
        host: HostId,
        /// The entry.
        entry: EntryId,
        /// The engine of the entry.
        engine: &'static str,
        /// The engines that the host runs.
        engines: String,
    },
    /// The name is not valid.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name. A long one is cut off.
        name: String,
    },
    /// Another process has the name.
    #[error("the name {name:?} is taken by {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The process that has it.
        holder: Pid,
    },
    /// Another process has the name, and the messages could not be sent to it.
    #[error("{holder} has the name, and did not receive the messages")]
    NotSignalled {
        /// The process that has the name.
        holder: Pid,
        /// The reason.
        source: Box<SendError>,
    },
    /// A [policy](super::SpawnPolicy) does not allow it.
    #[error("`{entry}` may not be spawned on `{host}`: {reason}")]
    NotAllowed {
        /// The entry.
        entry: EntryId,
        /// The host.
        host: HostId,
        /// The reason. It is part of the message, and so not the source of this error.
        reason: CallError,
    },
    /// A resolver refused the options.
    #[error("its frame was refused")]
    Denied {
        /// The reason.
        source: Arc<ResolveError>,
    },
    /// A resolver panicked.
    #[error("a resolver of its frame {message}")]
    ResolverPanicked {
        /// The message of the panic.
        message: String,
    },
    /// An option is set that applies only to function calls.
    #[error("option `{option}` applies only to function calls; remove it")]
    DispatcherOption {
        /// Its name.
        option: &'static str,
    },
    /// The host has reached its limit of processes.
    #[error("host `{host}` has reached its process limit of {limit}")]
    HostFull {
        /// The host.
        host: HostId,
        /// The limit.
        limit: usize,
    },
    /// The host is stopping, or the manager is or has stopped.
    #[error("host `{host}` is stopping, or all hosts have stopped")]
    HostStopping {
        /// The host.
        host: HostId,
    },
    /// A lifecycle handler refused the process, or panicked.
    #[error("the lifecycle handler `{handler}` refused it")]
    Refused {
        /// The handler.
        handler: &'static str,
        /// The reason.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It was to be linked to, monitored or owned by a caller that is not a process.
    #[error(
        "only a process can own, link to or monitor what it spawns; use `ProcessManager::monitor` elsewhere"
    )]
    NoProcess,
    /// It was to be linked to, monitored or owned by the spawning process, which has ended meanwhile.
    #[error("the spawning process {starter} has ended, so it cannot own, link to or monitor what it spawns")]
    StarterEnded {
        /// The spawning process.
        starter: Pid,
    },
    /// Another process has the name, and could not be monitored.
    #[error("{holder} has the name, and was not monitored")]
    NotMonitored {
        /// The process that has the name.
        holder: Pid,
        /// The reason.
        source: Box<ProcessError>,
    },
    /// It has more initial messages than its mailbox holds.
    #[error("{messages} initial messages do not fit into its mailbox, which holds {capacity}")]
    TooManyMessages {
        /// The number of initial messages.
        messages: usize,
        /// The number that the mailbox holds.
        capacity: usize,
    },
}

/// Returns the remedy for an unknown id.
fn instead<K: IdKind>(nearest: Option<&Id<K>>) -> String {
    nearest.map_or_else(|| "register it".to_owned(), |nearest| format!("did you mean `{nearest}`?"))
}

impl SpawnError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ContextEnded { source } | Self::TooDeep { source } => source.kind(),
            Self::NotAllowed { reason, .. } => reason.kind(),
            Self::StarterEnded { .. } => ErrorKind::Cancelled,
            Self::UnknownHost { .. } | Self::UnknownEntry { .. } => ErrorKind::NotFound,
            Self::Denied { .. } | Self::ResolverPanicked { .. } | Self::Refused { .. } => ErrorKind::Denied,
            Self::HostFull { .. } => ErrorKind::Exhausted,
            Self::NotSignalled { source, .. } => source.reason.kind(),
            Self::HostStopping { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        }
    }

    /// Returns the failure of a call, without the causes of this error.
    pub(crate) fn without_causes(&self) -> CallError {
        let kind = self.kind();
        let is_retryable = match self {
            Self::NotAllowed { reason, .. } => reason.is_retryable(),
            Self::TooDeep { .. } => false,
            _ => kind == ErrorKind::Exhausted,
        };
        CallError::new(kind, format!("the process was not spawned: {self}")).with_retryable(is_retryable)
    }
}

impl From<SpawnError> for CallError {
    fn from(error: SpawnError) -> Self {
        let failed = error.without_causes();
        match error {
            SpawnError::ContextEnded { source } => failed.with_source(source),
            // Without the undelivered message, which can be large.
            SpawnError::NotSignalled { source, .. } => failed.with_source(source.reason),
            SpawnError::NotMonitored { source, .. } => failed.with_source(source),
            SpawnError::Denied { source } => failed.with_source(source),
            SpawnError::Refused { source, .. } => failed.with_source(source),
            _ => failed,
        }
    }
}

/// A process was not found or has ended, or an operation on it is not possible.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No process has the PID or the name, or its exit has been forgotten.
    #[error("unknown process {process}; it never existed, or its exit has been forgotten")]
    Unknown {
        /// The PID, or the name.
        process: String,
    },
    /// The process has ended.
    #[error("{} has ended: {}", exit.pid, exit.reason)]
    Ended {
        /// Its exit.
        exit: Exit,
    },
    /// The process has reached its limit of monitors.
    #[error("{pid} has reached its monitor limit of {limit}; end one first")]
    TooManyMonitors {
        /// The process.
        pid: Pid,
        /// The [limit](super::ManagerConfig::monitors).
        limit: usize,
    },
    /// A process cannot monitor itself.
    #[error("{pid} cannot monitor itself")]
    Itself {
        /// The process.
        pid: Pid,
    },
    /// The name is not valid.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name. A long one is cut off.
        name: String,
    },
    /// The process has reached its limit of names.
    #[error("{pid} has reached its name limit of {limit}; unregister one first")]
    TooManyNames {
        /// The process.
        pid: Pid,
        /// The limit.
        limit: usize,
    },
    /// Another process has the name.
    #[error("the name {name:?} is taken by {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The process that has it.
        holder: Pid,
    },
}

impl From<ProcessError> for CallError {
    fn from(error: ProcessError) -> Self {
        let kind = match &error {
            ProcessError::Unknown { .. } | ProcessError::Ended { .. } => ErrorKind::NotFound,
            ProcessError::TooManyMonitors { .. } => ErrorKind::Exhausted,
            _ => ErrorKind::Invalid,
        };
        // It may reach a guest, which must not learn the causes of another unit's failure.
        let message = match &error {
            ProcessError::Ended { exit } => format!("{} has ended: {}", exit.pid, in_words(&exit.reason)),
            error => error.to_string(),
        };
        Self::new(kind, message)
    }
}

/// A process that was waited for returned no result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// It was not spawned.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It did not end normally.
    #[error("{} ended without a result: {}", exit.pid, exit.reason)]
    Exit {
        /// Its exit.
        exit: Exit,
    },
    /// The caller's context ended before the process. The process goes on.
    #[error("the caller's context ended before {pid} did")]
    ContextEnded {
        /// The process.
        pid: Pid,
        /// The reason.
        source: CallError,
    },
}

impl From<ExecError> for CallError {
    fn from(error: ExecError) -> Self {
        let exit = match error {
            ExecError::Spawn(error) => return error.into(),
            ExecError::ContextEnded { source, .. } => return source,
            ExecError::Exit { exit } => exit,
        };
        let ended = format!("{} ended without a result", exit.pid);
        let (kind, is_retryable) = match &exit.reason {
            ExitReason::Failed(error) => (error.kind(), error.is_retryable()),
            ExitReason::Cancelled(_) | ExitReason::Killed | ExitReason::HostStopped => {
                (ErrorKind::Cancelled, false)
            }
            _ => (ErrorKind::Internal, false),
        };
        match exit.reason {
            ExitReason::Failed(error) => {
                Self::new(kind, format!("{ended}: it failed")).with_retryable(is_retryable).with_source(error)
            }
            reason => Self::new(kind, format!("{ended}: {reason}")).with_retryable(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Exit;

    #[test]
    fn an_error_about_an_ended_process_does_not_contain_the_causes_of_its_failure() {
        let failed = CallError::new(ErrorKind::Denied, "not allowed").with_source("10.0.0.1 is private");
        let pid = Pid::next(crate::Host::named("local@app:workers"));
        let exit = Exit { pid, reason: ExitReason::Failed(failed.into()), result: None };
        let told = CallError::from(ProcessError::Ended { exit });
        assert_eq!(told.message(), format!("{pid} has ended: it failed: not allowed"));
    }
}
