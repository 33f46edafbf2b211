//! Clearnet, and who gets there.

mod support;

use std::net::{Ipv4Addr, SocketAddr};

use frame_net::{Endpoint, NetworkError, Route, Step};
use frame_registry::{App, FrameBuilder};
use serde_json::json;
use tokio::net::TcpListener;

use support::{Bait, app, endpoint, failure, frame, soon};

#[tokio::test]
async fn a_frame_that_nothing_decides_for_is_on_clearnet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: Endpoint = listener.local_addr().unwrap().try_into().unwrap();
    let (app, _) = app(json!({}));
    let dialer = frame_net::dialer(&frame(&app, &json!({ "network": "" })), &app).unwrap();
    assert_eq!(dialer.route(), &Route::Clearnet);
    let stream = soon(dialer.connect(&to)).await.unwrap();
    soon(listener.accept()).await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (app, _) = app(json!({}));
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &app).unwrap();
    // Where the host file has `::1` as well, and first, nobody listens at that.
    soon(dialer.connect(&endpoint(&format!("localhost:{port}")))).await.unwrap();
    let found = soon(dialer.lookup(&"localhost".parse().unwrap())).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(std::net::IpAddr::is_loopback));
}

#[tokio::test]
async fn an_error_says_that_it_was_clearnet_and_how_far_it_came() {
    let down: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (app, _) = app(json!({}));
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &app).unwrap();
    let error = soon(dialer.connect(&down.try_into().unwrap())).await.unwrap_err();
    let (step, text) = failure(&error);
    assert_eq!(step, Step::Connect);
    assert!(
        text.starts_with(&format!("no connection to {down} through clearnet: connecting to {down} failed: "))
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_frame_built_by_hand_does_not_get_around_the_default() {
    let bait = Bait::new();
    let config = json!({ "default": "app:down", "networks": { "app:down": { "kind": "socks5", "proxy": "127.0.0.1:1" } } });
    let (app, networks) = app(config);
    let unresolved = FrameBuilder::new().seal();
    let dialer = frame_net::dialer(&unresolved, &app).unwrap();
    assert_eq!(dialer.route().to_string(), "network `app:down`");
    soon(dialer.connect(&bait.endpoint())).await.unwrap_err();

    networks.unregister(&"app:down".parse().unwrap());
    assert!(matches!(frame_net::dialer(&unresolved, &app), Err(NetworkError::NotFound { .. })));
    bait.assert_untouched();
}

#[test]
fn an_app_that_was_not_booted_has_no_way_out() {
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &App::builder().build());
    assert!(matches!(dialer, Err(NetworkError::NotBooted)));
}
