//! When a supervisor restarts a child, and when it gives up.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::SpecError;
use crate::backoff::Backoff;

/// How often a supervisor restarts its children, and how long it waits before each restart.
///
/// The default is 3 restarts within 5 seconds, with the default [`Backoff`]. In its serialised form durations are text such as `"5s"`.
///
/// ```
/// use std::time::Duration;
///
/// use frame_dispatch::process::supervisor::{Backoff, RestartPolicy};
///
/// let policy = RestartPolicy::default()
///     .with_intensity(10, Duration::from_secs(60))
///     .with_backoff(Backoff::new(Duration::from_millis(50), Duration::from_secs(2)));
/// assert_eq!((policy.restarts, policy.window), (10, Duration::from_secs(60)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestartPolicy {
    /// The most restarts within [`window`](Self::window). The supervisor gives up after more of them.
    pub restarts: u32,
    /// The time in which restarts are counted.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The delay before each restart.
    pub backoff: Backoff,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { restarts: 3, window: Duration::from_secs(5), backoff: Backoff::default() }
    }
}

impl RestartPolicy {
    /// Sets how many restarts there may be within a window. With 0 the first child that has to be restarted ends the supervisor.
    #[must_use]
    pub const fn with_intensity(mut self, restarts: u32, window: Duration) -> Self {
        self.restarts = restarts;
        self.window = window;
        self
    }

    /// Sets [`backoff`](Self::backoff).
    #[must_use]
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    pub(crate) fn check(&self) -> Result<(), SpecError> {
        if self.window.is_zero() {
            return Err(SpecError::ZeroWindow);
        }
        Ok(self.backoff.check()?)
    }
}

/// Counts restarts within the window of a policy.
#[derive(Debug, Default)]
pub(crate) struct RestartCounter(VecDeque<Instant>);

impl RestartCounter {
    /// Counts a restart. Returns how many there were within the window, if these are too many.
    pub(crate) fn add(&mut self, now: Instant, policy: &RestartPolicy) -> Option<usize> {
        while self.0.front().is_some_and(|&then| now.duration_since(then) > policy.window) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let allowed = usize::try_from(policy.restarts).unwrap_or(usize::MAX);
        (self.0.len() > allowed).then_some(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_read_back_as_it_was_written() {
        let never = Backoff::new(Duration::from_millis(50), Duration::MAX).with_jitter(0.5);
        let policy = RestartPolicy::default().with_intensity(7, Duration::from_mins(1)).with_backoff(never);
        let written = serde_json::to_value(policy).unwrap();
        assert_eq!(written["window"], "1m");
        assert_eq!(serde_json::from_value::<RestartPolicy>(written).unwrap(), policy);
        let error = serde_json::from_str::<RestartPolicy>(r#"{ "intensity": 3 }"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `intensity`"), "{error}");
    }

    proptest! {
        #[test]
        fn restarts_are_counted_within_the_window(
            gaps in prop::collection::vec(0_u64..9, 1..60),
            restarts in 0_u32..6,
            window in 1_u64..20,
        ) {
            let policy = RestartPolicy::default().with_intensity(restarts, Duration::from_secs(window));
            let (mut now, mut times, mut counted) = (Instant::now(), Vec::new(), RestartCounter::default());
            for gap in gaps {
                now += Duration::from_secs(gap);
                times.push(now);
                let within = times.iter().filter(|&&then| now - then <= policy.window).count();
                let expected = (within > restarts as usize).then_some(within);
                prop_assert_eq!(counted.add(now, &policy), expected);
            }
        }
    }
}
