//! What arrives in a mailbox, and where messages are sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::call::{ReplyError, ReplyTo};
use super::exit::Exit;
use super::group::GroupId;
use super::monitor::MonitorRef;
use super::timer::Tick;
use crate::context::CallContext;
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// What a process receives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message {
    /// A message that was sent, or a [call](super::ProcessManager::call).
    Sent {
        /// The process that sent it, itself or through a function that it called; none if it was no process.
        from: Option<Pid>,
        /// The payload.
        payload: Payload,
        /// Where the reply goes, if the sender waits for one. Dropping it tells the sender that there is no reply.
        reply: Option<ReplyTo>,
    },
    /// A process that this one monitors ended.
    Exited {
        /// The monitor that delivers it.
        monitor: MonitorRef,
        /// The exit. On the heap, so that messages that are sent stay small.
        exit: Box<Exit>,
    },
    /// A process that this one is linked to failed, and this one [traps](super::ProcessContext::trap_links) that.
    LinkDown(Box<Exit>),
    /// A timer that this process [set](super::ProcessContext::send_after) was due. On the heap, so that messages that are sent stay
    /// small.
    Timer(Box<Tick>),
    /// Members have joined or left a group that this process [watches](super::ProcessContext::watch_group).
    GroupChanged(GroupId),
    /// Somebody wants the process to end. It is terminated when the grace period is over.
    Cancelled {
        /// Why.
        reason: Arc<str>,
        /// When the grace period is over; none if there is no end to it. Cancelled again it may be
        /// [sooner](super::ProcessContext::cancel_deadline).
        deadline: Option<Instant>,
    },
}

impl Message {
    /// A message of `ctx`.
    pub(super) fn sent(ctx: &CallContext, payload: Payload, reply: Option<ReplyTo>) -> Self {
        Self::Sent { from: ctx.containing_process().map(|process| process.pid()), payload, reply }
    }

    /// The payload, if the message was sent or is of a timer.
    pub fn payload(&self) -> Option<&Payload> {
        match self {
            Self::Sent { payload, .. } => Some(payload),
            Self::Timer(tick) => Some(&tick.payload),
            _ => None,
        }
    }

    /// The payload, if the message was sent or is of a timer. A call gets no reply.
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
    /// [`ReplyError::NotCalled`] if the message is not a call, [`ReplyError::Late`] if the caller waits no longer. The payload
    /// is dropped.
    pub fn reply(self, payload: impl Into<Payload>) -> Result<(), ReplyError> {
        match self {
            Self::Sent { reply: Some(reply), .. } => reply.send(payload),
            _ => Err(ReplyError::NotCalled),
        }
    }

    /// Whether it takes room in a mailbox. What the runtime itself says always finds room; but a process is ended that has more of it than all there can be would say.
    pub(super) const fn takes_room(&self) -> bool {
        matches!(self, Self::Sent { .. })
    }
}

/// Where a message goes: to a process, or to whichever has a name.
///
/// A text is the PID that it says, or else a name. No name begins as a PID does: what begins so and is none is an error
/// [here](Self::from_text), and where something is sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination<'a> {
    /// The process of this PID.
    Pid(Pid),
    /// The process that has this name.
    Name(Cow<'a, str>),
}

impl<'a> Destination<'a> {
    /// A destination in text: a PID, which begins with `{`, or else a name.
    ///
    /// # Errors
    ///
    /// [`PidError`] if it begins as a PID and is none.
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
        // What is no PID stays as it is, for the error of whoever sends something there.
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
