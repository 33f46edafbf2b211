//! Why a supervisor was not built, gave up, or did not do what it was asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::SpawnError;
use super::super::exit::ExitReason;
use super::super::host::HostId;
use crate::error::{CallError, ErrorKind, WithCauses};
use crate::pid::Pid;

/// A supervisor was not built, or a child not added, because of what it was to be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A child without an id.
    #[error("a child has the empty id; give it one that says what it is")]
    EmptyId,
    /// Two children of one id.
    #[error("two children have the id `{id}`; give each one of its own")]
    DuplicateId {
        /// The id.
        id: Arc<str>,
    },
    /// Restarts counted within no time.
    #[error(
        "restarts are counted within no time, so there would never be too many; \
         write a window such as `Duration::from_secs(5)`"
    )]
    ZeroWindow,
    /// Delays that become shorter, or are no number.
    #[error("the factor of the backoff is {factor}; write one of at least 1, such as 2.0")]
    Factor {
        /// The factor.
        factor: f64,
    },
    /// A random part that is none.
    #[error("the jitter of the backoff is {jitter}; write a part from 0 to 1, such as 0.1")]
    Jitter {
        /// The jitter.
        jitter: f64,
    },
    /// A first delay that is longer than the longest.
    #[error(
        "the first delay of the backoff, {first:?}, is longer than its longest, {max:?}; write the shorter first"
    )]
    Delays {
        /// The first delay.
        first: Duration,
        /// The longest.
        max: Duration,
    },
}

/// Why a child is not up: how it ended, or why it did not start.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DownReason {
    /// It ended.
    Exited(ExitReason),
    /// It did not start.
    NotStarted(Arc<SpawnError>),
    /// It was killed and has not ended, because it blocks its thread.
    Blocked,
}

impl DownReason {
    /// Its name in text: that of the [exit](ExitReason::as_str), `not_started` or `blocked`.
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
            Self::Blocked => f.write_str("it was killed and still blocks its thread"),
        }
    }
}

/// A supervisor gave up: its children had to be started again too often. It is the
/// [source](std::error::Error::source) of the error that the supervisor then fails with.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "children had to be restarted {restarts} times within {window:?}, where {allowed} times are allowed; \
     the last was `{child}`: {reason}"
)]
#[non_exhaustive]
pub struct TooManyRestarts {
    /// The child that was to be started again when it was too often.
    pub child: Arc<str>,
    /// How often children, this and others, had to be started again, the last time included.
    pub restarts: usize,
    /// How often they may be.
    pub allowed: u32,
    /// Within which time.
    pub window: Duration,
    /// Why that child was not up.
    pub reason: DownReason,
}

/// A supervisor did not do what it was asked through its [handle](super::SupervisorHandle). Shown, it says the causes as well, so
/// it has no [source](std::error::Error::source).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ControlError {
    /// No process of the supervisor runs, or it has not started its children yet.
    NotRunning,
    /// Several processes of the supervisor run.
    Several {
        /// Which.
        running: Vec<Pid>,
    },
    /// The supervisor is shutting down its children, or has ended.
    ShuttingDown,
    /// There is no child of the id.
    UnknownChild {
        /// The id.
        id: Arc<str>,
    },
    /// The child was removed before it was up.
    Removed {
        /// The id.
        id: Arc<str>,
    },
    /// The child cannot be added as it is.
    Spec {
        /// Why.
        source: SpecError,
    },
    /// The child was not started.
    NotStarted {
        /// The id.
        id: Arc<str>,
        /// Why.
        source: Arc<SpawnError>,
    },
    /// The code of the child is [quarantined](crate::Quarantine).
    Quarantined {
        /// The id.
        id: Arc<str>,
    },
    /// No child has this process, which may have been restarted since.
    UnknownProcess {
        /// The process.
        pid: Pid,
    },
    /// The supervisor is dynamic: each of its children is one of its [specification](super::DynamicSpec).
    Dynamic,
    /// The supervisor is not dynamic.
    NotDynamic,
    /// The supervisor has as many children as it may have.
    TooManyChildren {
        /// How many that is.
        limit: usize,
    },
    /// A script or a component may not start processes on the host of the children.
    NotGranted {
        /// The host.
        host: HostId,
    },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => {
                f.write_str("no process of this supervisor runs, with its children started; wait for `ready`")
            }
            Self::Several { running } => {
                write!(f, "{} processes of this supervisor run; choose one with `of`", running.len())
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
            Self::NotDynamic => {
                f.write_str("the supervisor is not dynamic, so no children are started with `start_child`")
            }
            Self::TooManyChildren { limit } => {
                write!(f, "the supervisor has as many children as `max_children` allows, {limit}")
            }
            Self::NotGranted { host } => {
                write!(f, "not allowed to start processes on `{host}`; grant it by the option `spawn`")
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
            // Each cause is said once.
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
