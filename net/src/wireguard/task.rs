//! The task that carries the packets, and the UDP socket that the tunnel goes through.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::direct::Denied;
use crate::endpoint::{Endpoint, Host};
use crate::lookup;
use crate::wireguard::packet::Packets;
use crate::wireguard::tunnel::{Datagrams, Tunnel};

/// How often the tunnel is told the time.
const TICK: Duration = Duration::from_millis(250);

/// The stack behind a tunnel, as the task that carries its packets sees it. Dropping it ends its connections.
pub(super) trait Interface: Send + 'static {
    /// Takes the packets that came out of the tunnel, and adds those that are to go into it. Returns after how long
    /// there is more to do if nothing happens before.
    fn exchange(&mut self, inbound: &mut Packets, outbound: &mut Packets) -> Option<Duration>;

    /// Waits until there may be something to exchange, or nothing more to do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn ready(&mut self) -> impl Future<Output = ()> + Send;

    /// Returns whether the tunnel has no users any more, and what they wrote has been delivered.
    fn is_done(&mut self) -> bool;
}

/// Carries packets between the stack and the tunnel, and the tunnel's datagrams to and from its peers, until the
/// stack has no users any more.
pub(super) struct Task<I> {
    interface: I,
    tunnel: Tunnel,
    outer: Outer,
    lookups: JoinSet<(usize, io::Result<Vec<SocketAddr>>)>,
    inbound: Packets,
    outbound: Packets,
    datagrams: Datagrams,
    next_tick: Instant,
}

impl<I: Interface> Task<I> {
    pub(super) fn new(interface: I, tunnel: Tunnel, outer: Outer) -> Self {
        Self {
            interface,
            tunnel,
            outer,
            lookups: JoinSet::new(),
            inbound: Packets::default(),
            outbound: Packets::default(),
            datagrams: Datagrams::default(),
            next_tick: Instant::now() + TICK,
        }
    }

    /// Does all that, and closes the socket.
    pub(super) async fn run(mut self) {
        let mut timer = pin!(sleep_until(self.next_tick));
        self.tunnel.start(&mut self.datagrams);
        loop {
            let (receives, tunnel) = (&mut self.outer, &mut self.tunnel);
            let (inbound, datagrams) = (&mut self.inbound, &mut self.datagrams);
            let has_more =
                receives.receive(|datagram, from| tunnel.receive(datagram, from, inbound, datagrams));
            let due = self.exchange();
            self.tick();
            self.look_up();
            poll_fn(|cx| self.outer.poll_send(cx, &mut self.datagrams)).await;
            if self.interface.is_done() {
                return;
            }
            if has_more || due == Some(Duration::ZERO) {
                tokio::task::yield_now().await;
            } else {
                self.wait(timer.as_mut(), due).await;
            }
        }
    }

    /// Gives the stack what came for it, sends what it has, and says when it has more.
    fn exchange(&mut self) -> Option<Duration> {
        let due = self.interface.exchange(&mut self.inbound, &mut self.outbound);
        self.inbound.clear();
        while let Some((packet, ())) = self.outbound.pop() {
            self.tunnel.send(packet, &mut self.datagrams);
        }
        self.outbound.clear();
        due
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tunnel.tick(&mut self.datagrams);
        }
    }

    /// Has the system look up where peers are. Nothing but their endpoints is ever asked for there.
    fn look_up(&mut self) {
        for (index, endpoint) in self.tunnel.unresolved() {
            self.lookups.spawn(async move { (index, addresses(&endpoint).await) });
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, mut timer: Pin<&mut Sleep>, due: Option<Duration>) {
        let due = due.map_or(self.next_tick, |due| self.next_tick.min(Instant::now() + due));
        // Setting a timer costs system calls. One that fires too early costs them less often than this comes by.
        if due < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(due);
        }
        let mut ready = pin!(self.interface.ready());
        let (lookups, tunnel) = (&mut self.lookups, &mut self.tunnel);
        let (outer, datagrams) = (&self.outer, &mut self.datagrams);
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(Some(Ok((index, found)))) = lookups.poll_join_next(cx) {
                tunnel.resolved(index, &found.unwrap_or_default(), datagrams);
                return Poll::Ready(());
            }
            let is_awake = ready.as_mut().poll(cx).is_ready()
                || outer.poll_receive_ready(cx).is_ready()
                || timer.as_mut().poll(cx).is_ready();
            if is_awake { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn addresses(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let found = match endpoint.host() {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            Denied::check_foreign(name).map_err(io::Error::other)?;
            lookup::addresses(name).await.map_err(io::Error::other)?
        }
    };
    Ok(found.into_iter().map(|address| SocketAddr::new(address, endpoint.port())).collect())
}

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
    fn poll_receive_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    /// Gives what has arrived to `each`, and says whether there may be more.
    fn receive(&mut self, mut each: impl FnMut(&[u8], SocketAddr)) -> bool {
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
    fn poll_send(&self, cx: &mut Context<'_>, datagrams: &mut Datagrams) -> Poll<()> {
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
