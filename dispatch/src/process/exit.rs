//! How a process ended.

use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{CallError, WithCauses};
use crate::payload::Payload;
use crate::pid::Pid;
use crate::printable::shortened;

/// The end of a process, as those that monitor it or are linked to it are told. Cloning it is a few reference counts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exit {
    /// The process.
    pub pid: Pid,
    /// Why it ended.
    pub reason: ExitReason,
    /// What it gave back, where it ended [normally](ExitReason::Normal). It is not kept: who begins to monitor a process that
    /// has ended is given the reason alone.
    pub result: Option<Arc<Payload>>,
}

/// Why a process ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ExitReason {
    /// It was done.
    Normal,
    /// It failed.
    Failed(Arc<CallError>),
    /// It panicked, with this message.
    Panicked(Arc<str>),
    /// It was cancelled, for this reason, and ended with an error of the kind
    /// [`Cancelled`](crate::ErrorKind::Cancelled).
    Cancelled(Arc<str>),
    /// It was terminated: at once, or when it was cancelled and its grace period was over.
    Killed,
    /// A process that it was linked to failed, or its [owner](super::Spawn::with_owner) ended.
    LinkDown(LinkDown),
    /// Its host stopped before it had ended, or the runtime that the host spawned it on was shut down.
    HostStopped,
}

/// The process that ended first, where one took the next with it, by a link or as its owner.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkDown {
    /// That process.
    pub origin: Pid,
    /// Why it ended; never another [`LinkDown`](ExitReason::LinkDown).
    pub reason: Arc<ExitReason>,
}

impl ExitReason {
    /// Whether the process was done. Every other end takes down the processes that it was linked to.
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// The reason's name in text: `normal`, `failed`, `panicked`, `cancelled`, `killed`, `link_down` or `host_stopped`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::Cancelled(_) => "cancelled",
            Self::Killed => "killed",
            Self::LinkDown(_) => "link_down",
            Self::HostStopped => "host_stopped",
        }
    }

    /// Why a process ends that is linked to one which ended so, or owned by it.
    pub(super) fn to_link_down(&self, pid: Pid) -> Self {
        match self {
            // The first is what is to be looked into, and a chain of all in between could be long.
            Self::LinkDown(_) => self.clone(),
            _ => Self::LinkDown(LinkDown { origin: pid, reason: Arc::new(self.clone()) }),
        }
    }
}

/// As an object: `pid`; the `reason` by its [name](ExitReason::as_str), and the `message`, the same in words; where a link
/// ended it the `origin`, which failed first; and the `result`, or of one in bytes how many, as `result_bytes`.
impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("pid", &self.pid)?;
        self.reason.serialize_into(&mut map)?;
        match self.result.as_deref() {
            Some(Payload::Json(result)) => map.serialize_entry("result", result)?,
            Some(Payload::Bytes(result)) => map.serialize_entry("result_bytes", &result.len())?,
            None => (),
        }
        map.end()
    }
}

/// As an object: the `reason` by its [name](Self::as_str), the `message`, and where a link ended it the `origin`.
impl Serialize for ExitReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_into(&mut map)?;
        map.end()
    }
}

/// As an object: the `origin`, and the `reason` and the `message` of that.
impl Serialize for LinkDown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("origin", &self.origin)?;
        self.reason.serialize_into(&mut map)?;
        map.end()
    }
}

impl ExitReason {
    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("reason", self.as_str())?;
        map.serialize_entry("message", &self.to_string())?;
        match self {
            Self::LinkDown(LinkDown { origin, .. }) => map.serialize_entry("origin", origin),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("it was done"),
            Self::Failed(error) => {
                write!(f, "it failed: {}", WithCauses(&**error))
            }
            Self::Panicked(message) => write!(f, "it {message}"),
            Self::Cancelled(reason) => write!(f, "it was cancelled: {reason}"),
            Self::Killed => f.write_str("it was terminated"),
            Self::LinkDown(LinkDown { origin, reason }) => {
                write!(f, "a process that it was linked to or owned by, {origin}, ended before: {reason}")
            }
            Self::HostStopped => f.write_str("its host stopped"),
        }
    }
}

/// Why a process ended, without what caused the failure: a guest is not told that of a call that failed, either.
pub(crate) fn in_words(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Failed(error) => shortened(&format!("it failed: {error}")),
        ExitReason::LinkDown(LinkDown { origin, reason }) => {
            format!(
                "a process that it was linked to or owned by, {origin}, ended before: {}",
                in_words(reason)
            )
        }
        other => shortened(&other.to_string()),
    }
}
