//! Datagrams in the stack.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket, UdpMetadata};
use smoltcp::wire::IpListenEndpoint;

use super::connection::over;
use super::{PortUse, Stack, User};
use crate::endpoint::LocalEndpoint;
use crate::error::Cause;
use crate::wireguard::Refusal;

/// How many datagrams wait to be received, or to be sent, and how many bytes they have. Those that come when there is
/// no more room are lost.
const DATAGRAMS: usize = 256;
const BUFFER: usize = 256 * 1024;

/// A UDP port of this end.
pub(in crate::wireguard) struct Port {
    user: Arc<User>,
    handle: SocketHandle,
    local: SocketAddr,
}

impl Port {
    /// Takes a port at `at`.
    pub(in crate::wireguard) fn bind(user: &Arc<User>, at: &LocalEndpoint) -> Result<Self, Cause> {
        let (handle, local) = user.stack().bind(at.address, at.port)?;
        Ok(Self { user: Arc::clone(user), handle, local })
    }

    pub(in crate::wireguard) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram, whole or not at all.
    pub(in crate::wireguard) async fn send(&self, payload: &[u8], to: SocketAddr) -> Result<(), Cause> {
        poll_fn(|cx| self.user.stack().poll_send_to(self.handle, cx, payload, to)).await?;
        self.user.ring();
        Ok(())
    }

    /// Receives a datagram. Returns how many bytes of it fit, and the sender.
    pub(in crate::wireguard) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.user.stack().poll_receive_from(self.handle, cx, buffer)).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.user.stack().unbind(self.handle);
    }
}

impl Stack {
    /// Takes a port for datagrams, and says which.
    pub(in crate::wireguard) fn bind(
        &mut self,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<(SocketHandle, SocketAddr), Cause> {
        self.addresses.check_local(address)?;
        let port = self.port(port, PortUse::Datagrams(address))?;
        let buffer = || {
            let len = BUFFER.max(self.mtu);
            PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS], vec![0; len])
        };
        let mut socket = Socket::new(buffer(), buffer());
        let bound = socket.bind(IpListenEndpoint { addr: address.map(Into::into), port });
        bound.map_err(|error| io::Error::new(io::ErrorKind::AddrNotAvailable, error))?;
        let handle = self.sockets.add(socket);
        self.bound.push((handle, address, port));
        Ok((handle, SocketAddr::new(self.addresses.shown(address), port)))
    }

    /// Frees a port.
    fn unbind(&mut self, handle: SocketHandle) {
        self.bound.retain(|&(bound, ..)| bound != handle);
        self.sockets.remove(handle);
    }

    /// Sends a datagram, as soon as there is room for it.
    fn poll_send_to(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
        payload: &[u8],
        to: SocketAddr,
    ) -> Poll<Result<(), Cause>> {
        let local = match self.addresses.source(to.ip()) {
            Ok(local) => local,
            Err(refusal) => return Poll::Ready(Err(refusal.into())),
        };
        if self.is_over {
            return Poll::Ready(Err(over().into()));
        }
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let bound = socket.endpoint().addr.map(IpAddr::from);
        if bound.is_some_and(|bound| bound.is_ipv4() != to.is_ipv4()) {
            return Poll::Ready(Err(Refusal::NoSource { address: to.ip() }.into()));
        }
        let mut metadata = UdpMetadata::from(smoltcp::wire::IpEndpoint::from(to));
        metadata.local_address = Some(bound.unwrap_or(local).into());
        match socket.send_slice(payload, metadata) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(SendError::BufferFull) => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Err(error @ SendError::Unaddressable) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::AddrNotAvailable, error).into()))
            }
        }
    }

    /// Receives a datagram, and says how many bytes it has that fit, and from whom it is.
    fn poll_receive_from(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let is_over = self.is_over;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        match socket.recv() {
            Ok((payload, metadata)) => {
                let len = payload.len().min(buffer.len());
                buffer[..len].copy_from_slice(&payload[..len]);
                Poll::Ready(Ok((len, metadata.endpoint.into())))
            }
            Err(_) if is_over => Poll::Ready(Err(over())),
            Err(_) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
        }
    }
}
