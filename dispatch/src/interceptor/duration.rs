//! Durations in text: a number and its unit.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// A duration that is read from text such as `2s`, `500ms` or `1m30s`.
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration with its unit, such as "2s", "500ms" or "1m30s""#)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DurationText, E> {
                parse(text).map(DurationText).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// For a field that may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    DurationText::deserialize(deserializer).map(|text| Some(text.0))
}

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!(r#"{text:?} is not a duration such as "2s", "500ms" or "1m30s": {error}"#))
}
