//! Messages, their destinations, and the exits that some of them carry.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::Instant;

use super::call::{ReplyError, ReplyTo};
use super::cell::monitor::MonitorRef;
use super::group::GroupId;
use super::timer::Tick;
use crate::context::CallContext;
use crate::error::{CallError, WithCauses, shorten_message};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// A message that a process receives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message {
    /// A message that was sent, or a [call](super::ProcessManager::call).
    Sent {
        /// The process that sent it, itself or through a function that it called. `None` if no process sent it.
        from: Option<Pid>,
        /// The payload.
        payload: Payload,
        /// The way to reply, if the sender waits for a reply. Dropping it notifies the sender that there will be none.
        reply: Option<ReplyTo>,
    },
    /// A monitored process ended.
    Exited {
        /// The monitor that delivers it.
        monitor: MonitorRef,
        /// The exit. On the heap, to keep messages small.
        exit: Box<Exit>,
    },
    /// A linked process failed, and this one [traps](super::ProcessContext::trap_links) that.
    LinkDown(Box<Exit>),
    /// A timer that this process [set](super::ProcessContext::send_after) was due. On the heap, to keep messages small.
    Timer(Box<Tick>),
    /// Members have joined or left a group that this process [watches](super::ProcessContext::watch_group).
    GroupChanged(GroupId),
    /// The process was asked to end. It is terminated after the grace period.
    Cancelled {
        /// The reason.
        reason: Arc<str>,
        /// The end of the grace period, if it has one. A further cancellation may make it
        /// [earlier](super::ProcessContext::cancel_deadline).
        deadline: Option<Instant>,
    },
}

impl Message {
    /// Creates a message from the unit of `ctx`.
    pub(crate) fn sent(ctx: &CallContext, payload: Payload, reply: Option<ReplyTo>) -> Self {
        Self::Sent { from: ctx.containing_process().map(|process| process.pid()), payload, reply }
    }

    /// Returns the payload of a sent message or a timer.
    pub fn payload(&self) -> Option<&Payload> {
        match self {
            Self::Sent { payload, .. } => Some(payload),
            Self::Timer(tick) => Some(&tick.payload),
            _ => None,
        }
    }

    /// Returns the payload of a sent message or a timer. A call receives no reply.
    pub fn into_payload(self) -> Option<Payload> {
        match self {
            Self::Sent { payload, .. } => Some(payload),
            Self::Timer(tick) => Some(tick.payload),
            _ => None,
        }
    }

    /// Replies to a [call](super::ProcessManager::call).
    ///
    /// # Errors
    ///
    /// [`ReplyError::NotCalled`] if the message is not a call, and drops the payload. [`ReplyError::Late`] if the caller no longer
    /// waits.
    pub fn reply(self, payload: impl Into<Payload>) -> Result<(), ReplyError> {
        match self {
            Self::Sent { reply: Some(reply), .. } => reply.send(payload),
            _ => Err(ReplyError::NotCalled),
        }
    }

    /// Returns whether it takes room in a mailbox. System messages take none.
    pub(crate) const fn takes_room(&self) -> bool {
        matches!(self, Self::Sent { .. })
    }
}

/// The exit of a process, as it is delivered to monitors and linked processes. A clone costs a few reference counts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exit {
    /// The process.
    pub pid: Pid,
    /// The reason.
    pub reason: ExitReason,
    /// The result, if it ended [normally](ExitReason::Normal). Results are not remembered: a monitor that is set up after the end
    /// receives the reason alone.
    pub result: Option<Arc<Payload>>,
}

/// The reason for which a process ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ExitReason {
    /// It ended normally, with a result.
    Normal,
    /// It returned an error.
    Failed(Arc<CallError>),
    /// It panicked, with this message.
    Panicked(Arc<str>),
    /// It was cancelled for this reason, and returned an error of the kind [`Cancelled`](crate::ErrorKind::Cancelled).
    Cancelled(Arc<str>),
    /// It was terminated, immediately or after the grace period of a cancellation.
    Killed,
    /// A linked process failed, or its [owner](super::Spawn::with_owner) ended.
    LinkDown(LinkDown),
    /// Its host stopped before it had ended, or the runtime of the host was shut down.
    HostStopped,
}

/// The first process of a chain of links and owners that ended each other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkDown {
    /// The first process.
    pub origin: Pid,
    /// The reason of its exit, which is never another [`LinkDown`](ExitReason::LinkDown).
    pub reason: Arc<ExitReason>,
}

impl ExitReason {
    /// Returns whether the process returned a result. Every other exit ends linked processes.
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// Returns its name: `normal`, `failed`, `panicked`, `cancelled`, `killed`, `link_down` or `host_stopped`.
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

    /// Returns the reason for the end of a process that is linked to `pid`, which ended for this reason, or owned by it.
    pub(crate) fn to_link_down(&self, pid: Pid) -> Self {
        match self {
            // The first process is the one to investigate, and a chain of all others could be long.
            Self::LinkDown(_) => self.clone(),
            _ => Self::LinkDown(LinkDown { origin: pid, reason: Arc::new(self.clone()) }),
        }
    }

    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("reason", self.as_str())?;
        map.serialize_entry("message", &self.to_string())?;
        match self {
            Self::LinkDown(LinkDown { origin, .. }) => map.serialize_entry("origin", origin),
            _ => Ok(()),
        }
    }
}

/// An object: `pid`; `reason`, the [name](ExitReason::as_str) of the reason; `message`, the reason in words; `origin`, the process
/// that failed first, if a link ended this one; and `result`, or `result_bytes`, the length of a result in bytes.
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

/// An object: `reason`, its [name](Self::as_str); `message`, the reason in words; and `origin`, if a link ended the process.
impl Serialize for ExitReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_into(&mut map)?;
        map.end()
    }
}

/// An object: `origin`, and the `reason` and `message` of its exit.
impl Serialize for LinkDown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("origin", &self.origin)?;
        self.reason.serialize_into(&mut map)?;
        map.end()
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("it ended normally"),
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

/// Returns an exit reason in words, without the causes of a failure, which guests must not learn.
pub(crate) fn in_words(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Failed(error) => shorten_message(&format!("it failed: {error}")),
        ExitReason::LinkDown(LinkDown { origin, reason }) => {
            format!(
                "a process that it was linked to or owned by, {origin}, ended before: {}",
                in_words(reason)
            )
        }
        other => shorten_message(&other.to_string()),
    }
}

/// The destination of a message: a process, or the process that has a name.
///
/// Text is a PID, or else a name. No name begins like a PID. Text that begins so and is not a valid PID is an error of
/// [`from_text`](Self::from_text), and of a send to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination<'a> {
    /// The process with this PID.
    Pid(Pid),
    /// The process with this name.
    Name(Cow<'a, str>),
}

impl<'a> Destination<'a> {
    /// Parses a destination: a PID, which begins with `{`, or else a name.
    ///
    /// # Errors
    ///
    /// [`PidError`] if it begins like a PID and is not a valid one.
    pub fn from_text(text: &'a str) -> Result<Self, PidError> {
        if text.starts_with('{') {
            return text.parse().map(Self::Pid);
        }
        Ok(Self::Name(Cow::Borrowed(text)))
    }
}

impl From<Pid> for Destination<'_> {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl<'a> From<&'a str> for Destination<'a> {
    fn from(text: &'a str) -> Self {
        // An invalid PID stays as it is, for the error of the send.
        Self::from_text(text).unwrap_or(Self::Name(Cow::Borrowed(text)))
    }
}

impl<'a> From<&'a String> for Destination<'a> {
    fn from(text: &'a String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Destination<'_> {
    fn from(text: String) -> Self {
        match text.parse() {
            Ok(pid) => Self::Pid(pid),
            Err(_) => Self::Name(Cow::Owned(text)),
        }
    }
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => pid.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}
