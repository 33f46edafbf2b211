//! Keeps a running script inside the bounds of its call.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::script::clock;

/// How long a script may run where it cannot be suspended: in a message handler, or in a function that C code calls back.
const LONGEST_UNSUSPENDED: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 100 });
/// How often it must also have been interrupted without effect: a thread that gets no processor does not run.
const INTERRUPTED_IN_VAIN: u32 = 50;

/// The error of a script whose call has ended. A script cannot catch it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the call has ended")]
pub(super) struct CallEnded;

/// The call that runs in a VM, and what is left to it. One VM has one.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    ctx: Option<CallContext>,
    /// When the call first asked for the time.
    began: Option<Instant>,
    /// What modules keep for it, by its type.
    kept: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// When the script was first interrupted in vain since it was resumed, and how often since.
    unsuspended: Option<(Instant, u32)>,
    ended: Option<EndReason>,
    /// The script ran out of memory, whether or not it caught that.
    is_exhausted: bool,
    /// It did so where its functions call each other deeply.
    is_overflow: bool,
    panic: Option<String>,
    /// Where the script was when it raised the error that ended it.
    trace: Option<String>,
    /// What that error says of itself.
    text: Option<String>,
}

/// What becomes of a script that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    GoOn,
    Suspend,
    End,
}

#[derive(Debug, Clone, Copy)]
enum EndReason {
    /// The call was cancelled, or its deadline passed.
    Bounds,
    Unsuspended,
    /// A host function panicked.
    Panicked,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `ctx` the call that runs, until the guard is dropped.
    pub(super) fn begin(&self, ctx: &CallContext) -> RunningCall<'_> {
        *self.state() = WatchState { ctx: Some(ctx.clone()), ..WatchState::default() };
        RunningCall(self)
    }

    /// The context of the call that runs.
    pub(super) fn ctx(&self) -> mlua::Result<CallContext> {
        self.state().ctx.clone().ok_or_else(|| mlua::Error::external(CallEnded))
    }

    /// How long ago the call first asked this.
    pub(super) fn elapsed(&self) -> Duration {
        self.state().began.get_or_insert_with(Instant::now).elapsed()
    }

    /// What is kept of this type for the call that runs.
    pub(super) fn of_call<T: Default + Any + Send + Sync>(&self) -> mlua::Result<Arc<T>> {
        let mut state = self.state();
        if state.ctx.is_none() {
            return Err(mlua::Error::external(CallEnded));
        }
        let kept = state.kept.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default());
        // It is of this type: that is what it is kept by.
        Arc::clone(kept).downcast().map_err(|_| mlua::Error::external(CallEnded))
    }

    /// The script is resumed.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        state.unsuspended = None;
        state.is_overflow = false;
    }

    /// Whether the script shall end; what it raises then cannot be caught.
    pub(super) fn is_ended(&self) -> bool {
        self.state().is_ended()
    }

    /// The error for a call that is known to have ended.
    pub(super) fn has_ended(&self) -> Option<mlua::Error> {
        self.state().ended.map(|_| mlua::Error::external(CallEnded))
    }

    /// Raises if the call has ended: for work that is bounded in another way.
    pub(super) fn check(&self) -> mlua::Result<()> {
        clock::reach();
        if self.is_ended() { Err(mlua::Error::external(CallEnded)) } else { Ok(()) }
    }

    /// Decides what becomes of a script that is interrupted: by the hook, or by a library function that has run for a while.
    pub(super) fn interrupt(&self, is_yieldable: bool) -> Interrupt {
        let mut state = self.state();
        if state.ctx.is_none() {
            return Interrupt::GoOn;
        }
        if state.ended.is_none() {
            let is_due = if is_yieldable { clock::is_due() } else { clock::is_due_in_vain() };
            if !is_due {
                return Interrupt::GoOn;
            }
            if is_yieldable {
                return Interrupt::Suspend;
            }
            let now = Instant::now();
            let (since, times) = state.unsuspended.get_or_insert((now, 0));
            *times += 1;
            let is_stuck = *times > INTERRUPTED_IN_VAIN && now - *since >= LONGEST_UNSUSPENDED;
            if !state.is_ended() {
                if !is_stuck {
                    return Interrupt::GoOn;
                }
                state.ended = Some(EndReason::Unsuspended);
            }
        }
        if is_yieldable { Interrupt::Suspend } else { Interrupt::End }
    }

    /// A host function panicked, which ends the call.
    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) -> mlua::Error {
        let mut state = self.state();
        state.ended = Some(EndReason::Panicked);
        state.panic = Some(panics::message(panic));
        mlua::Error::external(CallEnded)
    }

    pub(super) fn note_exhausted(&self) {
        self.state().is_exhausted = true;
    }

    /// An allocation failed: because functions call each other too deeply, or for another reason.
    pub(super) fn note_overflow(&self, is_overflow: bool) {
        self.state().is_overflow |= is_overflow;
    }

    pub(super) fn is_overflow(&self) -> bool {
        self.state().is_overflow
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.state().is_exhausted
    }

    pub(super) fn note_trace(&self, trace: String) {
        self.state().trace = Some(trace);
    }

    pub(super) fn take_trace(&self) -> Option<String> {
        self.state().trace.take()
    }

    pub(super) fn note_text(&self, text: String) {
        self.state().text = Some(text);
    }

    pub(super) fn take_text(&self) -> Option<String> {
        self.state().text.take()
    }

    /// Why the call has ended.
    pub(super) fn end(&self) -> CallError {
        let state = self.state();
        match (state.ended, &state.ctx) {
            (Some(EndReason::Unsuspended), _) => CallError::new(
                ErrorKind::Internal,
                format!(
                    "ran for {} ms where a script cannot be suspended: in a message handler, a metamethod that a \
                     library function calls, a __close in coroutine.close, or load",
                    LONGEST_UNSUSPENDED.as_millis()
                ),
            ),
            (Some(EndReason::Panicked), _) => CallError::panicked(state.panic.clone().unwrap_or_default()),
            (_, Some(ctx)) => ctx.check().err().unwrap_or_else(CallError::deadline),
            (_, None) => CallError::cancelled(),
        }
    }
}

/// The call that runs, until this is dropped.
pub(super) struct RunningCall<'a>(&'a Watch);

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // A `CallContext` holds the functions, which hold the pool that the VM goes back to.
        let ctx = state.ctx.take();
        let kept = mem::take(&mut state.kept);
        // Whatever these do as they are dropped, they do it without the lock.
        drop(state);
        drop((ctx, kept));
    }
}

impl WatchState {
    fn is_ended(&mut self) -> bool {
        if self.ended.is_none() && self.ctx.as_ref().is_none_or(|ctx| ctx.check().is_err()) {
            self.ended = Some(EndReason::Bounds);
        }
        self.ended.is_some()
    }
}
