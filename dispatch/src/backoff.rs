//! Delays that grow with each failure in a row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Delays that grow with each failure in a row: between the attempts of a [retried](crate::interceptor::RETRY) call, and before
/// a [supervisor](crate::process::supervisor) starts a child again. In its serialised form durations are text such as `"30s"`.
///
/// ```
/// # use std::time::Duration;
/// use frame_dispatch::Backoff;
///
/// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_jitter(0.5);
/// assert_eq!(backoff.delay(3, 0.0), Duration::from_millis(200));
/// assert_eq!(backoff.delay(3, 1.0), Duration::from_millis(100));
/// assert_eq!(backoff.delay(99, 0.0), Duration::from_secs(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    #[serde(with = "humantime_serde")]
    first: Duration,
    #[serde(with = "humantime_serde")]
    max: Duration,
    factor: f64,
    jitter: f64,
    #[serde(with = "humantime_serde")]
    reset_after: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubled after each failure, up to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Creates a backoff of `first` after the first failure, doubled after each further one, up to `max`. Each delay is
    /// shortened at random by up to a tenth.
    ///
    /// With a delay that is too long for the clock, such as [`Duration::MAX`], nothing is tried again by itself.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, factor: 2.0, jitter: 0.1, reset_after: Duration::from_secs(30) }
    }

    /// Creates a backoff without delays, as Erlang's supervisors have.
    #[must_use]
    pub const fn none() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO)
    }

    /// Sets how many times as long each delay is as the one before: at least 1, which keeps all delays the same. Default: 2.
    #[must_use]
    pub const fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the part of each delay, from 0 to 1, that it is shortened by at most, at random. So what failed together is not
    /// tried again together. 1 is full jitter: anything from the whole delay to none. Default: 0.1.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets how long a child of a supervisor has to run until its next failure counts as the first. Default: 30 seconds.
    ///
    /// Retries of a call do not read this: each call begins with its first failure.
    #[must_use]
    pub const fn with_reset_after(mut self, time: Duration) -> Self {
        self.reset_after = time;
        self
    }

    /// The delay after the first failure.
    pub const fn first(&self) -> Duration {
        self.first
    }

    /// The longest delay.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The delay after so many failures in a row: `min(first × factor ^ (failures - 1), max)`, times `1 - jitter × random`,
    /// with `random` from 0 to 1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        // Not infinite: infinity times a delay of zero is not a number.
        let power = self.factor.powf(f64::from(failures.saturating_sub(1))).min(f64::MAX);
        let seconds = (self.first.as_secs_f64() * power).min(self.max.as_secs_f64());
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        Duration::try_from_secs_f64(seconds * (1.0 - self.jitter * random)).unwrap_or(self.max)
    }

    /// Returns whether a child that ran for so long begins with its first failure again.
    pub(crate) fn is_reset_by(&self, life: Duration) -> bool {
        life >= self.reset_after
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// A [`BackoffError`] if a value is out of its range.
    pub fn check(&self) -> Result<(), BackoffError> {
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Err(BackoffError::Factor { factor: self.factor });
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(BackoffError::Jitter { jitter: self.jitter });
        }
        if self.first > self.max {
            return Err(BackoffError::Delays { first: self.first, max: self.max });
        }
        Ok(())
    }
}

/// A value of a [`Backoff`] is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// The factor is less than 1, or not finite.
    #[error("invalid backoff factor {factor}; it must be at least 1, such as 2.0")]
    Factor {
        /// The factor.
        factor: f64,
    },
    /// The jitter is not from 0 to 1.
    #[error("invalid backoff jitter {jitter}; it must be from 0 to 1, such as 0.1")]
    Jitter {
        /// The jitter.
        jitter: f64,
    },
    /// The first delay is longer than the longest.
    #[error("the first backoff delay {first:?} is longer than the longest, {max:?}; swap them")]
    Delays {
        /// The first delay.
        first: Duration,
        /// The longest delay.
        max: Duration,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let backoff =
            Backoff::new(Duration::from_millis(50), Duration::from_mins(1)).with_factor(1.5).with_jitter(0.5);
        let written = serde_json::to_value(backoff).unwrap();
        let expected =
            json!({ "first": "50ms", "max": "1m", "factor": 1.5, "jitter": 0.5, "reset_after": "30s" });
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Backoff>(written).unwrap(), backoff);
        assert_eq!(serde_json::from_value::<Backoff>(json!({})).unwrap(), Backoff::default());
        serde_json::from_value::<Backoff>(json!({ "maximum": "1s" })).unwrap_err();
    }
}
