//! One peer: its session, and where it is.

use std::net::SocketAddr;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};

use crate::endpoint::{Endpoint, Host};
use crate::wireguard::tunnel::{Datagrams, HANDSHAKE_LEN, OVERHEAD};

/// The first byte of a message that begins a handshake, and of one with a cookie, and how long the latter is.
const HANDSHAKE: u8 = 1;
const COOKIE: u8 = 3;
const COOKIE_LEN: usize = 64;

/// How many handshakes may go unanswered before the name of the peer is looked up again.
const PATIENCE: u32 = 2;

/// A peer. Messages for it that come before it is known where it is are lost, as is anything that is sent by UDP.
pub(super) struct Peer {
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
pub(super) enum Received {
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

    pub(super) const fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Sends a packet, now or when there is a session for it.
    pub(super) fn send(&mut self, packet: &[u8], out: &mut Datagrams) {
        let room = out.room((packet.len() + OVERHEAD).max(HANDSHAKE_LEN));
        let len = written(self.tunn.encapsulate(packet, room));
        self.post(len, out);
    }

    /// Begins a handshake, even if one is under way.
    pub(super) fn shake_hands(&mut self, out: &mut Datagrams) {
        let len = written(self.tunn.format_handshake_initiation(out.room(HANDSHAKE_LEN), true));
        self.post(len, out);
    }

    /// Takes a datagram of this peer, if it is one. `room` has to be as long as the datagram, and as a handshake.
    pub(super) fn receive(
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
    pub(super) fn tick(&mut self, out: &mut Datagrams) {
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
    pub(super) fn take_unresolved(&mut self) -> Option<Endpoint> {
        if self.lookup != Lookup::Wanted {
            return None;
        }
        self.lookup = Lookup::Running;
        self.endpoint.clone()
    }

    /// The name has these addresses. Where the peer does not answer at one of them, the next is tried.
    pub(super) fn resolved(&mut self, addresses: &[SocketAddr], out: &mut Datagrams) {
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
