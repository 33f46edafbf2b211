//! Both ends of a tunnel without any I/O, in a time that is made up.

use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use smoltcp::iface::SocketHandle;
use smoltcp::time::{Duration, Instant};
use tokio::io::ReadBuf;

use super::packet::Packets;
use super::routes::{Addresses, Routes};
use super::setup::Setup;
use super::tunnel::{Datagrams, Tunnel};
use super::user::{ListenerId, Stack};
use super::{PeerConfig, PublicKey, WireGuardConfig};
use crate::secret::Secret;

const KEYS: [&str; 2] =
    ["dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM="];

/// One end: what a task has, without the socket.
struct End {
    tunnel: Tunnel,
    stack: Stack,
    inbound: Packets,
    outbound: Packets,
    datagrams: Datagrams,
    due: Option<Instant>,
}

/// Where an end is.
fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(end).unwrap() + 1))
}

/// Inside the tunnel, at port 80.
fn inner(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(end).unwrap() + 1], 80))
}

impl End {
    fn new(end: usize) -> Self {
        let peer = PublicKey::of(&Secret::new(KEYS[1 - end])).unwrap();
        let peer = PeerConfig::new(peer, vec![inner(1 - end).ip().into()]);
        let peer = peer.with_endpoint(address(1 - end).try_into().unwrap());
        let config = WireGuardConfig::new(Secret::new(KEYS[end]), vec![inner(end).ip().into()]);
        let Setup { private_key, addresses, peers, routes } = Setup::new(&config.with_peer(peer)).unwrap();
        let routes = Arc::new(Routes::new(routes, [true].into_iter()));
        let own = vec![inner(end).ip()];
        let (inbound, outbound, datagrams) = Default::default();
        Self {
            tunnel: Tunnel::new(private_key, own, peers, routes, 1420),
            stack: Stack::new(Addresses::new(addresses), 1420, 1_000, 7, Instant::ZERO),
            inbound,
            outbound,
            datagrams,
            due: None,
        }
    }

    fn poll(&mut self, now: Instant) {
        let due = self.stack.poll(now, &mut self.inbound, &mut self.outbound);
        self.due = due.map(|due| now + due.into());
        self.inbound.clear();
        while let Some((packet, ())) = self.outbound.pop() {
            self.tunnel.send(packet, &mut self.datagrams);
        }
        self.outbound.clear();
    }
}

/// A datagram on its way, the first to arrive being the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrives: std::cmp::Reverse<(Instant, u64)>,
    to: usize,
    bytes: Vec<u8>,
}

/// The two ends, and what is between them.
struct World {
    ends: [End; 2],
    now: Instant,
    air: BinaryHeap<Flying>,
    sent: u64,
    random: u64,
    /// How many of 256 datagrams are lost, and how many come twice.
    faults: (u8, u8),
}

impl World {
    fn new(random: u64) -> Self {
        let ends = [End::new(0), End::new(1)];
        Self { ends, now: Instant::ZERO, air: BinaryHeap::new(), sent: 0, random: random | 1, faults: (0, 0) }
    }

    fn random(&mut self) -> u8 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.to_le_bytes()[3]
    }

    /// Lets all happen that happens now, and goes on to when there is more.
    fn step(&mut self) {
        while self.air.peek().is_some_and(|flying| flying.arrives.0.0 <= self.now) {
            let Some(flying) = self.air.pop() else { break };
            let from = address(1 - flying.to);
            let End { tunnel, inbound, datagrams, .. } = &mut self.ends[flying.to];
            tunnel.receive(&flying.bytes, from, inbound, datagrams);
        }
        for end in 0..2 {
            self.ends[end].poll(self.now);
            self.launch(end);
        }
        let arrival = self.air.peek().map(|flying| flying.arrives.0.0);
        let next = self.ends.iter().filter_map(|end| end.due).chain(arrival).min();
        self.now = next.unwrap_or(self.now).max(self.now + Duration::from_micros(1));
    }

    fn launch(&mut self, end: usize) {
        let mut datagrams = std::mem::take(&mut self.ends[end].datagrams);
        while let Some((bytes, to)) = datagrams.pop() {
            assert_eq!(to, address(1 - end));
            let copies = match self.random() {
                random if random < self.faults.0 => 0,
                random if random >= 255 - self.faults.1 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = Duration::from_micros(1_000 + u64::from(self.random()) * 40);
                self.sent += 1;
                let arrives = std::cmp::Reverse((self.now + delay, self.sent));
                self.air.push(Flying { arrives, to: 1 - end, bytes: bytes.to_vec() });
            }
        }
    }

    /// A connection from the first end to the second.
    fn connected(&mut self) -> [SocketHandle; 2] {
        let (listener, _) = self.ends[1].stack.listen(None, 80).unwrap();
        let connection = self.ends[0].stack.connect(inner(1)).unwrap();
        [connection, self.accepted(listener)]
    }

    fn accepted(&mut self, listener: ListenerId) -> SocketHandle {
        for _ in 0..1_000 {
            self.step();
            if let Poll::Ready(accepted) = self.ends[1].stack.poll_accept(listener, &mut cx()) {
                return accepted.unwrap().0;
            }
        }
        panic!("no connection was made");
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Reads what there is, and says whether that was all.
fn read(stack: &mut Stack, handle: SocketHandle, into: &mut Vec<u8>, most: usize) -> bool {
    let mut bytes = vec![0; most];
    let mut buffer = ReadBuf::new(&mut bytes);
    match stack.poll_read(handle, &mut cx(), &mut buffer) {
        Poll::Ready(read) => {
            read.unwrap();
            into.extend(buffer.filled());
            buffer.filled().is_empty()
        }
        Poll::Pending => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn bytes_arrive_as_they_are_whatever_happens_on_the_way(
        random in any::<u64>(),
        faults in (0_u8..24, 0_u8..24),
        pieces in prop::collection::vec(1_usize..20_000, 1..8),
        lens in [0_usize..300_000, 0_usize..60_000],
    ) {
        let mut world = World::new(random);
        let handles = world.connected();
        world.faults = faults;
        let sent = lens.map(|len| (0..len).map(|at| (at / 7 + at / 1_000).to_le_bytes()[0]).collect::<Vec<_>>());
        let (mut written, mut received) = ([0; 2], [Vec::new(), Vec::new()]);
        let (mut is_shut, mut is_read) = ([false; 2], [false; 2]);
        let mut pieces = pieces.iter().cycle();
        for _ in 0..40_000 {
            for end in 0..2 {
                let (stack, handle) = (&mut world.ends[end].stack, handles[end]);
                let rest = &sent[end][written[end]..];
                if rest.is_empty() {
                    if !is_shut[end] {
                        stack.shutdown(handle);
                        is_shut[end] = true;
                    }
                } else {
                    let piece = &rest[..rest.len().min(*pieces.next().unwrap())];
                    if let Poll::Ready(len) = stack.poll_write(handle, &mut cx(), piece) {
                        written[end] += len.unwrap();
                    }
                }
                let most = *pieces.next().unwrap();
                is_read[end] = is_read[end] || read(stack, handle, &mut received[1 - end], most);
            }
            if is_read == [true; 2] {
                break;
            }
            world.step();
        }
        prop_assert_eq!(is_read, [true; 2]);
        prop_assert!(received == sent);
    }
}

#[test]
fn what_came_before_the_end_can_be_read_long_after_it() {
    let mut world = World::new(1);
    let [client, server] = world.connected();
    world.ends[0].stack.shutdown(client);
    let answer = vec![7; 100_000];
    assert!(world.ends[1].stack.poll_write(server, &mut cx(), &answer).is_ready());
    world.ends[1].stack.shutdown(server);
    let late = world.now + Duration::from_secs(60);
    while world.now < late {
        world.step();
        if world.ends.iter().all(|end| end.due.is_none()) {
            world.now += Duration::from_secs(1);
        }
    }
    let mut received = Vec::new();
    while !read(&mut world.ends[0].stack, client, &mut received, 1_000) {}
    assert!(received == answer);
    assert!(read(&mut world.ends[0].stack, client, &mut received, 1), "the end stays the end");
}

#[test]
fn a_connection_that_is_given_up_leaves_nothing() {
    let mut world = World::new(1);
    let (_listener, _) = world.ends[1].stack.listen(None, 80).unwrap();
    let connection = world.ends[0].stack.connect(inner(1)).unwrap();
    world.step();
    assert_eq!(world.ends[0].stack.len(), 1);
    world.ends[0].stack.release(connection);
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.ends.each_ref().map(|end| end.stack.len()), [0, 0]);
}

#[test]
fn connections_that_nobody_accepts_wait_and_no_more_than_there_is_room_for() {
    let mut world = World::new(1);
    let (listener, _) = world.ends[1].stack.listen(None, 80).unwrap();
    let connections: Vec<_> = (0..130).map(|_| world.ends[0].stack.connect(inner(1)).unwrap()).collect();
    let is_connected = |world: &mut World, handle: &SocketHandle| {
        world.ends[0].stack.poll_connected(*handle, &mut cx()).is_ready()
    };
    for _ in 0..400 {
        world.step();
    }
    assert_eq!(connections.iter().filter(|handle| is_connected(&mut world, handle)).count(), 128);
    // Who was not answered tries again.
    world.accepted(listener);
    world.accepted(listener);
    for _ in 0..2_000 {
        world.step();
    }
    assert!(connections.iter().all(|handle| is_connected(&mut world, handle)));
    // What nobody accepted is reset with the listener.
    world.ends[1].stack.unlisten(listener);
    for _ in 0..2_000 {
        world.step();
    }
    assert_eq!(world.ends[1].stack.len(), 2);
}
