//! How many connections a tunnel has at once, and what it keeps of those that have no user any more.

use std::time::Duration;

use frame_net::wireguard::Refusal;
use frame_net::{BoxStream, Cause};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lossy::over_a_relay;
use crate::pair::{Pair, cause, on_both_stacks};
use crate::relay::Faults;
use crate::support::soon;

/// How many connections that have no user any more a network keeps, and how many bytes of them.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 << 20;

/// How many bytes the far end of a connection that was closed receives, until their end or a reset. Where nothing comes
/// for a while it writes, so that it hears of a reset.
async fn received(mut server: BoxStream) -> usize {
    let (mut buffer, mut count) = (vec![0; 64 * 1024], 0);
    loop {
        match timeout(Duration::from_secs(1), server.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return count,
            Ok(Ok(len)) => count += len,
            Err(_) => {
                // A reset is the answer to it, and is read next.
                let _ = server.write_all(b"?").await;
            }
        }
    }
}

/// Allows as many descriptors as this process may have: with the kernel's stack each connection takes two here.
fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    }
}

/// A connection that was closed while its far end acknowledged nothing.
struct Closed {
    written: usize,
    /// All of it arrives once the far end can be reached again.
    is_kept: bool,
}

/// Opens connections, writes to them what they take of a piece of this length while nothing gets through, and closes
/// them, the first one first.
async fn closed(stack: &str, count: usize, len: usize) -> Vec<Closed> {
    raise_limit();
    let (pair, relay) = over_a_relay(stack, Faults::default());
    let mut listener = pair.right.listen(80).await;
    let mut connections = Vec::new();
    for _ in 0..count {
        let (connected, accepted) = tokio::join!(pair.left.connect("10.9.0.2:80"), soon(listener.accept()));
        connections.push((connected.unwrap(), accepted.unwrap().0));
    }
    relay.block(true);
    let piece = vec![7; len];
    let mut receiving = JoinSet::new();
    for (number, (mut client, server)) in connections.into_iter().enumerate() {
        let written = soon(client.write(&piece)).await.unwrap();
        drop(client);
        receiving.spawn(async move {
            let received = timeout(Duration::from_mins(2), received(server)).await.expect("it ends");
            (number, Closed { written, is_kept: received == written })
        });
    }
    // What the oldest sent is lost by then.
    let all_lost = async {
        while relay.blocked() < count {
            tokio::task::yield_now().await;
        }
    };
    soon(all_lost).await;
    relay.block(false);
    let mut closed = receiving.join_all().await;
    closed.sort_by_key(|(number, _)| *number);
    closed.into_iter().map(|(_, closed)| closed).collect()
}

on_both_stacks! {
    async fn closed_connections_that_are_not_acknowledged_keep_few_bytes_and_the_oldest_is_reset(stack) {
        const LEN: usize = 256 * 1024;
        let closed = closed(stack, 250, LEN).await;
        let total: usize = closed.iter().map(|closed| closed.written).sum();
        let kept: usize = closed.iter().filter(|closed| closed.is_kept).map(|closed| closed.written).sum();
        assert!(total > MOST_BYTES && kept <= MOST_BYTES, "{kept} bytes of {total} were kept");
        assert!(kept > MOST_BYTES - 2 * LEN, "{kept} bytes of {total} were kept");
        assert!(closed.is_sorted_by_key(|closed| closed.is_kept), "the newest are kept");
    }
}

on_both_stacks! {
    async fn closed_connections_that_are_not_acknowledged_are_few_and_the_oldest_is_reset(stack) {
        let closed = closed(stack, MOST + 44, 1).await;
        let kept = closed.iter().filter(|closed| closed.is_kept).count();
        assert_eq!(kept, MOST);
        assert!(closed.is_sorted_by_key(|closed| closed.is_kept), "the newest are kept");
    }
}

on_both_stacks! {
    async fn a_connection_past_the_limit_is_refused_until_there_is_room_again(stack) {
        let pair = Pair::with(stack, |left, _| left["max_connections"] = json!(3));
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(pair.connected().await);
        }
        let error = pair.left.connect("10.9.0.2:81").await.unwrap_err();
        let too_many = |cause: &Cause| {
            matches!(cause, Cause::WireGuard(refusal) if *refusal == Refusal::TooManyConnections { most: 3 })
        };
        assert!(too_many(cause(&error)) && error.is_retryable(), "{error:?}");
        assert_eq!(
            cause(&error).to_string(),
            "the network has 3 connections open, and may not have more; close one, or raise `max_connections`"
        );
        for (client, server) in &mut open {
            client.write_all(b"goes on").await.unwrap();
            let mut received = [0; 7];
            soon(server.read_exact(&mut received)).await.unwrap();
            assert_eq!(&received, b"goes on");
        }
        open.pop();
        pair.connected().await;
    }
}

on_both_stacks! {
    async fn connections_that_come_past_the_limit_wait_until_there_is_room(stack) {
        let pair = Pair::with(stack, |_, right| right["max_connections"] = json!(1));
        let mut listener = pair.right.listen(80).await;
        let (first, accepted) = tokio::join!(pair.left.connect("10.9.0.2:80"), soon(listener.accept()));
        let (_first, accepted) = (first.unwrap(), accepted.unwrap());
        let (second, accepted) = tokio::join!(pair.left.connect("10.9.0.2:80"), async {
            let waiting = timeout(Duration::from_millis(300), listener.accept()).await;
            assert!(waiting.is_err(), "there is no room");
            drop(accepted);
            soon(listener.accept()).await
        });
        let (mut second, (mut accepted, _)) = (second.unwrap(), accepted.unwrap());
        second.write_all(b"at last").await.unwrap();
        let mut received = [0; 7];
        soon(accepted.read_exact(&mut received)).await.unwrap();
    }
}
