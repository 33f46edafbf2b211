//! A peer that is played by hand, and may say anything.
#![allow(dead_code, unreachable_pub)]

use std::net::{Ipv4Addr, SocketAddr};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use data_encoding::BASE64;
use tokio::net::UdpSocket;

use crate::support::soon;

/// A UDP socket, and the keys of an end.
pub struct Raw {
    pub socket: UdpSocket,
    tunn: Tunn,
}

/// A message with no packet in it.
pub const KEEPALIVE_LEN: usize = 32;

fn key(text: &str) -> [u8; 32] {
    BASE64.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

impl Raw {
    /// An end with this private key, of which the peer has that one.
    pub async fn new(private: &str, peer: &str) -> Self {
        let peer = PublicKey::from(&StaticSecret::from(key(peer)));
        let tunn = Tunn::new(key(private).into(), peer, None, None, 1, None);
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), tunn }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends an IP packet, through a handshake if that is the first.
    pub async fn send(&mut self, packet: &[u8], to: SocketAddr) {
        let mut buffer = [0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(packet, &mut buffer) {
            self.socket.send_to(message, to).await.unwrap();
        }
    }

    /// Takes the next datagram, answers what the protocol has answered, and says how long it was, and what packet was
    /// in it, with who sent it.
    pub async fn receive(&mut self) -> (usize, Vec<u8>, SocketAddr) {
        let mut datagram = [0; 2048];
        let (len, from) = soon(self.socket.recv_from(&mut datagram)).await.unwrap();
        let mut buffer = [0; 2048];
        let mut input = &datagram[..len];
        loop {
            match self.tunn.decapsulate(None, input, &mut buffer) {
                TunnResult::WriteToNetwork(message) => {
                    self.socket.send_to(message, from).await.unwrap();
                    input = &[];
                }
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    return (len, packet.to_vec(), from);
                }
                TunnResult::Done => return (len, Vec::new(), from),
                TunnResult::Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// The next packet, and from where it came.
    pub async fn packet(&mut self) -> (Vec<u8>, SocketAddr) {
        loop {
            let (_, packet, from) = self.receive().await;
            if !packet.is_empty() {
                return (packet, from);
            }
        }
    }
}

/// An IPv4 packet with a UDP datagram in it.
pub fn datagram(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let words = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes(), len.to_be_bytes(), [0, 0]].concat());
    packet.extend(payload);
    packet
}
