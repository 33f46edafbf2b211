//! A name server that knows few names.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};

/// The domain whose names are those of 127.0.0.1. No other name server knows it (RFC 6761).
pub const DOMAIN: &str = "test";

/// A name server (RFC 1035) that answers for [`DOMAIN`], and that knows no other name.
pub struct NameServer {
    pub address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            // An empty datagram ends it.
            while let Ok((len @ 1.., from)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..len]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _ = socket.send_to(&[], self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const TYPE_A: &[u8] = &[0, 1];
    const TTL_SECONDS: [u8; 4] = [0, 0, 0, 60];
    let (header, mut rest) = query.split_at_checked(12)?;
    let mut labels = Vec::new();
    while let Some((&len @ 1.., after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(len.into())?;
        labels.push(label);
        rest = after;
    }
    // Resolvers mix the case of a name, to know their answers again.
    let is_known = labels.last()?.eq_ignore_ascii_case(DOMAIN.as_bytes());
    let question_len = query.len() - rest.len() + 5;
    let question = query.get(12..question_len)?;
    let has_address = is_known && rest.get(1..3)? == TYPE_A;

    // The query's id; that this is the answer, by authority, without an error or because there is no such name.
    let mut answer = vec![header[0], header[1], 0x84 | header[2] & 1, if is_known { 0 } else { 3 }];
    // One question, one answer or none, nothing else.
    answer.extend([0, 1, 0, has_address.into(), 0, 0, 0, 0]);
    answer.extend(question);
    if has_address {
        // The name is the one at byte 12.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(TTL_SECONDS);
        answer.extend([0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
