//! How many calls in which time.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::OutOfRange;
use super::super::duration::{self, DurationText};
use super::gcra::Rate;

/// The value of [`RATE_LIMIT`](super::RATE_LIMIT): so many calls in a time, of which so many may come at once.
///
/// In text it is the calls and the time, such as `"100/s"` or `"5/500ms"`, or a map:
///
/// ```
/// use frame_dispatch::interceptor::{RATE_LIMIT, RateLimit};
/// use frame_registry::Options;
/// use serde_json::json;
/// use std::time::Duration;
///
/// let options = Options::from_json(&json!({ "rate_limit": "100/s" }))?;
/// assert_eq!(options.get(&RATE_LIMIT), Some(&RateLimit::new(100, Duration::from_secs(1))?));
///
/// let options = Options::from_json(&json!({ "rate_limit": {
///     "calls": 600,
///     "per": "1m",
///     "burst": 20,
///     "max_wait": "250ms",
/// } }))?;
/// let limit = RateLimit::new(600, Duration::from_secs(60))?
///     .with_burst(20)?
///     .with_max_wait(Duration::from_millis(250));
/// assert_eq!(options.get(&RATE_LIMIT), Some(&limit));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    burst: u32,
    max_wait: Option<Duration>,
}

impl RateLimit {
    /// At most `calls` in the time `per`, evenly, but for a burst of as many at once after a rest.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::NoCalls`] and [`OutOfRange::NoTime`] for zero.
    pub const fn new(calls: u32, per: Duration) -> Result<Self, OutOfRange> {
        if calls == 0 {
            return Err(OutOfRange::NoCalls);
        }
        if per.is_zero() {
            return Err(OutOfRange::NoTime);
        }
        Ok(Self { calls, per, burst: calls, max_wait: None })
    }

    /// Lets `burst` calls come at once after a rest; 1 keeps all of them apart.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Burst`] for zero.
    pub const fn with_burst(mut self, burst: u32) -> Result<Self, OutOfRange> {
        if burst == 0 {
            return Err(OutOfRange::Burst);
        }
        self.burst = burst;
        Ok(self)
    }

    /// Lets a call wait for its slot no longer than this, also where its deadline allows it; zero is not at all.
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// How many calls.
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    /// In which time.
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// How many at once.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// How long a call waits for its slot at most.
    pub const fn max_wait(&self) -> Option<Duration> {
        self.max_wait
    }

    pub(super) fn rate(&self) -> Rate {
        Rate::new(self.calls, self.per, self.burst)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.calls, self.per)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "calls in a time, such as \"100/s\", or a map such as { calls = 100, per = \"1s\" }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RateLimit, E> {
                parse(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimit, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                RateLimit::try_from(fields).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// The limit as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    calls: u32,
    per: DurationText,
    burst: Option<u32>,
    #[serde(default, deserialize_with = "duration::optional")]
    max_wait: Option<Duration>,
}

impl TryFrom<Fields> for RateLimit {
    type Error = OutOfRange;

    fn try_from(fields: Fields) -> Result<Self, OutOfRange> {
        let limit = Self::new(fields.calls, fields.per.0)?;
        let limit = limit.with_burst(fields.burst.unwrap_or(limit.burst))?;
        Ok(Self { max_wait: fields.max_wait, ..limit })
    }
}

fn parse(text: &str) -> Result<RateLimit, String> {
    let is_no_rate = || format!(r#"{text:?} is not calls in a time, such as "100/s" or "5/500ms""#);
    let (calls, per) = text.split_once('/').ok_or_else(is_no_rate)?;
    let (calls, per) = (calls.trim(), per.trim());
    let calls = calls.parse().map_err(|_| is_no_rate())?;
    let per = if per.starts_with(|first: char| first.is_ascii_digit()) {
        duration::parse(per)?
    } else if per.chars().all(char::is_alphabetic) {
        // A unit alone is one of it.
        duration::parse(&format!("1{per}")).map_err(|_| is_no_rate())?
    } else {
        return Err(is_no_rate());
    };
    RateLimit::new(calls, per).map_err(|error| error.to_string())
}
