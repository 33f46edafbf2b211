//! Rules: which hosts, by address or by name, and which of their ports.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(feature = "http")]
use crate::endpoint::{Endpoint, Host};
use crate::endpoint::{HostError, HostName};

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

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for AddressRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a rule, such as \"10.0.0.0/8\", \"*.example.com\" or \"example.com:443\"")
    }
}

impl<'de> Deserialize<'de> for AddressRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "an address, such as \"127.0.0.1\", \"127.0.0.1:8000-8999\" or \"[::1]:80\"")
    }
}

/// Reads a string, `expected` to be such a one.
pub(crate) fn parsed<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Parsed<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Parsed<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Parsed(expected, PhantomData))
}

/// Reads a list of rules.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of rules, such as [\"10.0.0.0/8\", \"[::1]:443\"]")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut rules: A) -> Result<Vec<T>, A::Error> {
            let mut read = Vec::new();
            while let Some(rule) = rules.next_element()? {
                read.push(rule);
            }
            Ok(read)
        }
    }

    deserializer.deserialize_seq(List(PhantomData))
}

/// A text is no [`Rule`](crate::Rule). It says what to write instead. The text is shown, unless it looks like a URL:
/// there may be a password in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    text: Box<str>,
    problem: Problem,
}

impl RuleError {
    pub(super) fn new(text: &str, problem: Problem) -> Self {
        let text = if problem == Problem::Url { "" } else { text };
        Self { text: text.into(), problem }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.text {
            "" => write!(f, "a rule {}", self.problem),
            text => write!(f, "the rule `{text}` {}", self.problem),
        }
    }
}

impl std::error::Error for RuleError {}

/// What is wrong, as it is said of the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "cannot be empty; write an address, a range such as `10.0.0.0/8`, or a name such as `*.example.com`"
    )]
    Empty,
    #[error("is a host and not a URL; write it without scheme, password and path, such as `example.com:443`")]
    Url,
    #[error(
        "has no port from 1 to 65535 behind its colon; write one, such as `443`, or several, such as `8000-8999`"
    )]
    Port,
    #[error("has a range of ports that ends before it begins; write `{last}-{first}`")]
    PortOrder { first: u16, last: u16 },
    #[error(
        "has colons and is no IPv6 address; write brackets around such an address where a port follows, as in \
         `[fd00::/8]:443`"
    )]
    Colons,
    #[error(
        "has brackets that are not around an IPv6 address; write them around the address and its prefix length, and \
         only the port behind them, as in `[fd00::/8]:443`"
    )]
    Brackets,
    #[error("has a zone in its address; leave out the `%` and what follows it")]
    Zone,
    #[error(
        "has a `/` and no address in front of it; write an address in full, as in `10.0.0.0/8`, or a name without path"
    )]
    Slash,
    #[error("has no number from 0 to {most} behind its `/`")]
    Prefix { most: u8 },
    #[error(
        "has bits set behind its prefix; write `{range}` for the whole range, or `{address}` for the one address"
    )]
    HostBits { range: Box<str>, address: Box<str> },
    #[error(
        "has a `*` in the wrong place; write `*.example.com` for the names below `example.com`, or `*` for all"
    )]
    Star,
    #[error("is neither an address nor a name: {0}")]
    Name(HostError),
    #[error("is a name, and only addresses can be listened at; write an address, such as `127.0.0.1:8080`")]
    NoAddress,
    #[error("is an address, where a name is expected; write a name, such as `*.example.com`")]
    NoName,
}

/// Addresses with a prefix in common. A single one is shown without the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Block(IpNet);

impl Block {
    /// Reads `10.0.0.0/8`, `10.1.2.3`, `fd00::/8` or `::1`; nothing if it is not meant to be one of these. A rule that
    /// is proposed in an error has these `ports`.
    pub(super) fn parse(text: &str, ports: Ports) -> Result<Option<Self>, Problem> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        if address.contains('%') {
            return Err(Problem::Zone);
        }
        let Ok(address) = address.parse::<IpAddr>() else {
            return match prefix {
                _ if address.contains(':') => Err(Problem::Colons),
                Some(_) => Err(Problem::Slash),
                None => Ok(None),
            };
        };
        let one = IpNet::from(address);
        let Some(prefix) = prefix else { return Ok(Some(Self(one))) };
        let most = one.max_prefix_len();
        let length = prefix.parse().ok().filter(|length: &u8| length.to_string() == prefix);
        let net = length.and_then(|length| IpNet::new(address, length).ok());
        // A port behind an IPv6 address without brackets looks like a part of its prefix length.
        let problem = if prefix.contains(':') { Problem::Colons } else { Problem::Prefix { most } };
        let net = net.ok_or(problem)?;
        if net.network() == address {
            return Ok(Some(Self(net)));
        }
        let rule = |block| AddressRule { block, ports }.to_string().into();
        Err(Problem::HostBits { range: rule(Self(net.trunc())), address: rule(Self(one)) })
    }

    /// The one address.
    pub(super) fn one(address: IpAddr) -> Self {
        Self(address.into())
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The addresses, as others write them.
    pub(crate) const fn net(&self) -> IpNet {
        self.0
    }

    /// Returns whether there are addresses that are in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The IPv4 addresses that it has in their IPv4-mapped form, if it has no others.
    pub(crate) fn mapped(&self) -> Option<Self> {
        let IpNet::V6(net) = self.0 else { return None };
        let prefix = net.prefix_len().checked_sub(96)?;
        let address = net.addr().to_ipv4_mapped()?;
        Some(Self(Ipv4Net::new(address, prefix).ok()?.into()))
    }

    const fn is_v6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

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
    fn matches(&self, name: &HostName) -> bool {
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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(name) => f.write_str(name),
            Self::Below(apex) => write!(f, "*.{apex}"),
        }
    }
}

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

#[cfg(test)]
mod tests;
