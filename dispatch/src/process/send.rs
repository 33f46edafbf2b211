//! How messages are sent.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::batch;
use super::cell::ProcessCell;
use super::error::{SendError, SendErrorReason};
use super::mailbox::Refused;
use super::manager::ProcessManager;
use super::message::{Destination, Message};
use crate::context::CallContext;
use crate::payload::Payload;
use crate::pid::PidError;

impl ProcessManager {
    /// Sends a message to a process, given by its PID or its name. It is from the process of `ctx`, if there is one: the
    /// process itself, or the one that called the function.
    ///
    /// Waits if the mailbox is full, as long as `ctx` may, and no longer than [configured](super::ManagerConfig::max_wait). It
    /// does not wait for room in the mailbox of its own process, nor of a process that waits for it. Messages of one sender
    /// arrive in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    ///
    /// # Panics
    ///
    /// If it has to wait on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was sent. A future that waits is given room before it is polled again, in the order
    /// in which they began to wait, and keeps that until it is polled or dropped. So poll it to its end, or drop it: one that was
    /// polled once and is only kept takes the room of a message from all others.
    pub async fn send<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let (to, payload) = (to.into(), payload.into());
        // One that always finds room lets others run, too.
        consume_budget().await;
        match self.recipient(&to) {
            Ok(instance) => match instance.mailbox.try_send(Message::sent(ctx, payload, None)) {
                Ok(()) => {
                    batch::keep_recipient(instance);
                    Ok(())
                }
                Err(refused) => send_later(ctx, &instance, refused, self.config().max_wait).await,
            },
            Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
        }
    }

    /// Sends a message if there is room for it; else as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    pub fn try_send<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let payload = payload.into();
        match self.recipient(&to.into()) {
            Ok(instance) => match instance.mailbox.try_send(Message::sent(ctx, payload, None)) {
                Ok(()) => {
                    batch::keep_recipient(instance);
                    Ok(())
                }
                Err(refused) => Err(not_sent(&instance, refused)),
            },
            Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
        }
    }

    /// Returns the process that a message goes to. One that was kept and has ended is looked up as any other that has ended.
    fn recipient(&self, to: &Destination<'_>) -> Result<Arc<ProcessCell>, (String, SendErrorReason)> {
        let kept = batch::recipient(|kept| self.is_at(kept, to) && !kept.has_ended());
        kept.map_or_else(|| self.resolve(to), Ok)
    }

    /// Returns whether a process is the one of these that has the PID.
    fn is_at(&self, instance: &ProcessCell, to: &Destination<'_>) -> bool {
        matches!(to, Destination::Pid(pid) if *pid == instance.pid) && self.is(&instance.manager)
    }

    pub(super) fn resolve(
        &self,
        to: &Destination<'_>,
    ) -> Result<Arc<ProcessCell>, (String, SendErrorReason)> {
        let found = match to {
            Destination::Pid(pid) => self.find(*pid),
            Destination::Name(name) => self.names().holder(name),
        };
        found.ok_or_else(|| {
            let reason = match to {
                Destination::Pid(pid) if self.recent_exit(*pid).is_some() => SendErrorReason::Ended,
                Destination::Name(name) => match Destination::from_text(name) {
                    Err(error @ (PidError::Malformed { .. } | PidError::Parts { .. })) => {
                        SendErrorReason::NoPid(error)
                    }
                    _ => SendErrorReason::NotFound,
                },
                Destination::Pid(_) => SendErrorReason::NotFound,
            };
            (to.to_string(), reason)
        })
    }
}

/// Sends a message that was refused, once there is room for it.
//
// On the heap, so that what sends does not carry room for waiting.
pub(super) fn send_later<'a>(
    ctx: &'a CallContext,
    instance: &'a ProcessCell,
    refused: Refused,
    max_wait: Duration,
) -> BoxFuture<'a, Result<(), SendError>> {
    Box::pin(async move {
        match refused {
            // It makes no room before this is done.
            Refused::Full(message) if !ctx.is_awaited_by(instance.pid) => {
                wait_for_room(ctx, instance, message, max_wait).await
            }
            refused => Err(not_sent(instance, refused)),
        }
    })
}

async fn wait_for_room(
    ctx: &CallContext,
    instance: &ProcessCell,
    message: Message,
    max_wait: Duration,
) -> Result<(), SendError> {
    let mut waiting = Some(message);
    let send = instance.mailbox.send(&mut waiting);
    let waited = ctx.bound(timeout(max_wait, send)).await;
    let Some(message) = waiting else { return Ok(()) };
    Err(match waited {
        Ok(Ok(())) => not_sent(instance, Refused::Closed(message)),
        Ok(Err(_)) => not_sent(instance, Refused::Full(message)),
        Err(over) => {
            SendError { reason: SendErrorReason::ContextEnded(over), ..not_sent(instance, Refused::Closed(message)) }
        }
    })
}

fn not_sent(instance: &ProcessCell, refused: Refused) -> SendError {
    let (reason, message) = match refused {
        Refused::Full(message) => {
            (SendErrorReason::Full { capacity: instance.host.mailbox_capacity() }, message)
        }
        Refused::Closed(message) => (SendErrorReason::Ended, message),
    };
    let payload = message.into_payload().unwrap_or_default().into();
    SendError { to: instance.pid.to_string(), reason, payload }
}
