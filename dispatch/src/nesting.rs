//! How deep calls are nested, and the fresh stacks that deep ones run on.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::thread;

use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, Span};

use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::payload::Payload;

/// How many nested calls share a stack.
///
/// Without optimisation a native call takes 15 KiB, one in Lua 43 KiB, and all built-in interceptors around either 54 KiB
/// more; with it 2 KiB, and 24 KiB with the interceptors. A worker of tokio has 2 MiB, and what a component calls 1.5 MiB.
const CALLS_PER_STACK: u32 = if cfg!(debug_assertions) { 8 } else { 16 };

/// How many calls a unit is nested in, and whether it begins a stack.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Nesting {
    depth: u32,
    is_on_fresh_stack: bool,
}

impl Nesting {
    /// The nesting of a unit that runs one call further inside.
    pub(crate) const fn inside(self) -> Self {
        Self { depth: self.depth + 1, is_on_fresh_stack: false }
    }

    /// The same, of a unit that runs as a task of its own.
    pub(crate) const fn on_fresh_stack(self) -> Self {
        Self { is_on_fresh_stack: true, ..self }
    }

    /// Returns whether a call from here is too deep, or needs a fresh stack.
    pub(crate) const fn is_deep(self, max_depth: u32) -> bool {
        self.depth >= max_depth || self.needs_fresh_stack()
    }

    const fn needs_fresh_stack(self) -> bool {
        self.depth != 0 && self.depth.is_multiple_of(CALLS_PER_STACK) && !self.is_on_fresh_stack
    }

    /// Refuses whatever would be nested in a unit of this depth.
    ///
    /// # Errors
    ///
    /// Of the kind [`Exhausted`](ErrorKind::Exhausted) if the unit is nested `max_depth` deep.
    pub(crate) fn check(self, max_depth: u32) -> Result<(), CallError> {
        if self.depth < max_depth {
            return Ok(());
        }
        let message = format!(
            "calls are nested {max_depth} levels deep, which is the limit; end the recursion earlier, or raise \
             `max_depth`"
        );
        Err(CallError::new(ErrorKind::Exhausted, message).with_retryable(false))
    }
}

/// Spawns a call as a task of its own, which has a fresh stack. It stays in the span and the subscriber of its caller.
///
/// # Errors
///
/// Of the kind [`Exhausted`](ErrorKind::Exhausted) outside of a tokio runtime.
pub(crate) fn spawn(
    call: impl Future<Output = Result<Payload, CallError>> + Send + 'static,
) -> Result<SpawnedCall, CallError> {
    let runtime = Handle::try_current().map_err(|_| no_runtime())?;
    let call = call.instrument(Span::current()).with_current_subscriber();
    let slot = Arc::new(CallSlot(Mutex::new(Some(Box::pin(call)))));
    let task = runtime.spawn(PollSlot(Arc::clone(&slot)));
    Ok(SpawnedCall { slot, task })
}

fn no_runtime() -> CallError {
    let message = format!(
        "calls are nested {CALLS_PER_STACK} levels deep without a tokio runtime, whose tasks deeper calls run on; make \
         the outermost call on one"
    );
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

type CallFuture = BoxFuture<'static, Result<Payload, CallError>>;

/// A call that runs as a task of its own. Dropping it drops the call: at once, or when its current poll on another thread
/// returns.
pub(crate) struct SpawnedCall {
    slot: Arc<CallSlot>,
    task: JoinHandle<Result<Payload, CallError>>,
}

impl Future for SpawnedCall {
    type Output = Result<Payload, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context).map(|joined| joined.unwrap_or_else(|error| Err(failed(error))))
    }
}

fn failed(error: JoinError) -> CallError {
    match error.try_into_panic() {
        Ok(panic) => CallError::panicked(panics::message(&*panic)),
        Err(_) => CallError::new(ErrorKind::Cancelled, "cancelled, because its runtime is shutting down"),
    }
}

impl Drop for SpawnedCall {
    fn drop(&mut self) {
        self.task.abort();
        let call = match self.slot.0.try_lock() {
            Ok(mut slot) => slot.take(),
            Err(TryLockError::Poisoned(slot)) => slot.into_inner().take(),
            // It is being polled. The task drops it after that, because it is aborted.
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(call) = call {
            drop_in_turn(call);
        }
    }
}

/// Holds the future of a call for both its task and its caller.
struct CallSlot(Mutex<Option<CallFuture>>);

/// The task of a spawned call.
struct PollSlot(Arc<CallSlot>);

impl Future for PollSlot {
    type Output = Result<Payload, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(call) = slot.as_mut() else {
            // The caller has dropped it, and reads no result.
            return Poll::Ready(Err(CallError::cancelled()));
        };
        let polled = call.as_mut().poll(context);
        let done = if polled.is_ready() { slot.take() } else { None };
        drop(slot);
        drop(done);
        polled
    }
}

impl Drop for PollSlot {
    fn drop(&mut self) {
        // The call is left where the task was aborted as it was polled, or its runtime shut down.
        let call = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(call) = call {
            drop_in_turn(call);
        }
    }
}

thread_local! {
    /// Calls to be dropped after the one that is being dropped on this thread.
    static NEXT_TO_DROP: RefCell<Option<Vec<CallFuture>>> = const { RefCell::new(None) };
}

/// Drops a call. One that is dropped inside another is dropped after it, so that a chain of them takes the stack of two.
fn drop_in_turn(call: CallFuture) {
    let mut call = Some(call);
    let is_first = NEXT_TO_DROP.try_with(|next| match &mut *next.borrow_mut() {
        Some(next) => {
            next.extend(call.take());
            false
        }
        empty @ None => {
            *empty = Some(Vec::new());
            true
        }
    });
    if !is_first.unwrap_or(false) {
        // Where the thread itself ends nothing is put off.
        return drop(call);
    }
    let mut panic = None;
    while let Some(next) = call {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| drop(next))) {
            panic.get_or_insert(cause);
        }
        call = NEXT_TO_DROP.with_borrow_mut(|next| next.as_mut().and_then(Vec::pop));
    }
    NEXT_TO_DROP.with_borrow_mut(|next| drop(mem::take(next)));
    if let Some(panic) = panic
        && !thread::panicking()
    {
        resume_unwind(panic);
    }
}
