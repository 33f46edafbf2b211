//! Which ports are taken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::Stack;

/// The ports that nobody asks for by number, of RFC 6335.
const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

/// What a port is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use<'a> {
    /// Connections come to it.
    Listener(Option<IpAddr>),
    /// Datagrams come to it.
    Datagrams(Option<IpAddr>),
    /// A connection comes from it, of this local address, and goes there.
    Connection(IpAddr, &'a SocketAddr),
}

impl Stack {
    /// The port, or one that is free where it is 0.
    pub(super) fn port(&self, port: u16, wanted: Use<'_>) -> io::Result<u16> {
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

    fn is_taken(&self, port: u16, wanted: Use<'_>) -> bool {
        let overlaps =
            |one: Option<IpAddr>, other: Option<IpAddr>| one.is_none() || other.is_none() || one == other;
        let is_listening = |address| {
            let mut listeners = self.listeners.values();
            listeners.any(|listening| listening.port == port && overlaps(listening.address, address))
        };
        match wanted {
            Use::Listener(address) => is_listening(address),
            Use::Datagrams(address) => {
                let mut bound = self.bound.iter();
                bound.any(|&(_, other, taken)| taken == port && overlaps(other, address))
            }
            Use::Connection(from, to) => {
                is_listening(Some(from)) || self.tuples.contains_key(&(SocketAddr::new(from, port), *to))
            }
        }
    }
}
