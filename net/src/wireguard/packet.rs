//! IP packets: the parts that decide where they go, and buffers that are used again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// The protocol number of TCP.
const TCP: u8 = 6;

/// The headers of UDP, IPv4 and IPv6.
const UDP_HEADER: usize = 8;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// WireGuard pads what it carries to a multiple of this, as far as the MTU allows.
const PADDING: usize = 16;

/// The longest payload of a datagram to `to` that fits into one packet.
pub(super) const fn longest_datagram(to: IpAddr, mtu: usize) -> usize {
    mtu - UDP_HEADER - if to.is_ipv4() { V4_HEADER } else { V6_HEADER }
}

/// The length that a packet of `len` bytes is padded to.
pub(super) fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu).max(len)
}

/// The source and the destination of an IP packet.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let at = |start| packet.get(start..start + 4)?.try_into().ok().map(v4);
            Some((at(12)?, at(16)?))
        }
        6 => {
            let at = |start| packet.get(start..start + 16)?.try_into().ok().map(v6);
            Some((at(8)?, at(24)?))
        }
        _ => None,
    }
}

fn v4(octets: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(octets).into()
}

fn v6(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).into()
}

/// The TCP header of an IP packet, and what is around it.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) flags: u8,
    /// How many bytes it carries.
    pub(super) len: u32,
    /// Where the header begins.
    start: usize,
}

/// Flags of TCP.
pub(super) const FIN: u8 = 0b0_0001;
pub(super) const SYN: u8 = 0b0_0010;
pub(super) const RST: u8 = 0b0_0100;
const ACK: u8 = 0b1_0000;

impl Segment {
    /// The segment in a packet, if there is one. Extension headers of IPv6 are not looked behind.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let half = |at: usize| packet.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
        let (protocol, start, end) = match packet.first()? >> 4 {
            4 => (*packet.get(9)?, usize::from(packet[0] & 0xf) * 4, usize::from(half(2)?)),
            _ => (*packet.get(6)?, 40, 40 + usize::from(half(4)?)),
        };
        if protocol != TCP {
            return None;
        }
        let (from, to) = addresses(packet)?;
        let (from, to) = (SocketAddr::new(from, half(start)?), SocketAddr::new(to, half(start + 2)?));
        let sequence = packet.get(start + 4..start + 8)?.try_into().ok().map(u32::from_be_bytes)?;
        let header_len = usize::from(*packet.get(start + 12)? >> 4) * 4;
        let flags = *packet.get(start + 13)?;
        let len = u32::try_from(end.checked_sub(start + header_len)?).ok()?;
        Some(Self { from, to, sequence, flags, len, start })
    }

    /// Whether it opens a connection: it is a SYN without ACK.
    pub(super) const fn opens(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }

    /// Gives the segment, which is that of this packet, another sequence number, and the checksum that goes with it.
    pub(super) fn renumber(&self, packet: &mut [u8], sequence: u32) {
        let half = |number: u32, shift: u32| (number >> shift) & 0xffff;
        let start = self.start;
        let Some(header) = packet.get_mut(start..start + 18) else { return };
        let sum = u32::from(u16::from_be_bytes([header[16], header[17]]));
        // RFC 1624: what was added before is taken away, in ones' complement.
        let mut sum = !sum & 0xffff;
        for shift in [0, 16] {
            sum += (!half(self.sequence, shift) & 0xffff) + half(sequence, shift);
        }
        sum = half(sum, 0) + half(sum, 16);
        sum = half(sum, 0) + half(sum, 16);
        header[4..8].copy_from_slice(&sequence.to_be_bytes());
        header[16..18].copy_from_slice(&(!sum).to_be_bytes()[2..]);
    }
}

/// Whether a packet may come from this address: from one host, and not from this very one.
pub(super) fn is_source(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_broadcast)
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

    use super::*;

    proptest! {
        #[test]
        fn a_segment_with_another_number_has_the_checksum_of_that(numbers in any::<[i32; 2]>(), ack in any::<i32>()) {
            let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
            let repr = TcpRepr {
                src_port: 1,
                dst_port: 2,
                control: TcpControl::None,
                seq_number: TcpSeqNumber(numbers[0]),
                ack_number: Some(TcpSeqNumber(ack)),
                window_len: 3,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &[],
            };
            let mut packet = [&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0][..], &from.octets(), &to.octets()].concat();
            packet.resize(40, 0);
            let checksums = ChecksumCapabilities::default();
            let mut segment = TcpPacket::new_unchecked(&mut packet[20..]);
            repr.emit(&mut segment, &from.into(), &to.into(), &checksums);

            let segment = Segment::of(&packet).unwrap();
            prop_assert_eq!((segment.sequence, segment.len), (numbers[0].cast_unsigned(), 0));
            segment.renumber(&mut packet, numbers[1].cast_unsigned());
            let segment = TcpPacket::new_checked(&packet[20..]).unwrap();
            let renumbered = TcpRepr { seq_number: TcpSeqNumber(numbers[1]), ..repr };
            prop_assert_eq!(TcpRepr::parse(&segment, &from.into(), &to.into(), &checksums), Ok(renumbered));
        }
    }
}
