//! Errors of building and controlling supervisors, and the reasons for which children are down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::BackoffError;
use crate::error::{CallError, ErrorKind, WithCauses};
use crate::pid::Pid;
use crate::process::{ExitReason, HostId, SpawnError};

/// The specification of a supervisor or a child is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A child has an empty id.
    #[error("a child has an empty id; set one")]
    EmptyId,
    /// Two children have the same id.
    #[error("two children have the id `{id}`; give each its own id")]
    DuplicateId {
        /// The id.
        id: Arc<str>,
    },
    /// The window in which restarts are counted is zero.
    #[error("the window of the restart policy must be greater than zero, so that restarts are counted")]
    ZeroWindow,
    /// A value of the backoff is out of its range.
    #[error(transparent)]
    Backoff(#[from] BackoffError),
}

/// The reason for which a child is down.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DownReason {
    /// It ended.
    Exited(ExitReason),
    /// It did not start.
    NotStarted(Arc<SpawnError>),
    /// It was terminated and has not ended, because it blocks its thread.
    Blocked,
}

impl DownReason {
    /// Returns its name: that of the [exit reason](ExitReason::as_str), `not_started` or `blocked`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Exited(reason) => reason.as_str(),
            Self::NotStarted(_) => "not_started",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(reason) => reason.fmt(f),
            Self::NotStarted(error) => {
                write!(f, "it was not started: {}", WithCauses(&**error))
            }
            Self::Blocked => f.write_str("it was terminated and still blocks its thread"),
        }
    }
}

/// A supervisor gave up, because its children had to be restarted too often. It is the [source](std::error::Error::source) of the
/// supervisor's error.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "children had to be restarted {restarts} times within {window:?}, where {allowed} times are allowed; \
     the last was `{child}`: {reason}"
)]
#[non_exhaustive]
pub struct TooManyRestarts {
    /// The child whose restart was one too many.
    pub child: Arc<str>,
    /// The number of restarts of all children, this one included.
    pub restarts: usize,
    /// The number of restarts that are allowed.
    pub allowed: u32,
    /// The time in which restarts are counted.
    pub window: Duration,
    /// Why that child was down.
    pub reason: DownReason,
}

/// A supervisor did not execute a command of its [handle](super::SupervisorHandle). Its `Display` contains the causes, so it has no
/// [source](std::error::Error::source).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ControlError {
    /// No process of the supervisor is running, or it has not started its children yet.
    NotRunning,
    /// Several processes of the supervisor are running.
    Several {
        /// The processes.
        running: Vec<Pid>,
    },
    /// The supervisor is shutting down its children, or has ended.
    ShuttingDown,
    /// No child has the id.
    UnknownChild {
        /// The id.
        id: Arc<str>,
    },
    /// The child was removed before it was started.
    Removed {
        /// The id.
        id: Arc<str>,
    },
    /// The specification of the child is not valid.
    Spec {
        /// The reason.
        source: SpecError,
    },
    /// The child was not started.
    NotStarted {
        /// The id.
        id: Arc<str>,
        /// The reason.
        source: Arc<SpawnError>,
    },
    /// The code of the child is [quarantined](crate::Quarantine).
    Quarantined {
        /// The id.
        id: Arc<str>,
    },
    /// No child has this process. The child may have been restarted.
    UnknownProcess {
        /// The process.
        pid: Pid,
    },
    /// The supervisor is dynamic: its children are started from its [specification](super::DynamicSpec).
    Dynamic,
    /// The supervisor is not dynamic.
    NotDynamic,
    /// The supervisor has reached its limit of children.
    TooManyChildren {
        /// The limit.
        limit: usize,
    },
    /// A script or a component may not spawn processes on the host of the children.
    NotGranted {
        /// The host.
        host: HostId,
    },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => {
                f.write_str("this supervisor is not running with its children started; wait for `ready`")
            }
            Self::Several { running } => {
                write!(f, "{} processes of this supervisor are running; select one with `of`", running.len())
            }
            Self::ShuttingDown => f.write_str("the supervisor is shutting down"),
            Self::UnknownChild { id } => write!(f, "the supervisor has no child `{id}`"),
            Self::Removed { id } => write!(f, "the child `{id}` was removed"),
            Self::Spec { source } => write!(f, "the child was not added: {source}"),
            Self::NotStarted { id, source } => {
                write!(f, "the child `{id}` was not started: {}", WithCauses(&**source))
            }
            Self::Quarantined { id } => {
                write!(f, "the child `{id}` was not started: its code is quarantined; reload it")
            }
            Self::UnknownProcess { pid } => write!(f, "the supervisor has no child whose process is {pid}"),
            Self::Dynamic => f.write_str("the supervisor is dynamic; start children with `start_child`"),
            Self::NotDynamic => f.write_str("the supervisor is not dynamic; add children with `add`"),
            Self::TooManyChildren { limit } => {
                write!(f, "the supervisor has reached its child limit of {limit} (`max_children`)")
            }
            Self::NotGranted { host } => {
                write!(f, "not allowed to spawn processes on `{host}`; grant it by the option `spawn`")
            }
        }
    }
}

impl std::error::Error for ControlError {}

impl From<ControlError> for CallError {
    fn from(error: ControlError) -> Self {
        let kind = match &error {
            ControlError::NotRunning | ControlError::ShuttingDown => ErrorKind::Unavailable,
            ControlError::UnknownChild { .. }
            | ControlError::UnknownProcess { .. }
            | ControlError::Removed { .. } => ErrorKind::NotFound,
            ControlError::Several { .. }
            | ControlError::Spec { .. }
            | ControlError::Dynamic
            | ControlError::NotDynamic => ErrorKind::Invalid,
            ControlError::NotGranted { .. } => ErrorKind::Denied,
            ControlError::TooManyChildren { .. } | ControlError::Quarantined { .. } => ErrorKind::Exhausted,
            ControlError::NotStarted { .. } => ErrorKind::Internal,
        };
        let is_retryable = matches!(error, ControlError::TooManyChildren { .. });
        match error {
            // Without the causes, which are its sources.
            ControlError::NotStarted { id, source } => {
                Self::new(kind, format!("the child `{id}` was not started")).with_source(source)
            }
            ControlError::Quarantined { .. } | ControlError::TooManyChildren { .. } => {
                Self::new(kind, error.to_string()).with_retryable(is_retryable)
            }
            error => Self::new(kind, error.to_string()),
        }
    }
}
