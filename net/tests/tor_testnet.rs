//! The SOCKS5 network through a whole Tor network on loopback, as a program uses it.

mod servers;
mod support;

use frame_net::socks5::Refusal;
use frame_net::{BoxStream, Endpoint};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use servers::names;
use servers::origin::{Origin, assert_connected, bytes, transfer};
use servers::program::skipped;
use servers::tor_testnet::TorTestnet;
use servers::{port, refusal};
use support::connect_through;

const MIB: usize = 1 << 20;

fn through(tor: &TorTestnet) -> Value {
    json!({ "proxy": tor.socks.to_string() })
}

fn through_as(tor: &TorTestnet, username: &str, password: &str) -> Value {
    let mut config = through(tor);
    config["credentials"] = json!({ "username": username, "password": password });
    config
}

/// The two ends of a connection to `to`, which is at `origin`.
async fn connection(config: Value, to: &Endpoint, origin: &Origin) -> (BoxStream, TcpStream) {
    let client = connect_through(config, to).await.unwrap();
    (client, origin.accept().await)
}

/// The circuits of two streams that are there at the same time.
async fn circuits(tor: &TorTestnet, first: Value, second: Value) -> [String; 2] {
    let origins = [Origin::new().await, Origin::new().await];
    let _first = connection(first, &origins[0].endpoint(), &origins[0]).await;
    let _second = connection(second, &origins[1].endpoint(), &origins[1]).await;
    let mut control = tor.control().await;
    let [first, second] = origins.each_ref().map(|origin| origin.address().port());
    [control.circuit_to(first).await, control.circuit_to(second).await]
}

#[tokio::test]
async fn an_address_is_reached() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let origin = Origin::new().await;
    let (mut client, mut origin) = connection(through(&tor), &origin.endpoint(), &origin).await;
    assert_connected(&mut client, &mut origin).await;
}

#[tokio::test]
async fn an_ipv6_address_is_reached() {
    if !port::has_ipv6() {
        return skipped("this machine has no ::1");
    }
    let Some(tor) = TorTestnet::shared().await else { return };
    let origin = Origin::v6().await;
    let (mut client, mut origin) = connection(through(&tor), &origin.endpoint(), &origin).await;
    assert_connected(&mut client, &mut origin).await;
}

#[tokio::test]
async fn a_name_that_only_the_exit_can_look_up_is_reached() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let origin = Origin::new().await;
    let host = format!("www.{}", names::DOMAIN);
    let to = Endpoint::new(host.parse().unwrap(), origin.address().port()).unwrap();
    let (mut client, mut origin) = connection(through(&tor), &to, &origin).await;
    assert_connected(&mut client, &mut origin).await;
}

#[tokio::test]
async fn bulk_goes_both_ways_at_once() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let origin = Origin::new().await;
    let (client, origin) = connection(through(&tor), &origin.endpoint(), &origin).await;
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = origin.into_split();
    let (up, down) = (bytes(1, 2 * MIB), bytes(2, 2 * MIB));
    tokio::join!(
        transfer(&mut client_write, &mut origin_read, &up),
        transfer(&mut origin_write, &mut client_read, &down),
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let nobody = port::free_v4().try_into().unwrap();
    let error = connect_through(through(&tor), &nobody).await.unwrap_err();
    // An exit that has had to wait for the refusal does not pass on that it was one.
    let refusal = refusal(&error);
    assert!(matches!(refusal, Refusal::ConnectionRefused | Refusal::GeneralFailure), "{refusal:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_name_that_no_exit_can_look_up_is_refused() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let to = "does-not.invalid:80".parse().unwrap();
    let error = connect_through(through(&tor), &to).await.unwrap_err();
    // It asks three times. An exit that fails does not always say that it was for the name.
    let refusal = refusal(&error);
    assert!(matches!(refusal, Refusal::HostUnreachable | Refusal::GeneralFailure), "{refusal:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn the_same_credentials_share_a_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let config = through_as(&tor, "same", "p1");
    let [first, second] = circuits(&tor, config.clone(), config).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn other_credentials_take_another_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let [first, second] =
        circuits(&tor, through_as(&tor, "one", "p1"), through_as(&tor, "other", "p2")).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn another_password_takes_another_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let [first, second] =
        circuits(&tor, through_as(&tor, "alike", "p1"), through_as(&tor, "alike", "p2")).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn credentials_take_another_circuit_than_none() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let [first, second] = circuits(&tor, through(&tor), through_as(&tor, "someone", "p1")).await;
    assert_ne!(first, second);
}
