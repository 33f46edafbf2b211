//! A way between two ends that loses, delays, reorders and duplicates datagrams, the same ones for the same seed.
#![allow(dead_code, unreachable_pub)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What happens to datagrams, in each direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// How long each takes.
    pub delay: Duration,
    /// How many of a thousand are lost, and how many come twice.
    pub lost: u32,
    pub doubled: u32,
    /// How many of a thousand take longer, and how much.
    pub late: (u32, Duration),
    /// How many of the first from the client are lost.
    pub lost_at_first: u32,
    /// Bits per second, and the datagrams that wait at most.
    pub bottleneck: Option<(u32, usize)>,
}

/// Has the relay send from another port from now on.
pub type Roam = Arc<Notify>;

/// Starts a relay to `peer`, in this runtime, and returns its address.
pub async fn relay(peer: SocketAddr, faults: Faults, seed: u64) -> (SocketAddr, Roam) {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = near.local_addr().unwrap();
    let far = connected(peer).await;
    let roam = Roam::default();
    tokio::spawn(run(near, far, faults, seed, Arc::clone(&roam)));
    (address, roam)
}

async fn connected(peer: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(peer).await.unwrap();
    socket
}

/// One direction.
struct Direction {
    faults: Faults,
    random: u64,
    /// When the last that waits has passed the bottleneck, and when each of those that wait has.
    passed: Instant,
    waiting: std::collections::VecDeque<Instant>,
    air: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    count: u64,
}

impl Direction {
    fn new(faults: Faults, seed: u64) -> Self {
        let (passed, waiting, air) = (Instant::now(), std::collections::VecDeque::new(), BinaryHeap::new());
        Self { faults, random: seed | 1, passed, waiting, air, count: 0 }
    }

    /// Returns whether something happens that does to so many of a thousand.
    fn happens(&mut self, of_a_thousand: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % 1000 < u64::from(of_a_thousand)
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = Instant::now();
        if self.count < u64::from(self.faults.lost_at_first) || self.happens(self.faults.lost) {
            self.count += 1;
            return;
        }
        let mut arrives = now + self.faults.delay;
        if let Some((rate, most)) = self.faults.bottleneck {
            while self.waiting.front().is_some_and(|&passed| passed <= now) {
                self.waiting.pop_front();
            }
            if self.waiting.len() >= most {
                return;
            }
            let bits = u32::try_from(datagram.len() * 8).unwrap();
            self.passed = self.passed.max(now) + Duration::from_secs(1) * bits / rate;
            self.waiting.push_back(self.passed);
            arrives = self.passed + self.faults.delay;
        }
        if self.happens(self.faults.late.0) {
            arrives += self.faults.late.1;
        }
        let copies = 1 + u32::from(self.happens(self.faults.doubled));
        for _ in 0..copies {
            self.count += 1;
            self.air.push(Reverse((arrives, self.count, datagram.to_vec())));
        }
    }

    /// The next datagram that has arrived.
    fn arrived(&mut self) -> Option<Vec<u8>> {
        let is_due = self.air.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now());
        is_due.then(|| self.air.pop().unwrap().0.2)
    }

    fn next(&self) -> Option<Instant> {
        self.air.peek().map(|Reverse((at, ..))| *at)
    }
}

async fn run(near: UdpSocket, mut far: UdpSocket, faults: Faults, seed: u64, roam: Roam) {
    let peer = far.peer_addr().unwrap();
    let back_faults = Faults { lost_at_first: 0, ..faults };
    let (mut there, mut back) = (Direction::new(faults, seed), Direction::new(back_faults, !seed));
    let mut client = None;
    let mut buffer = vec![0; 65_536];
    loop {
        while let Some(datagram) = there.arrived() {
            let _ = far.send(&datagram).await;
        }
        while let (Some(to), Some(datagram)) = (client, back.arrived()) {
            let _ = near.send_to(&datagram, to).await;
        }
        let next = [there.next(), back.next()].into_iter().flatten().min();
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            received = near.readable() => {
                received.unwrap();
                while let Ok((len, from)) = near.try_recv_from(&mut buffer) {
                    client = Some(from);
                    there.take(&buffer[..len]);
                }
            }
            received = far.readable() => {
                received.unwrap();
                while let Ok(len) = far.try_recv(&mut buffer) {
                    back.take(&buffer[..len]);
                }
            }
            () = roam.notified() => far = connected(peer).await,
            () = sleep_until(next) => {}
        }
    }
}
