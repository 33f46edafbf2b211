//! The names of a rule.

use std::fmt;

use super::rule_error::Problem;
use crate::host::HostName;

/// Names of hosts, in small letters and without a dot behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Pattern {
    /// Every name.
    Any,
    /// One name.
    Exactly(Box<str>),
    /// Every name with further labels in front of this one.
    Below(Box<str>),
}

impl Pattern {
    /// Reads `example.com`, `*.example.com` or `*`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix("*.");
        let name = below.unwrap_or(text);
        if name.contains('*') || below == Some("") {
            return Err(Problem::Star);
        }
        let name: HostName = name.parse().map_err(Problem::Name)?;
        let name = bare(&name).to_ascii_lowercase().into();
        Ok(if below.is_some() { Self::Below(name) } else { Self::Exactly(name) })
    }

    /// Returns whether there are names that are in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_below =
            |name: &str, apex: &str| name.strip_suffix(apex).is_some_and(|front| front.ends_with('.'));
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exactly(one), Self::Exactly(other)) => one == other,
            (Self::Exactly(name), Self::Below(apex)) | (Self::Below(apex), Self::Exactly(name)) => {
                is_below(name, apex)
            }
            (Self::Below(one), Self::Below(other)) => {
                one == other || is_below(one, other) || is_below(other, one)
            }
        }
    }

    /// The one name.
    pub(super) fn exactly(name: &HostName) -> Self {
        Self::Exactly(bare(name).to_ascii_lowercase().into())
    }

    /// Whether `name` is one of them.
    pub(super) fn matches(&self, name: &HostName) -> bool {
        let name = bare(name);
        match self {
            Self::Any => true,
            Self::Exactly(this) => name.eq_ignore_ascii_case(this),
            Self::Below(apex) => name
                .len()
                .checked_sub(apex.len())
                .map(|start| name.split_at(start))
                .is_some_and(|(front, end)| front.ends_with('.') && end.eq_ignore_ascii_case(apex)),
        }
    }
}

/// The name without the dot that says that it is complete.
pub(crate) fn bare(name: &HostName) -> &str {
    let name = name.as_str();
    name.strip_suffix('.').unwrap_or(name)
}

/// Names of the host that looks them up, besides those with a last label in [`LOCAL_TOPS`]: those that distributions put
/// into `/etc/hosts`, and those under which clouds have a service for each of their machines.
const LOCAL_NAMES: [&str; 9] = [
    "localhost4",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// `localhost` and what is below it (RFC 6761, section 6.3), and the domains that are made up for hosts without one.
const LOCAL_TOPS: [&str; 4] = ["localhost", "localdomain", "localdomain4", "localdomain6"];

/// Whether `name` is one of the host that looks it up, or of what is next to it, and is not of the DNS.
pub(super) fn is_local(name: &HostName) -> bool {
    let name = bare(name);
    let is_any = |names: &[&str], name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    is_any(&LOCAL_NAMES, name) || name.rsplit('.').next().is_some_and(|last| is_any(&LOCAL_TOPS, last))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(name) => f.write_str(name),
            Self::Below(apex) => write!(f, "*.{apex}"),
        }
    }
}
