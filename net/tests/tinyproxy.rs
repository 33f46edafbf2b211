//! The network of an HTTP proxy through tinyproxy, as a program uses it, and through TLS in front of it.

mod authority;
mod servers;
mod support;

use frame_net::http_connect::HttpConnectError;
use frame_net::{Cause, Endpoint, NetworkError};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use authority::Authority;
use servers::origin::{Origin, assert_connected, bytes, transfer};
use servers::port;
use servers::tinyproxy::Tinyproxy;
use support::{Bait, connect_through};

const MIB: usize = 1 << 20;

fn through(proxy: &Tinyproxy) -> Value {
    json!({ "kind": "http-connect", "proxy": proxy.address.to_string() })
}

fn through_as(proxy: &Tinyproxy, username: &str, password: &str) -> Value {
    let mut config = through(proxy);
    config["credentials"] = json!({ "username": username, "password": password });
    config
}

fn refusal(error: &NetworkError) -> HttpConnectError {
    let NetworkError::Connect { source, .. } = error else { panic!("{error:?}") };
    let Cause::HttpConnect(error) = source.cause() else { panic!("{source:?}") };
    *error
}

#[tokio::test]
async fn an_address_and_a_name_are_reached() {
    let Some(proxy) = Tinyproxy::start().await else { return };
    let origin = Origin::new().await;
    let by_name = Endpoint::new("localhost".parse().unwrap(), origin.address().port()).unwrap();
    for to in [origin.endpoint(), by_name] {
        let mut client = connect_through(through(&proxy), &to).await.unwrap();
        assert_connected(&mut client, &mut origin.accept().await).await;
    }
}

#[tokio::test]
async fn who_has_the_credentials_is_served() {
    let Some(proxy) = Tinyproxy::with_credentials("app", "xyzzy").await else { return };
    let origin = Origin::new().await;
    let mut client = connect_through(through_as(&proxy, "app", "xyzzy"), &origin.endpoint()).await.unwrap();
    assert_connected(&mut client, &mut origin.accept().await).await;
}

#[tokio::test]
async fn who_has_no_credentials_or_others_is_refused_for_good() {
    let bait = Bait::new();
    let Some(proxy) = Tinyproxy::with_credentials("app", "xyzzy").await else { return };
    let cases = [
        (through(&proxy), HttpConnectError::CredentialsRequired),
        (through_as(&proxy, "app", "plugh"), HttpConnectError::CredentialsRefused),
    ];
    for (config, expected) in cases {
        let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
        // Versions before 1.11.2 send 401 to who says nothing.
        let refusal = refusal(&error);
        assert!([expected, HttpConnectError::Refused { status: 401 }].contains(&refusal), "{refusal:?}");
        assert!(!error.is_retryable());
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn what_its_rules_do_not_allow_is_refused_for_good() {
    let bait = Bait::new();
    let Some(proxy) = Tinyproxy::connecting_to(443).await else { return };
    let error = connect_through(through(&proxy), &bait.endpoint()).await.unwrap_err();
    assert_eq!(refusal(&error), HttpConnectError::Refused { status: 403 });
    assert!(!error.is_retryable());
    bait.assert_untouched();
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_may_be_later() {
    let Some(proxy) = Tinyproxy::start().await else { return };
    for to in [port::free_v4().try_into().unwrap(), "does-not.invalid:80".parse().unwrap()] {
        let error = connect_through(through(&proxy), &to).await.unwrap_err();
        assert!(matches!(refusal(&error), HttpConnectError::Refused { status: 500..=504 }), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn bulk_arrives() {
    let Some(proxy) = Tinyproxy::start().await else { return };
    let origin = Origin::new().await;
    let client = connect_through(through(&proxy), &origin.endpoint()).await.unwrap();
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = origin.accept().await.into_split();
    let (up, down) = (bytes(1, 8 * MIB), bytes(2, 8 * MIB));
    tokio::join!(
        transfer(&mut client_write, &mut origin_read, &up),
        transfer(&mut origin_write, &mut client_read, &down),
    );
}

#[tokio::test]
async fn tls_in_front_of_it_keeps_the_credentials_to_the_proxy() {
    let Some(proxy) = Tinyproxy::with_credentials("app", "xyzzy").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = through_as(&proxy, "app", "xyzzy");
    config["proxy"] = json!(listener.local_addr().unwrap().to_string());
    config["tls"] = json!(true);
    config["ca_file"] = json!(authority.file(&folder));
    let behind = proxy.address;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut client = acceptor.accept(client).await.unwrap();
            let mut behind = TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut behind).await });
        }
    });
    let origin = Origin::new().await;
    let mut client = connect_through(config, &origin.endpoint()).await.unwrap();
    let mut origin = origin.accept().await;
    assert_connected(&mut client, &mut origin).await;
    transfer(&mut client, &mut origin, &bytes(3, MIB)).await;
    transfer(&mut origin, &mut client, &bytes(4, MIB)).await;
}
