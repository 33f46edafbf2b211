//! TCP and UDP inside the tunnel, without I/O.

mod acknowledgement;
mod connection;
mod device;
mod listening;
mod ports;
mod udp;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv6Address};

use self::connection::Connection;
use self::device::Queues;
use self::listening::Listening;
use crate::wireguard::Refusal;
use crate::wireguard::packets::Packets;

pub(super) use self::listening::ListenerId;

/// How many packets the stack may send before others have a turn.
const BURST: usize = 128;

/// The stack of this end: its connections, its listeners, its ports.
///
/// It takes the packets that came out of the tunnel and gives those that are to go into it, and is told what time it
/// is. The wakers of who waits for a connection, a listener or a port are woken from [`poll`](Self::poll).
pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    addresses: Vec<IpNet>,
    mtu: usize,
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
    pub(super) fn new(addresses: Vec<IpNet>, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let (mut inbound, mut outbound) = (Packets::default(), Packets::default());
        let mut queues = Queues { inbound: &mut inbound, outbound: &mut outbound, mtu, most: BURST };
        let mut interface = Interface::new(config, &mut queues, now);
        interface.update_ip_addrs(|own| {
            for address in addresses.iter().map(IpNet::addr) {
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
        while let Some((packet, ())) = inbound.front() {
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

    /// The address that what goes to `to` comes from.
    pub(super) fn source(&self, to: IpAddr) -> Result<IpAddr, Refusal> {
        let is_none = to.is_unspecified() || to.is_multicast() || to.is_loopback();
        if is_none || self.addresses.iter().any(|own| own.addr() == to) {
            return Err(Refusal::NotRemote { address: to });
        }
        let family = self.addresses.iter().filter(|own| own.addr().is_ipv4() == to.is_ipv4());
        let nearest = family.clone().find(|own| own.contains(&to)).or(family.clone().next());
        nearest.map(IpNet::addr).ok_or(Refusal::NoSource { address: to })
    }

    /// Refuses to listen at an address that is not one of this end.
    fn check_local(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        match address {
            Some(address) if !self.addresses.iter().any(|own| own.addr() == address) => {
                Err(Refusal::NotLocal { address })
            }
            _ => Ok(()),
        }
    }

    /// An address for who asks where something is that is at all of them.
    fn shown(&self, address: Option<IpAddr>) -> IpAddr {
        address.unwrap_or_else(|| self.addresses[0].addr())
    }
}
