//! What a rule says: which hosts, and which of their ports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use super::block::Block;
use super::pattern::Pattern;
use super::ports::Ports;
use super::rule_error::{Problem, RuleError};
use super::text;
#[cfg(feature = "http")]
use crate::endpoint::Endpoint;
#[cfg(feature = "http")]
use crate::host::Host;
use crate::host::HostName;

/// Which hosts a [`Direct`](crate::Direct) network is allowed, or denied: those with an address in a block, or with a
/// name, and all of their ports or some.
///
/// | written as | matches |
/// |---|---|
/// | `10.0.0.0/8`, `10.1.2.3`, `fd00::/8` | these addresses |
/// | `example.com` | this name |
/// | `*.example.com` | every name below it, however deep, and not the name itself |
/// | `*` | every name |
/// | `example.com:443`, `10.0.0.0/8:8000-8999`, `[fd00::/8]:443` | the same, with this port, or one of these |
///
/// Names are compared without case, and without the dot that may be behind them.
///
/// ```
/// use frame_net::Rule;
///
/// assert!(matches!("10.0.0.0/8:443".parse()?, Rule::Address(_)));
/// assert!(matches!("*.Example.com.".parse()?, Rule::Name(_)));
/// assert_eq!("[FD00::/8]:1-65535".parse::<Rule>()?.to_string(), "fd00::/8");
///
/// let error = "10.1.2.3/8".parse::<Rule>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the rule `10.1.2.3/8` has bits set behind its prefix; write `10.0.0.0/8` for the whole range, or `10.1.2.3` \
///      for the one address",
/// );
/// # Ok::<(), frame_net::RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Hosts by address.
    Address(AddressRule),
    /// Hosts by name.
    Name(NameRule),
}

/// A [`Rule`] about addresses. It is written as that is, without a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressRule {
    pub(crate) block: Block,
    pub(crate) ports: Ports,
}

/// A [`Rule`] about names. It is written as that is, without an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameRule {
    pub(crate) pattern: Pattern,
    pub(crate) ports: Ports,
}

impl AddressRule {
    /// Whether it is about `address`. Its ports are another question.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        self.block.contains(address)
    }
}

impl NameRule {
    /// Whether it is about `name`. Its ports are another question.
    pub(super) fn covers(&self, name: &HostName) -> bool {
        self.pattern.matches(name)
    }

    /// Whether it is about every name.
    pub(super) fn is_any(&self) -> bool {
        self.pattern == Pattern::Any
    }
}

#[cfg(feature = "http")]
impl Rule {
    /// Whether it is about `host`. Its ports are another question.
    pub(crate) fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Address(rule), Host::Address(address)) => rule.covers(*address),
            (Self::Name(rule), Host::Name(name)) => rule.covers(name),
            _ => false,
        }
    }

    /// Whether it is about `endpoint`.
    pub(crate) fn covers_endpoint(&self, endpoint: &Endpoint) -> bool {
        let (Self::Address(AddressRule { ports, .. }) | Self::Name(NameRule { ports, .. })) = self;
        self.covers(endpoint.host()) && ports.allow(Some(endpoint.port()))
    }

    /// Whether it is about all ports.
    pub(crate) fn has_all_ports(&self) -> bool {
        let (Self::Address(AddressRule { ports, .. }) | Self::Name(NameRule { ports, .. })) = self;
        *ports == Ports::ALL
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|problem| RuleError::new(text, problem))
    }
}

/// Reads a rule.
pub(crate) fn parse(text: &str) -> Result<Rule, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.contains("://") || text.contains('@') {
        return Err(Problem::Url);
    }
    let (target, ports) = split(text)?;
    let ports = ports.map_or(Ok(Ports::ALL), Ports::parse)?;
    match Block::parse(target, ports)? {
        Some(block) => Ok(Rule::Address(AddressRule { block, ports })),
        None => Ok(Rule::Name(NameRule { pattern: Pattern::parse(target)?, ports })),
    }
}

/// The target, and the ports if there are any.
fn split(text: &str) -> Result<(&str, Option<&str>), Problem> {
    if let Some(opened) = text.strip_prefix('[') {
        let (target, rest) = opened.split_once(']').ok_or(Problem::Brackets)?;
        if !target.contains(':') {
            return Err(Problem::Brackets);
        }
        return match rest {
            "" => Ok((target, None)),
            _ => Ok((target, Some(rest.strip_prefix(':').ok_or(Problem::Brackets)?))),
        };
    }
    Ok(match text.split_once(':') {
        Some((target, ports)) if !ports.contains(':') => (target, Some(ports)),
        // Without brackets an IPv6 address has no port.
        Some(_) | None => (text, None),
    })
}

impl FromStr for AddressRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text.parse()? {
            Rule::Address(rule) => Ok(rule),
            Rule::Name(_) => Err(RuleError::new(text, Problem::NoAddress)),
        }
    }
}

impl FromStr for NameRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text.parse()? {
            Rule::Name(rule) => Ok(rule),
            Rule::Address(_) => Err(RuleError::new(text, Problem::NoName)),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(rule) => rule.fmt(f),
            Self::Name(rule) => rule.fmt(f),
        }
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ports, self.block.is_v6()) {
            (Ports::ALL, _) => self.block.fmt(f),
            (ports, true) => write!(f, "[{}]:{ports}", self.block),
            (ports, false) => write!(f, "{}:{ports}", self.block),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            Ports::ALL => self.pattern.fmt(f),
            ports => write!(f, "{}:{ports}", self.pattern),
        }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, "a rule, such as \"10.0.0.0/8\", \"*.example.com\" or \"example.com:443\"")
    }
}

impl<'de> Deserialize<'de> for AddressRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(
            deserializer,
            "an address, such as \"127.0.0.1\", \"127.0.0.1:8000-8999\" or \"[::1]:80\"",
        )
    }
}

#[cfg(test)]
mod tests;
