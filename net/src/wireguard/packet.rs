//! The parts of an IP packet that decide where it goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The protocol number of TCP.
const TCP: u8 = 6;

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

/// Who opens a TCP connection with this packet, and to where: those of a SYN without ACK.
pub(super) fn opening(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (protocol, header_len) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet[0] & 0xf) * 4),
        _ => (*packet.get(6)?, 40),
    };
    if protocol != TCP {
        return None;
    }
    let segment = packet.get(header_len..)?;
    let [source, destination] =
        [0, 2].map(|at| segment.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes));
    // FIN, SYN, RST and ACK.
    let opens = segment.get(13)? & 0b1_0111 == 0b0_0010;
    let (from, to) = addresses(packet)?;
    opens.then_some((SocketAddr::new(from, source?), SocketAddr::new(to, destination?)))
}

/// Whether a packet may come from this address: from one host, and not from this very one.
pub(super) fn is_source(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_broadcast)
}
