//! Clearnet: connections made by this host to those it may reach, names looked up by it.

mod config;
mod guard;
mod rule;
mod special;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frame_registry::BoxError;
use tokio::net::{TcpListener, UdpSocket};

use self::guard::{Guard, denied_at};
use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::endpoint::{Endpoint, HostName, LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::isolation::IsolationKey;
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Datagrams, Listener, Network};
use crate::registry::NetworkRegistry;
use crate::{limits, reach, tcp};

pub use self::config::{DirectConfig, DirectDefault};
pub(crate) use self::guard::OverlayGuard;
pub use self::guard::{Denied, DeniedBy};
pub use self::rule::{AddressRule, NameRule, Rule, RuleError};
pub(crate) use self::rule::{
    Pattern, Ports, Problem, bare, list as rule_list, parse as parse_rule, parsed as parsed_text,
};
#[cfg(feature = "http")]
pub(crate) use self::special::is_special;
pub(crate) use self::special::is_special_address;

/// A network that is none: it dials from this host. Whom it may reach, [`DirectConfig`] says; unless that is given it
/// is the public internet, and not this host or what is near it.
///
/// Of a name with several addresses the one is taken that answers first, in a race as in RFC 8305.
#[derive(Debug, Clone)]
pub struct Direct {
    guard: Arc<Guard>,
    deadline: Duration,
}

impl Direct {
    /// A network with these settings.
    #[must_use]
    pub fn new(config: DirectConfig) -> Self {
        Self { deadline: config.deadline, guard: Arc::new(Guard::new(config)) }
    }
}

impl Default for Direct {
    fn default() -> Self {
        Self::new(DirectConfig::default())
    }
}

/// Makes [`Direct`] networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DirectDriver;

impl Driver for DirectDriver {
    type Config = DirectConfig;
    const KIND: &'static str = "direct";

    const SYNONYMS: &'static [(&'static str, &'static str)] = DirectConfig::SYNONYMS;

    fn create(&self, config: DirectConfig, _: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        Ok(Arc::new(Direct::new(config)))
    }
}

impl Network for Direct {
    fn kind(&self) -> &'static str {
        DirectDriver::KIND
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let checked = guard::resolve_endpoint(&self.guard, DriverStep::Connect, to, lookup).await?;
            reach::found(to, checked.as_slice())
                .map_err(|denied| denied_at(DriverStep::Connect, to, denied))?;
            let stream = tcp::connect_to(to, checked.as_slice(), deadline).await?;
            limits::connected(to, &stream);
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, at: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async move { Ok(Box::new(Tcp::listen(&self.guard, at).await?) as BoxListener) })
    }

    fn bind_datagram<'a>(
        &'a self,
        at: &'a LocalEndpoint,
    ) -> BoxFuture<'a, Result<BoxDatagrams, DriverError>> {
        Box::pin(async move {
            let bound = Udp::bind(Arc::clone(&self.guard), at, self.deadline).await?;
            Ok(Box::new(bound) as BoxDatagrams)
        })
    }

    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let found = guard::resolve_name(&self.guard, name, lookup).await?;
            Ok(found.iter().map(SocketAddr::ip).collect())
        })
    }
}

/// Accepts TCP connections.
#[derive(Debug)]
struct Tcp {
    listener: TcpListener,
    local: SocketAddr,
}

impl Tcp {
    async fn listen(guard: &Guard, at: &LocalEndpoint) -> Result<Self, DriverError> {
        let address = guard.local(at).map_err(|denied| denied_at(DriverStep::Listen, at, denied))?;
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            Ok(Self { local: listener.local_addr()?, listener })
        };
        listen.await.map_err(|error: io::Error| DriverError::new(DriverStep::Listen, at, Cause::Io(error)))
    }
}

impl Listener for Tcp {
    fn local(&self) -> NetworkAddr {
        self.local.into()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let accept = async {
                let (stream, peer) = self.listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream) as BoxStream, shown(peer)))
            };
            accept.await.map_err(|error: io::Error| {
                DriverError::new(DriverStep::Accept, self.local, Cause::Io(error))
            })
        })
    }
}

/// Sends and receives UDP datagrams.
#[derive(Debug)]
struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    guard: Arc<Guard>,
    /// How long looking a name up and sending may take.
    limit: Duration,
}

impl Udp {
    async fn bind(guard: Arc<Guard>, at: &LocalEndpoint, limit: Duration) -> Result<Self, DriverError> {
        let address = guard.local(at).map_err(|denied| denied_at(DriverStep::Bind, at, denied))?;
        let bind = async {
            let socket = UdpSocket::bind(address).await?;
            Ok(Self { local: socket.local_addr()?, socket, guard, limit })
        };
        bind.await.map_err(|error: io::Error| DriverError::new(DriverStep::Bind, at, Cause::Io(error)))
    }

    /// `to` as the socket takes it, if it is of a family that the socket has.
    fn fit(&self, to: SocketAddr) -> Option<SocketAddr> {
        match (self.local, to) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(to),
            (SocketAddr::V6(local), SocketAddr::V4(v4)) if *local.ip() == Ipv6Addr::UNSPECIFIED => {
                Some(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
            }
            (SocketAddr::V4(_) | SocketAddr::V6(_), _) => None,
        }
    }
}

/// What an IPv4 packet has room for behind its header and that of UDP.
const MAX_DATAGRAM: usize = 65_535 - 20 - 8;

impl Datagrams for Udp {
    fn local(&self) -> NetworkAddr {
        self.local.into()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            if payload.len() > MAX_DATAGRAM {
                let text = format!("a datagram has at most {MAX_DATAGRAM} bytes, not {}", payload.len());
                let error = io::Error::new(io::ErrorKind::InvalidInput, text);
                return Err(DriverError::new(DriverStep::Send, to, Cause::Io(error)));
            }
            let deadline = Deadline::after(self.limit);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let checked = guard::resolve_endpoint(&self.guard, DriverStep::Send, to, lookup).await?;
            let send = async {
                let fitting = checked.as_slice().iter().find_map(|&address| self.fit(address));
                let address = fitting.ok_or_else(|| {
                    let text = format!("there is no address that can be sent to from {}", self.local);
                    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
                })?;
                self.socket.send_to(payload, address).await
            };
            deadline.bound(DriverStep::Send, to, send).await?;
            Ok(())
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let received = self.socket.recv_from(buffer).await;
            let (len, from) = received
                .map_err(|error| DriverError::new(DriverStep::Receive, self.local, Cause::Io(error)))?;
            Ok((len, shown(from)))
        })
    }
}

/// A peer of IPv4 as such, even if the socket is of IPv6.
fn shown(peer: SocketAddr) -> NetworkAddr {
    NetworkAddr::new(peer.ip().to_canonical(), peer.port())
}
