//! The ports of a rule.

use std::fmt;

use super::rule_error::Problem;

/// Ports that follow on each other. Zero is none of them: nobody can connect to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// What a rule without ports is about.
    pub(super) const ALL: Self = Self { first: 1, last: u16::MAX };

    /// The one port.
    pub(super) const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Reads `443` or `8000-8999`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err(Problem::PortOrder { first, last }) } else { Ok(Self { first, last }) }
    }

    /// Whether a rule that allows these allows `port`; without one, whether it allows any.
    pub(super) fn allow(self, port: Option<u16>) -> bool {
        port.is_none_or(|port| self.contains(port))
    }

    /// Whether a rule that denies these denies `port`; without one, whether it denies all.
    pub(super) fn deny(self, port: Option<u16>) -> bool {
        port.map_or(self == Self::ALL, |port| self.contains(port))
    }

    /// Whether the system may be let choose any port, or `port` is one of these.
    pub(super) fn listen(self, port: u16) -> bool {
        self == Self::ALL || self.contains(port)
    }

    /// The first and the last.
    pub(crate) const fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Returns whether there are ports that are in both.
    pub(crate) const fn overlap(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

fn port(text: &str) -> Result<u16, Problem> {
    // Else a sign would be read as a part of the number.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if is_number { text.parse().ok() } else { None };
    port.filter(|&port| port != 0).ok_or(Problem::Port)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}
