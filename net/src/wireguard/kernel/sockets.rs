//! Connections, listeners and ports for datagrams in the namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, bind, connect, listen, shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::OwnedSemaphorePermit;

use super::Kernel;
use super::namespace::{Member, NewSocket};
use crate::endpoint::{LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::network::{BoxFuture, BoxStream, Listener};
use crate::wireguard::Refusal;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// A connection. Dropping it closes it, after what was written has been delivered.
pub(in crate::wireguard) struct Stream {
    kernel: Arc<Kernel>,
    /// Both are there until it is dropped.
    open: Option<(Member<TcpStream>, OwnedSemaphorePermit)>,
}

impl Stream {
    /// Connects to `to`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    pub(in crate::wireguard) async fn connect(kernel: &Arc<Kernel>, to: SocketAddr) -> Result<Self, Cause> {
        let permit = kernel.permit()?;
        let NewSocket { socket, life } = kernel.socket(to.is_ipv6(), true).await?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(io::Error::from)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let connecting = life.join(TcpStream::from_std(socket.into())?)?;
        connecting.writable().await.map_err(|error| life.explain(error))?;
        if let Some(error) = connecting.take_error()? {
            return Err(life.explain(error).into());
        }
        Ok(Self { kernel: Arc::clone(kernel), open: Some((connecting, permit)) })
    }

    fn socket(&self) -> io::Result<&Member<TcpStream>> {
        self.open.as_ref().map(|(socket, _)| socket).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some((socket, permit)) = self.open.take() {
            self.kernel.closing.close(socket, permit);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        loop {
            match socket.try_read_buf(&mut *buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(socket.life().explain(error))),
            }
            ready!(socket.poll_read_ready(cx)).map_err(|error| socket.life().explain(error))?;
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        loop {
            match socket.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written.map_err(|error| socket.life().explain(error))),
            }
            ready!(socket.poll_write_ready(cx)).map_err(|error| socket.life().explain(error))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way: nothing waits here to be flushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        match shutdown(&**socket, Shutdown::Write) {
            // The far end has reset it, so it need not be told.
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(socket.life().explain(error.into()))),
        }
    }
}

/// A port where connections are accepted.
pub(in crate::wireguard) struct TunnelListener {
    kernel: Arc<Kernel>,
    socket: Member<TcpListener>,
    local: SocketAddr,
}

impl TunnelListener {
    pub(in crate::wireguard) async fn new(kernel: &Arc<Kernel>, at: &LocalEndpoint) -> Result<Self, Cause> {
        kernel.addresses.check_local(at.address)?;
        let address = kernel.unspecified_unless(at.address);
        let NewSocket { socket, life } = kernel.socket(address.is_ipv6(), true).await?;
        // Connections of before that have not been forgotten yet do not keep the port.
        sockopt::set_socket_reuseaddr(&socket, true).map_err(io::Error::from)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, at.address.is_some()).map_err(io::Error::from)?;
        }
        bind(&socket, &SocketAddr::new(address, at.port)).map_err(io::Error::from)?;
        listen(&socket, BACKLOG).map_err(io::Error::from)?;
        let socket = life.join(TcpListener::from_std(socket.into())?)?;
        let port = socket.local_addr()?.port();
        let local = SocketAddr::new(kernel.addresses.shown(at.address), port);
        Ok(Self { kernel: Arc::clone(kernel), socket, local })
    }

    async fn next(&self) -> io::Result<(Stream, SocketAddr)> {
        // At the limit connections wait with the kernel, and then at the far end.
        let permit = self.kernel.permit_later().await?;
        let life = self.socket.life();
        let (stream, from) = self.socket.accept().await.map_err(|error| life.explain(error))?;
        stream.set_nodelay(true)?;
        let open = Some((life.join(stream)?, permit));
        Ok((Stream { kernel: Arc::clone(&self.kernel), open }, canonical(from)))
    }
}

impl Listener for TunnelListener {
    fn local(&self) -> NetworkAddr {
        self.local.into()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let accepted = self.next().await;
            let failed = |error| DriverError::new(DriverStep::Accept, self.local, Cause::Io(error));
            accepted.map(|(stream, from)| (Box::new(stream) as BoxStream, from.into())).map_err(failed)
        })
    }
}

/// A port for datagrams.
pub(in crate::wireguard) struct Port {
    _kernel: Arc<Kernel>,
    socket: Member<UdpSocket>,
    address: Option<IpAddr>,
    is_v6: bool,
    local: SocketAddr,
}

impl Port {
    /// Takes a port at `at`.
    pub(in crate::wireguard) async fn bind(kernel: &Arc<Kernel>, at: &LocalEndpoint) -> Result<Self, Cause> {
        kernel.addresses.check_local(at.address)?;
        let address = kernel.unspecified_unless(at.address);
        let is_v6 = address.is_ipv6();
        let NewSocket { socket, life } = kernel.socket(is_v6, false).await?;
        if is_v6 {
            sockopt::set_ipv6_v6only(&socket, at.address.is_some()).map_err(io::Error::from)?;
        }
        bind(&socket, &SocketAddr::new(address, at.port)).map_err(io::Error::from)?;
        let socket = life.join(UdpSocket::from_std(socket.into())?)?;
        let local = SocketAddr::new(kernel.addresses.shown(at.address), socket.local_addr()?.port());
        Ok(Self { _kernel: Arc::clone(kernel), socket, address: at.address, is_v6, local })
    }

    pub(in crate::wireguard) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram, whole or not at all.
    pub(in crate::wireguard) async fn send(&self, payload: &[u8], to: SocketAddr) -> Result<(), Cause> {
        let is_other_family = self.address.is_some_and(|own| own.is_ipv4() != to.is_ipv4());
        if is_other_family || (to.is_ipv6() && !self.is_v6) {
            return Err(Refusal::NoSource { address: to.ip() }.into());
        }
        let to = match to.ip() {
            IpAddr::V4(address) if self.is_v6 => SocketAddr::new(address.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        let life = self.socket.life();
        loop {
            if let Some(ended) = life.ended() {
                return Err(ended.into());
            }
            match self.socket.try_send_to(payload, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(life.explain(error).into()),
            }
            self.socket.writable().await?;
        }
    }

    /// Receives a datagram. Returns how many bytes of it fit, and the sender.
    pub(in crate::wireguard) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let life = self.socket.life();
        loop {
            if let Some(ended) = life.ended() {
                return Err(ended);
            }
            match self.socket.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok((len, from)) => return Ok((len, canonical(from))),
                Err(error) => return Err(life.explain(error)),
            }
            self.socket.readable().await.map_err(|error| life.explain(error))?;
        }
    }
}

impl Kernel {
    /// The address to bind a socket to that is to be at `address`, or at all addresses.
    fn unspecified_unless(&self, address: Option<IpAddr>) -> IpAddr {
        let has_v6 = || self.addresses.iter().any(|own| own.addr().is_ipv6());
        match address {
            Some(address) => address,
            // Such a socket is at the addresses of IPv4, too.
            None if has_v6() => Ipv6Addr::UNSPECIFIED.into(),
            None => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// The address without the form that those of IPv4 have at a socket of IPv6.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
