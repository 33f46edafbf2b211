//! How often and when a call that fails is tried again.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::duration;
use super::super::{OutOfRange, Timeout};
use crate::error::{CallError, ErrorKind};

/// The value of [`RETRY`](super::RETRY): how often a call is tried, when, and after which errors.
///
/// In text it is the number of attempts, or a map of what differs from [`new`](Self::new):
///
/// ```
/// use frame_dispatch::ErrorKind;
/// use frame_dispatch::interceptor::{RETRY, RetryPolicy};
/// use frame_registry::Options;
/// use serde_json::json;
/// use std::time::Duration;
///
/// let options = Options::from_json(&json!({ "retry": 3 }))?;
/// assert_eq!(options.get(&RETRY), Some(&RetryPolicy::new(3)));
///
/// let options = Options::from_json(&json!({ "retry": {
///     "attempts": 5,
///     "first_delay": "50ms",
///     "factor": 1.5,
///     "max_delay": "2s",
///     "jitter": 0.5,
///     "attempt_timeout": "1s",
///     "on": ["internal"],
///     "except": ["exhausted"],
/// } }))?;
/// let policy = RetryPolicy::new(5)
///     .with_delays(Duration::from_millis(50), Duration::from_secs(2))
///     .with_factor(1.5)?
///     .with_jitter(0.5)?
///     .with_attempt_timeout(Duration::from_secs(1))?
///     .on([ErrorKind::Internal])
///     .except([ErrorKind::Exhausted]);
/// assert_eq!(options.get(&RETRY), Some(&policy));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    attempts: u32,
    first_delay: Duration,
    factor: f64,
    max_delay: Duration,
    jitter: f64,
    attempt_timeout: Option<Timeout>,
    on: Vec<ErrorKind>,
    except: Vec<ErrorKind>,
}

impl RetryPolicy {
    /// At most this many attempts, the first included: 0 and 1 are no retry. The delay between them is 100 ms, then twice
    /// that of before, up to 10 s, each up to a tenth shorter at random; retried is what is
    /// [retryable](CallError::is_retryable).
    #[must_use]
    pub const fn new(attempts: u32) -> Self {
        Self {
            attempts,
            first_delay: Duration::from_millis(100),
            factor: 2.0,
            max_delay: Duration::from_secs(10),
            jitter: 0.1,
            attempt_timeout: None,
            on: Vec::new(),
            except: Vec::new(),
        }
    }

    /// Waits for `first` before the second attempt, and never longer than `max`. Where an error
    /// [says](CallError::retry_after) when the call may succeed it waits until then, or, if that is longer than `max`, does
    /// not try again.
    #[must_use]
    pub const fn with_delays(mut self, first: Duration, max: Duration) -> Self {
        self.first_delay = first;
        self.max_delay = max;
        self
    }

    /// Makes every delay `factor` times that before it.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Factor`] if it is below 1, or not finite.
    pub fn with_factor(mut self, factor: f64) -> Result<Self, OutOfRange> {
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(OutOfRange::Factor(factor));
        }
        self.factor = factor;
        Ok(self)
    }

    /// Shortens every delay by a random part of up to `jitter` of it, so that calls that failed together are not tried
    /// again together. 1 is full jitter: anything from the whole delay down to none.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Jitter`] if it is not from 0 to 1.
    pub fn with_jitter(mut self, jitter: f64) -> Result<Self, OutOfRange> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(OutOfRange::Jitter(jitter));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// Gives up on an attempt that takes longer, which can be retried.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Timeout`] for zero.
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Result<Self, OutOfRange> {
        self.attempt_timeout = Some(Timeout::new(timeout)?);
        Ok(self)
    }

    /// Retries errors of these kinds also where they are not [retryable](CallError::is_retryable).
    #[must_use]
    pub fn on(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.on.extend(kinds);
        self
    }

    /// Does not retry errors of these kinds, whatever else is said.
    #[must_use]
    pub fn except(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.except.extend(kinds);
        self
    }

    /// How many attempts are made at most; at least 1.
    pub const fn attempts(&self) -> u32 {
        if self.attempts == 0 { 1 } else { self.attempts }
    }

    /// How long an attempt may take.
    pub fn attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout.map(Timeout::duration)
    }

    /// Whether another attempt is made after `error`, while there are attempts left and time.
    pub fn retries(&self, error: &CallError) -> bool {
        let kind = error.kind();
        let is_soon = error.retry_after().is_none_or(|delay| delay <= self.max_delay);
        is_soon && !self.except.contains(&kind) && (self.on.contains(&kind) || error.is_retryable())
    }

    /// How long to wait after so many failed attempts: `min(first_delay × factor ^ (failed - 1), max_delay)`, times
    /// `1 - jitter × random`, with `random` from 0 to 1.
    pub fn delay(&self, failed: u32, random: f64) -> Duration {
        // Not infinite, which times no delay is not a number.
        let power = self.factor.powf(f64::from(failed.saturating_sub(1))).min(f64::MAX);
        let seconds = (self.first_delay.as_secs_f64() * power).min(self.max_delay.as_secs_f64());
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        Duration::try_from_secs_f64(seconds * (1.0 - self.jitter * random)).unwrap_or(self.max_delay)
    }

    pub(super) const fn timeout(&self) -> Option<Timeout> {
        self.attempt_timeout
    }

    /// Whether it differs from no policy.
    pub(super) const fn is_on(&self) -> bool {
        self.attempts > 1 || self.attempt_timeout.is_some()
    }
}

impl<'de> Deserialize<'de> for RetryPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = RetryPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a number of attempts, or a map such as { attempts = 3, first_delay = \"100ms\" }",
                )
            }

            fn visit_u64<E: Error>(self, attempts: u64) -> Result<RetryPolicy, E> {
                let attempts = u32::try_from(attempts);
                attempts.map(RetryPolicy::new).map_err(|_| E::custom("so many attempts cannot be counted"))
            }

            fn visit_i64<E: Error>(self, attempts: i64) -> Result<RetryPolicy, E> {
                let counted = u64::try_from(attempts);
                counted
                    .map_err(|_| E::invalid_value(Unexpected::Signed(attempts), &self))
                    .and_then(|attempts| self.visit_u64(attempts))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetryPolicy, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                RetryPolicy::try_from(fields).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// The policy as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    attempts: u32,
    #[serde(default, deserialize_with = "duration::optional")]
    first_delay: Option<Duration>,
    factor: Option<f64>,
    #[serde(default, deserialize_with = "duration::optional")]
    max_delay: Option<Duration>,
    jitter: Option<f64>,
    attempt_timeout: Option<Timeout>,
    #[serde(default)]
    on: Vec<KindName>,
    #[serde(default)]
    except: Vec<KindName>,
}

impl TryFrom<Fields> for RetryPolicy {
    type Error = OutOfRange;

    fn try_from(fields: Fields) -> Result<Self, OutOfRange> {
        let standard = Self::new(fields.attempts);
        let first_delay = fields.first_delay.unwrap_or(standard.first_delay);
        let max_delay = fields.max_delay.unwrap_or(standard.max_delay);
        let (factor, jitter) = (standard.factor, standard.jitter);
        let mut policy = standard
            .with_delays(first_delay, max_delay)
            .with_factor(fields.factor.unwrap_or(factor))?
            .with_jitter(fields.jitter.unwrap_or(jitter))?
            .on(fields.on.into_iter().map(|name| name.0))
            .except(fields.except.into_iter().map(|name| name.0));
        policy.attempt_timeout = fields.attempt_timeout;
        Ok(policy)
    }
}

/// A kind by its name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct KindName(ErrorKind);

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let kind = ErrorKind::from_name(&name);
        kind.map(Self).ok_or_else(|| {
            let kinds: Vec<_> = ErrorKind::ALL.into_iter().map(ErrorKind::as_str).collect();
            format!("no kind of error is named {name:?}; there are {}", kinds.join(", "))
        })
    }
}
