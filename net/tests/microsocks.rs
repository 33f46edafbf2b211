//! The SOCKS5 network through microsocks, as a program uses it.

mod servers;
mod support;

use frame_net::Endpoint;
use frame_net::socks5::{HandshakeError, Refusal};
use serde_json::{Value, json};

use servers::microsocks::Microsocks;
use servers::origin::{Origin, assert_connected, bytes, transfer};
use servers::{handshake_error, port, refusal};
use support::{Bait, connect_through};

const MIB: usize = 1 << 20;

fn through(proxy: &Microsocks) -> Value {
    json!({ "proxy": proxy.address.to_string() })
}

fn through_as(proxy: &Microsocks, username: &str, password: &str) -> Value {
    let mut config = through(proxy);
    config["credentials"] = json!({ "username": username, "password": password });
    config
}

#[tokio::test]
async fn who_has_the_credentials_is_served() {
    let Some(proxy) = Microsocks::with_credentials("app", "xyzzy").await else { return };
    let origin = Origin::new().await;
    let mut client = connect_through(through_as(&proxy, "app", "xyzzy"), &origin.endpoint()).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn credentials_may_be_as_long_as_the_protocol_allows() {
    let (username, password) = ("u".repeat(255), "p".repeat(255));
    let Some(proxy) = Microsocks::with_credentials(&username, &password).await else { return };
    let origin = Origin::new().await;
    let config = through_as(&proxy, &username, &password);
    let mut client = connect_through(config, &origin.endpoint()).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good() {
    let bait = Bait::new();
    let Some(proxy) = Microsocks::with_credentials("app", "xyzzy").await else { return };
    let error = connect_through(through_as(&proxy, "app", "plugh"), &bait.endpoint()).await.unwrap_err();
    assert!(matches!(handshake_error(&error), HandshakeError::CredentialsRefused { .. }), "{error:?}");
    assert!(!error.is_retryable());
    bait.assert_untouched();
}

#[tokio::test]
async fn who_has_no_credentials_is_refused_for_good() {
    let bait = Bait::new();
    let Some(proxy) = Microsocks::with_credentials("app", "xyzzy").await else { return };
    let error = connect_through(through(&proxy), &bait.endpoint()).await.unwrap_err();
    assert_eq!(handshake_error(&error), HandshakeError::NoMethod { offered: 0 });
    assert!(!error.is_retryable());
    bait.assert_untouched();
}

#[tokio::test]
async fn the_proxy_looks_a_name_up() {
    let Some(proxy) = Microsocks::start().await else { return };
    let origin = Origin::new().await;
    let to = Endpoint::new("localhost".parse().unwrap(), origin.address().port()).unwrap();
    let mut client = connect_through(through(&proxy), &to).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    let Some(proxy) = Microsocks::start().await else { return };
    let nobody = port::free_v4().try_into().unwrap();
    let error = connect_through(through(&proxy), &nobody).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::ConnectionRefused);
    assert!(error.is_retryable());
}

// One way after the other: microsocks writes to one side before it reads from the other again, so that it comes to a
// standstill when both have more to send than fits on the way.
#[tokio::test]
async fn bulk_arrives() {
    let Some(proxy) = Microsocks::start().await else { return };
    let origin = Origin::new().await;
    let mut client = connect_through(through(&proxy), &origin.endpoint()).await.unwrap();
    let mut origin = origin.accept().await;
    transfer(&mut client, &mut origin, &bytes(1, 8 * MIB)).await;
    transfer(&mut origin, &mut client, &bytes(2, 8 * MIB)).await;
}
