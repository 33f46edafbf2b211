//! One deadline over all steps of a connection.

use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use tokio::time::{Instant, timeout_at};

use crate::endpoint::{Endpoint, Host};
use crate::error::{Cause, DriverError, DriverStep};

/// How long a connection may take where the configuration does not say.
pub(crate) const DEFAULT: Duration = Duration::from_secs(30);

/// [`DEFAULT`], for serde.
pub(crate) const fn default() -> Duration {
    DEFAULT
}

/// A point in time that is set once and passed on from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    /// How long it was away when it was set.
    pub(crate) limit: Duration,
    /// Whether what waits for an event also waits for the deadline.
    is_covered: bool,
}

impl Deadline {
    /// `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        /// A clock does not go on for ever: longer than this is not to be added to it.
        const LONGEST: Duration = Duration::from_hours(24 * 365);
        Self { at: Instant::now() + limit.min(LONGEST), limit, is_covered: false }
    }

    /// An equal share of the time that is left, for the first of `parts` that follow on each other.
    #[cfg(feature = "wireguard")]
    pub(crate) fn share(self, parts: usize) -> Self {
        let now = Instant::now();
        let left = self.at.saturating_duration_since(now);
        let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
        Self { at: now + left / parts, limit: self.limit, is_covered: false }
    }

    /// Does `io`, unless the deadline passes before it is done.
    pub(crate) async fn bound<T>(
        self,
        step: DriverStep,
        peer: &(impl Display + Sync),
        io: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DriverError> {
        let done = self.timeout(io).await.and_then(|done| done.map_err(Cause::Io));
        done.map_err(|cause| DriverError::new(step, peer, cause))
    }

    /// The same deadline, for connecting to `proxy` as a step of an event that the caller waits for with
    /// [`timeout`](Self::timeout), which needs no timer of its own. A name has to be looked up first, and to tell which of
    /// the two took too long it does.
    pub(crate) const fn covered_for(self, proxy: &Endpoint) -> Self {
        Self { is_covered: matches!(proxy.host(), Host::Address(_)), ..self }
    }

    /// Waits for `event`, unless the deadline passes before it is there. What passed is passed, even if the event is
    /// there at once: data that never stop coming must not go on for ever. A timer costs a system call or two, so
    /// several steps do better to have one.
    pub(crate) async fn timeout<T>(self, event: impl Future<Output = T>) -> Result<T, Cause> {
        let passed = || Cause::TimedOut { limit: self.limit };
        if Instant::now() >= self.at {
            return Err(passed());
        }
        if self.is_covered {
            return Ok(event.await);
        }
        timeout_at(self.at, event).await.map_err(|_| passed())
    }
}

/// Reads a duration with its unit, such as `5s`. Zero would refuse everything.
pub(crate) fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = zero_or_more(deserializer)?;
    if duration.is_zero() {
        return Err(D::Error::custom("a duration here has to be longer than zero"));
    }
    Ok(duration)
}

/// Reads an optional duration.
#[cfg(any(feature = "http", feature = "i2p"))]
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    from_text(deserializer).map(Some)
}

/// Writes a duration as it is read.
pub(crate) fn to_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Writes an optional duration.
#[cfg(any(feature = "http", feature = "i2p", feature = "wireguard"))]
#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn optional_to_text<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => to_text(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Reads a duration that may be zero. No error shows the text: settings can be secret.
pub(crate) fn zero_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;

    impl Text {
        fn needs_a_unit<E: Error>() -> Result<Duration, E> {
            Err(E::custom(r#"a duration is a string with its unit; write "5s", "500ms" or "1m30s""#))
        }
    }

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(r#"a duration with its unit, such as "5s", "500ms" or "1m30s""#)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::custom(r#"not a valid duration; write "5s", "500ms" or "1m30s""#))
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Duration, E> {
            Self::needs_a_unit()
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Duration, E> {
            Self::needs_a_unit()
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Duration, E> {
            Self::needs_a_unit()
        }
    }

    // A string alone would be asked for, but then the error for a number is not this one.
    deserializer.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_duration_is_a_string_with_its_unit() {
        for (text, millis) in [("5s", 5_000), ("500ms", 500), ("1m30s", 90_000), ("1h 1m", 3_660_000)] {
            assert_eq!(from_text(json!(text)).unwrap(), Duration::from_millis(millis));
        }
        assert_eq!(zero_or_more(json!("0s")).unwrap(), Duration::ZERO);
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_what_to_write_and_not_shown() {
        let error = |value: Value| from_text(value).unwrap_err().to_string();
        for number in [json!(31337), json!(-31337), json!(31337.5)] {
            assert_eq!(
                error(number),
                r#"a duration is a string with its unit; write "5s", "500ms" or "1m30s""#
            );
        }
        for text in ["31337", "31337 parsecs", "", "-5s", "31337 y 999999999999999999 years"] {
            assert_eq!(error(json!(text)), r#"not a valid duration; write "5s", "500ms" or "1m30s""#);
        }
        assert_eq!(error(json!("0s")), "a duration here has to be longer than zero");
    }
}
