//! The SOCKS5 network through a tor that is cut off from its network: how it refuses, and that nobody is connected to.

mod servers;
mod support;

use std::io;

use frame_net::socks5::{HandshakeError, Refusal, Stage};
use frame_net::{Cause, DriverStep, Endpoint, NetworkError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use servers::tor::Tor;
use servers::{handshake_error, refusal};
use support::{Bait, connect_through, endpoint, failure, soon};

/// An address of an onion service, as they are since version 3.
const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion:80";

/// The same with its last letter changed, so that its checksum is wrong.
const NO_ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczae.onion:80";

fn through(tor: &Tor) -> Value {
    json!({ "proxy": tor.socks.to_string() })
}

async fn refused(tor: &Tor, to: &Endpoint) -> NetworkError {
    connect_through(through(tor), to).await.unwrap_err()
}

#[tokio::test]
async fn this_host_and_its_neighbours_are_not_connected_to() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let bait = Bait::new();
    let port = bait.endpoint().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "[fd00::1]"] {
        let error = refused(&tor, &endpoint(&format!("{host}:{port}"))).await;
        assert_eq!(refusal(&error), Refusal::GeneralFailure, "{host}");
        assert!(error.is_retryable());
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn what_tor_does_not_reach_in_time_has_expired() {
    let Some(tor) = Tor::offline().await else { return };
    // The last two are reserved for documentation.
    let targets = [endpoint("does-not.invalid:80"), endpoint("192.0.2.7:80"), endpoint("[2001:db8::7]:80")];
    let [name, v4, v6] = targets.each_ref().map(|to| refused(&tor, to));
    let (name, v4, v6) = tokio::join!(name, v4, v6);
    for error in [name, v4, v6] {
        assert_eq!(refusal(&error), Refusal::TtlExpired);
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn an_onion_service_that_tor_does_not_find_in_time_has_expired() {
    let Some(tor) = Tor::offline().await else { return };
    let error = refused(&tor, &endpoint(ONION)).await;
    assert_eq!(refusal(&error), Refusal::TtlExpired);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_onion_service_that_cannot_be_is_a_failure() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let error = refused(&tor, &endpoint(NO_ONION)).await;
    assert_eq!(refusal(&error), Refusal::GeneralFailure);
}

#[tokio::test]
async fn codes_of_tors_own_are_kept() {
    let Some(tor) = Tor::offline_with_extended_errors().await else { return };
    let error = refused(&tor, &endpoint(NO_ONION)).await;
    assert_eq!(refusal(&error), Refusal::Unassigned(0xf6), "the code of an address that is none");
}

#[tokio::test]
async fn credentials_are_taken_as_they_come() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let bait = Bait::new();
    let mut config = through(&tor);
    config["credentials"] = json!({ "username": "anyone", "password": "anything" });
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    // The request that follows them is what is refused.
    assert_eq!(failure(&error).0, DriverStep::Socks5(Stage::Request));
    bait.assert_untouched();
}

#[tokio::test]
async fn a_username_that_tor_reserves_is_refused() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let bait = Bait::new();
    let mut config = through(&tor);
    config["credentials"] = json!({ "username": "<torS0X>9", "password": "anything" });
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    assert_eq!(failure(&error).0, DriverStep::Socks5(Stage::Authentication));
    // It answers the credentials with the reply to a request, whose version is another.
    assert_eq!(handshake_error(&error), HandshakeError::AuthenticationVersion { version: 5 });
    bait.assert_untouched();
}

/// Why a SOCKS5 network has no datagrams: the proxy that most of them go to does not carry any.
#[tokio::test]
async fn tor_carries_no_datagrams() {
    let Some(tor) = Tor::offline().await else { return };
    let mut stream = TcpStream::connect(tor.socks).await.unwrap();
    // A greeting, and UDP ASSOCIATE for any port (RFC 1928).
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut chosen = [0; 2];
    soon(stream.read_exact(&mut chosen)).await.unwrap();
    assert_eq!(chosen, [5, 0]);
    stream.write_all(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let mut reply = [0; 2];
    soon(stream.read_exact(&mut reply)).await.unwrap();
    assert_eq!(Refusal::from_code(reply[1]), Some(Refusal::CommandNotSupported));
}

#[tokio::test]
async fn the_deadline_holds_where_tor_is_patient() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let mut config = through(&tor);
    // Long enough for a tor on a busy machine to get to the request.
    config["deadline"] = json!("5s");
    let error = connect_through(config, &endpoint("does-not.invalid:80")).await.unwrap_err();
    let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.step(), DriverStep::Socks5(Stage::Request));
    assert!(matches!(source.cause(), Cause::TimedOut { limit } if limit.as_secs() == 5), "{source:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn who_waits_for_a_tor_that_ends_is_refused() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let config = through(&tor);
    let dialing =
        tokio::spawn(async move { connect_through(config, &endpoint("does-not.invalid:80")).await });
    tor.is_asked().await;
    drop(tor);
    let error = soon(dialing).await.unwrap().unwrap_err();
    assert_eq!(failure(&error).0, DriverStep::Socks5(Stage::Request));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn without_tor_nobody_is_connected_to() {
    let Some(tor) = Tor::offline_and_patient().await else { return };
    let bait = Bait::new();
    let config = through(&tor);
    drop(tor);
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.step(), DriverStep::Connect);
    let is_refusal = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    assert!(matches!(source.cause(), Cause::Io(error) if is_refusal(error)), "{source:?}");
    bait.assert_untouched();
}
