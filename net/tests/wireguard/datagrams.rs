//! UDP through the tunnel.

use std::time::Duration;

use frame_net::wireguard::Refusal;
use frame_net::{BoxDatagrams, Cause, LocalEndpoint};
use serde_json::json;
use tokio::time::timeout;

use crate::pair::{Pair, on_both_stacks};
use crate::support::{endpoint, soon};

/// How long a datagram may take that is not lost.
const RESEND: Duration = Duration::from_secs(1);

/// Sends a datagram until one from `from` arrives, which it returns, cut to a length: datagrams may be lost where the machine
/// is busy.
async fn delivered(
    (sender, to, sent): (&BoxDatagrams, &str, &[u8]),
    (receiver, from, most): (&BoxDatagrams, &str, usize),
) -> Vec<u8> {
    let mut buffer = vec![0; most];
    loop {
        sender.send_to(sent, &endpoint(to)).await.unwrap();
        while let Ok(received) = timeout(RESEND, receiver.receive_from(&mut buffer)).await {
            let (len, address) = received.unwrap();
            // Others are what was sent again and not lost.
            if address.to_string() == from {
                return buffer[..len].to_vec();
            }
        }
    }
}

on_both_stacks! {
    async fn datagrams_go_there_and_back(stack) {
        let pair = Pair::new(stack);
        let server = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let client = pair.left.dialer.bind_datagram(&LocalEndpoint::default()).await.unwrap();
        for (to, from) in [("10.9.0.2:53", "10.9.0.1"), ("[fd09::2]:53", "[fd09::1]")] {
            let from = format!("{from}:{}", client.local().port);
            let received = soon(delivered((&client, to, b"question"), (&server, &from, 4))).await;
            assert_eq!(received, b"ques");
            let received = soon(delivered((&server, &from, b""), (&client, to, 4))).await;
            assert!(received.is_empty());
        }
    }
}

on_both_stacks! {
    async fn a_datagram_that_is_too_long_is_refused_and_not_cut(stack) {
        let pair = Pair::with(stack, |left, _| left["mtu"] = json!(1280));
        let server = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let client = pair.left.dialer.bind_datagram(&LocalEndpoint::default()).await.unwrap();
        for (to, most) in [("10.9.0.2:53", 1252), ("[fd09::2]:53", 1232)] {
            let error = client.send_to(&vec![1; most + 1], &endpoint(to)).await.unwrap_err();
            let expected = Refusal::TooLong { len: most + 1, most };
            assert!(matches!(error.cause(), Cause::WireGuard(refusal) if *refusal == expected), "{error:?}");
            assert!(!error.is_retryable());
            let mut buffer = [0; 2000];
            // A datagram may be lost where the machine is busy, and is then sent again.
            let arrived = async {
                loop {
                    client.send_to(&vec![2; most], &endpoint(to)).await.unwrap();
                    if let Ok(received) = timeout(RESEND, server.receive_from(&mut buffer)).await
                        && received.as_ref().is_ok_and(|&(len, _)| len == most)
                    {
                        return buffer[..most].iter().all(|&byte| byte == 2);
                    }
                }
            };
            assert!(soon(arrived).await);
        }
    }
}

on_both_stacks! {
    async fn a_datagram_to_what_no_peer_owns_is_refused(stack) {
        let pair = Pair::new(stack);
        let port = pair.left.dialer.bind_datagram(&LocalEndpoint::default()).await.unwrap();
        let error = port.send_to(b"x", &endpoint("192.0.2.1:53")).await.unwrap_err();
        let expected = Refusal::NoPeer { address: "192.0.2.1".parse().unwrap() };
        assert!(matches!(error.cause(), Cause::WireGuard(refusal) if *refusal == expected), "{error:?}");
    }
}

on_both_stacks! {
    async fn a_port_is_free_again_when_it_is_dropped(stack) {
        let pair = Pair::new(stack);
        let at = LocalEndpoint::port(53);
        let port = pair.left.dialer.bind_datagram(&at).await.unwrap();
        pair.left.dialer.bind_datagram(&at).await.unwrap_err();
        drop(port);
        pair.left.dialer.bind_datagram(&at).await.unwrap();
    }
}
