//! The peers of a socket for datagrams.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Unrecorded;
use super::attempt::AttemptKind;
use super::recording::{Recording, RequestDetails};
use crate::dialer::Dialer;
use crate::endpoint::{Endpoint, NetworkAddr};
use crate::error::DriverError;

/// How many peers of a socket are counted at a time. Beyond that the one that was sent to least recently ends, and begins
/// anew when it is sent to.
const MAX_PEERS: usize = 256;

/// Records each peer that a socket sends to.
pub(crate) struct Peers {
    dialer: Dialer,
    /// That of the socket, which counts what others send.
    socket: Recording,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    peers: HashMap<Endpoint, Peer>,
    last: u64,
}

struct Peer {
    recording: Recording,
    /// When it was sent to, by number.
    used: u64,
}

impl Peers {
    /// Those of a socket that `dialer` has bound, if it keeps an audit log.
    pub(crate) fn new(dialer: &Dialer, socket: Recording) -> Option<Self> {
        dialer.subject.as_ref()?;
        Some(Self { dialer: dialer.clone(), socket, table: Mutex::default() })
    }

    /// Records that datagrams are sent to `to`, before the first of them is.
    pub(crate) async fn begin(&self, to: &Endpoint) -> Result<Recording, Unrecorded> {
        if let Some(known) = self.table().touch(to) {
            return Ok(known);
        }
        let recording = self.dialer.record(AttemptKind::Datagram, to).await?;
        let mut table = self.table();
        // Another send to the same peer may have been first.
        if let Some(known) = table.touch(to) {
            drop(table);
            recording.succeeded();
            return Ok(known);
        }
        let ended = table.insert(to.clone(), recording.clone());
        drop(table);
        drop(ended);
        Ok(recording)
    }

    /// Records that a datagram to `to` was refused with `error`.
    pub(crate) fn refused(&self, to: &Endpoint, error: &DriverError) {
        self.dialer.record_refusal(AttemptKind::Datagram, to, error, RequestDetails::default);
    }

    /// Ends the record of `to`: sending to it failed.
    pub(crate) fn end(&self, to: &Endpoint) {
        let ended = self.table().peers.remove(to);
        drop(ended);
    }

    /// Counts a datagram from `from`: for that peer if it was sent to, or else for the socket.
    pub(crate) fn received(&self, from: &NetworkAddr, bytes: usize) {
        let peer = Endpoint::new(from.host.clone(), from.port).ok();
        let table = self.table();
        match peer.and_then(|peer| table.peers.get(&peer)) {
            Some(peer) => peer.recording.add_received(bytes),
            None => self.socket.add_received(bytes),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn touch(&mut self, to: &Endpoint) -> Option<Recording> {
        let peer = self.peers.get_mut(to)?;
        self.last += 1;
        peer.used = self.last;
        Some(peer.recording.clone())
    }

    /// Adds a peer. Returns the one that makes room for it.
    fn insert(&mut self, to: Endpoint, recording: Recording) -> Option<Peer> {
        let is_full = self.peers.len() >= MAX_PEERS;
        let oldest = self.peers.iter().filter(|_| is_full).min_by_key(|(_, peer)| peer.used);
        let oldest = oldest.map(|(peer, _)| peer.clone());
        let ended = oldest.and_then(|oldest| self.peers.remove(&oldest));
        self.last += 1;
        self.peers.insert(to, Peer { recording, used: self.last });
        ended
    }
}
