//! The calls of a function under one rate, and the queue of those that wait.
//!
//! The rate is kept by the generic cell rate algorithm: a rate with a burst, in one number.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync;
use tokio::time::{Instant, sleep_until};

use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};

/// How far apart calls are, and how much too early a call may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rate {
    interval: Duration,
    tolerance: Duration,
}

impl Rate {
    /// Of `calls` in the time `per`, of which `burst` may come at once.
    pub(super) fn new(calls: u32, per: Duration, burst: u32) -> Self {
        let rounded = per / calls.max(1);
        // Rounded up, so that there never are more calls than said.
        let missing = Duration::from_nanos(u64::from(rounded.saturating_mul(calls) < per));
        let interval = rounded.saturating_add(missing);
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }
}

/// Calls of one rate. Time is counted from some moment of the caller's choice.
///
/// In any time `t` it lets at most `burst + t / interval` calls begin, and none waits longer than it has to for that.
#[derive(Debug, Clone, Copy, Default)]
struct Gcra {
    /// When the next call is due, if calls came evenly.
    due: Duration,
}

impl Gcra {
    /// When a call can begin that comes now, while so many others wait ahead of it.
    fn slot(&self, rate: Rate, now: Duration, ahead: u32) -> Duration {
        let due = self.due.max(now).saturating_add(rate.interval.saturating_mul(ahead));
        due.saturating_sub(rate.tolerance).max(now)
    }

    /// Counts a call that begins.
    fn take(&mut self, rate: Rate, now: Duration) {
        self.due = self.due.max(now).saturating_add(rate.interval);
    }

    /// Whether it is as good as new.
    fn is_idle(&self, now: Duration) -> bool {
        self.due <= now
    }
}

/// Calls that keep one rate, first come, first served.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// What time is counted from.
    origin: Instant,
    state: Mutex<BucketState>,
    /// Whose turn it is to wait for the next slot. It is fair.
    turn: sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct BucketState {
    gcra: Gcra,
    /// How many calls wait, the one whose turn it is included.
    waiting: u32,
}

/// A call that waits or, once it has had its turn, may begin. It takes its slot only when it says so: dropped before, it
/// leaves no trace.
#[derive(Debug)]
pub(super) struct SlotReservation<'a> {
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
    pub(super) async fn reserve(&self, ctx: &CallContext) -> Result<SlotReservation<'_>, NoSlot> {
        let mut reservation = SlotReservation { bucket: self, is_counted: true, turn: None };
        let ahead = {
            let mut state = self.state();
            state.waiting += 1;
            state.waiting - 1
        };
        self.in_time(self.slot(ahead), ctx)?;
        let turn = ctx.bound(self.turn.lock()).await;
        reservation.turn = Some(turn.map_err(|ended| self.ended(ended, ahead))?);
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
        Ok(reservation)
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

    fn state(&self) -> MutexGuard<'_, BucketState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotReservation<'_> {
    /// Takes the slot.
    pub(super) fn take(mut self) {
        let now = self.bucket.now();
        let mut state = self.bucket.state();
        state.gcra.take(self.bucket.rate, now);
        state.waiting -= 1;
        self.is_counted = false;
    }
}

impl Drop for SlotReservation<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.bucket.state().waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn nanos(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    proptest! {
        /// The model is the promise itself: counted from any call that began, there are never more than
        /// `burst + t / interval`; and a call waits only where it would be one too many.
        #[test]
        fn a_call_begins_as_soon_as_it_is_not_one_too_many(
            interval in 1_u64..20,
            burst in 1_u32..6,
            steps in prop::collection::vec((0_u64..25, any::<bool>()), 1..60),
        ) {
            let rate = Rate::new(1, nanos(interval), burst);
            let mut gcra = Gcra::default();
            let mut begun: Vec<u64> = Vec::new();
            let mut now = 0;
            for (step, waits) in steps {
                now += step;
                let is_one_too_many = |at: u64| begun.iter().enumerate().any(|(index, first)| {
                    let count = (begun.len() - index + 1) as u64;
                    count * interval > u64::from(burst) * interval + (at - first)
                });
                let soonest = (now..now + 200).find(|at| !is_one_too_many(*at)).unwrap();
                prop_assert_eq!(gcra.slot(rate, nanos(now), 0), nanos(soonest));
                if waits {
                    now = soonest;
                }
                if soonest == now {
                    gcra.take(rate, nanos(now));
                    begun.push(now);
                }
            }
        }

        #[test]
        fn who_waits_behind_others_is_told_when_they_are_through(
            interval in 1_u64..20,
            burst in 1_u32..6,
            taken in 0_usize..8,
            ahead in 0_u32..8,
            now in 0_u64..30,
        ) {
            let rate = Rate::new(1, nanos(interval), burst);
            let mut gcra = Gcra::default();
            for _ in 0..taken {
                gcra.take(rate, nanos(0));
            }
            let said = gcra.slot(rate, nanos(now), ahead);
            let mut at = nanos(now);
            for _ in 0..ahead {
                at = gcra.slot(rate, at, 0);
                gcra.take(rate, at);
            }
            prop_assert_eq!(said, gcra.slot(rate, at, 0));
        }

        #[test]
        fn an_interval_is_never_too_short(calls in 1_u32.., per in 1_u64..) {
            let Rate { interval, .. } = Rate::new(calls, nanos(per), 1);
            prop_assert!(interval.as_nanos() * u128::from(calls) >= u128::from(per));
            prop_assert!((interval.as_nanos() - 1) * u128::from(calls) < u128::from(per));
        }
    }

    #[test]
    fn no_value_overflows() {
        let rate = Rate::new(1, Duration::MAX, u32::MAX);
        let mut gcra = Gcra::default();
        for _ in 0..3 {
            gcra.take(rate, Duration::MAX);
        }
        assert_eq!(gcra.slot(rate, Duration::MAX, u32::MAX), Duration::MAX);
        assert_eq!(Rate::new(u32::MAX, nanos(1), 1).interval, nanos(1));
    }
}
