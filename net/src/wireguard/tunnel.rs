//! The tunnel and its peers without I/O: who a packet goes to, who it may come from, and what it looks like on the way.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{self, StaticSecret};

use crate::endpoint::{Endpoint, Host};
use crate::wireguard::packet;
use crate::wireguard::packet::Packets;
use crate::wireguard::routes::Routes;
use crate::wireguard::setup::PeerSetup;

/// Datagrams with where they go.
pub(super) type Datagrams = Packets<SocketAddr>;

/// What the tunnel puts around a packet.
const OVERHEAD: usize = 32;

/// The longest message of a handshake.
const HANDSHAKE_LEN: usize = 148;

/// How many handshakes a second are answered before whoever sends them has to show that it is where it says: as many
/// as boringtun's own program answers.
const HANDSHAKES: u64 = 100;

/// How many bits of a receiver's index are not the peer's, in boringtun.
const SESSION_BITS: u32 = 8;

/// This end of the tunnel: its peers, each with its session.
///
/// What it is given and what it gives are packets and datagrams in memory. The time it takes from the system's clock,
/// as [`Tunn`] does, when it is told to [`tick`](Self::tick): it has to be told a few times a second.
pub(super) struct Tunnel {
    private_key: StaticSecret,
    public_key: x25519::PublicKey,
    addresses: Vec<IpAddr>,
    peers: Vec<Peer>,
    by_key: HashMap<[u8; 32], usize>,
    routes: Arc<Routes>,
    limiter: RateLimiter,
}

impl Tunnel {
    /// An end with these addresses, whose peers own what `routes` say.
    pub(super) fn new(
        private_key: StaticSecret,
        addresses: Vec<IpAddr>,
        peers: Vec<PeerSetup>,
        routes: Arc<Routes>,
        mtu: usize,
    ) -> Self {
        let public_key = x25519::PublicKey::from(&private_key);
        // Every handshake passes the limiter of the tunnel. That of a peer is asked only about what came past it.
        let unlimited = Arc::new(RateLimiter::new(&public_key, u64::MAX));
        let by_key = peers.iter().enumerate().map(|(index, peer)| (*peer.public_key.as_bytes(), index));
        let by_key = by_key.collect();
        let peers = (0_u32..).zip(peers).map(|(index, peer)| {
            let key = x25519::PublicKey::from(&peer.public_key);
            let preshared_key = peer.preshared_key.as_deref().copied();
            let limiter = Some(Arc::clone(&unlimited));
            let tunn = Tunn::new(private_key.clone(), key, preshared_key, peer.keepalive, index, limiter);
            Peer::new(tunn, peer.endpoint, peer.keepalive.is_some(), mtu)
        });
        let peers = peers.collect();
        let limiter = RateLimiter::new(&public_key, HANDSHAKES);
        Self { private_key, public_key, addresses, peers, by_key, routes, limiter }
    }

    /// Begins handshakes with the peers that are to hear from this end though it has nothing to say.
    pub(super) fn start(&mut self, out: &mut Datagrams) {
        for peer in self.peers.iter_mut().filter(|peer| peer.keeps_alive()) {
            peer.shake_hands(out);
        }
    }

    /// Sends an IP packet to the peer that owns its destination. If none does, it goes nowhere.
    pub(super) fn send(&mut self, packet: &[u8], out: &mut Datagrams) {
        let owner = packet::addresses(packet).and_then(|(_, to)| self.routes.owner(to));
        if let Some(owner) = owner {
            self.peers[owner].send(packet, out);
        }
    }

    /// Takes a datagram that came from `from`. The packet in it is put behind those that are `inbound`, if its peer
    /// may send it: from an address that the peer owns, to one of this end.
    pub(super) fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        inbound: &mut Packets,
        out: &mut Datagrams,
    ) {
        let Some(index) = self.sender(datagram, from, out) else { return };
        let room = inbound.room(datagram.len().max(HANDSHAKE_LEN));
        let received = self.peers[index].receive(datagram, from, room, out);
        if received != Received::Nothing {
            self.routes.set_reachable(index);
        }
        let Received::Packet { len } = received else { return };
        let addresses = packet::addresses(inbound.room(len));
        let is_allowed = addresses.is_some_and(|(source, destination)| {
            packet::is_source(source)
                && self.routes.owner(source) == Some(index)
                && self.addresses.contains(&destination)
        });
        if is_allowed {
            inbound.commit(len, ());
        }
    }

    /// The peer that a datagram says it is from. Who begins a handshake may be asked to do so again, from where it
    /// says it is.
    fn sender(&self, datagram: &[u8], from: SocketAddr, out: &mut Datagrams) -> Option<usize> {
        let receiver = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(init) => {
                self.admits(datagram, from, out).then_some(())?;
                let half = parse_handshake_anon(&self.private_key, &self.public_key, &init).ok()?;
                return self.by_key.get(&half.peer_static_public).copied();
            }
            Packet::HandshakeResponse(response) => {
                self.admits(datagram, from, out).then_some(response.receiver_idx)?
            }
            Packet::PacketCookieReply(reply) => reply.receiver_idx,
            Packet::PacketData(data) => data.receiver_idx,
        };
        let index = usize::try_from(receiver >> SESSION_BITS).ok()?;
        (index < self.peers.len()).then_some(index)
    }

    fn admits(&self, datagram: &[u8], from: SocketAddr, out: &mut Datagrams) -> bool {
        let verified = self.limiter.verify_packet(Some(from.ip()), datagram, out.room(HANDSHAKE_LEN));
        let cookie = match verified {
            Ok(_) => return true,
            Err(TunnResult::WriteToNetwork(cookie)) => cookie.len(),
            Err(_) => return false,
        };
        out.commit(cookie, from);
        false
    }

    /// Sends what is due by now: handshakes again, new keys, signs of life.
    pub(super) fn tick(&mut self, out: &mut Datagrams) {
        self.limiter.reset_count();
        for peer in &mut self.peers {
            peer.tick(out);
        }
    }

    /// The peers whose address is to be looked up, with their names. Each is given once, until
    /// [`resolved`](Self::resolved) was called for it.
    pub(super) fn unresolved(&mut self) -> impl Iterator<Item = (usize, Endpoint)> + '_ {
        let peers = self.peers.iter_mut().enumerate();
        peers.filter_map(|(index, peer)| Some((index, peer.take_unresolved()?)))
    }

    /// The address of a peer was looked up. Without one it is looked up again when there is something to be sent.
    pub(super) fn resolved(&mut self, index: usize, addresses: &[SocketAddr], out: &mut Datagrams) {
        self.peers[index].resolved(addresses, out);
    }
}

/// The first byte of a message that begins a handshake, and of one with a cookie, and how long the latter is.
const HANDSHAKE: u8 = 1;
const COOKIE: u8 = 3;
const COOKIE_LEN: usize = 64;

/// How many handshakes may go unanswered before the name of the peer is looked up again.
const PATIENCE: u32 = 2;

/// A peer. Messages for it that come before it is known where it is are lost, as is anything that is sent by UDP.
struct Peer {
    tunn: Tunn,
    endpoint: Option<Endpoint>,
    keeps_alive: bool,
    /// Where it was last heard from, or else where it is said to be.
    address: Option<SocketAddr>,
    lookup: Lookup,
    /// The longest message that there is for it.
    longest: usize,
    /// How many handshakes were begun since it was last heard from.
    unanswered: u32,
}

/// What a datagram was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Received {
    /// Nothing that the peer can be held to have sent.
    Nothing,
    /// A message without a packet, which the peer sent.
    Message,
    /// A message of the peer, with a packet in it, which is now at the beginning of the room.
    Packet {
        /// How long it is.
        len: usize,
    },
}

/// How it is with the address of a peer that is given by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookup {
    Idle,
    Wanted,
    Running,
}

impl Peer {
    /// A peer whose packets have at most `mtu` bytes.
    pub(super) fn new(tunn: Tunn, endpoint: Option<Endpoint>, keeps_alive: bool, mtu: usize) -> Self {
        let address = endpoint.as_ref().and_then(|endpoint| match endpoint.host() {
            Host::Address(address) => Some(SocketAddr::new(*address, endpoint.port())),
            Host::Name(_) => None,
        });
        let longest = (mtu + OVERHEAD).max(HANDSHAKE_LEN);
        Self { tunn, endpoint, keeps_alive, address, lookup: Lookup::Idle, longest, unanswered: 0 }
    }

    const fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Sends a packet, now or when there is a session for it.
    fn send(&mut self, packet: &[u8], out: &mut Datagrams) {
        let room = out.room((packet.len() + OVERHEAD).max(HANDSHAKE_LEN));
        let len = written(self.tunn.encapsulate(packet, room));
        self.post(len, out);
    }

    /// Begins a handshake, even if one is under way.
    fn shake_hands(&mut self, out: &mut Datagrams) {
        let len = written(self.tunn.format_handshake_initiation(out.room(HANDSHAKE_LEN), true));
        self.post(len, out);
    }

    /// Takes a datagram of this peer, if it is one. `room` has to be as long as the datagram, and as a handshake.
    fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        room: &mut [u8],
        out: &mut Datagrams,
    ) -> Received {
        // A cookie proves that its sender has seen the handshake, and not that it is the peer.
        let is_cookie = datagram.len() == COOKIE_LEN && datagram[0] == COOKIE;
        let received = match self.tunn.decapsulate(Some(from.ip()), datagram, room) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Received::Packet { len: packet.len() }
            }
            TunnResult::WriteToNetwork(reply) => {
                out.push(reply, from);
                Received::Message
            }
            TunnResult::Done if !is_cookie => Received::Message,
            TunnResult::Done | TunnResult::Err(_) => return Received::Nothing,
        };
        self.address = Some(from);
        self.unanswered = 0;
        self.flush(out);
        received
    }

    /// Sends what waited for a session.
    fn flush(&mut self, out: &mut Datagrams) {
        loop {
            let len = written(self.tunn.decapsulate(None, &[], out.room(self.longest)));
            if len == 0 {
                return;
            }
            self.post(len, out);
        }
    }

    /// Sends what is due by now.
    fn tick(&mut self, out: &mut Datagrams) {
        match self.tunn.update_timers(out.room(HANDSHAKE_LEN)) {
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                self.post(len, out);
            }
            // It gave up on the peer until there is something to send, and here there always is.
            TunnResult::Err(WireGuardError::ConnectionExpired) if self.keeps_alive => self.shake_hands(out),
            _ => {}
        }
    }

    /// Sends the message of `len` bytes that was written into the room that `out` has.
    fn post(&mut self, len: usize, out: &mut Datagrams) {
        if len == 0 {
            return;
        }
        if len == HANDSHAKE_LEN && out.room(len)[0] == HANDSHAKE {
            self.unanswered += 1;
        }
        if let Some(address) = self.address {
            out.commit(len, address);
        }
        let is_lost = self.address.is_none() || self.unanswered > PATIENCE;
        if is_lost && self.lookup == Lookup::Idle && self.is_named() {
            self.lookup = Lookup::Wanted;
        }
    }

    fn is_named(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| matches!(endpoint.host(), Host::Name(_)))
    }

    /// The name to be looked up, once.
    fn take_unresolved(&mut self) -> Option<Endpoint> {
        if self.lookup != Lookup::Wanted {
            return None;
        }
        self.lookup = Lookup::Running;
        self.endpoint.clone()
    }

    /// The name has these addresses. Where the peer does not answer at one of them, the next is tried.
    fn resolved(&mut self, addresses: &[SocketAddr], out: &mut Datagrams) {
        self.lookup = Lookup::Idle;
        let tried = addresses.iter().position(|&address| Some(address) == self.address);
        let next = tried.map_or(0, |tried| (tried + 1) % addresses.len());
        let is_lost = self.address.is_none() || self.unanswered > PATIENCE;
        let Some(&next) = addresses.get(next).filter(|_| is_lost) else { return };
        self.address = Some(next);
        self.unanswered = 0;
        self.shake_hands(out);
    }
}

/// The length of what was written for the peer, or 0.
fn written(result: TunnResult<'_>) -> usize {
    match result {
        TunnResult::WriteToNetwork(message) => message.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::routes::AllowedIps;

    /// What a [`Tunn`] has to say to the other end.
    fn message(result: TunnResult<'_>) -> Vec<u8> {
        let TunnResult::WriteToNetwork(message) = result else { panic!("{result:?}") };
        message.to_vec()
    }

    #[test]
    fn under_load_who_shakes_hands_has_to_show_where_it_is() {
        let key = StaticSecret::from([7; 32]);
        let routes = Arc::new(Routes::new(AllowedIps::new([]).unwrap(), std::iter::empty()));
        let mut tunnel = Tunnel::new(key.clone(), Vec::new(), Vec::new(), routes, 1420);
        // A stranger is as good as a peer for this: it is asked before anybody looks who it is.
        let stranger_key = StaticSecret::from([9; 32]);
        let mut stranger = Tunn::new(stranger_key, x25519::PublicKey::from(&key), None, None, 1, None);
        let from = "192.0.2.1:51820".parse().unwrap();
        let mut receive = |datagram: &[u8]| {
            let mut out = Datagrams::default();
            tunnel.receive(datagram, from, &mut Packets::default(), &mut out);
            out.pop().map(|(answer, to)| (answer.to_vec(), to))
        };
        let mut buffer = [0; 2048];
        let handshake = message(stranger.format_handshake_initiation(&mut buffer, false));
        for _ in 0..HANDSHAKES {
            assert_eq!(receive(&handshake), None);
        }
        let (cookie, to) = receive(&handshake).expect("a cookie");
        assert_eq!((cookie.len(), to), (64, from));

        // With the cookie it is let in.
        assert!(matches!(stranger.decapsulate(None, &cookie, &mut buffer), TunnResult::Done));
        let again = message(stranger.format_handshake_initiation(&mut buffer, true));
        assert_eq!(receive(&again), None);
        assert!(receive(&handshake).is_some());
    }
}
