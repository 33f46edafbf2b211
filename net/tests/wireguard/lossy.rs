//! Tunnels over a way that loses, reorders and duplicates datagrams, and ends that move.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pair::{Pair, Side, has_kernel_stack, left, network, on_both_stacks, right};
use crate::relay::{Faults, Relay};
use crate::support::soon;

/// What a mobile network may do on a bad day.
const BAD: Faults = Faults {
    delay: Duration::from_millis(5),
    lost: 50,
    doubled: 10,
    late: (20, Duration::from_millis(2)),
    lost_at_first: 0,
    bottleneck: None,
};

/// A pair whose left end reaches the right one over a relay.
pub fn over_a_relay(stack: &str, faults: Faults) -> (Pair, Relay) {
    let right = network(right(stack));
    let relay = Relay::start(right.local_address(), faults, 0x5eed);
    let mut left = left(stack, relay.address());
    left["deadline"] = json!("60s");
    (Pair { left: Side::new(left), right: Side::of(right) }, relay)
}

/// Bytes that show where they belong.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at / 65_536).to_le_bytes()[0]).collect()
}

/// A question, its end, and then an answer to what arrived of it.
async fn question_and_answer(pair: &Pair, len: usize) {
    let (mut client, mut server) = pair.connected().await;
    let sent = bytes(len);
    let asking = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answering = async {
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        server.write_all(&question).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(asking, answering) }).await;
    assert!(answer == sent);
}

#[tokio::test]
async fn half_closed_transfers_finish_at_five_percent_loss() {
    if has_kernel_stack() {
        let (pair, _relay) = over_a_relay("kernel", BAD);
        for _ in 0..3 {
            question_and_answer(&pair, 1 << 20).await;
        }
    }
}

#[tokio::test]
async fn a_transfer_goes_on_after_the_reader_had_no_room_at_five_percent_loss() {
    if !has_kernel_stack() {
        return;
    }
    let (pair, _relay) = over_a_relay("kernel", BAD);
    let (mut client, mut server) = pair.connected().await;
    let sent = bytes(6 << 20);
    let expected = sent.clone();
    let (filled, is_full) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let mut rest = sent.as_slice();
        // When nothing more has been taken for a while, neither end has room.
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), client.write(rest)).await {
            rest = &rest[written.unwrap()..];
        }
        filled.send(rest.len()).unwrap();
        client.write_all(rest).await.unwrap();
        client.shutdown().await.unwrap();
    });
    assert!(soon(is_full).await.unwrap() > 0, "some of it waits");
    let mut received = Vec::new();
    soon(server.read_to_end(&mut received)).await.unwrap();
    writing.await.unwrap();
    assert!(received == expected);
}

on_both_stacks! {
    async fn a_little_loss_is_made_up_for(stack) {
        let faults = Faults { lost: 10, ..BAD };
        let (pair, _relay) = over_a_relay(stack, faults);
        question_and_answer(&pair, 100_000).await;
    }
}

on_both_stacks! {
    async fn connections_outlive_a_change_of_the_peers_endpoint(stack) {
        let faults = Faults { delay: Duration::from_millis(1), ..Faults::default() };
        let (pair, relay) = over_a_relay(stack, faults);
        let (mut client, mut server) = pair.connected().await;
        for _ in 0..3 {
            relay.roam();
            client.write_all(b"from elsewhere").await.unwrap();
            let mut received = [0; 14];
            soon(server.read_exact(&mut received)).await.unwrap();
            server.write_all(&received).await.unwrap();
            soon(client.read_exact(&mut received)).await.unwrap();
            assert_eq!(&received, b"from elsewhere");
        }
    }
}

on_both_stacks! {
    async fn a_handshake_message_that_is_lost_is_sent_again(stack) {
        let faults = Faults { lost_at_first: 1, ..Faults::default() };
        let (pair, _relay) = over_a_relay(stack, faults);
        // WireGuard does so after 5 seconds, and no sooner.
        pair.connected().await;
    }
}
