//! How many calls at once.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::OutOfRange;

/// The value of [`MAX_CONCURRENT`](super::MAX_CONCURRENT): so many calls at once, and so many that wait.
///
/// In text it is the number of calls, or a map:
///
/// ```
/// use frame_dispatch::interceptor::{MAX_CONCURRENT, MaxConcurrent};
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let options = Options::from_json(&json!({ "max_concurrent": 8 }))?;
/// assert_eq!(options.get(&MAX_CONCURRENT), Some(&MaxConcurrent::new(8)?));
///
/// let options = Options::from_json(&json!({ "max_concurrent": { "calls": 8, "max_waiting": 100 } }))?;
/// assert_eq!(options.get(&MAX_CONCURRENT), Some(&MaxConcurrent::new(8)?.with_max_waiting(100)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxConcurrent {
    calls: u32,
    max_waiting: Option<u32>,
}

impl MaxConcurrent {
    /// At most `calls` at once; any number may wait.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::NoneAtOnce`] for zero.
    pub const fn new(calls: u32) -> Result<Self, OutOfRange> {
        if calls == 0 { Err(OutOfRange::NoneAtOnce) } else { Ok(Self { calls, max_waiting: None }) }
    }

    /// Lets a call wait only in a line where fewer than so many do; with zero none waits.
    #[must_use]
    pub const fn with_max_waiting(mut self, max_waiting: u32) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// How many at once.
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    /// How many may wait.
    pub const fn max_waiting(&self) -> Option<u32> {
        self.max_waiting
    }

    /// The same calls at once, with no more waiting than `other` lets either.
    pub(super) fn waiting_within(self, other: Self) -> Self {
        let max_waiting = [self.max_waiting, other.max_waiting].into_iter().flatten().min();
        Self { max_waiting, ..self }
    }
}

impl<'de> Deserialize<'de> for MaxConcurrent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = MaxConcurrent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of calls, or a map such as { calls = 8, max_waiting = 100 }")
            }

            fn visit_u64<E: Error>(self, calls: u64) -> Result<MaxConcurrent, E> {
                // More than can be counted is no narrower limit than what can.
                MaxConcurrent::new(u32::try_from(calls).unwrap_or(u32::MAX)).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, calls: i64) -> Result<MaxConcurrent, E> {
                let counted = u64::try_from(calls);
                counted
                    .map_err(|_| E::invalid_value(Unexpected::Signed(calls), &self))
                    .and_then(|calls| self.visit_u64(calls))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MaxConcurrent, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let limit = MaxConcurrent::new(fields.calls).map_err(A::Error::custom)?;
                Ok(MaxConcurrent { max_waiting: fields.max_waiting, ..limit })
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
    max_waiting: Option<u32>,
}
