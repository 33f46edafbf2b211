//! The SOCKS5 network through a whole Tor network on loopback, as a program uses it.

mod servers;
mod support;

use frame_net::socks5::Refusal;
use frame_net::{BoxStream, Endpoint, dialer};
use frame_registry::App;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use servers::names;
use servers::namespace::ipv6_tests;
use servers::origin::{Origin, assert_connected, bytes, transfer};
use servers::tor_testnet::{HeldStream, TorTestnet};
use servers::{port, refusal};
use support::{app, connect_through, frame, soon};

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

/// Streams that are kept apart, as a program has them: from one app, whose frames have these options.
struct Isolating {
    app: App,
}

impl Isolating {
    fn new(tor: &TorTestnet) -> Self {
        let mut network = through(tor);
        network["kind"] = json!("socks5");
        Self::with(network)
    }

    fn over_http(tor: &TorTestnet) -> Self {
        Self::with(json!({ "kind": "http-connect", "proxy": tor.http.to_string() }))
    }

    fn with(mut network: Value) -> Self {
        network["isolate"] = json!(true);
        network["allow"] = json!(["127.0.0.1"]);
        Self { app: app(json!({ "networks": { "app:tor": network } })).0 }
    }

    async fn held(&self, options: &Value) -> HeldStream {
        let mut all = json!({ "network": "app:tor" });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let dialer = dialer(&frame(&self.app, &all), &self.app).unwrap();
        HeldStream::open(async |to| soon(dialer.connect(to)).await).await
    }
}

/// A stream that stays open, as `config` describes the way.
async fn held(config: Value) -> HeldStream {
    HeldStream::open(async |to| connect_through(config, to).await).await
}

#[tokio::test]
async fn an_address_is_reached() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let origin = Origin::new().await;
    let (mut client, mut origin) = connection(through(&tor), &origin.endpoint(), &origin).await;
    assert_connected(&mut client, &mut origin).await;
}

ipv6_tests! {
    async fn an_ipv6_address_is_reached() {
        let Some(tor) = TorTestnet::shared().await else { return };
        let origin = Origin::v6().await;
        let (mut client, mut origin) = connection(through(&tor), &origin.endpoint(), &origin).await;
        assert_connected(&mut client, &mut origin).await;
    }
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
    assert_eq!(refusal(&error), Refusal::HostUnreachable);
    assert!(error.is_retryable());
}

// Each has credentials of its own: tor takes circuits out of use on which the streams of other tests have failed.

#[tokio::test]
async fn the_same_credentials_share_a_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let first = held(through_as(&tor, "same", "p1")).await;
    let second = held(through_as(&tor, "same", "p1")).await;
    assert_eq!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn other_credentials_take_another_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let first = held(through_as(&tor, "one", "p1")).await;
    let second = held(through_as(&tor, "other", "p2")).await;
    assert_ne!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn another_password_takes_another_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let first = held(through_as(&tor, "alike", "p1")).await;
    let second = held(through_as(&tor, "alike", "p2")).await;
    assert_ne!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn credentials_take_another_circuit_than_none() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let first = held(through(&tor)).await;
    let second = held(through_as(&tor, "someone", "p1")).await;
    assert_ne!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn one_isolation_key_shares_a_circuit() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let streams = Isolating::new(&tor);
    let first = streams.held(&json!({ "isolation": "tenant" })).await;
    let second = streams.held(&json!({ "isolation": "tenant" })).await;
    assert_eq!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn two_isolation_keys_take_two_circuits() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let streams = Isolating::new(&tor);
    let first = streams.held(&json!({ "isolation": "tenant" })).await;
    let second = streams.held(&json!({ "isolation": "another" })).await;
    assert_ne!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn without_an_isolation_key_each_stream_takes_a_circuit_of_its_own() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let streams = Isolating::new(&tor);
    let first = streams.held(&json!({})).await;
    let second = streams.held(&json!({})).await;
    assert_ne!(first.circuit(&tor).await, second.circuit(&tor).await);
}

#[tokio::test]
async fn its_http_proxy_keeps_two_isolation_keys_apart_as_well() {
    let Some(tor) = TorTestnet::shared().await else { return };
    let isolating = Isolating::over_http(&tor);
    let one = isolating.held(&json!({ "isolation": "one" })).await;
    let same = isolating.held(&json!({ "isolation": "one" })).await;
    let other = isolating.held(&json!({ "isolation": "other" })).await;
    let (one, same, other) = (one.circuit(&tor).await, same.circuit(&tor).await, other.circuit(&tor).await);
    assert_eq!(one, same);
    assert_ne!(one, other);
}
