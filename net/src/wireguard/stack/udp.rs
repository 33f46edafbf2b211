//! Datagrams in the stack.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket, UdpMetadata};
use smoltcp::wire::IpListenEndpoint;

use super::Stack;
use super::connection::over;
use super::ports::Use;
use crate::error::Cause;
use crate::wireguard::Refusal;

/// How many datagrams wait to be received, or to be sent, and how many bytes they have. Those that come when there is
/// no more room are lost.
const DATAGRAMS: usize = 256;
const BUFFER: usize = 256 * 1024;

/// The headers of UDP, IPv4 and IPv6.
const UDP_HEADER: usize = 8;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

impl Stack {
    /// Takes a port for datagrams, and says which.
    pub(in crate::wireguard) fn bind(
        &mut self,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<(SocketHandle, SocketAddr), Cause> {
        self.check_local(address)?;
        let port = self.port(port, Use::Datagrams(address))?;
        let buffer = || {
            let len = BUFFER.max(self.mtu);
            PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS], vec![0; len])
        };
        let mut socket = Socket::new(buffer(), buffer());
        let bound = socket.bind(IpListenEndpoint { addr: address.map(Into::into), port });
        bound.map_err(|error| io::Error::new(io::ErrorKind::AddrNotAvailable, error))?;
        let handle = self.sockets.add(socket);
        self.bound.push((handle, address, port));
        Ok((handle, SocketAddr::new(self.shown(address), port)))
    }

    /// Frees a port.
    pub(in crate::wireguard) fn unbind(&mut self, handle: SocketHandle) {
        self.bound.retain(|&(bound, ..)| bound != handle);
        self.sockets.remove(handle);
    }

    /// Sends a datagram, as soon as there is room for it.
    pub(in crate::wireguard) fn poll_send_to(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
        payload: &[u8],
        to: SocketAddr,
    ) -> Poll<Result<(), Cause>> {
        let local = match self.source(to.ip()) {
            Ok(local) => local,
            Err(refusal) => return Poll::Ready(Err(refusal.into())),
        };
        let header = if to.is_ipv4() { V4_HEADER } else { V6_HEADER };
        let most = self.mtu - header - UDP_HEADER;
        if payload.len() > most {
            return Poll::Ready(Err(Refusal::TooLong { len: payload.len(), most }.into()));
        }
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
    pub(in crate::wireguard) fn poll_receive_from(
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
