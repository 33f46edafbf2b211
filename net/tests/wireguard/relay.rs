//! A relay between two ends that loses, delays, reorders and duplicates datagrams, the same ones for the same seed.
//!
//! It has threads of its own, so that neither a busy runtime nor a timer that is coarse changes what it does.
#![allow(dead_code, unreachable_pub)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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

/// The bytes that a socket of the relay keeps while its thread has no processor. The system may allow fewer.
const BUFFER: usize = 16 << 20;

/// How often threads look whether the relay has been dropped.
const LOOK: Duration = Duration::from_millis(100);

/// A datagram, and when it came.
pub type Arrival = (Instant, Vec<u8>);

/// A relay, which ends when it is dropped.
pub struct Relay {
    near: Arc<UdpSocket>,
    shared: Arc<Shared>,
    peer: SocketAddr,
    back: mpsc::Sender<Arrival>,
}

struct Shared {
    is_dropped: AtomicBool,
    is_blocked: AtomicBool,
    /// How many datagrams arrived while it was.
    blocked: AtomicUsize,
    /// Where the client was last seen.
    client: Mutex<Option<SocketAddr>>,
    /// The socket towards the peer. Another one takes its place when the relay roams.
    far: Mutex<Arc<UdpSocket>>,
}

impl Relay {
    /// Starts a relay to `peer`.
    pub fn start(peer: SocketAddr, faults: Faults, seed: u64) -> Self {
        let near = Arc::new(socket());
        let far = Arc::new(connected(peer));
        let shared = Arc::new(Shared {
            is_dropped: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            blocked: AtomicUsize::new(0),
            client: Mutex::new(None),
            far: Mutex::new(Arc::clone(&far)),
        });
        let (there, from_client) = mpsc::channel();
        let (back, from_peer) = mpsc::channel();
        let relay = Self { near: Arc::clone(&near), shared: Arc::clone(&shared), peer, back };
        {
            let (near, shared) = (Arc::clone(&near), Arc::clone(&shared));
            thread::spawn(move || {
                receive(&near, &shared, &there, |from| *shared.client.lock().unwrap() = Some(from));
            });
        }
        relay.receive_from(far);
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                Direction::new(faults, seed).carry(&from_client, |datagram| {
                    let far = Arc::clone(&shared.far.lock().unwrap());
                    let _ = far.send(datagram);
                });
            }
        });
        thread::spawn(move || {
            Direction::new(Faults { lost_at_first: 0, ..faults }, !seed).carry(&from_peer, |datagram| {
                let client = *shared.client.lock().unwrap();
                if let Some(client) = client {
                    let _ = near.send_to(datagram, client);
                }
            });
        });
        relay
    }

    /// The address that the client sends to.
    pub fn address(&self) -> SocketAddr {
        self.near.local_addr().unwrap()
    }

    /// The ports of the relay, whose sockets must not lose anything.
    pub fn ports(&self) -> [u16; 2] {
        let far = self.shared.far.lock().unwrap().local_addr().unwrap();
        [self.address().port(), far.port()]
    }

    /// Sends to the peer from another port from now on.
    pub fn roam(&self) {
        let far = Arc::new(connected(self.peer));
        *self.shared.far.lock().unwrap() = Arc::clone(&far);
        self.receive_from(far);
    }

    /// Drops all datagrams that arrive from now on, or none but the lost ones.
    pub fn block(&self, is_blocked: bool) {
        self.shared.is_blocked.store(is_blocked, Relaxed);
    }

    /// How many datagrams were dropped because the relay was blocked.
    pub fn blocked(&self) -> usize {
        self.shared.blocked.load(Relaxed)
    }

    fn receive_from(&self, far: Arc<UdpSocket>) {
        let (shared, back) = (Arc::clone(&self.shared), self.back.clone());
        thread::spawn(move || receive(&far, &shared, &back, |_| {}));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_dropped.store(true, Relaxed);
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER);
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(BUFFER);
    socket.set_read_timeout(Some(LOOK)).unwrap();
    socket
}

fn connected(peer: SocketAddr) -> UdpSocket {
    let socket = socket();
    socket.connect(peer).unwrap();
    socket
}

/// Receives until the relay is dropped, or roams.
fn receive(socket: &UdpSocket, shared: &Shared, to: &mpsc::Sender<Arrival>, from: impl Fn(SocketAddr)) {
    let is_far = socket.peer_addr().is_ok();
    let is_used = || !is_far || Arc::as_ptr(&shared.far.lock().unwrap()) == std::ptr::from_ref(socket);
    let mut buffer = vec![0; 65_536];
    while !shared.is_dropped.load(Relaxed) && is_used() {
        // An error is a timeout, or about a datagram that an end did not want.
        let Ok((len, sender)) = socket.recv_from(&mut buffer) else { continue };
        from(sender);
        if shared.is_blocked.load(Relaxed) {
            shared.blocked.fetch_add(1, Relaxed);
            continue;
        }
        if is_used() && to.send((Instant::now(), buffer[..len].to_vec())).is_err() {
            return;
        }
    }
}

/// One direction.
pub struct Direction {
    faults: Faults,
    random: u64,
    /// When the last that waits has passed the bottleneck, and when each of those that wait has.
    passed: Instant,
    waiting: VecDeque<Instant>,
    air: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    count: u64,
}

impl Direction {
    pub fn new(faults: Faults, seed: u64) -> Self {
        let (passed, waiting, air) = (Instant::now(), VecDeque::new(), BinaryHeap::new());
        Self { faults, random: seed | 1, passed, waiting, air, count: 0 }
    }

    /// Sends what arrives, when it is due, until nothing can arrive any more.
    pub fn carry(mut self, arrivals: &mpsc::Receiver<Arrival>, mut send: impl FnMut(&[u8])) {
        loop {
            while let Some(datagram) = self.due() {
                send(&datagram);
            }
            let next = self.air.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            match arrivals.recv_timeout(next.unwrap_or(LOOK)) {
                Ok((at, datagram)) => {
                    self.take(at, datagram);
                    while let Ok((at, datagram)) = arrivals.try_recv() {
                        self.take(at, datagram);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Returns whether something happens that does to so many of a thousand.
    fn happens(&mut self, of_a_thousand: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % 1000 < u64::from(of_a_thousand)
    }

    fn take(&mut self, now: Instant, datagram: Vec<u8>) {
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
        if self.happens(self.faults.doubled) {
            self.count += 1;
            self.air.push(Reverse((arrives, self.count, datagram.clone())));
        }
        self.count += 1;
        self.air.push(Reverse((arrives, self.count, datagram)));
    }

    /// The next datagram whose time has come.
    fn due(&mut self) -> Option<Vec<u8>> {
        let is_due = self.air.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now());
        is_due.then(|| self.air.pop().map(|Reverse((.., datagram))| datagram)).flatten()
    }
}
