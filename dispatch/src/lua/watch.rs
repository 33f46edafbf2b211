//! Keeps a running script inside the bounds of its call.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::panics;

/// How long a script runs before others get their turn on the thread.
const SLICE: Duration = Duration::from_millis(1);
/// How long it may run where it cannot be suspended: in a message handler, or in a function that another called back.
const LONGEST_UNSUSPENDED: Duration = Duration::from_millis(200);
/// And how often it is asked in vain before that counts: a thread that got no processor ran for no time.
const ASKED_IN_VAIN: u32 = 100;

/// What is raised in a script whose call is over. Nothing there can catch it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the call is over")]
pub(super) struct Over;

/// The call that runs in a VM, and what is left to it. One VM has one.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ctx: Option<Ctx>,
    /// What modules keep for it, by its type.
    kept: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// The thread that the host runs, by its address. The script is not in it.
    driver: usize,
    /// When the script was let run. Not known until the first look at the clock.
    slice: Option<Instant>,
    looked: Option<Instant>,
    /// How often it was asked to let others run since, and did not.
    asked: u32,
    over: Option<End>,
    /// The script ran out of memory, whether or not it caught that.
    is_exhausted: bool,
    /// It was suspended since it was let run, and not because a host function waits.
    is_suspended: bool,
    /// It was so before it was let run, and no host function was polled since.
    is_unpolled: bool,
    panic: Option<String>,
    /// Where the script was when it raised the error that ended it.
    trace: Option<String>,
}

/// What a hook found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) is_over: bool,
    /// The slice is used up.
    pub(super) is_due: bool,
    /// How long ago the last look was.
    pub(super) since: Duration,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// The call was cancelled, or its deadline passed.
    Bounds,
    Unsuspended,
    /// A host function panicked.
    Panicked,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `ctx` the call that runs, until the guard is dropped.
    pub(super) fn begin(&self, ctx: &Ctx) -> Running<'_> {
        *self.state() = State { ctx: Some(ctx.clone()), ..State::default() };
        Running(self)
    }

    /// The surroundings of the call that runs.
    pub(super) fn ctx(&self) -> mlua::Result<Ctx> {
        self.state().ctx.clone().ok_or_else(|| mlua::Error::external(Over))
    }

    /// What is kept of this type for the call that runs.
    pub(super) fn of_call<T: Default + Any + Send + Sync>(&self) -> mlua::Result<Arc<T>> {
        let mut state = self.state();
        if state.ctx.is_none() {
            return Err(mlua::Error::external(Over));
        }
        let kept = state.kept.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default());
        // It is of this type: that is what it is kept by.
        Arc::clone(kept).downcast().map_err(|_| mlua::Error::external(Over))
    }

    /// The script is let run again.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        state.slice = None;
        state.looked = None;
        state.asked = 0;
        state.is_unpolled = mem::take(&mut state.is_suspended);
    }

    /// Runs what a host function waits for, and notes whenever it is polled.
    pub(super) async fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|waker| {
            self.state().is_unpolled = false;
            future.as_mut().poll(waker)
        })
        .await
    }

    /// Whether the script was suspended before it was let run, and no host function was polled since.
    pub(super) fn is_unpolled(&self) -> bool {
        self.state().is_unpolled
    }

    /// The script is suspended, and not because a host function waits.
    pub(super) fn note_suspended(&self) {
        self.state().is_suspended = true;
    }

    /// Whether the script shall end; what it raises then cannot be caught.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over()
    }

    /// What ended the call, if it is known to be over: the look at the clock was taken before the script yielded.
    pub(super) fn has_ended(&self) -> Option<mlua::Error> {
        self.state().over.map(|_| mlua::Error::external(Over))
    }

    /// Raises if the call is over: for what is bounded in another way.
    pub(super) fn check(&self) -> mlua::Result<()> {
        if self.is_over() { Err(mlua::Error::external(Over)) } else { Ok(()) }
    }

    /// Raises if the call is over, or the script ran for too long without being suspended. Says whether it has had
    /// its time, and shall let others run.
    pub(super) fn look(&self) -> mlua::Result<bool> {
        let (is_over, is_due) = self.state().look(Instant::now());
        if is_over { Err(mlua::Error::external(Over)) } else { Ok(is_due) }
    }

    /// What it took to react to a look is not the script's time.
    pub(super) fn looked(&self) {
        self.state().looked = Some(Instant::now());
    }

    /// A host function panicked, which ends the call.
    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) -> mlua::Error {
        let mut state = self.state();
        state.over = Some(End::Panicked);
        state.panic = Some(panics::message(panic));
        mlua::Error::external(Over)
    }

    pub(super) fn note_exhausted(&self) {
        self.state().is_exhausted = true;
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

    /// Why the call is over.
    pub(super) fn end(&self) -> CallError {
        let state = self.state();
        match (state.over, &state.ctx) {
            (Some(End::Unsuspended), _) => CallError::new(
                ErrorKind::Internal,
                format!(
                    "ran for {} ms where a script cannot be suspended: in a message handler, a metamethod that a \
                     library function calls, or a __close in coroutine.close",
                    LONGEST_UNSUSPENDED.as_millis()
                ),
            ),
            (Some(End::Panicked), _) => CallError::panicked(state.panic.clone().unwrap_or_default()),
            (_, Some(ctx)) => ctx.check().err().unwrap_or_else(CallError::deadline),
            (_, None) => CallError::cancelled(),
        }
    }

    /// Says which thread the host runs.
    pub(super) fn set_driver(&self, thread: usize) {
        self.state().driver = thread;
    }

    /// Takes a look from the hook of a thread.
    pub(super) fn hook(&self, thread: usize) -> Look {
        let mut state = self.state();
        if state.ctx.is_none() || state.driver == thread {
            return Look { is_over: false, is_due: false, since: Duration::ZERO };
        }
        let now = Instant::now();
        let since = state.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        let (is_over, is_due) = state.look(now);
        Look { is_over, is_due, since }
    }
}

/// The call that runs, until this is dropped.
pub(super) struct Running<'a>(&'a Watch);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // A `Ctx` holds the functions, which hold the pool that the VM goes back to.
        let ctx = state.ctx.take();
        let kept = mem::take(&mut state.kept);
        // Whatever these do as they are dropped, they do not do it behind the lock.
        drop(state);
        drop((ctx, kept));
    }
}

impl State {
    fn is_over(&mut self) -> bool {
        if self.over.is_none() && self.ctx.as_ref().is_none_or(|ctx| ctx.check().is_err()) {
            self.over = Some(End::Bounds);
        }
        self.over.is_some()
    }

    /// Whether the call is over, and whether the slice is used up.
    fn look(&mut self, now: Instant) -> (bool, bool) {
        self.looked = Some(now);
        let slice = *self.slice.get_or_insert(now);
        let ran = now - slice;
        let is_due = ran >= SLICE;
        if is_due {
            self.asked += 1;
            let is_stuck = self.asked > ASKED_IN_VAIN && ran >= LONGEST_UNSUSPENDED;
            if !self.is_over() && is_stuck {
                self.over = Some(End::Unsuspended);
            }
        }
        (self.over.is_some(), is_due)
    }
}
