//! The calls of a function that keep one rate, and who waits among them.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync;
use tokio::time::{Instant, sleep_until};

use super::gcra::{Gcra, Rate};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};

/// Calls that keep one rate, first come, first served.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// What time is counted from.
    origin: Instant,
    state: Mutex<State>,
    /// Whose turn it is to wait for the next slot. It is fair.
    turn: sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    gcra: Gcra,
    /// How many calls wait, the one whose turn it is included.
    waiting: u32,
}

/// A call that waits or, once it has had its turn, may begin. It takes its slot only when it says so: dropped before, it
/// leaves no trace.
#[derive(Debug)]
pub(super) struct Place<'a> {
    bucket: &'a Bucket,
    is_counted: bool,
    turn: Option<sync::MutexGuard<'a, ()>>,
}

/// There is no slot in the time that a call has.
#[derive(Debug)]
pub(super) enum NoSlot {
    /// The next one is in this time.
    Next(Duration),
    /// The call ended while it waited.
    Ended(CallError),
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, origin: Instant::now(), state: Mutex::default(), turn: sync::Mutex::default() }
    }

    /// Takes a slot of each, if each has one now and nobody waits for it.
    pub(super) fn try_take(buckets: [Option<&Self>; 2]) -> bool {
        let mut states = buckets.map(|bucket| bucket.map(|bucket| (bucket, bucket.state(), bucket.now())));
        let is_open = states
            .iter()
            .flatten()
            .all(|(bucket, state, now)| state.waiting == 0 && state.gcra.slot(bucket.rate, *now, 0) <= *now);
        if is_open {
            for (bucket, state, now) in states.iter_mut().flatten() {
                state.gcra.take(bucket.rate, *now);
            }
        }
        is_open
    }

    /// Waits for the next slot, which is then held open, for as long as the deadline of `ctx`.
    pub(super) async fn place(&self, ctx: &CallContext) -> Result<Place<'_>, NoSlot> {
        let mut place = Place { bucket: self, is_counted: true, turn: None };
        let ahead = {
            let mut state = self.state();
            state.waiting += 1;
            state.waiting - 1
        };
        self.in_time(self.slot(ahead), ctx)?;
        let turn = ctx.bound(self.turn.lock()).await;
        place.turn = Some(turn.map_err(|ended| self.ended(ended, ahead))?);
        let slot = self.slot(0);
        if slot > self.now() {
            // Those ahead may have taken longer than they said, for a slot of another bucket.
            self.in_time(slot, ctx)?;
            let begins = async {
                match self.origin.checked_add(slot) {
                    Some(slot) => sleep_until(slot).await,
                    None => pending().await,
                }
            };
            ctx.bound(begins).await.map_err(|ended| self.ended(ended, 0))?;
        }
        Ok(place)
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self) -> bool {
        let now = self.now();
        let state = self.state();
        state.waiting == 0 && state.gcra.is_idle(now)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn slot(&self, ahead: u32) -> Duration {
        self.state().gcra.slot(self.rate, self.now(), ahead)
    }

    /// Refuses to wait for a slot that comes too late.
    fn in_time(&self, slot: Duration, ctx: &CallContext) -> Result<(), NoSlot> {
        let latest = ctx.deadline().map(|deadline| deadline.saturating_duration_since(self.origin));
        if latest.is_some_and(|latest| slot >= latest) {
            return Err(NoSlot::Next(slot.saturating_sub(self.now())));
        }
        Ok(())
    }

    fn ended(&self, ended: CallError, ahead: u32) -> NoSlot {
        match ended.kind() {
            ErrorKind::Deadline => NoSlot::Next(self.slot(ahead).saturating_sub(self.now())),
            _ => NoSlot::Ended(ended),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Takes the slot.
    pub(super) fn take(mut self) {
        let now = self.bucket.now();
        let mut state = self.bucket.state();
        state.gcra.take(self.bucket.rate, now);
        state.waiting -= 1;
        self.is_counted = false;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.bucket.state().waiting -= 1;
        }
    }
}
