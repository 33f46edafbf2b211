//! Calls of processes: a message, and the reply that the caller waits for.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::task;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::cell::ProcessCell;
use super::cell::monitor::Monitor;
use super::manager::ProcessManager;
use super::message::{Destination, Exit, Message};
use super::send::{SendError, SendErrorReason, resolve, send_later};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;

/// Sends the reply to a call. Replying consumes it; dropping it tells the caller that no reply will come.
///
/// A reply does not go through a mailbox. One that comes too late is given back, and is never seen by the caller.
pub struct ReplyTo(oneshot::Sender<Payload>);

impl ReplyTo {
    /// Replies.
    ///
    /// # Errors
    ///
    /// [`ReplyError::Late`] if the caller waits no longer.
    pub fn send(self, payload: impl Into<Payload>) -> Result<(), ReplyError> {
        self.0.send(payload.into()).map_err(|payload| ReplyError::Late { payload: payload.into() })
    }

    /// Returns whether the caller still waits. It may stop at any time.
    pub fn is_awaited(&self) -> bool {
        !self.0.is_closed()
    }

    /// Waits until the caller waits no longer: its deadline has passed, or it was cancelled or ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn abandoned(&mut self) {
        self.0.closed().await;
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo").field("is_awaited", &self.is_awaited()).finish()
    }
}

/// A reply did not reach a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The caller waits no longer.
    #[error("the reply is late; the caller waits no longer")]
    Late {
        /// The reply.
        payload: Box<Payload>,
    },
    /// The message was sent, or comes from the runtime.
    #[error("the message is not a call, so there is nothing to reply to")]
    NotCalled,
}

impl From<ReplyError> for CallError {
    fn from(error: ReplyError) -> Self {
        let kind = match error {
            ReplyError::Late { .. } => ErrorKind::Cancelled,
            ReplyError::NotCalled => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

/// A call of a process got no reply.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessCallError {
    /// The request was not delivered: the process is unknown, has ended, or its mailbox stayed full.
    #[error(transparent)]
    NotSent(SendError),
    /// The process is the caller's own, or waits for the caller, so it could not reply.
    #[error("{pid} cannot reply, because it is the caller or waits for the caller")]
    OwnChain {
        /// The process.
        pid: Pid,
    },
    /// Too many calls of the caller's process wait for replies.
    #[error("{limit} calls of {caller} wait for their replies, which is the limit")]
    TooManyCalls {
        /// The caller's process.
        caller: Pid,
        /// The [limit](super::ManagerConfig::calls).
        limit: u32,
    },
    /// The process ended before it replied. It may have done what was asked.
    #[error("{} ended before it replied: {}", exit.pid, exit.reason)]
    Ended {
        /// Its exit.
        exit: Exit,
    },
    /// The process dropped the request without a reply, and had not ended then.
    #[error("{pid} dropped the request without a reply")]
    NoReply {
        /// The process.
        pid: Pid,
    },
    /// The reply did not come in time. A late one is discarded.
    #[error("{pid} did not reply in time")]
    Deadline {
        /// The process.
        pid: Pid,
    },
    /// The caller's context ended.
    #[error("the caller's context has ended")]
    ContextEnded {
        /// The reason.
        source: CallError,
    },
}

impl From<ProcessCallError> for CallError {
    fn from(error: ProcessCallError) -> Self {
        let kind = match error {
            ProcessCallError::NotSent(error) => return error.into(),
            ProcessCallError::ContextEnded { source } => return source,
            ProcessCallError::OwnChain { .. } => ErrorKind::Invalid,
            ProcessCallError::TooManyCalls { .. } => ErrorKind::Exhausted,
            ProcessCallError::Deadline { .. } => ErrorKind::Deadline,
            ProcessCallError::Ended { .. } | ProcessCallError::NoReply { .. } => ErrorKind::Unavailable,
        };
        // What was delivered may have been done.
        let is_retryable = matches!(error, ProcessCallError::TooManyCalls { .. });
        Self::new(kind, error.to_string()).with_retryable(is_retryable)
    }
}

/// Sends a request to a process, and waits for its reply for at most `time`.
pub(crate) async fn call(
    manager: &ProcessManager,
    ctx: &CallContext,
    to: Destination<'_>,
    payload: Payload,
    time: Duration,
) -> Result<Payload, ProcessCallError> {
    let callee = match resolve(manager, &to) {
        Ok(callee) => callee,
        Err((to, reason)) => {
            let payload = payload.into();
            return Err(ProcessCallError::NotSent(SendError { to, reason, payload }));
        }
    };
    if ctx.is_awaited_by(callee.pid) {
        return Err(ProcessCallError::OwnChain { pid: callee.pid });
    }
    ctx.check().map_err(|source| ended_call(&callee, source))?;
    let mut calling = Calling::begin(ctx, manager.config().calls)?;
    let begun = Instant::now();
    let (sender, mut reply) = oneshot::channel();
    let request = Message::sent(ctx, payload, Some(ReplyTo(sender)));
    if let Err(undelivered) = callee.mailbox.try_send(request) {
        let max_wait = time.min(manager.config().max_wait);
        send_later(ctx, &callee, undelivered, max_wait).await.map_err(not_sent)?;
    }
    let deadline = [begun.checked_add(time), ctx.deadline()].into_iter().flatten().min();
    let soon = begun + SOON;
    let soon = deadline.map_or(soon, |deadline| deadline.min(soon));
    let replied = match calling.timer(soon) {
        Some(timer) => timer.timeout(soon, &mut reply).await,
        None => timeout_at(soon, &mut reply).await.ok(),
    };
    match replied {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(_dropped)) if callee.is_terminated() => Box::pin(exit_later(ctx, &callee, deadline)).await,
        Some(Err(_dropped)) => Err(ProcessCallError::NoReply { pid: callee.pid }),
        // On the heap, because few calls come this far.
        None => Box::pin(reply_later(ctx, &callee, reply, deadline)).await,
    }
}

/// How long a call waits before it looks at more than its reply. Most replies come sooner, and registering for all that can end
/// a call costs more than the call.
const SOON: Duration = Duration::from_millis(5);

pin_project! {
    /// The timer of the calls that a process makes in its own task. It is kept from one call to the next, because a new timer takes
    /// the lock of the runtime's wheel twice. A call that finds it set to an earlier time leaves it so, and sets it again if it
    /// waits for longer: most do not.
    ///
    /// It may wake the task once after the call, which is harmless.
    pub(crate) struct CallTimer {
        // The task of the process, in whose runtime the timer is.
        task: task::Id,
        #[pin]
        sleep: Sleep,
        // What the timer wakes when it is due.
        waker: Option<Waker>,
    }
}

impl CallTimer {
    fn new(task: task::Id, at: Instant) -> Self {
        Self { task, sleep: sleep_until(at), waker: None }
    }

    /// Waits for `future` until `at`.
    async fn timeout<F: Future>(mut self: Pin<&mut Self>, at: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.as_mut().poll_until(at, context).map(|()| None),
        })
        .await
    }

    fn poll_until(self: Pin<&mut Self>, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let is_earlier = this.sleep.deadline() <= at && !this.sleep.is_elapsed();
        if is_earlier && this.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        if !is_earlier {
            this.sleep.as_mut().reset(at);
        }
        // Without a budget, the timer does not look at the waker.
        let is_registered = has_budget_remaining();
        let polled = this.sleep.poll(context);
        *this.waker = (polled.is_pending() && is_registered).then(|| context.waker().clone());
        polled
    }
}

/// Waits for a reply, for the end of the callee and for all that ends the caller.
async fn reply_later(
    ctx: &CallContext,
    callee: &Arc<ProcessCell>,
    mut reply: oneshot::Receiver<Payload>,
    deadline: Option<Instant>,
) -> Result<Payload, ProcessCallError> {
    let replied = async {
        tokio::select! {
            biased;
            replied = &mut reply => match replied {
                Ok(reply) => return Ok(reply),
                Err(_dropped) if !callee.is_terminated() => {
                    return Err(ProcessCallError::NoReply { pid: callee.pid });
                }
                Err(_dropped) => (),
            },
            // What the process gave its request to, such as a task, may keep that for longer than the process lives.
            () = callee.terminated() => (),
        }
        let exit = Monitor::new(callee).await;
        reply.try_recv().map_err(|_none| ProcessCallError::Ended { exit })
    };
    until(ctx, deadline).bound(replied).await.unwrap_or_else(|source| Err(ended_call(callee, source)))
}

/// Waits for the exit of a callee that is being terminated. It may block its thread for longer than the call may wait.
async fn exit_later(
    ctx: &CallContext,
    callee: &Arc<ProcessCell>,
    deadline: Option<Instant>,
) -> Result<Payload, ProcessCallError> {
    Err(match until(ctx, deadline).bound(Monitor::new(callee)).await {
        Ok(exit) => ProcessCallError::Ended { exit },
        Err(source) => ended_call(callee, source),
    })
}

fn until(ctx: &CallContext, deadline: Option<Instant>) -> CallContext {
    deadline.map_or_else(|| ctx.clone(), |deadline| ctx.with_deadline(deadline))
}

/// What came of a call whose context has ended.
fn ended_call(callee: &ProcessCell, source: CallError) -> ProcessCallError {
    if source.kind() == ErrorKind::Deadline {
        ProcessCallError::Deadline { pid: callee.pid }
    } else {
        ProcessCallError::ContextEnded { source }
    }
}

fn not_sent(error: SendError) -> ProcessCallError {
    match error.reason {
        SendErrorReason::ContextEnded(source) => ProcessCallError::ContextEnded { source },
        _ => ProcessCallError::NotSent(error),
    }
}

/// A call that waits for its reply. If a process makes it, it is counted, and may use the timer of the process.
struct Calling<'a> {
    caller: Option<&'a ProcessCell>,
    /// The task of the process, if the call is made in that. The runtime of another may be shut down before it.
    task: Option<task::Id>,
    timer: Option<Pin<Box<CallTimer>>>,
}

impl<'a> Calling<'a> {
    fn begin(ctx: &'a CallContext, limit: u32) -> Result<Self, ProcessCallError> {
        let Some(caller) = ProcessCell::containing(ctx) else {
            return Ok(Self { caller: None, task: None, timer: None });
        };
        let task = task::try_id();
        let mut state = caller.state();
        if state.calls >= limit {
            return Err(ProcessCallError::TooManyCalls { caller: caller.pid, limit });
        }
        state.calls += 1;
        let task = task.filter(|task| state.task.as_ref().is_some_and(|its| its.id() == *task));
        let timer = state.call_timer.take_if(|timer| Some(timer.task) == task);
        Ok(Self { caller: Some(caller), task, timer })
    }

    /// Returns the timer of the process, and makes it for `at` the first time. Returns `None` in the task of another process.
    fn timer(&mut self, at: Instant) -> Option<Pin<&mut CallTimer>> {
        if self.timer.is_none() {
            let (caller, task) = (self.caller?, self.task?);
            // In the runtime of the task, which may be blocked on another that ends before the next call.
            let _runtime = caller.host.runtime.enter();
            self.timer = Some(Box::pin(CallTimer::new(task, at)));
        }
        self.timer.as_mut().map(Pin::as_mut)
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let Some(caller) = self.caller else { return };
        let mut state = caller.state();
        state.calls -= 1;
        // The process may have ended, or another call of its task may have put one back.
        let kept = match self.timer.take() {
            Some(timer) if !state.has_ended() => state.call_timer.replace(timer),
            timer => timer,
        };
        drop(state);
        // Outside of the lock, because its waker may be the last that keeps something.
        drop(kept);
    }
}
