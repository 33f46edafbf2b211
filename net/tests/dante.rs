//! The SOCKS5 network through Dante, as a program uses it.

mod servers;
mod support;

use frame_net::socks5::{HandshakeError, Refusal};
use frame_net::{BoxStream, Endpoint};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use servers::dante::Dante;
use servers::namespace::ipv6_tests;
use servers::origin::{Origin, assert_connected, assert_ended, bytes, transfer};
use servers::{handshake_error, port, refusal};
use support::{Bait, connect_through, endpoint};

const MIB: usize = 1 << 20;

fn through(dante: &Dante) -> Value {
    json!({ "proxy": dante.address.to_string() })
}

/// The two ends of a connection to `origin`.
async fn connection(dante: &Dante, origin: &Origin) -> (BoxStream, TcpStream) {
    let client = connect_through(through(dante), &origin.endpoint()).await.unwrap();
    (client, origin.accept().await)
}

#[tokio::test]
async fn bulk_goes_both_ways_at_once() {
    let Some(dante) = Dante::start().await else { return };
    let origin = Origin::new().await;
    let (client, origin) = connection(&dante, &origin).await;
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = origin.into_split();
    let (up, down) = (bytes(1, 8 * MIB), bytes(2, 8 * MIB));
    tokio::join!(
        transfer(&mut client_write, &mut origin_read, &up),
        transfer(&mut origin_write, &mut client_read, &down),
    );
}

ipv6_tests! {
    async fn an_ipv6_address_is_reached() {
        let Some(dante) = Dante::start().await else { return };
        let origin = Origin::v6().await;
        let (mut client, mut origin) = connection(&dante, &origin).await;
        assert_connected(&mut client, &mut origin).await;
    }

    async fn a_proxy_at_an_ipv6_address_is_used() {
        let Some(dante) = Dante::start().await else { return };
        let origin = Origin::new().await;
        let config = json!({ "proxy": dante.address_v6().to_string() });
        let mut client = connect_through(config, &origin.endpoint()).await.unwrap();
        assert_connected(&mut client, &mut origin.accept().await).await;
    }
}

#[tokio::test]
async fn a_proxy_is_found_by_name() {
    let Some(dante) = Dante::start().await else { return };
    let origin = Origin::new().await;
    let config = json!({ "proxy": format!("localhost:{}", dante.address.port()) });
    let mut client = connect_through(config, &origin.endpoint()).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn the_proxy_looks_a_name_up() {
    let Some(dante) = Dante::start().await else { return };
    let origin = Origin::new().await;
    let to = Endpoint::new("localhost".parse().unwrap(), origin.address().port()).unwrap();
    let mut client = connect_through(through(&dante), &to).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn a_name_that_the_proxy_does_not_know_is_unreachable() {
    let Some(dante) = Dante::start().await else { return };
    let error = connect_through(through(&dante), &endpoint("does-not.invalid:80")).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::HostUnreachable);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_port_that_the_rules_block_is_not_allowed() {
    let bait = Bait::new();
    let Some(dante) = Dante::blocking(bait.endpoint().port()).await else { return };
    let error = connect_through(through(&dante), &bait.endpoint()).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::NotAllowed);
    assert!(!error.is_retryable());
    bait.assert_untouched();
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    let Some(dante) = Dante::start().await else { return };
    let nobody = port::free_v4().try_into().unwrap();
    let error = connect_through(through(&dante), &nobody).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::ConnectionRefused);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn credentials_are_not_dropped_for_a_proxy_that_wants_none() {
    let bait = Bait::new();
    let Some(dante) = Dante::start().await else { return };
    let mut config = through(&dante);
    config["credentials"] = json!({ "username": "app", "password": "xyzzy" });
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    assert_eq!(handshake_error(&error), HandshakeError::NoMethod { offered: 2 });
    assert!(!error.is_retryable());
    bait.assert_untouched();
}

#[tokio::test]
async fn who_has_sent_everything_still_receives() {
    let Some(dante) = Dante::start().await else { return };
    let origin = Origin::new().await;
    let (mut client, mut origin) = connection(&dante, &origin).await;
    transfer(&mut client, &mut origin, b"question").await;
    client.shutdown().await.unwrap();
    assert_ended(&mut origin).await;
    transfer(&mut origin, &mut client, &bytes(3, MIB)).await;
    drop(origin);
    assert_ended(&mut client).await;
}

#[tokio::test]
async fn who_has_received_everything_still_sends() {
    let Some(dante) = Dante::start().await else { return };
    let origin = Origin::new().await;
    let (mut client, mut origin) = connection(&dante, &origin).await;
    transfer(&mut origin, &mut client, b"banner").await;
    origin.shutdown().await.unwrap();
    assert_ended(&mut client).await;
    transfer(&mut client, &mut origin, &bytes(4, MIB)).await;
    drop(client);
    assert_ended(&mut origin).await;
}

#[tokio::test]
async fn connections_made_at_once_do_not_mix() {
    let Some(dante) = Dante::start().await else { return };
    let mut connections = JoinSet::new();
    for seed in 0..16 {
        let origin = Origin::new().await;
        let (config, to) = (through(&dante), origin.endpoint());
        connections.spawn(async move {
            let mut client = connect_through(config, &to).await.unwrap();
            let mut origin = origin.accept().await;
            transfer(&mut client, &mut origin, &bytes(seed, MIB / 4)).await;
            transfer(&mut origin, &mut client, &bytes(seed + 100, MIB / 4)).await;
        });
    }
    connections.join_all().await;
}
