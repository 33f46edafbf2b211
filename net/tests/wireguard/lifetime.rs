//! How long a tunnel is there.

use frame_net::{LocalEndpoint, Network as _, NetworkError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pair::{ID, Pair, has_kernel_stack, left, network, on_both_stacks, right};
use crate::support::{endpoint, soon};

/// Waits until the port is free.
async fn freed(port: u16) {
    soon(async {
        while std::net::UdpSocket::bind(("127.0.0.1", port)).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

on_both_stacks! {
    async fn connections_outlive_the_place_of_their_network(stack) {
        let pair = Pair::new(stack);
        let (mut client, mut server) = pair.connected().await;
        let id = ID.parse().unwrap();
        let mut other = left(stack, "127.0.0.1:1");
        other["kind"] = json!("wireguard");
        pair.left.networks.update(&id, &serde_json::from_value(other).unwrap()).unwrap();
        assert!(pair.right.networks.unregister(&id));
        let error = pair.right.dialer.connect(&endpoint("10.9.0.1:80")).await.unwrap_err();
        assert!(matches!(error, NetworkError::NotFound { .. }));

        client.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        soon(server.read_exact(&mut received)).await.unwrap();
        server.write_all(&received).await.unwrap();
        soon(client.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"ping");
    }
}

on_both_stacks! {
    async fn the_socket_is_closed_when_nobody_uses_it_any_more(stack) {
        let right = network(right(stack));
        let port = right.local_address().port();
        let listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let datagrams = right.bind_datagram(&LocalEndpoint::port(80)).await.unwrap();
        drop(right);
        drop(datagrams);
        tokio::task::yield_now().await;
        assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err());
        drop(listener);
        freed(port).await;
    }
}

on_both_stacks! {
    async fn what_was_written_arrives_though_nobody_uses_the_tunnel_any_more(stack) {
        let right = network(right(stack));
        let left = network(left(stack, right.local_address()));
        let ports = [&left, &right].map(|network| network.local_address().port());
        let mut listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let to = endpoint("10.9.0.2:80");
        let (client, server) = tokio::join!(soon(left.connect(&to, None)), soon(listener.accept()));
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        let sent = vec![7; 300_000];
        client.write_all(&sent).await.unwrap();
        drop((client, left));
        let mut received = Vec::new();
        soon(server.read_to_end(&mut received)).await.unwrap();
        assert!(received == sent);
        drop((server, listener, right));
        for port in ports {
            freed(port).await;
        }
    }
}

#[test]
fn a_runtime_that_ends_takes_the_tunnel_with_it() {
    runtime_that_ends("user");
    if has_kernel_stack() {
        runtime_that_ends("kernel");
    }
}

fn runtime_that_ends(stack: &str) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let carrier = runtime();
    let (_pair, mut client, _server, mut listener) = carrier.block_on(async {
        let pair = Pair::new(stack);
        let (client, server) = pair.connected().await;
        let listener = pair.left.listen(80).await;
        (pair, client, server, listener)
    });
    drop(carrier);
    runtime().block_on(async {
        let error = soon(client.read_u8()).await.unwrap_err();
        assert!(error.to_string().contains("the task that carried the tunnel has ended"), "{error}");
        soon(client.write_all(b"x")).await.unwrap_err();
        soon(listener.accept()).await.unwrap_err();
    });
}
