//! Hosts, endpoints and addresses on a network.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A host: a name that still has to be looked up (by whom is for the network to decide), or an address.
///
/// An IPv6 address can be written in brackets or without.
///
/// ```
/// use frame_net::Host;
///
/// assert!(matches!("example.com".parse()?, Host::Name(_)));
/// assert!(matches!("[::1]".parse()?, Host::Address(_)));
/// # Ok::<(), frame_net::HostError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

/// The name of a host, of at most [`HostName::MAX_LEN`] bytes.
///
/// It consists of labels with dots between them, of ASCII letters, digits, `-` and `_`; a dot behind the last is
/// allowed. What an operating system would read as an address (`127.1`, `0x7f000001`) is no name: a check of
/// addresses must not depend on who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// The longest a name can be, in bytes: what SOCKS5 has room for.
    pub const MAX_LEN: usize = 255;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(HostError::TooLong { len: text.len() });
        }
        let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if let Some(character) = text.chars().find(|&character| !allowed(character)) {
            return Err(HostError::Character { character });
        }
        let labels = text.strip_suffix('.').unwrap_or(text).split('.');
        if labels.clone().any(str::is_empty) {
            return Err(HostError::EmptyLabel);
        }
        if labels.clone().next_back().is_some_and(is_number) {
            return Err(HostError::Number);
        }
        Ok(Self(text.into()))
    }
}

/// Whether `inet_aton` could read the label as a part of an address.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(opened) = text.strip_prefix('[') {
            let address = opened.strip_suffix(']').and_then(|literal| literal.parse::<Ipv6Addr>().ok());
            return address.map(Self::from).ok_or(HostError::Literal);
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl<A: Into<IpAddr>> From<A> for Host {
    fn from(address: A) -> Self {
        Self::Address(address.into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no [`Host`]. The text itself is not shown: what is put in the place of a host by mistake may be a URL
/// with a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is nothing in it.
    #[error("the host is empty")]
    Empty,
    /// It is longer than [`HostName::MAX_LEN`].
    #[error("a host name of {len} bytes is too long; at most {} are allowed", HostName::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It has a character that no name has.
    #[error(
        "a host name cannot have {character:?} in it; give the name alone, without scheme, port or path, and an \
         international name in its ASCII form, `xn--…`"
    )]
    Character {
        /// The first such character.
        character: char,
    },
    /// Nothing is before a dot, or between two.
    #[error("a host name cannot have an empty label; write one dot between two labels and none in front")]
    EmptyLabel,
    /// It ends in a number, and is not an address either.
    #[error("a host name cannot end in a number; write an IPv4 address as four decimal numbers, `127.0.0.1`")]
    Number,
    /// It begins with a bracket, and no IPv6 address in brackets follows.
    #[error("brackets are for IPv6 addresses without a zone, such as `[::1]`")]
    Literal,
}

/// What a connection is made to: a [`Host`] and a port that is not zero.
///
/// ```
/// use frame_net::Endpoint;
///
/// let web = Endpoint::new("example.com".parse()?, 443)?;
/// assert_eq!(web, "example.com:443".parse()?);
/// assert_eq!("[::1]:80".parse::<Endpoint>()?.to_string(), "[::1]:80");
/// # Ok::<(), frame_net::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    host: Host,
    port: NonZeroU16,
}

impl Endpoint {
    /// `port` of `host`.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Port`] if the port is zero.
    pub fn new(host: Host, port: u16) -> Result<Self, EndpointError> {
        let port = NonZeroU16::new(port).ok_or(EndpointError::Port)?;
        Ok(Self { host, port })
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port.get()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `host:port`; an IPv6 address is in brackets.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let split = if text.ends_with(']') { None } else { text.rsplit_once(':') };
        let (host, port) = split.ok_or(EndpointError::NoPort)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(EndpointError::Colons);
        }
        let host = host.parse()?;
        // Else a sign would be read as a part of the number.
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if is_number { port.parse().ok() } else { None };
        Self::new(host, port.ok_or(EndpointError::Port)?)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<SocketAddr> for Endpoint {
    type Error = EndpointError;

    fn try_from(address: SocketAddr) -> Result<Self, EndpointError> {
        Self::new(address.ip().into(), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port()).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A text is no [`Endpoint`]. As with [`HostError`], the text is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The host is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There is no port.
    #[error("the port is missing; write `host:port`, such as `127.0.0.1:9050`")]
    NoPort,
    /// The port is no number, or zero, or too large.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// There are several colons and no brackets, so that it cannot be told where the port begins.
    #[error("write `host:port` without a scheme, and an IPv6 address in brackets, such as `[::1]:9050`")]
    Colons,
}

/// Where something is on a network, as the network says it. Unlike an [`Endpoint`](crate::Endpoint) nobody may be
/// able to connect to it; where a network has no ports, the port is 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkAddr {
    /// The host, such as an IP address, or the `.b32.i2p` name of an I2P destination.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl NetworkAddr {
    /// `port` of `host`.
    pub fn new(host: impl Into<Host>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl From<SocketAddr> for NetworkAddr {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), address.port())
    }
}

impl fmt::Display for NetworkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Where on a network to listen, or to send datagrams from.
///
/// ```
/// use frame_net::LocalEndpoint;
///
/// assert_eq!(LocalEndpoint::port(80).to_string(), "port 80");
/// assert_eq!(LocalEndpoint::new("10.0.0.1".parse()?, 80).to_string(), "10.0.0.1:80");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct LocalEndpoint {
    /// One address of those that this end has on the network, or all of them.
    pub address: Option<IpAddr>,
    /// The port; 0 lets the network choose.
    pub port: u16,
}

impl LocalEndpoint {
    /// `port` of one address.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address: Some(address), port }
    }

    /// `port` of all addresses that this end has on the network.
    pub const fn port(port: u16) -> Self {
        Self { address: None, port }
    }
}

impl From<SocketAddr> for LocalEndpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), address.port())
    }
}

impl fmt::Display for LocalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "port {}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<Host, HostError> {
        text.parse()
    }

    #[test]
    fn reads_names() {
        let longest = "a.".repeat(HostName::MAX_LEN / 2) + "b";
        for text in ["localhost", "example.com", "example.com.", "_dmarc.a-b.c", "1.2.3.x", "0x.y", &longest]
        {
            let Host::Name(name) = host(text).unwrap() else { panic!("{text} is a name") };
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn reads_addresses() {
        for (text, address) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[2001:db8::1]", "2001:db8::1")]
        {
            assert_eq!(host(text), Ok(Host::Address(address.parse().unwrap())));
        }
    }

    #[test]
    fn refuses_what_is_neither() {
        assert_eq!(host(""), Err(HostError::Empty));
        assert_eq!(host(&"a".repeat(256)), Err(HostError::TooLong { len: 256 }));
        for (text, character) in
            [("a\0b", '\0'), ("a\r\nb", '\r'), ("a b", ' '), ("a:80", ':'), ("bücher.de", 'ü')]
        {
            assert_eq!(host(text), Err(HostError::Character { character }), "{text:?}");
        }
        for text in [".", "..", ".a", "a..b", "a.."] {
            assert_eq!(host(text), Err(HostError::EmptyLabel), "{text}");
        }
        for text in ["127.1", "2130706433", "0x7f.0x1", "127.0.0.1.", "256.0.0.1", "a.0X"] {
            assert_eq!(host(text), Err(HostError::Number), "{text}");
        }
        for text in ["[::1", "[127.0.0.1]", "[fe80::1%eth0]", "[]", "[a]"] {
            assert_eq!(host(text), Err(HostError::Literal), "{text}");
        }
    }

    #[test]
    fn shows_itself_as_it_is_read() {
        for text in ["example.com:80", "127.0.0.1:65535", "[2001:db8::1]:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_host_with_a_port() {
        let error = |text: &str| text.parse::<Endpoint>().unwrap_err();
        assert_eq!(error("example.com"), EndpointError::NoPort);
        for port in ["", "0", "65536", "-1", "+1", "http", " 80"] {
            assert_eq!(error(&format!("a:{port}")), EndpointError::Port, "{port:?}");
        }
        assert_eq!(error("::1:80"), EndpointError::Colons);
        assert_eq!(error("socks5://u:p@h:80"), EndpointError::Colons);
        assert_eq!(error(":80"), EndpointError::Host(HostError::Empty));
        assert_eq!(error("[::1]"), EndpointError::NoPort);
        assert_eq!(error("[::1:80"), EndpointError::Host(HostError::Literal));
    }
}
