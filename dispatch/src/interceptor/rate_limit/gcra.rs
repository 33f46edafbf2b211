//! The generic cell rate algorithm: a rate with a burst, in one number of state.

use std::time::Duration;

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
pub(super) struct Gcra {
    /// When the next call is due, if calls came evenly.
    due: Duration,
}

impl Gcra {
    /// When a call can begin that comes now, while so many others wait ahead of it.
    pub(super) fn slot(&self, rate: Rate, now: Duration, ahead: u32) -> Duration {
        let due = self.due.max(now).saturating_add(rate.interval.saturating_mul(ahead));
        due.saturating_sub(rate.tolerance).max(now)
    }

    /// Counts a call that begins.
    pub(super) fn take(&mut self, rate: Rate, now: Duration) {
        self.due = self.due.max(now).saturating_add(rate.interval);
    }

    /// Whether it is as good as new.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.due <= now
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
