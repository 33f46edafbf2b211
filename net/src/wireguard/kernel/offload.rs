//! Packets as a TUN device has them with offloads: a `virtio_net_hdr`, and then a packet that may be longer than the
//! MTU, and whose checksum may be missing. Taking such packets apart, and putting packets together to such.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use crate::wireguard::packet::{self, FIN, Packets};

/// The length of a `virtio_net_hdr`.
pub(super) const HEADER: usize = 10;

/// The longest that a packet can be.
pub(super) const LONGEST: usize = 65_535;

/// The checksum of the packet is that of its pseudo-header only.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// A flag in the place of the type: the packet's first segment says that congestion was experienced.
const GSO_ECN: u8 = 0x80;

const TCP: u8 = 6;
const UDP: u8 = 17;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// The offset of TCP's and UDP's checksum.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

const PSH: u8 = 0b0_1000;
const ACK: u8 = 0b1_0000;
const CWR: u8 = 0b1000_0000;

/// What a `virtio_net_hdr` says.
struct Header {
    needs_checksum: bool,
    gso: u8,
    /// The length of a segment's payload.
    size: usize,
    checksum_start: usize,
    checksum_offset: usize,
}

impl Header {
    /// The header in front of a packet, and the packet.
    fn split(frame: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, packet) = frame.split_at_mut_checked(HEADER)?;
        // The kernel writes it in the byte order of this machine.
        let half = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        let header = Self {
            needs_checksum: header[0] & NEEDS_CSUM != 0,
            gso: header[1] & !GSO_ECN,
            size: half(4),
            checksum_start: half(6),
            checksum_offset: half(8),
        };
        Some((header, packet))
    }
}

/// Takes what was read from the device apart into packets of at most `mtu` bytes, with their checksums. A packet that is
/// not `wanted` is dropped.
pub(super) fn segment(frame: &mut [u8], mtu: usize, wanted: impl Fn(&[u8]) -> bool, into: &mut Packets) {
    let Some((header, packet)) = Header::split(frame).filter(|(_, packet)| wanted(packet)) else { return };
    match header.gso {
        GSO_NONE => {
            if header.needs_checksum && complete_checksum(packet, &header).is_none() {
                return;
            }
            if packet.len() <= mtu {
                push(packet, mtu, into);
            }
        }
        GSO_TCPV4 | GSO_TCPV6 => {
            let _ = split(packet, &header, mtu, into);
        }
        // Nothing else was asked for.
        _ => {}
    }
}

fn push(packet: &[u8], mtu: usize, into: &mut Packets) {
    let padded = packet::padded(packet.len(), mtu);
    let room = into.room(padded);
    room[..packet.len()].copy_from_slice(packet);
    room[packet.len()..].fill(0);
    into.commit(padded, ());
}

fn complete_checksum(packet: &mut [u8], header: &Header) -> Option<()> {
    let segment = packet.get_mut(header.checksum_start..)?;
    // The pseudo-header's sum is where the checksum belongs, and is added with the rest.
    let sum = !fold(sum(segment));
    // In UDP, zero says that there is no checksum.
    let sum = if sum == 0 && header.checksum_offset == UDP_CHECKSUM { 0xffff } else { sum };
    let at = header.checksum_offset;
    segment.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Splits a packet of TCP into segments.
fn split(packet: &[u8], header: &Header, mtu: usize, into: &mut Packets) -> Option<()> {
    let is_v4 = header.gso == GSO_TCPV4;
    let start = header.checksum_start;
    let tcp_len = usize::from(packet.get(start + 12)? >> 4) * 4;
    let headers = start + tcp_len;
    let payload = packet.get(headers..)?;
    let is_short = start < if is_v4 { V4_HEADER } else { V6_HEADER } || tcp_len < 20;
    if header.size == 0 || is_short || headers + header.size > mtu {
        return None;
    }
    let sequence = u32::from_be_bytes(packet[start + 4..start + 8].try_into().ok()?);
    let id = u16::from_be_bytes([packet[4], packet[5]]);
    let count = payload.len().div_ceil(header.size);
    let addresses = if is_v4 { sum(&packet[12..20]) } else { sum(&packet[8..40]) };
    for (index, piece) in payload.chunks(header.size).enumerate() {
        let len = headers + piece.len();
        let padded = packet::padded(len, mtu);
        let room = into.room(padded);
        room[..headers].copy_from_slice(&packet[..headers]);
        room[headers..len].copy_from_slice(piece);
        room[len..].fill(0);
        let offset = u32::try_from(index * header.size).ok()?;
        let (number, total) = (u16::try_from(index).ok()?, u16::try_from(len).ok()?);
        if is_v4 {
            room[2..4].copy_from_slice(&total.to_be_bytes());
            room[4..6].copy_from_slice(&id.wrapping_add(number).to_be_bytes());
            room[10..12].fill(0);
            let sum = !fold(sum(&room[..start]));
            room[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            room[4..6].copy_from_slice(&(total - u16::try_from(V6_HEADER).ok()?).to_be_bytes());
        }
        let tcp = &mut room[start..len];
        tcp[4..8].copy_from_slice(&sequence.wrapping_add(offset).to_be_bytes());
        if index > 0 {
            tcp[13] &= !CWR;
        }
        if index + 1 < count {
            tcp[13] &= !(FIN | PSH);
        }
        tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].fill(0);
        let pseudo = addresses + u64::from(TCP) + u64::try_from(tcp.len()).ok()?;
        let sum = !fold(pseudo + sum(tcp));
        tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        into.commit(padded, ());
    }
    Some(())
}

/// The fields of a packet of TCP that decide what it can be put together with.
struct Tcp<'a> {
    packet: &'a [u8],
    /// Where TCP's header begins, and the payload.
    start: usize,
    headers: usize,
}

impl<'a> Tcp<'a> {
    /// A packet of TCP with a payload, and no flags but those of data.
    fn of(packet: &'a [u8]) -> Option<Self> {
        let (protocol, start, len) = match packet.first()? >> 4 {
            4 if packet[0] == 0x45 && packet.len() >= V4_HEADER => {
                let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
                let len = u16::from_be_bytes([packet[2], packet[3]]);
                (if is_fragment { UDP } else { packet[9] }, V4_HEADER, usize::from(len))
            }
            6 if packet.len() >= V6_HEADER => {
                let len = u16::from_be_bytes([packet[4], packet[5]]);
                (packet[6], V6_HEADER, V6_HEADER + usize::from(len))
            }
            _ => return None,
        };
        let headers = start + usize::from(packet.get(start + 12)? >> 4) * 4;
        let is_data = packet.get(start + 13)? & !PSH == ACK;
        let is_whole = len == packet.len() && headers >= start + 20 && headers < len;
        (protocol == TCP && is_data && is_whole).then_some(Self { packet, start, headers })
    }

    fn payload(&self) -> &'a [u8] {
        &self.packet[self.headers..]
    }

    /// Returns whether the checksum is right. What came out of the tunnel is what the peer sent, but that may be what
    /// another host sent to the peer.
    fn is_intact(&self) -> bool {
        let addresses = if self.start == V4_HEADER { 12..20 } else { 8..40 };
        let tcp = &self.packet[self.start..];
        let Ok(len) = u64::try_from(tcp.len()) else { return false };
        fold(sum(&self.packet[addresses]) + u64::from(TCP) + len + sum(tcp)) == u16::MAX
    }

    fn sequence(&self) -> u32 {
        let bytes = &self.packet[self.start + 4..self.start + 8];
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    const fn ends(&self) -> bool {
        self.packet[self.start + 13] & PSH != 0
    }

    /// Returns whether the headers are those of `other`, but for lengths, identification, checksums, sequence number
    /// and the flag that data are to be handed on.
    fn continues(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.packet, other.packet);
        let is_same = |from: usize, to: usize| ours[from..to] == theirs[from..to];
        let is_same_ip = if self.start == V4_HEADER {
            is_same(0, 2) && is_same(6, 10) && is_same(12, V4_HEADER)
        } else {
            is_same(0, 4) && is_same(6, V6_HEADER)
        };
        let start = self.start;
        self.start == other.start
            && self.headers == other.headers
            && is_same_ip
            && is_same(start, start + 4)
            && is_same(start + 8, start + 13)
            && is_same(start + 14, start + 16)
            && is_same(start + 18, self.headers)
    }
}

/// The packets in front of `inbound` as the device takes them with one call.
#[derive(Default)]
pub(super) struct Joined {
    /// The `virtio_net_hdr` and the headers of the packet.
    head: Vec<u8>,
    /// How many packets are in it.
    pub(super) count: usize,
}

impl Joined {
    /// Puts as many packets together as belong together: at least one, if there is one.
    pub(super) fn join(&mut self, inbound: &Packets) {
        self.head.clear();
        self.head.resize(HEADER, 0);
        self.count = 0;
        let Some(packet) = inbound.get(0) else { return };
        self.count = 1;
        let Some(first) = Tcp::of(packet).filter(Tcp::is_intact) else { return };
        let size = first.payload().len();
        let (mut total, mut sequence, mut flags) = (packet.len(), first.sequence(), packet[first.start + 13]);
        let mut last_len = size;
        let mut is_ended = first.ends();
        while let Some(next) =
            inbound.get(self.count).filter(|_| !is_ended && last_len == size).and_then(Tcp::of)
        {
            let len = next.payload().len();
            sequence = sequence.wrapping_add(u32::try_from(last_len).unwrap_or(0));
            let fits = len <= size && total + len <= LONGEST && self.count < MOST_PIECES;
            if !fits || next.sequence() != sequence || !next.continues(&first) || !next.is_intact() {
                break;
            }
            total += len;
            last_len = len;
            is_ended = next.ends();
            flags |= next.packet[next.start + 13];
            self.count += 1;
        }
        if self.count > 1 {
            self.write_head(&first, size, total, flags);
        }
    }

    fn write_head(&mut self, first: &Tcp<'_>, size: usize, total: usize, flags: u8) {
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        let Tcp { packet, start, headers } = *first;
        let is_v4 = start == V4_HEADER;
        self.head[0] = NEEDS_CSUM;
        self.head[1] = if is_v4 { GSO_TCPV4 } else { GSO_TCPV6 };
        for (at, value) in [(2, headers), (4, size), (6, start), (8, TCP_CHECKSUM)] {
            self.head[at..at + 2].copy_from_slice(&short(value).to_ne_bytes());
        }
        self.head.extend(&packet[..headers]);
        let ip = &mut self.head[HEADER..];
        let addresses = if is_v4 {
            ip[2..4].copy_from_slice(&short(total).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = !fold(sum(&ip[..start]));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            sum(&ip[12..20])
        } else {
            ip[4..6].copy_from_slice(&short(total - V6_HEADER).to_be_bytes());
            sum(&ip[8..40])
        };
        ip[start + 13] = flags;
        // The kernel takes this for the checksum of what was checked.
        let pseudo = fold(addresses + u64::from(TCP) + u64::from(short(total - start)));
        ip[start + TCP_CHECKSUM..start + TCP_CHECKSUM + 2].copy_from_slice(&pseudo.to_be_bytes());
    }

    /// Writes them to the device.
    pub(super) fn write(&self, inbound: &Packets, device: impl AsFd) -> io::Result<usize> {
        let skipped = self.head.len() - HEADER;
        let mut slices = [IoSlice::new(&[]); MOST_PIECES + 1];
        slices[0] = IoSlice::new(&self.head);
        for (index, slice) in slices[1..].iter_mut().take(self.count).enumerate() {
            *slice =
                IoSlice::new(inbound.get(index).and_then(|packet| packet.get(skipped..)).unwrap_or_default());
        }
        Ok(rustix::io::writev(device, &slices[..=self.count])?)
    }
}

/// How many packets are put together at most: as many as shortest segments of Ethernet fill the longest packet.
const MOST_PIECES: usize = 64;

/// The sum of the 16-bit words in ones' complement.
fn sum(bytes: &[u8]) -> u64 {
    // In the order of bytes of this machine, which the sum has then, too: this is a loop of vectors.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(last));
    u64::from(u16::from_be(fold(sum)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use proptest::prelude::*;
    use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket};

    use super::*;

    const MTU: usize = 1280;

    /// What the kernel gives for `payload` in segments of `size` bytes.
    fn frame(is_v6: bool, payload: &[u8], size: usize, flags: u8) -> Vec<u8> {
        let start = if is_v6 { V6_HEADER } else { V4_HEADER };
        let mut frame = vec![NEEDS_CSUM, if is_v6 { GSO_TCPV6 } else { GSO_TCPV4 }];
        for value in [start + 32, size, start, TCP_CHECKSUM] {
            frame.extend(u16::try_from(value).unwrap().to_ne_bytes());
        }
        let len = u16::try_from(start + 32 + payload.len()).unwrap();
        if is_v6 {
            frame.extend([0x60, 1, 2, 3]);
            frame.extend((len - 40).to_be_bytes());
            frame.extend([TCP, 64]);
            frame.extend((0..32).map(|at| at ^ 0xfd));
        } else {
            frame.extend([0x45, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        }
        frame.extend([1, 2, 3, 4, 0xff, 0xff, 0xff, 0, 5, 6, 7, 8, 0x80, flags, 1, 0, 0, 0, 0, 0]);
        frame.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        frame.extend(payload);
        frame
    }

    fn segments(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Packets::default();
        segment(&mut frame.to_vec(), MTU, |_| true, &mut packets);
        std::iter::from_fn(|| packets.pop().map(|(packet, ())| packet.to_vec())).collect()
    }

    /// The packet without what WireGuard pads it with, as it comes out of the tunnel.
    fn unpadded(packet: &[u8]) -> &[u8] {
        let len = match packet[0] >> 4 {
            4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        &packet[..len]
    }

    /// What is written to the device for these packets.
    fn written(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut inbound = Packets::default();
        for packet in packets {
            inbound.push(unpadded(packet), ());
        }
        let mut joined = Joined::default();
        let mut frames = Vec::new();
        loop {
            joined.join(&inbound);
            if joined.count == 0 {
                return frames;
            }
            let mut file = tempfile::tempfile().unwrap();
            joined.write(&inbound, &file).unwrap();
            inbound.skip(joined.count);
            let mut frame = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut frame).unwrap();
            frames.push(frame);
        }
    }

    #[test]
    fn a_packet_that_was_damaged_before_it_reached_the_peer_is_left_to_the_kernel() {
        let mut packets = segments(&frame(false, &[7; 3_000], 1_000, ACK));
        packets[1][100] ^= 1;
        let frames = written(&packets);
        assert_eq!(frames.len(), packets.len());
        // Without a word on its checksum, so that the kernel checks it.
        assert_eq!(frames[1][..HEADER], [0; HEADER]);
    }

    proptest! {
        #[test]
        fn segments_carry_the_bytes_and_have_their_checksums(
            is_v6 in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 1..8_000),
            size in 1_usize..=1_188,
        ) {
            let mut carried = Vec::<u8>::new();
            for packet in segments(&frame(is_v6, &payload, size, ACK | PSH)) {
                prop_assert!(packet.len() <= MTU);
                let (source, destination, segment) = if is_v6 {
                    let ip = Ipv6Packet::new_checked(unpadded(&packet)).unwrap();
                    (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec())
                } else {
                    let ip = Ipv4Packet::new_checked(unpadded(&packet)).unwrap();
                    prop_assert!(ip.verify_checksum());
                    (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec())
                };
                let segment = TcpPacket::new_checked(&segment[..]).unwrap();
                prop_assert!(segment.verify_checksum(&source, &destination));
                let offset = i32::try_from(carried.len()).unwrap();
                prop_assert_eq!(segment.seq_number().0, 0xffff_ff00_u32.cast_signed().wrapping_add(offset));
                carried.extend(segment.payload());
                prop_assert_eq!(segment.psh(), carried.len() == payload.len());
            }
            prop_assert!(carried == payload);
        }

        #[test]
        fn segments_that_are_put_together_come_apart_to_the_same(
            is_v6 in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 1..20_000),
            size in 300_usize..=1_188,
            swapped in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut packets = segments(&frame(is_v6, &payload, size, ACK | PSH));
            if let Some(swapped) = swapped.filter(|_| packets.len() > 1) {
                let at = swapped.index(packets.len() - 1);
                packets.swap(at, at + 1);
            }
            let frames = written(&packets);
            // In order, they are one.
            prop_assert!(swapped.is_some() || frames.len() == packets.len().div_ceil(MOST_PIECES));
            let apart: Vec<_> = frames.iter().flat_map(|frame| segments(frame)).collect();
            let of = |packet: &Vec<u8>| {
                let mut packet = unpadded(packet).to_vec();
                if !is_v6 {
                    // The identification is numbered anew, which the header's checksum shows.
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
                packet
            };
            prop_assert_eq!(apart.iter().map(of).collect::<Vec<_>>(), packets.iter().map(of).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..20) {
            segments(&bytes);
            let mut packet = frame(false, &bytes, 100, ACK);
            packet.truncate(HEADER + 20 + at);
            segments(&packet);
            let mut inbound = Packets::default();
            inbound.push(&bytes, ());
            inbound.push(&packet[HEADER..], ());
            inbound.push(&packet[HEADER..], ());
            Joined::default().join(&inbound);
        }
    }
}
