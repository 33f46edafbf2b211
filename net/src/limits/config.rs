//! How much there is.

use std::num::NonZero;

use serde::{Deserialize, Deserializer, Serialize};

/// What all units of an app share, and the most that one of them may have.
///
/// Whatever is set here, a unit gets one more only while it holds fewer than are free, not counting a reserve of one
/// sixteenth. So a single greedy unit can take just under half, two can take just under a third each, and a unit that has
/// none finds room. The reserve of connections is for units that have fewer than four, and its last quarter for units that
/// have none. The reserve of lookups is for units that have none.
///
/// ```
/// use frame_net::LimitsConfig;
///
/// let config: LimitsConfig = serde_json::from_str(r#"{ "connections": 1000, "lookups_per_unit": 20 }"#)?;
/// assert_eq!(config.connections(), 1000);
/// assert!(serde_json::from_str::<LimitsConfig>(r#"{ "connections": 0 }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitsText")]
#[non_exhaustive]
pub struct LimitsConfig {
    /// How many connections, listeners and sockets for datagrams may be open, including those that are being made and
    /// those that are kept for later requests. Unless given, half of the descriptors that this process may have when its
    /// networks are made, and at most 65 536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<NonZero<usize>>,
    /// How many of these one unit may have. There is no such limit unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_unit: Option<NonZero<usize>>,
    /// How many names may be looked up at a time, by this host or in `WireGuard` tunnels. Unless given, an eighth of the
    /// descriptors, and at most 4 096: each takes one. On Apple's systems and on those other than Unix, at most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookups: Option<NonZero<usize>>,
    /// How many names one unit may look up at a time. There is no such limit unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookups_per_unit: Option<NonZero<usize>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsText {
    #[serde(deserialize_with = "at_least_one")]
    connections: Option<NonZero<usize>>,
    #[serde(deserialize_with = "at_least_one")]
    connections_per_unit: Option<NonZero<usize>>,
    #[serde(deserialize_with = "at_least_one")]
    lookups: Option<NonZero<usize>>,
    #[serde(deserialize_with = "at_least_one")]
    lookups_per_unit: Option<NonZero<usize>>,
}

impl TryFrom<LimitsText> for LimitsConfig {
    type Error = String;

    fn try_from(text: LimitsText) -> Result<Self, String> {
        let LimitsText { connections, connections_per_unit, lookups, lookups_per_unit } = text;
        let check = |what: &str, all: Option<NonZero<usize>>, unit: Option<NonZero<usize>>| match (all, unit)
        {
            (Some(all), Some(unit)) if unit > all => Err(format!(
                "`{what}_per_unit` is {unit}, which is more than the {all} that all units may have together; lower it, \
                 or raise `{what}`"
            )),
            _ => Ok(()),
        };
        check("connections", connections, connections_per_unit)?;
        check("lookups", lookups, lookups_per_unit)?;
        Ok(Self { connections, connections_per_unit, lookups, lookups_per_unit })
    }
}

/// Connections take memory of the kernel, too, of which descriptors say nothing.
const MOST_CONNECTIONS: usize = 65_536;

/// Where the operating system looks names up each takes a thread, and there are 512 for everything.
const MOST_LOOKUPS: usize = if cfg!(any(not(unix), target_vendor = "apple")) { 64 } else { 4_096 };

impl LimitsConfig {
    /// Returns how many connections there may be.
    pub fn connections(&self) -> usize {
        let derived = || (descriptors() / 2).clamp(1, MOST_CONNECTIONS);
        self.connections.map_or_else(derived, NonZero::get)
    }

    /// Returns how many lookups there may be.
    pub fn lookups(&self) -> usize {
        let derived = || (descriptors() / 8).clamp(1, MOST_LOOKUPS);
        self.lookups.map_or_else(derived, NonZero::get)
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZero<usize>>, D::Error> {
    let invalid = |_| serde::de::Error::custom("it has to be a whole number, at least 1, such as 1000");
    NonZero::deserialize(deserializer).map(Some).map_err(invalid)
}

/// How many descriptors this process may have. The others are for files, for what waits for events, and for whatever else
/// the program opens.
fn descriptors() -> usize {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    {
        8_192
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_read_as_they_were_written() {
        for text in [
            json!({}),
            json!({ "connections": 1000, "connections_per_unit": 10, "lookups": 50, "lookups_per_unit": 5 }),
        ] {
            let config: LimitsConfig = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(serde_json::to_value(&config).unwrap(), text);
        }
    }
}
