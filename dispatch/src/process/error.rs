//! Why something about a process was refused.

use frame_registry::{BoxError, Id, IdKind, ResolveError};

use super::entry::EntryId;
use super::exit::{Exit, ExitReason, in_words};
use super::host::HostId;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// A host or something that can be started was not registered; the manager is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The id is taken.
    #[error("a process `{id}` is registered already; replace it, or remove it first")]
    EntryTaken {
        /// The id.
        id: EntryId,
    },
    /// An option is set that is for calls of functions, so that no start of it would succeed.
    #[error(
        "`{id}` is not registered: the option `{option}` is one of calls, which a process is not; leave it out"
    )]
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
    #[error("a host `{id}` is registered already; stop it first")]
    HostTaken {
        /// The id.
        id: HostId,
    },
    /// The host was given no runtime, and is not registered on one.
    #[error("the host `{id}` has no runtime of tokio; give it one, or register it on one")]
    NoRuntime {
        /// The id.
        id: HostId,
    },
    /// The runtime of the host has no timer, so that nothing on it could be ended in time.
    #[error("the runtime of the host `{id}` has no timer; build it with `enable_time`")]
    NoTimer {
        /// The id.
        id: HostId,
    },
    /// The name of a lifecycle handler is taken.
    #[error(
        "a lifecycle handler `{name}` is registered already; remove it first, or give this one another name"
    )]
    HandlerTaken {
        /// The name.
        name: &'static str,
    },
    /// The manager is stopping, or has stopped.
    #[error("`{id}` is not registered, because the processes are stopping")]
    Stopping {
        /// What was to be registered.
        id: String,
    },
}

/// A process was not started. Nothing of it ever ran.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The call or the process that wanted it is over.
    #[error("not started, because the context of the caller has ended")]
    ContextEnded {
        /// How that ended.
        source: CallError,
    },
    /// The caller waits for the process, and is nested as deep as it can be.
    #[error(transparent)]
    TooDeep {
        /// The limit, and what to do.
        source: CallError,
    },
    /// There is no such host.
    #[error("there is no host `{host}`; {}", instead(.nearest.as_ref()))]
    UnknownHost {
        /// Its id.
        host: HostId,
        /// A host there is, whose id is so near that it may be meant.
        nearest: Option<HostId>,
    },
    /// There is nothing of that id to start.
    #[error("there is no process `{entry}` to start; {}", instead(.nearest.as_ref()))]
    UnknownEntry {
        /// Its id.
        entry: EntryId,
        /// One there is, whose id is so near that it may be meant.
        nearest: Option<EntryId>,
    },
    /// The host does not run what the entry is.
    #[error("the host `{host}` does not run `{entry}`, which is {engine}; it runs {engines}")]
    NotRunnable {
        /// The host.
        host: HostId,
        /// The entry.
        entry: EntryId,
        /// What it is.
        engine: &'static str,
        /// What the host runs.
        engines: String,
    },
    /// A name that no process can have.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name; of a long one the beginning.
        name: String,
    },
    /// A living process has the name.
    #[error("the name {name:?} is that of {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: Pid,
    },
    /// A living process has the name, and was not sent the messages.
    #[error("{holder} has the name, and was not sent the messages")]
    NotSignalled {
        /// Who has the name.
        holder: Pid,
        /// Why.
        source: Box<SendError>,
    },
    /// A [policy](super::SpawnPolicy) does not allow it.
    #[error("`{entry}` may not be started on `{host}`: {reason}")]
    NotAllowed {
        /// The entry.
        entry: EntryId,
        /// The host.
        host: HostId,
        /// Why. It is a part of the message, and so not the source of this error.
        reason: CallError,
    },
    /// A resolver refused the options.
    #[error("its frame was refused")]
    Denied {
        /// Why.
        source: ResolveError,
    },
    /// A resolver panicked.
    #[error("its frame was not made: a resolver {message}")]
    ResolverPanicked {
        /// What it said.
        message: String,
    },
    /// An option is set that is for calls of functions.
    #[error("the option `{option}` is one of calls, which a process is not; leave it out")]
    DispatcherOption {
        /// Its name.
        option: &'static str,
    },
    /// The host has as many processes as it may have.
    #[error("the host `{host}` has as many processes as it may have, {limit}")]
    HostFull {
        /// The host.
        host: HostId,
        /// How many that is.
        limit: usize,
    },
    /// The host is stopping; or the manager is, or has stopped.
    #[error("the host `{host}` is stopping, or has stopped with all others")]
    HostStopping {
        /// The host.
        host: HostId,
    },
    /// A lifecycle handler refused the process, or panicked.
    #[error("the lifecycle handler `{handler}` refused it")]
    Refused {
        /// The handler.
        handler: &'static str,
        /// Why.
        source: BoxError,
    },
    /// It was to be linked to or monitored by whoever starts it, which is no process.
    #[error("only a process can link to or monitor what it starts; use `ProcessManager::monitor` elsewhere")]
    NoProcess,
    /// It was to be linked to or monitored by whoever starts it, which has ended meanwhile.
    #[error("{starter}, which starts it, has ended, so it cannot be linked to it or monitor it")]
    StarterEnded {
        /// Which that is.
        starter: Pid,
    },
    /// A living process has the name, was to be monitored, and cannot be.
    #[error("{holder} has the name, and was not monitored")]
    NotMonitored {
        /// Who has the name.
        holder: Pid,
        /// Why.
        source: Box<ProcessError>,
    },
    /// It was to begin with more messages than its mailbox holds.
    #[error("it was to begin with {messages} messages, and its mailbox holds {capacity}")]
    TooManyMessages {
        /// How many messages that is.
        messages: usize,
        /// How many the mailbox holds.
        capacity: usize,
    },
}

/// What to do about an id that nothing has.
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

    /// The failure of a call, without what caused this.
    pub(super) fn without_causes(&self) -> CallError {
        let kind = self.kind();
        let is_retryable = match self {
            Self::NotAllowed { reason, .. } => reason.is_retryable(),
            Self::TooDeep { .. } => false,
            _ => kind == ErrorKind::Exhausted,
        };
        CallError::new(kind, format!("the process was not started: {self}")).with_retryable(is_retryable)
    }
}

impl From<SpawnError> for CallError {
    fn from(error: SpawnError) -> Self {
        let failed = error.without_causes();
        match error {
            SpawnError::ContextEnded { source } => failed.with_source(source),
            // Not the message that was not delivered, which can be large.
            SpawnError::NotSignalled { source, .. } => failed.with_source(source.reason),
            SpawnError::NotMonitored { source, .. } => failed.with_source(source),
            SpawnError::Denied { source } => failed.with_source(source),
            SpawnError::Refused { source, .. } => failed.with_source(source),
            _ => failed,
        }
    }
}

/// A message was not delivered. It is given back.
#[derive(Debug, thiserror::Error)]
#[error("the message to {to} was not delivered: {reason}")]
#[non_exhaustive]
pub struct SendError {
    /// Who it was for.
    pub to: String,
    /// Why.
    pub reason: SendErrorReason,
    /// What it was.
    pub payload: Box<Payload>,
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// No process has the PID or the name, as far as is known.
    #[error("there is no such process")]
    NotFound,
    /// Where it was to go begins as a PID, and is none; nor can it be a name.
    #[error(transparent)]
    NoPid(PidError),
    /// The process has ended.
    #[error("the process has ended")]
    Ended,
    /// The mailbox was full, for as long as could be waited; or is that of the process that sent it.
    #[error("its mailbox is full, with {capacity} messages")]
    Full {
        /// How many it holds.
        capacity: usize,
    },
    /// Whoever sent it is over.
    #[error("the context of the sender has ended")]
    ContextEnded(#[source] CallError),
}

impl SendErrorReason {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound | Self::Ended => ErrorKind::NotFound,
            Self::NoPid(_) => ErrorKind::Invalid,
            Self::Full { .. } => ErrorKind::Exhausted,
            Self::ContextEnded(source) => source.kind(),
        }
    }
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        Self::new(error.reason.kind(), error.to_string())
    }
}

/// A process was not found, or has ended, or is already what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No process has the PID or the name; or it ended so long ago that it is forgotten.
    #[error("there is no process {process}, or it ended so long ago that it is forgotten")]
    Unknown {
        /// The PID, or the name.
        process: String,
    },
    /// The process has ended.
    #[error("{} has ended: {}", exit.pid, exit.reason)]
    Ended {
        /// How.
        exit: Exit,
    },
    /// The process has as many monitors as it may have.
    #[error("{pid} has {limit} monitors, which is the limit; end one first")]
    TooManyMonitors {
        /// The process.
        pid: Pid,
        /// The [limit](super::ManagerConfig::monitors).
        limit: usize,
    },
    /// A process cannot monitor itself.
    #[error("{pid} cannot monitor itself")]
    Itself {
        /// Which.
        pid: Pid,
    },
    /// A name that no process can have.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name; of a long one the beginning.
        name: String,
    },
    /// The process has as many names as it may have.
    #[error("{pid} has {limit} names, and no process has more; take one away first")]
    TooManyNames {
        /// Which.
        pid: Pid,
        /// How many that is.
        limit: usize,
    },
    /// Another living process has the name.
    #[error("the name {name:?} is that of {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
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
        // A guest may be told, and is not told why another unit failed.
        let message = match &error {
            ProcessError::Ended { exit } => format!("{} has ended: {}", exit.pid, in_words(&exit.reason)),
            error => error.to_string(),
        };
        Self::new(kind, message)
    }
}

/// A process that was waited for did not give back anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// It was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It did not end normally.
    #[error("{} ended without a result: {}", exit.pid, exit.reason)]
    Exit {
        /// How it ended.
        exit: Exit,
    },
    /// Whoever waited is over. The process goes on.
    #[error("{pid} was not waited for to its end")]
    ContextEnded {
        /// The process.
        pid: Pid,
        /// How that ended.
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
    fn who_refers_to_a_process_that_has_ended_is_not_told_what_caused_its_failure() {
        let failed = CallError::new(ErrorKind::Denied, "not allowed").with_source("10.0.0.1 is private");
        let pid = Pid::next(crate::Host::named("local@app:workers"));
        let exit = Exit { pid, reason: ExitReason::Failed(failed.into()), result: None };
        let told = CallError::from(ProcessError::Ended { exit });
        assert_eq!(told.message(), format!("{pid} has ended: it failed: not allowed"));
    }
}
