//! How many restarts are too many.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::error::SpecError;

/// How many restarts are allowed within which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intensity {
    pub(super) restarts: u32,
    pub(super) window: Duration,
}

impl Intensity {
    pub(super) const fn check(&self) -> Result<(), SpecError> {
        if self.window.is_zero() { Err(SpecError::ZeroWindow) } else { Ok(()) }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 3, window: Duration::from_secs(5) }
    }
}

/// When the last restarts were: those within the window.
#[derive(Debug, Default)]
pub(super) struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Counts one. Says how many there were within the window, if that is too many.
    pub(super) fn add(&mut self, now: Instant, intensity: Intensity) -> Option<usize> {
        while self.0.front().is_some_and(|&then| now.duration_since(then) > intensity.window) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let allowed = usize::try_from(intensity.restarts).unwrap_or(usize::MAX);
        (self.0.len() > allowed).then_some(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against all the times there ever were.
        #[test]
        fn restarts_are_counted_within_the_window(
            gaps in prop::collection::vec(0_u64..9, 1..60),
            restarts in 0_u32..6,
            window in 1_u64..20,
        ) {
            let intensity = Intensity { restarts, window: Duration::from_secs(window) };
            let (mut now, mut times, mut counted) = (Instant::now(), Vec::new(), Restarts::default());
            for gap in gaps {
                now += Duration::from_secs(gap);
                times.push(now);
                let within = times.iter().filter(|&&then| now - then <= intensity.window).count();
                let expected = (within > restarts as usize).then_some(within);
                prop_assert_eq!(counted.add(now, intensity), expected);
            }
        }
    }
}
