//! Sending messages to processes.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::batch;
use super::cell::ProcessCell;
use super::mailbox::Undelivered;
use super::manager::ProcessManager;
use super::message::{Destination, Message};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::PidError;

/// A message was not delivered. The error returns it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the message to {to} was not delivered: {reason}")]
#[non_exhaustive]
pub struct SendError {
    /// The destination.
    pub to: String,
    /// The reason.
    pub reason: SendErrorReason,
    /// The payload of the message.
    pub payload: Box<Payload>,
}

/// The reason for which a message was not delivered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// No process has the PID or the name, or its exit has been forgotten.
    #[error("unknown process")]
    NotFound,
    /// The destination begins like a PID and is not a valid one. Names do not begin so.
    #[error(transparent)]
    InvalidPid(PidError),
    /// The process has ended.
    #[error("the process has ended")]
    Ended,
    /// The mailbox stayed full for as long as the sender could wait. The sender does not wait for its own mailbox.
    #[error("its mailbox is full, with {capacity} messages")]
    Full {
        /// The number of messages that it holds.
        capacity: usize,
    },
    /// The sender's context has ended.
    #[error("the sender's context has ended")]
    ContextEnded(#[source] CallError),
}

impl SendErrorReason {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound | Self::Ended => ErrorKind::NotFound,
            Self::InvalidPid(_) => ErrorKind::Invalid,
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

/// Sends a message. Waits for room in the mailbox, as far as the caller may.
pub(crate) async fn send(
    manager: &ProcessManager,
    ctx: &CallContext,
    to: Destination<'_>,
    payload: Payload,
) -> Result<(), SendError> {
    // A sender that always finds room yields to other tasks.
    consume_budget().await;
    match recipient(manager, &to) {
        Ok(cell) => match cell.mailbox.try_send(Message::sent(ctx, payload, None)) {
            Ok(()) => {
                batch::keep_recipient(cell);
                Ok(())
            }
            Err(undelivered) => send_later(ctx, &cell, undelivered, manager.config().max_wait).await,
        },
        Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
    }
}

/// Sends a message if there is room for it.
pub(crate) fn try_send(
    manager: &ProcessManager,
    ctx: &CallContext,
    to: &Destination<'_>,
    payload: Payload,
) -> Result<(), SendError> {
    match recipient(manager, to) {
        Ok(cell) => match cell.mailbox.try_send(Message::sent(ctx, payload, None)) {
            Ok(()) => {
                batch::keep_recipient(cell);
                Ok(())
            }
            Err(undelivered) => Err(not_sent(&cell, undelivered)),
        },
        Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
    }
}

/// Returns the receiver of a message. A kept one that has ended is looked up as any other that has ended.
fn recipient(
    manager: &ProcessManager,
    to: &Destination<'_>,
) -> Result<Arc<ProcessCell>, (String, SendErrorReason)> {
    let is_it = |kept: &ProcessCell| {
        matches!(to, Destination::Pid(pid) if *pid == kept.pid) && manager.is(&kept.manager)
    };
    let kept = batch::recipient(|kept| is_it(kept) && !kept.has_ended());
    kept.map_or_else(|| resolve(manager, to), Ok)
}

/// Looks up a destination.
pub(crate) fn resolve(
    manager: &ProcessManager,
    to: &Destination<'_>,
) -> Result<Arc<ProcessCell>, (String, SendErrorReason)> {
    let found = match to {
        Destination::Pid(pid) => manager.cells().find(*pid),
        Destination::Name(name) => manager.names().holder(name),
    };
    found.ok_or_else(|| {
        let reason = match to {
            Destination::Pid(pid) if manager.cells().recent_exit(*pid).is_some() => SendErrorReason::Ended,
            Destination::Name(name) => match Destination::from_text(name) {
                Err(error @ (PidError::Malformed { .. } | PidError::Parts { .. })) => {
                    SendErrorReason::InvalidPid(error)
                }
                _ => SendErrorReason::NotFound,
            },
            Destination::Pid(_) => SendErrorReason::NotFound,
        };
        (to.to_string(), reason)
    })
}

/// Sends a message that found no room, once there is room.
//
// On the heap, because most senders find room, and their futures would contain this one.
pub(crate) fn send_later<'a>(
    ctx: &'a CallContext,
    cell: &'a ProcessCell,
    undelivered: Undelivered,
    max_wait: Duration,
) -> BoxFuture<'a, Result<(), SendError>> {
    Box::pin(async move {
        match undelivered {
            // A process that waits for this sender makes no room.
            Undelivered::Full(message) if !ctx.is_awaited_by(cell.pid) => {
                wait_for_room(ctx, cell, message, max_wait).await
            }
            undelivered => Err(not_sent(cell, undelivered)),
        }
    })
}

async fn wait_for_room(
    ctx: &CallContext,
    cell: &ProcessCell,
    message: Message,
    max_wait: Duration,
) -> Result<(), SendError> {
    let mut waiting = Some(message);
    let send = cell.mailbox.send(&mut waiting);
    let waited = ctx.bound(timeout(max_wait, send)).await;
    let Some(message) = waiting else { return Ok(()) };
    Err(match waited {
        Ok(Ok(())) => not_sent(cell, Undelivered::Closed(message)),
        Ok(Err(_)) => not_sent(cell, Undelivered::Full(message)),
        Err(ended) => SendError {
            reason: SendErrorReason::ContextEnded(ended),
            ..not_sent(cell, Undelivered::Closed(message))
        },
    })
}

fn not_sent(cell: &ProcessCell, undelivered: Undelivered) -> SendError {
    let (reason, message) = match undelivered {
        Undelivered::Full(message) => {
            (SendErrorReason::Full { capacity: cell.host.mailbox_capacity() }, message)
        }
        Undelivered::Closed(message) => (SendErrorReason::Ended, message),
    };
    let payload = message.into_payload().unwrap_or_default().into();
    SendError { to: cell.pid.to_string(), reason, payload }
}
