//! The UDP socket that the tunnel goes through.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::wireguard::tunnel::Datagrams;

/// How many pieces are received with one call, and how long one is, which may have many datagrams in it that belong
/// together.
const PIECES: usize = 8;
const PIECE: usize = 65_536;

/// How long a piece that is sent may be: what fits into a datagram of IPv4.
const LONGEST: usize = 65_507;

/// How many bytes the system is asked to keep for a tunnel that has no time yet. It may give less.
const BUFFER: usize = 4 * 1024 * 1024;

/// A UDP socket. Datagrams that follow on each other and go the same way are handed to the system as one, where it can
/// take them apart.
pub(super) struct Outer {
    socket: UdpSocket,
    state: UdpSocketState,
    is_v6: bool,
    buffer: Vec<u8>,
}

/// Binds the socket: to the address, or to all that there are, and to the port.
pub(super) fn bind(address: Option<IpAddr>, port: u16) -> io::Result<StdSocket> {
    let socket = match address {
        Some(address) => StdSocket::bind((address, port))?,
        // A host without IPv6 has no such address.
        None => StdSocket::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| StdSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, port)))?,
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Outer {
    /// The bound socket, in the runtime of this thread.
    pub(super) fn new(socket: StdSocket) -> io::Result<Self> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        let state = UdpSocketState::new((&socket).into())?;
        // It works with less, only worse.
        let _ = state.set_recv_buffer_size((&socket).into(), BUFFER);
        let _ = state.set_send_buffer_size((&socket).into(), BUFFER);
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, state, is_v6, buffer: vec![0; PIECES * PIECE] })
    }

    /// Waits until there may be something to receive.
    pub(super) fn poll_receive_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    /// Gives what has arrived to `each`, and says whether there may be more.
    pub(super) fn receive(&mut self, mut each: impl FnMut(&[u8], SocketAddr)) -> bool {
        let mut pieces = self.buffer.chunks_exact_mut(PIECE);
        let mut slices: [IoSliceMut<'_>; PIECES] =
            std::array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
        let mut metas = [RecvMeta::default(); PIECES];
        let mut count = 0;
        let _ = self.socket.try_io(Interest::READABLE, || {
            count = self.state.recv((&self.socket).into(), &mut slices, &mut metas)?;
            if count == PIECES { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        for (slice, meta) in slices.iter().zip(&metas[..count]) {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                each(datagram, from);
            }
        }
        count == PIECES
    }

    /// Sends all of the datagrams. One that the system does not take is lost, as it might be on its way.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, datagrams: &mut Datagrams) -> Poll<()> {
        while let Some((first, to)) = datagrams.peek(0) {
            let count = self.run(datagrams, first, to);
            let transmit = Transmit {
                destination: self.mapped(to),
                ecn: None,
                contents: datagrams.piece(count),
                segment_size: (count > 1).then_some(first),
                src_ip: None,
            };
            let send = || self.state.try_send((&self.socket).into(), &transmit);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if ready!(self.socket.poll_send_ready(cx)).is_err() {
                        datagrams.skip(count);
                    }
                }
                // The system cannot take them apart, as has turned out now: then one by one.
                Err(_) if count > self.state.max_gso_segments() => {}
                Ok(()) | Err(_) => datagrams.skip(count),
            }
        }
        datagrams.clear();
        Poll::Ready(())
    }

    /// How many of the first datagrams can be sent as one: all are as long, but for the last, and go the same way.
    fn run(&self, datagrams: &Datagrams, first: usize, to: SocketAddr) -> usize {
        let most = self.state.max_gso_segments().min(LONGEST / first.max(1)).max(1);
        let mut count = 1;
        while count < most {
            match datagrams.peek(count) {
                Some((len, other)) if other == to && len <= first => {
                    count += 1;
                    if len < first {
                        break;
                    }
                }
                _ => break,
            }
        }
        count
    }

    /// The address as the socket has it: one of IPv6 has those of IPv4 in it.
    fn mapped(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(address) if self.is_v6 => SocketAddr::new(address.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}
