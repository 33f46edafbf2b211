//! How long to wait before a restart.

use std::time::Duration;

use super::error::SpecError;

/// How long a supervisor waits before it starts a child again: longer each time it fails in a row. After a delay that is too
/// long for the clock, such as [`Duration::MAX`], it is not started again until it is
/// [asked for](super::SupervisorHandle::restart).
///
/// ```
/// # use std::time::Duration;
/// use frame_dispatch::process::supervisor::Backoff;
///
/// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_jitter(0.5);
/// assert_eq!(backoff.delay(3, 0.0), Duration::from_millis(200));
/// assert_eq!(backoff.delay(3, 1.0), Duration::from_millis(100));
/// assert_eq!(backoff.delay(99, 0.0), Duration::from_secs(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    reset_after: Duration,
}

impl Default for Backoff {
    /// 100 ms, then twice that of before, up to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Waits for `first` after the first failure, then twice as long each time, but never longer than `max`; each delay up to a
    /// tenth shorter at random. A child that has lived for 30 seconds begins with `first` again.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, factor: 2.0, jitter: 0.1, reset_after: Duration::from_secs(30) }
    }

    /// Starts a child again at once, as Erlang's supervisors do.
    #[must_use]
    pub const fn none() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO)
    }

    /// Makes every delay `factor` times that before it; at least 1, which is the same delay each time.
    #[must_use]
    pub const fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Shortens every delay by a random part of up to `jitter` of it, from 0 to 1, so that children that failed together do
    /// not start again together.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Counts a failure as the first again where the child has lived for so long before it.
    #[must_use]
    pub const fn with_reset_after(mut self, time: Duration) -> Self {
        self.reset_after = time;
        self
    }

    /// How long to wait after so many failures in a row: `min(first × factor ^ (failures - 1), max)`, times
    /// `1 - jitter × random`, with `random` from 0 to 1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        // Not infinite, which times no delay is not a number.
        let power = self.factor.powf(f64::from(failures.saturating_sub(1))).min(f64::MAX);
        let seconds = (self.first.as_secs_f64() * power).min(self.max.as_secs_f64());
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        Duration::try_from_secs_f64(seconds * (1.0 - self.jitter * random)).unwrap_or(self.max)
    }

    /// Whether a child that lived so long is no longer one that fails in a row.
    pub(super) fn is_reset_by(&self, life: Duration) -> bool {
        life >= self.reset_after
    }

    pub(super) fn check(&self) -> Result<(), SpecError> {
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Err(SpecError::Factor { factor: self.factor });
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(SpecError::Jitter { jitter: self.jitter });
        }
        if self.first > self.max {
            return Err(SpecError::Delays { first: self.first, max: self.max });
        }
        Ok(())
    }
}
