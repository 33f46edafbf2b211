//! TCP and UDP inside the tunnel in user space, by [smoltcp]: the fallback where the kernel's stack is not available.
//!
//! [`Stack`] does no I/O: packets in memory go in and come out, and time is a parameter.

mod acknowledgement;
mod connection;
mod device;
mod listener;
mod listening;
mod ports;
mod shared;
mod stream;
mod udp;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv6Address};

use self::connection::Connection;
use self::device::Queues;
use self::listening::Listening;
use crate::wireguard::addresses::Addresses;
use crate::wireguard::packets::Packets;

pub(super) use self::listener::TunnelListener;
pub(super) use self::listening::ListenerId;
pub(super) use self::shared::{Interface as UserInterface, Shared, User};
pub(super) use self::stream::Stream;
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
