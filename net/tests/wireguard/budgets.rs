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

/// How many bytes a network keeps for connections that have no user any more.
const MOST_BYTES: usize = 16 << 20;

/// How many connections are closed, and how much each is given to write.
const CLOSED: usize = 250;
const WRITTEN: usize = 256 * 1024;

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

on_both_stacks! {
    async fn closed_connections_that_are_not_acknowledged_have_a_budget_and_the_oldest_is_reset(stack) {
        let (pair, relay) = over_a_relay(stack, Faults::default());
        let mut listener = pair.right.listen(80).await;
        let mut connections = Vec::new();
        for _ in 0..CLOSED {
            let (connected, accepted) =
                tokio::join!(pair.left.connect("10.9.0.2:80"), soon(listener.accept()));
            connections.push((connected.unwrap(), accepted.unwrap().0));
        }
        relay.block(true);
        let mut written = Vec::new();
        let mut servers = Vec::new();
        let piece = vec![7; WRITTEN];
        for (mut client, server) in connections {
            written.push(soon(client.write(&piece)).await.unwrap());
            drop(client);
            servers.push(server);
        }
        relay.block(false);

        let mut receiving = JoinSet::new();
        for (number, server) in servers.into_iter().enumerate() {
            receiving.spawn(async move { (number, timeout(Duration::from_mins(2), received(server)).await) });
        }
        let mut received = receiving.join_all().await;
        received.sort_by_key(|(number, _)| *number);
        let is_whole: Vec<_> = std::iter::zip(received, &written)
            .map(|((_, received), written)| received.expect("it ends") == *written)
            .collect();
        let kept: usize = std::iter::zip(&is_whole, &written).filter(|(is_whole, _)| **is_whole).map(|(_, len)| len).sum();
        let total: usize = written.iter().sum();
        assert!(total > MOST_BYTES && kept <= MOST_BYTES, "{kept} bytes of {total} were kept");
        // As many as there is room for, and those are the newest.
        assert!(kept > MOST_BYTES - 2 * WRITTEN, "{kept} bytes of {total} were kept");
        assert!(is_whole.is_sorted(), "{is_whole:?}");
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
