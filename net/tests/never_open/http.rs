//! HTTP requests of a frame, and what servers redirect them to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use frame_net::http::{HttpClient, HttpConfig, HttpError, RedirectError, Request};
use frame_net::socks5::{Refusal, Relay};
use frame_net::{NetworkError, dialer};
use serde_json::json;
use tokio::sync::mpsc;

use crate::sealed::{LOCAL_NAME, PUBLIC};
use crate::support::{self, endpoint, frame, soon};
use crate::{app_with, sealed_tests, socks5};

/// A server that answers one request after the other, each connection's with the next of these heads.
fn server(at: &str, heads: Vec<String>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        for head in heads {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(format!("{head}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    (address, served)
}

/// Answers one request, and says how many bytes follow it over the same connection.
fn answer_once(listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    let mut seen = [0; 4096];
    assert!(stream.read(&mut seen).unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    stream.read(&mut seen).unwrap_or(0)
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://{to}/")
}

fn client() -> HttpClient {
    HttpClient::new(HttpConfig::default()).unwrap()
}

fn network_error(error: &HttpError) -> &NetworkError {
    let HttpError::Network(error) = error else { panic!("{error:?}") };
    error
}

sealed_tests! {
    async fn a_redirect_over_clearnet_to_a_private_address(world: World) {
        // Clearnet as it is unless told otherwise: what is public may be reached.
        let (app, _) = support::app(json!({ "clearnet": {} }));
        let on_clearnet = frame(&app, &json!({}));
        let port = world.port();
        let inside = [
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
            format!("[::ffff:127.0.0.1]:{port}"),
            format!("0.0.0.0:{port}"),
            format!("2130706433:{port}"),
            format!("0x7f.1:{port}"),
            format!("localhost:{port}"),
        ];
        for (tried, to) in inside.iter().enumerate() {
            let (address, served) = server(PUBLIC, vec![redirect(to)]);
            let request = Request::get(&format!("http://{address}/")).unwrap();
            let error = soon(client().send(&dialer(&on_clearnet, &app).unwrap(), request)).await.unwrap_err();
            assert!(matches!(error, HttpError::Redirect { why: RedirectError::Special, .. }), "{to}: {error:?}");
            assert!(!error.is_retryable(), "{to}: {error:?}");
            served.join().unwrap();
            world.assert_silent_but_for(tried as u64 + 1);
        }
    }

    async fn a_redirect_over_clearnet_that_leads_everywhere_to_a_private_address(world: World) {
        let (app, _, _) = app_with(&socks5("127.0.0.1:1"));
        let on_clearnet = frame(&app, &json!({}));
        let port = world.port();
        for (tried, to) in [format!("127.0.0.1:{port}"), format!("localhost:{port}")].iter().enumerate() {
            let (address, served) = server(PUBLIC, vec![redirect(to)]);
            let request = Request::get(&format!("http://{LOCAL_NAME}:{}/", address.port())).unwrap();
            let error = soon(client().send(&dialer(&on_clearnet, &app).unwrap(), request)).await.unwrap_err();
            assert!(matches!(error, HttpError::Redirect { why: RedirectError::Special, .. }), "{to}: {error:?}");
            served.join().unwrap();
            // One to the name's IPv6 address, where the server is not, and one to the other.
            world.assert_silent_but_for(2 * (tried as u64 + 1));
        }
    }

    async fn a_redirect_through_an_overlay_network_goes_through_it_too(world: World) {
        let ways = world.ways_to_the_decoy();
        let (origin, served) = server("127.0.0.1", ways.iter().map(|to| redirect(to)).collect());
        let relay = Relay::bind("127.0.0.1:0").await.unwrap();
        let (app, _, frame) = app_with(&socks5(&relay.local_addr().unwrap().to_string()));
        let (asked, mut requests) = mpsc::unbounded_channel();
        tokio::spawn(relay.serve(move |request| {
            asked.send(request.to.clone()).unwrap();
            if request.to.to_string() == "origin.example:80" { Ok(origin) } else { Err(Refusal::NotAllowed) }
        }));
        let client = client();
        let mut opened = 0;
        for to in &ways {
            let request = Request::get("http://origin.example/").unwrap();
            let error = soon(client.send(&dialer(&frame, &app).unwrap(), request)).await.unwrap_err();
            assert_eq!(soon(requests.recv()).await.unwrap(), endpoint("origin.example:80"));
            // One to the relay, and the relay's own to the origin.
            opened += 2;
            if to.starts_with("127.") {
                assert!(matches!(error, HttpError::Redirect { .. }), "{to}: {error:?}");
            } else {
                assert!(matches!(error, HttpError::Network(_)), "{to}: {error:?}");
                assert_eq!(soon(requests.recv()).await.unwrap(), endpoint(to));
                opened += 1;
            }
            world.assert_silent_but_for(opened);
        }
        assert!(requests.try_recv().is_err());
        served.join().unwrap();
    }

    async fn a_request_through_a_proxy_that_is_down_though_the_environment_names_another(world: World) {
        let (app, networks, frame) = app_with(&socks5("127.0.0.1:1"));
        let client = client();
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            for scheme in ["http", "https"] {
                let request = Request::get(&format!("{scheme}://{to}/")).unwrap();
                let error = soon(client.send(&dialer(&frame, &app).unwrap(), request)).await.unwrap_err();
                assert!(matches!(network_error(&error), NetworkError::Connect { .. }), "{to}: {error:?}");
            }
            world.assert_silent_but_for(2 * (tried as u64 + 1));
        }
        let dialer = dialer(&frame, &app).unwrap();
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            let request = Request::get(&format!("http://{to}/")).unwrap();
            let error = soon(client.send(&dialer, request)).await.unwrap_err();
            assert!(matches!(network_error(&error), NetworkError::NotFound { .. }), "{to}: {error:?}");
        }
        world.assert_silent_but_for(10);
    }

    async fn a_connection_that_waits_is_not_used_once_its_network_is_unregistered(world: World) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = listener.local_addr().unwrap();
        let served = thread::spawn(move || answer_once(&listener));
        let relay = Relay::bind("127.0.0.1:0").await.unwrap();
        let (app, networks, frame) = app_with(&socks5(&relay.local_addr().unwrap().to_string()));
        tokio::spawn(relay.serve(move |_| Ok(origin)));
        let (client, dialer) = (client(), dialer(&frame, &app).unwrap());
        let request = || Request::get("http://origin.example/").unwrap();
        soon(client.send(&dialer, request())).await.unwrap().bytes().await.unwrap();

        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        let error = soon(client.send(&dialer, request())).await.unwrap_err();
        assert!(matches!(network_error(&error), NetworkError::NotFound { .. }), "{error:?}");
        let after = soon(tokio::task::spawn_blocking(|| served.join().unwrap())).await.unwrap();
        assert_eq!(after, 0, "the origin gets nothing more, and is told so");
        world.assert_silent_but_for(2);
    }

    async fn a_connection_that_waits_is_not_used_once_the_network_in_front_is_unregistered(world: World) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = listener.local_addr().unwrap();
        let served = thread::spawn(move || answer_once(&listener));
        let (front, behind) = (Relay::bind("127.0.0.1:0").await.unwrap(), Relay::bind("127.0.0.1:0").await.unwrap());
        let behind_address = behind.local_addr().unwrap();
        let (app, networks, _) = app_with(&socks5(&front.local_addr().unwrap().to_string()));
        tokio::spawn(front.serve(move |_| Ok(behind_address)));
        tokio::spawn(behind.serve(move |_| Ok(origin)));
        let mut config = socks5("proxy.example:1080");
        config["via"] = json!("app:overlay");
        networks.create("app:behind".parse().unwrap(), &serde_json::from_value(config).unwrap()).unwrap();
        let dialer = dialer(&frame(&app, &json!({ "network": "app:behind" })), &app).unwrap();
        let client = client();
        let request = || Request::get("http://origin.example/").unwrap();
        soon(client.send(&dialer, request())).await.unwrap().bytes().await.unwrap();

        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        let error = soon(client.send(&dialer, request())).await.unwrap_err();
        assert!(matches!(network_error(&error), NetworkError::Connect { .. }), "{error:?}");
        let after = soon(tokio::task::spawn_blocking(|| served.join().unwrap())).await.unwrap();
        assert_eq!(after, 0, "the origin gets nothing more, and is told so");
        world.assert_silent_but_for(3);
    }
}
