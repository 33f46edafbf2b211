//! TCP and UDP inside the tunnel in user space, by [smoltcp]: the fallback where the kernel's stack is not available.
//!
//! [`Stack`] does no I/O: packets in memory go in and come out, and time is a parameter.

mod connection;
mod listener;
mod shared;
mod udp;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv6Address};

use self::connection::Connection;
use self::listener::Listening;
use crate::wireguard::packet;
use crate::wireguard::packet::{FIN, Packets, RST, SYN, Segment};
use crate::wireguard::routes::Addresses;

pub(super) use self::connection::Stream;
pub(super) use self::listener::{ListenerId, TunnelListener};
pub(super) use self::shared::{Interface as UserInterface, Shared, User};
pub(super) use self::udp::Port;

/// How many packets the stack may send before others have a turn.
const BURST: usize = 128;

/// The stack of this end: its connections, its listeners, its ports.
///
/// It takes the packets that came out of the tunnel and gives those that are to go into it, and is told what time it
/// is. The wakers of who waits for a connection, a listener or a port are woken from [`poll`](Self::poll).
pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    addresses: Addresses,
    mtu: usize,
    /// How many connections there may be.
    most: usize,
    connections: HashMap<SocketHandle, Connection>,
    /// The local and the remote end of each connection.
    tuples: HashMap<(SocketAddr, SocketAddr), SocketHandle>,
    /// The connections that nobody has any more, and that are not closed yet.
    orphans: Vec<SocketHandle>,
    listeners: BTreeMap<ListenerId, Listening>,
    next_listener: ListenerId,
    /// The ports that datagrams come to.
    bound: Vec<(SocketHandle, Option<IpAddr>, u16)>,
    /// The time of the last poll.
    now: Instant,
    /// When connections that are closed were last looked at.
    kept: Instant,
    /// Nothing carries packets any more.
    is_over: bool,
}

impl Stack {
    /// A stack at these addresses. `seed` is not to be guessed.
    pub(super) fn new(addresses: Addresses, mtu: usize, most: usize, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let (mut inbound, mut outbound) = (Packets::default(), Packets::default());
        let mut queues = Queues { inbound: &mut inbound, outbound: &mut outbound, mtu, most: BURST };
        let mut interface = Interface::new(config, &mut queues, now);
        interface.update_ip_addrs(|own| {
            for address in addresses.iter().map(|own| own.addr()) {
                // The longest prefix: which of the others are neighbours is for the tunnel to know.
                let full = if address.is_ipv4() { 32 } else { 128 };
                // There are no more of them than there is room for; `Setup` has seen to it.
                let _ = own.push(IpCidr::new(address.into(), full));
            }
        });
        // All that is not this host is through the tunnel. The gateway is never looked at.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(Ipv4Address::UNSPECIFIED);
        let _ = routes.add_default_ipv6_route(Ipv6Address::UNSPECIFIED);
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            addresses,
            mtu,
            most,
            connections: HashMap::new(),
            tuples: HashMap::new(),
            orphans: Vec::new(),
            listeners: BTreeMap::new(),
            next_listener: ListenerId::default(),
            bound: Vec::new(),
            now,
            kept: now,
            is_over: false,
        }
    }

    /// Takes what is `inbound`, does what is due, and puts what is to be sent behind what is `outbound`. Says after
    /// how long there is more to be done, if nothing happens before.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        inbound: &mut Packets,
        outbound: &mut Packets,
    ) -> Option<Duration> {
        self.now = now;
        self.keep_ends();
        self.take(inbound, outbound);
        self.promote();
        self.reap();
        let mut queues = Queues { inbound, outbound, mtu: self.mtu, most: BURST };
        while self.interface.poll_egress(now, &mut queues, &mut self.sockets)
            == PollResult::SocketStateChanged
        {}
        self.number(outbound);
        self.forget();
        if outbound.len() >= BURST {
            return Some(Duration::ZERO);
        }
        let due = self.interface.poll_delay(now, &self.sockets).map(Duration::from);
        [due, self.next_orphan()].into_iter().flatten().min()
    }

    fn take(&mut self, inbound: &mut Packets, outbound: &mut Packets) {
        while let Some(packet) = inbound.get(0) {
            let Ok(opened) = self.open(packet) else {
                inbound.skip(1);
                continue;
            };
            let mut queues = Queues { inbound, outbound, mtu: self.mtu, most: BURST };
            self.interface.poll_ingress_single(self.now, &mut queues, &mut self.sockets);
            if let Some(opened) = opened {
                self.settle(opened);
            }
        }
    }

    /// Nothing carries packets any more: whoever waits is told.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        for socket in self.sockets.iter_mut() {
            match socket.1 {
                smoltcp::socket::Socket::Tcp(socket) => socket.abort(),
                smoltcp::socket::Socket::Udp(socket) => socket.close(),
            }
        }
        for listening in self.listeners.values_mut() {
            listening.wake();
        }
    }

    /// How many connections there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }
}

/// The ports that nobody asks for by number, of RFC 6335.
const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

/// What a port is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PortUse<'a> {
    /// Connections come to it.
    Listener(Option<IpAddr>),
    /// Datagrams come to it.
    Datagrams(Option<IpAddr>),
    /// A connection comes from it, of this local address, and goes there.
    Connection(IpAddr, &'a SocketAddr),
}

impl Stack {
    /// The port, or one that is free where it is 0.
    pub(super) fn port(&self, port: u16, wanted: PortUse<'_>) -> io::Result<u16> {
        if port != 0 {
            return if self.is_taken(port, wanted) { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(port) };
        }
        // Where the search begins is not to be guessed: neither is the port then, as a rule.
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let len = EPHEMERAL.end() - EPHEMERAL.start();
        let begin = u16::from_le_bytes(random) % len;
        let mut ports = (0..=len).map(|step| EPHEMERAL.start() + (begin + step) % (len + 1));
        ports.find(|&port| !self.is_taken(port, wanted)).ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    fn is_taken(&self, port: u16, wanted: PortUse<'_>) -> bool {
        let overlaps =
            |one: Option<IpAddr>, other: Option<IpAddr>| one.is_none() || other.is_none() || one == other;
        let is_listening = |address| {
            let mut listeners = self.listeners.values();
            listeners.any(|listening| listening.port == port && overlaps(listening.address, address))
        };
        match wanted {
            PortUse::Listener(address) => is_listening(address),
            PortUse::Datagrams(address) => {
                let mut bound = self.bound.iter();
                bound.any(|&(_, other, taken)| taken == port && overlaps(other, address))
            }
            PortUse::Connection(from, to) => {
                is_listening(Some(from)) || self.tuples.contains_key(&(SocketAddr::new(from, port), *to))
            }
        }
    }
}

impl Stack {
    /// Gives segments that only acknowledge something the sequence number behind all that was sent.
    ///
    /// That is what RFC 9293 has there (`SND.NXT`). smoltcp has the number that it sends from next, and goes back with it
    /// to send something again. If that has arrived in the meantime, then the number is one of the past for the far end,
    /// which does not heed what such a segment acknowledges; and where the far end does the same, then both send again
    /// for ever, and neither hears that it need not.
    fn number(&mut self, outbound: &mut Packets) {
        let mut last: Option<((SocketAddr, SocketAddr), SocketHandle)> = None;
        for packet in outbound.iter_mut() {
            let Some(segment) = Segment::of(packet) else { continue };
            let ends = (segment.from, segment.to);
            let handle = match last {
                // Segments of one connection come in a row.
                Some((of, handle)) if of == ends => handle,
                _ => match self.tuples.get(&ends) {
                    Some(&handle) => handle,
                    None => continue,
                },
            };
            last = Some((ends, handle));
            let Some(connection) = self.connections.get_mut(&handle) else { continue };
            let controls = segment.flags & (SYN | FIN);
            let end = segment.sequence.wrapping_add(segment.len).wrapping_add(controls.count_ones());
            // Sequence numbers go round: what is less than half of them ahead is later.
            let is_behind = |sent: &u32| sent.wrapping_sub(end).cast_signed() > 0;
            match connection.sent.filter(is_behind) {
                Some(sent) if segment.len == 0 && segment.flags & (SYN | FIN | RST) == 0 => {
                    segment.renumber(packet, sent);
                }
                Some(_) => {}
                None => connection.sent = Some(end),
            }
        }
    }
}

/// What came out of the tunnel, and what is to go into it.
struct Queues<'a> {
    inbound: &'a mut Packets,
    outbound: &'a mut Packets,
    mtu: usize,
    /// How many packets may go into the tunnel before the stack is asked to wait.
    most: usize,
}

struct Inbound<'a>(&'a [u8]);

struct Outbound<'a> {
    packets: &'a mut Packets,
    mtu: usize,
}

impl Device for Queues<'_> {
    type RxToken<'b>
        = Inbound<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outbound<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        let (packet, ()) = self.inbound.pop()?;
        // A packet is answered with one at most, and those that come in are not without end.
        Some((Inbound(packet), Outbound { packets: self.outbound, mtu: self.mtu }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        let has_room = self.outbound.len() < self.most;
        has_room.then_some(Outbound { packets: self.outbound, mtu: self.mtu })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What comes out of the tunnel was authenticated, which says more than a checksum.
        let mut checksum = ChecksumCapabilities::default();
        checksum.ipv4 = Checksum::Tx;
        checksum.udp = Checksum::Tx;
        checksum.tcp = Checksum::Tx;
        checksum.icmpv4 = Checksum::Tx;
        checksum.icmpv6 = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities
    }
}

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let padded = packet::padded(len, self.mtu);
        let room = self.packets.room(padded);
        room[len..].fill(0);
        let written = f(&mut room[..len]);
        self.packets.commit(padded, ());
        written
    }
}
