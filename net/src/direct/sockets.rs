//! Clearnet from the other side: connections and datagrams that come in.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};

use super::guard::Guard;
use super::resolve;
use crate::address::{LocalEndpoint, NetworkAddr};
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::network::{BoxFuture, BoxStream, Datagrams, Listener};
use crate::tcp;

/// Accepts TCP connections.
#[derive(Debug)]
pub(super) struct Tcp {
    listener: TcpListener,
    local: SocketAddr,
}

impl Tcp {
    pub(super) async fn listen(guard: &Guard, at: &LocalEndpoint) -> Result<Self, DriverError> {
        let address = guard.local(at).map_err(|denied| resolve::denied_at(Step::Listen, at, denied))?;
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            Ok(Self { local: listener.local_addr()?, listener })
        };
        listen.await.map_err(|error: io::Error| DriverError::new(Step::Listen, at, Cause::Io(error)))
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
            accept
                .await
                .map_err(|error: io::Error| DriverError::new(Step::Accept, self.local, Cause::Io(error)))
        })
    }
}

/// Sends and receives UDP datagrams.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    guard: Arc<Guard>,
    /// How long looking a name up and sending may take.
    limit: Duration,
}

impl Udp {
    pub(super) async fn bind(
        guard: Arc<Guard>,
        at: &LocalEndpoint,
        limit: Duration,
    ) -> Result<Self, DriverError> {
        let address = guard.local(at).map_err(|denied| resolve::denied_at(Step::Bind, at, denied))?;
        let bind = async {
            let socket = UdpSocket::bind(address).await?;
            Ok(Self { local: socket.local_addr()?, socket, guard, limit })
        };
        bind.await.map_err(|error: io::Error| DriverError::new(Step::Bind, at, Cause::Io(error)))
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
                return Err(DriverError::new(Step::Send, to, Cause::Io(error)));
            }
            let deadline = Deadline::after(self.limit);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let checked = resolve::endpoint(&self.guard, Step::Send, to, lookup).await?;
            let send = async {
                let fitting = checked.as_slice().iter().find_map(|&address| self.fit(address));
                let address = fitting.ok_or_else(|| {
                    let text = format!("there is no address that can be sent to from {}", self.local);
                    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
                })?;
                self.socket.send_to(payload, address).await
            };
            deadline.bound(Step::Send, to, send).await?;
            Ok(())
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let received = self.socket.recv_from(buffer).await;
            let (len, from) =
                received.map_err(|error| DriverError::new(Step::Receive, self.local, Cause::Io(error)))?;
            Ok((len, shown(from)))
        })
    }
}

/// A peer of IPv4 as such, even if the socket is of IPv6.
fn shown(peer: SocketAddr) -> NetworkAddr {
    NetworkAddr::new(peer.ip().to_canonical(), peer.port())
}
