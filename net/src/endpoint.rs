//! A host with a port.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::Deserialize;

use crate::host::{Host, HostError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
