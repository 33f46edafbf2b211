//! TCP through the tunnel.

use std::io::ErrorKind;

use frame_net::wireguard::Refusal;
use frame_net::{BoxStream, Cause, LocalEndpoint, NetworkError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::pair::{Pair, Side, cause, left, on_both_stacks};
use crate::support::{failure, soon};

/// Bytes that are nowhere the same twice.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..len).map(|_| next()).collect()
}

/// Sends `sent` and closes that direction, and receives until the other end does.
async fn exchange(stream: BoxStream, sent: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    soon(reader.read_to_end(&mut received)).await.unwrap();
    writing.await.unwrap();
    received
}

on_both_stacks! {
    async fn bytes_arrive_as_they_are_in_both_directions_and_families(stack) {
        let pair = Pair::new(stack);
        for (address, other) in [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")] {
            let at = LocalEndpoint::new(address.parse().unwrap(), 80);
            let mut listener = pair.right.dialer.listen(&at).await.unwrap();
            assert_eq!(listener.local().host, address.parse().unwrap());
            let to = frame_net::Endpoint::new(address.parse().unwrap(), 80).unwrap();
            let to = to.to_string();
            let (connected, accepted) = tokio::join!(pair.left.connect(&to), soon(listener.accept()));
            let (accepted, from) = accepted.unwrap();
            assert_eq!(from.host, other.parse().unwrap());

            let (ours, theirs) = (bytes(3 << 20, 1), bytes((3 << 20) + 17, 2));
            let (left, right) =
                tokio::join!(exchange(connected.unwrap(), ours.clone()), exchange(accepted, theirs.clone()));
            assert!(left == theirs && right == ours, "{address}");
        }
    }
}

on_both_stacks! {
    async fn many_connections_are_made_at_once(stack) {
        const COUNT: u32 = 100;
        let pair = Pair::new(stack);
        let mut listener = pair.right.listen(80).await;
        let mut connections = JoinSet::new();
        for number in 0..COUNT {
            let dialer = pair.left.dialer.clone();
            connections.spawn(async move {
                let mut stream = soon(dialer.connect(&"10.9.0.2:80".parse().unwrap())).await.unwrap();
                stream.write_u32(number).await.unwrap();
                assert_eq!(soon(stream.read_u32()).await.unwrap(), number + 1);
            });
        }
        for _ in 0..COUNT {
            let (mut stream, _) = soon(listener.accept()).await.unwrap();
            connections.spawn(async move {
                let number = soon(stream.read_u32()).await.unwrap();
                stream.write_u32(number + 1).await.unwrap();
            });
        }
        connections.join_all().await;
    }
}

on_both_stacks! {
    async fn an_end_that_said_its_last_word_still_listens(stack) {
        let (mut client, mut server) = Pair::new(stack).connected().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(client.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut question = String::new();
        soon(server.read_to_string(&mut question)).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert_eq!((&*question, &*answer), ("question", "answer"));
    }
}

on_both_stacks! {
    async fn what_was_written_arrives_though_the_writer_is_gone(stack) {
        let (mut client, mut server) = Pair::new(stack).connected().await;
        let sent = bytes(300_000, 3);
        client.write_all(&sent).await.unwrap();
        drop(client);
        let mut received = Vec::new();
        soon(server.read_to_end(&mut received)).await.unwrap();
        assert!(received == sent);
    }
}

on_both_stacks! {
    async fn an_end_that_leaves_with_something_unread_resets_the_connection(stack) {
        let (mut client, mut server) = Pair::new(stack).connected().await;
        client.write_all(b"unread").await.unwrap();
        // So that it has arrived.
        soon(server.read_u8()).await.unwrap();
        drop(server);
        let error = soon(client.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = client.write_all(b"more").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
    }
}

on_both_stacks! {
    async fn a_port_where_nobody_listens_refuses(stack) {
        let pair = Pair::new(stack);
        let error = pair.left.connect("10.9.0.2:81").await.unwrap_err();
        assert!(matches!(cause(&error), Cause::Io(io) if io.kind() == ErrorKind::ConnectionRefused), "{error:?}");
        assert!(error.is_retryable());
    }
}

on_both_stacks! {
    async fn a_port_is_one_listeners(stack) {
        let pair = Pair::new(stack);
        let listener = pair.right.listen(80).await;
        let listen = |address: &str| LocalEndpoint::new(address.parse().unwrap(), 80);
        let error = pair.right.dialer.listen(&listen("10.9.0.2")).await.unwrap_err();
        assert!(matches!(cause(&error), Cause::Io(io) if io.kind() == ErrorKind::AddrInUse), "{error:?}");
        drop(listener);
        pair.right.dialer.listen(&listen("10.9.0.2")).await.unwrap();
        let error = pair.right.dialer.listen(&listen("10.9.0.1")).await.unwrap_err();
        let address = "10.9.0.1".parse().unwrap();
        assert!(matches!(cause(&error), Cause::WireGuard(refusal) if *refusal == Refusal::NotLocal { address }));
    }
}

on_both_stacks! {
    async fn what_no_peer_owns_is_refused_at_once_and_nothing_is_sent(stack) {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let left = Side::new(left(stack, peer.local_addr().unwrap()));
        let unowned = |address: &str| Refusal::NoPeer { address: address.parse().unwrap() };
        let local = |address: &str| Refusal::NotRemote { address: address.parse().unwrap() };
        for (to, expected) in [
            ("192.0.2.1:80", unowned("192.0.2.1")),
            ("10.9.0.3:80", unowned("10.9.0.3")),
            ("[fd09::3]:80", unowned("fd09::3")),
            ("127.0.0.1:80", local("127.0.0.1")),
            ("10.9.0.1:80", local("10.9.0.1")),
            ("0.0.0.0:80", local("0.0.0.0")),
            ("224.0.0.1:80", local("224.0.0.1")),
        ] {
            let error = left.connect(to).await.unwrap_err();
            assert!(matches!(cause(&error), Cause::WireGuard(refusal) if *refusal == expected), "{error:?}");
            assert!(!error.is_retryable());
            let (_, text) = failure(&error);
            assert!(text.contains(to.rsplit_once(':').unwrap().0.trim_matches(['[', ']'])), "{text}");
        }
        // The first that comes is the handshake of a connection that a peer owns.
        let dialing = tokio::spawn(async move { left.connect("10.9.0.2:80").await });
        let mut buffer = [0; 2048];
        assert_eq!(soon(peer.recv(&mut buffer)).await.unwrap(), 148);
        dialing.abort();
    }
}

on_both_stacks! {
    async fn a_peer_of_which_nothing_is_known_yet_is_refused_for_now(stack) {
        let pair = Pair::new(stack);
        let error = pair.right.connect("10.9.0.1:80").await.unwrap_err();
        assert!(matches!(cause(&error), Cause::WireGuard(Refusal::NoEndpoint { .. })), "{error:?}");
        assert!(error.is_retryable());
        // Once it was heard from, it can be reached.
        let mut listener = pair.left.listen(80).await;
        let _connection = pair.connected().await;
        let (connected, accepted) = tokio::join!(pair.right.connect("10.9.0.1:80"), soon(listener.accept()));
        assert!(connected.is_ok() && accepted.is_ok());
    }
}

on_both_stacks! {
    async fn isolation_is_not_pretended(stack) {
        let pair = Pair::new(stack);
        let dialer = pair.left.dialer.clone().isolated("tenant-7".parse().unwrap());
        let error = dialer.connect(&"10.9.0.2:80".parse().unwrap()).await.unwrap_err();
        assert!(matches!(cause(&error), Cause::NotSupported { kind: "wireguard", .. }), "{error:?}");
    }
}

on_both_stacks! {
    async fn a_peer_with_another_key_is_waited_for_until_the_deadline(stack) {
        let other = json!(crate::pair::public(crate::pair::OTHER));
        let pair = Pair::with(stack, |left, _| {
            left["peers"][0]["public_key"] = other;
            left["deadline"] = json!("300ms");
        });
        let error = pair.left.connect("10.9.0.2:80").await.unwrap_err();
        assert!(matches!(&error, NetworkError::Connect { .. }) && error.is_retryable());
        assert!(matches!(cause(&error), Cause::TimedOut { limit } if limit.as_millis() == 300), "{error:?}");
    }
}

on_both_stacks! {
    async fn both_ends_have_to_have_the_preshared_key(stack) {
        let preshared = json!("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let pair = Pair::with(stack, |left, right| {
            left["peers"][0]["preshared_key"] = preshared.clone();
            right["peers"][0]["preshared_key"] = preshared.clone();
        });
        pair.connected().await;
        let pair = Pair::with(stack, |left, _| {
            left["peers"][0]["preshared_key"] = preshared;
            left["deadline"] = json!("300ms");
        });
        let error = pair.left.connect("10.9.0.2:80").await.unwrap_err();
        assert!(matches!(cause(&error), Cause::TimedOut { .. }), "{error:?}");
    }
}
