//! Addresses that a network gives, and is asked for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::host::Host;

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
