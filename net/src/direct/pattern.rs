//! The names of a rule.

use std::fmt;

use super::rule_error::Problem;
use crate::host::HostName;

/// Names of hosts, in small letters and without a dot behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
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
pub(super) fn bare(name: &HostName) -> &str {
    let name = name.as_str();
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether `name` is `localhost`, or below that (RFC 6761, section 6.3).
pub(crate) fn is_localhost(name: &HostName) -> bool {
    bare(name).rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
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
