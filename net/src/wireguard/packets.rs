//! Packets one behind the other in memory that is used again.

use std::ops::Range;

/// A queue of packets, each with something to know about it. What a packet is written into is not allocated again
/// and again, and packets that follow on each other can be handed over as one piece.
#[derive(Debug)]
pub(super) struct Packets<M = ()> {
    bytes: Vec<u8>,
    used: usize,
    queue: Vec<(Range<usize>, M)>,
    /// How many were taken.
    taken: usize,
}

impl<M> Default for Packets<M> {
    fn default() -> Self {
        Self { bytes: Vec::new(), used: 0, queue: Vec::new(), taken: 0 }
    }
}

impl<M: Copy> Packets<M> {
    /// Room for a packet behind the others. It has in it what was there before.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// The first `len` bytes of the [`room`](Self::room) are a packet now.
    pub(super) fn commit(&mut self, len: usize, meta: M) {
        self.queue.push((self.used..self.used + len, meta));
        self.used += len;
    }

    /// Copies a packet.
    pub(super) fn push(&mut self, packet: &[u8], meta: M) {
        self.room(packet.len()).copy_from_slice(packet);
        self.commit(packet.len(), meta);
    }

    /// The packet `ahead` of the one in front.
    pub(super) fn get(&self, ahead: usize) -> Option<&[u8]> {
        let (range, _) = self.queue.get(self.taken + ahead)?;
        Some(&self.bytes[range.clone()])
    }

    /// Takes the packet in front.
    pub(super) fn pop(&mut self) -> Option<(&[u8], M)> {
        let (range, meta) = self.queue.get(self.taken)?;
        self.taken += 1;
        Some((&self.bytes[range.clone()], *meta))
    }

    /// The length of the packet `ahead` of the one in front.
    pub(super) fn peek(&self, ahead: usize) -> Option<(usize, M)> {
        let (range, meta) = self.queue.get(self.taken + ahead)?;
        Some((range.len(), *meta))
    }

    /// The first `count` packets as one piece, that are taken with [`skip`](Self::skip).
    pub(super) fn piece(&self, count: usize) -> &[u8] {
        let piece = &self.queue[self.taken..self.taken + count];
        match (piece.first(), piece.last()) {
            (Some((first, _)), Some((last, _))) => &self.bytes[first.start..last.end],
            _ => &[],
        }
    }

    /// Takes `count` packets.
    pub(super) fn skip(&mut self, count: usize) {
        self.taken += count;
    }

    /// The packets that were not taken.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = self.bytes.as_mut_slice();
        let mut passed = 0;
        self.queue[self.taken..].iter().map(move |(range, _)| {
            let (_, from) = std::mem::take(&mut rest).split_at_mut(range.start - passed);
            let (packet, behind) = from.split_at_mut(range.len());
            (rest, passed) = (behind, range.end);
            packet
        })
    }

    /// How many packets are in it that were not taken.
    pub(super) fn len(&self) -> usize {
        self.queue.len() - self.taken
    }

    /// Forgets all packets, and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        (self.used, self.taken) = (0, 0);
    }
}
