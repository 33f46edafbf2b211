//! What a peer may do and what it may not, and what goes over the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frame_net::{BoxDatagrams, LocalEndpoint, Network as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use crate::pair::{LEFT, Pair, RIGHT, left, network, on_both_stacks, right};
use crate::raw::{KEEPALIVE_LEN, Raw, datagram};
use crate::support::{endpoint, soon};

/// The left end's address, the right one's, and one of nobody.
const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const C: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);

/// The next datagram, and from whom.
async fn next(port: &BoxDatagrams) -> (Vec<u8>, String) {
    let mut buffer = [0; 100];
    let (len, from) = soon(port.receive_from(&mut buffer)).await.unwrap();
    (buffer[..len].to_vec(), from.to_string())
}

on_both_stacks! {
    async fn what_a_peer_may_not_send_is_dropped(stack) {
        let mut settings = right(stack);
        // Somebody owns the address that is made up; it is not who sends.
        let other = crate::pair::public(crate::pair::OTHER);
        let peers = settings["peers"].as_array_mut().unwrap();
        peers.push(json!({ "public_key": other, "allowed_ips": ["0.0.0.0/0"] }));
        let right = network(settings);
        let port = right.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let mut peer = Raw::new(LEFT, RIGHT).await;
        let to = right.local_address();
        peer.send(&datagram((A, 1), (B, 53), b"first"), to).await;
        peer.receive().await;
        assert_eq!(next(&port).await, (b"first".to_vec(), format!("{A}:1")));

        for (from, to_inner) in [
            // Not its own address.
            (C, B),
            (B, B),
            (Ipv4Addr::UNSPECIFIED, B),
            (Ipv4Addr::LOCALHOST, B),
            (Ipv4Addr::BROADCAST, B),
            (Ipv4Addr::new(224, 0, 0, 1), B),
            // Not ours.
            (A, C),
            (A, Ipv4Addr::LOCALHOST),
            (A, Ipv4Addr::new(10, 9, 0, 255)),
            (A, Ipv4Addr::BROADCAST),
        ] {
            peer.send(&datagram((from, 1), (to_inner, 53), b"wrong"), to).await;
        }
        // No packets at all.
        for junk in [&b"\x45junk"[..], &[0x60; 39], &[0x10; 60], &[0x4f; 30]] {
            peer.send(junk, to).await;
            peer.socket.send_to(junk, to).await.unwrap();
        }
        peer.send(&datagram((A, 2), (B, 53), b"last"), to).await;
        assert_eq!(next(&port).await, (b"last".to_vec(), format!("{A}:2")));
    }
}

on_both_stacks! {
    async fn who_has_no_key_that_is_known_is_not_answered(stack) {
        let right = network(right(stack));
        let port = right.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let mut stranger = Raw::new(crate::pair::OTHER, RIGHT).await;
        stranger.send(&datagram((A, 1), (B, 53), b"stranger"), right.local_address()).await;
        let mut peer = Raw::new(LEFT, RIGHT).await;
        peer.send(&datagram((A, 1), (B, 53), b"friend"), right.local_address()).await;
        peer.receive().await;
        assert_eq!(next(&port).await.0, b"friend");
        // The answer to its handshake would have come before that.
        let nothing = stranger.socket.try_recv(&mut [0; 1]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}

on_both_stacks! {
    async fn a_peer_is_answered_where_it_was_last_heard_from(stack) {
        let right = network(right(stack));
        let port = right.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let mut peer = Raw::new(LEFT, RIGHT).await;
        let to = right.local_address();
        peer.send(&datagram((A, 1), (B, 53), b"here"), to).await;
        peer.receive().await;
        assert_eq!(next(&port).await.0, b"here");

        let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // What cannot be its own does not move it.
        elsewhere.send_to(&[4; 60], to).await.unwrap();
        port.send_to(b"answer", &endpoint("10.9.0.1:1")).await.unwrap();
        assert!(peer.packet().await.0.ends_with(b"answer"));

        peer.socket = elsewhere;
        peer.send(&datagram((A, 1), (B, 53), b"there"), to).await;
        assert_eq!(next(&port).await.0, b"there");
        port.send_to(b"answer again", &endpoint("10.9.0.1:1")).await.unwrap();
        assert!(peer.packet().await.0.ends_with(b"answer again"));
    }
}

on_both_stacks! {
    async fn a_keepalive_is_sent_though_there_is_nothing_to_say(stack) {
        let mut peer = Raw::new(RIGHT, LEFT).await;
        let mut settings = left(stack, peer.address());
        settings["peers"][0]["keepalive"] = json!("1s");
        let _left = network(settings);
        let mut lens = Vec::new();
        for _ in 0..4 {
            let (len, packet, _) = peer.receive().await;
            assert!(packet.is_empty());
            lens.push(len);
        }
        // The handshake, that it is done, and then signs of life.
        assert_eq!(lens, [148, KEEPALIVE_LEN, KEEPALIVE_LEN, KEEPALIVE_LEN]);
    }
}

on_both_stacks! {
    async fn a_peer_that_is_given_by_name_is_looked_up_by_the_host(stack) {
        let mut peer = Raw::new(RIGHT, LEFT).await;
        let settings = left(stack, format!("localhost:{}", peer.address().port()));
        let left = network(settings);
        let port = left.bind_datagram(&LocalEndpoint::default()).await.unwrap();
        port.send_to(b"by name", &endpoint("10.9.0.2:1")).await.unwrap();
        assert!(peer.packet().await.0.windows(7).any(|window| window == b"by name"));
    }
}

/// Passes datagrams on between a peer and who speaks to it first, and keeps the length of the longest.
async fn relay(peer: SocketAddr, longest: Arc<AtomicUsize>) -> SocketAddr {
    let (near, far) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(peer).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut to, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                received = near.recv_from(&mut to) => {
                    let (len, from) = received.unwrap();
                    client = Some(from);
                    longest.fetch_max(len, Ordering::Relaxed);
                    let _ = far.send(&to[..len]).await;
                }
                received = far.recv(&mut back) => {
                    let len = received.unwrap();
                    longest.fetch_max(len, Ordering::Relaxed);
                    let _ = near.send_to(&back[..len], client.unwrap()).await;
                }
            }
        }
    });
    address
}

on_both_stacks! {
    async fn no_datagram_is_longer_than_the_mtu_allows(stack) {
        for mtu in [1280, 1420] {
            let mut settings = right(stack);
            settings["mtu"] = json!(mtu);
            let right = network(settings);
            let longest = Arc::new(AtomicUsize::new(0));
            let mut settings = left(stack, relay(right.local_address(), Arc::clone(&longest)).await);
            settings["mtu"] = json!(mtu);
            let left = network(settings);
            let mut listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
            for to in ["10.9.0.2:80", "[fd09::2]:80"] {
                let to = endpoint(to);
                let (client, server) = tokio::join!(soon(left.connect(&to, None)), soon(listener.accept()));
                let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
                let sent = vec![7; 300_000];
                client.write_all(&sent).await.unwrap();
                drop(client);
                let mut received = Vec::new();
                soon(server.read_to_end(&mut received)).await.unwrap();
                assert!(received == sent);
            }
            assert_eq!(longest.load(Ordering::Relaxed), mtu + 32);
        }
    }
}

on_both_stacks! {
    async fn ends_that_begin_at_once_find_together(stack) {
        let (mut left, mut right) = (left(stack, "127.0.0.1:1"), right(stack));
        let ports = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let ports = ports.map(|socket| socket.local_addr().unwrap().port());
        (left["listen_port"], right["listen_port"]) = (json!(ports[0]), json!(ports[1]));
        left["peers"][0]["endpoint"] = json!(format!("127.0.0.1:{}", ports[1]));
        right["peers"][0]["endpoint"] = json!(format!("127.0.0.1:{}", ports[0]));
        let (left, right) = (network(left), network(right));
        let mut at_left = left.listen(&LocalEndpoint::port(80)).await.unwrap();
        let mut at_right = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let (to_left, to_right) = (endpoint("10.9.0.1:80"), endpoint("10.9.0.2:80"));
        let (there, back, from_right, from_left) = soon(async {
            tokio::join!(
                left.connect(&to_right, None),
                right.connect(&to_left, None),
                at_left.accept(),
                at_right.accept()
            )
        })
        .await;
        assert!(there.is_ok() && back.is_ok() && from_right.is_ok() && from_left.is_ok());
        Pair::new(stack).connected().await;
    }
}
