//! HTTP requests of a frame, and what servers redirect them to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use frame_net::http::websocket::{WebSocketError, WebSocketRequest};
use frame_net::http::{HttpClient, HttpConfig, HttpError, RedirectError, Request, StatusCode};
use frame_net::socks5::Refusal;
use frame_net::{Cause, DeniedBy, Dialer, NetworkError, dialer};
use serde_json::json;
use tokio::sync::mpsc;

use crate::sealed::{INSIDE_NAMES, LOCAL_NAME, PUBLIC};
use crate::support::relay::Relay;
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

/// A dialer over clearnet, and one through a network that goes nowhere else. Both may reach the loopback interface.
fn dialers_to_loopback() -> [Dialer; 2] {
    let allow = json!(["127.0.0.1"]);
    let (app, _) = support::app(json!({
        "clearnet": { "allow": allow },
        "networks": { "app:direct": { "kind": "direct", "allow": allow } },
    }));
    [json!({}), json!({ "network": "app:direct" })]
        .map(|options| dialer(&frame(&app, &options), &app).unwrap())
}

async fn get(
    client: &HttpClient,
    dialer: &Dialer,
    to: impl std::fmt::Display,
) -> Result<StatusCode, HttpError> {
    let response = soon(client.send(dialer, Request::get(&format!("http://{to}/")).unwrap())).await?;
    let status = response.status();
    response.bytes().await?;
    Ok(status)
}

fn is_refused_redirect(error: &HttpError) -> bool {
    let NetworkError::Connect { source, .. } = network_error(error) else { panic!("{error:?}") };
    matches!(source.cause(), Cause::Denied(denied) if matches!(denied.by(), DeniedBy::Redirected(_)))
}

sealed_tests! {
    async fn a_redirect_from_a_public_host_to_a_name_that_is_found_to_be_private(world: World) {
        let [inside, _] = INSIDE_NAMES;
        let mut opened = 0;
        for dialer in dialers_to_loopback() {
            let to = format!("{inside}:{}", world.port());
            // Also at the end of a chain.
            let (last, last_served) = server(PUBLIC, vec![redirect(&to)]);
            let (first, first_served) = server(PUBLIC, vec![redirect(&to), redirect(&last.to_string())]);
            for chained in 0..2 {
                let error = get(&client(), &dialer, first).await.unwrap_err();
                assert!(is_refused_redirect(&error) && !error.is_retryable(), "{error:?}");
                opened += 1 + chained;
                world.assert_silent_but_for(opened);
            }
            first_served.join().unwrap();
            last_served.join().unwrap();
        }
    }

    async fn a_redirect_from_a_public_host_does_not_get_a_connection_to_a_private_one_that_waits(world: World) {
        let [inside, _] = INSIDE_NAMES;
        let [dialer, _] = dialers_to_loopback();
        let client = client();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("{inside}:{}", listener.local_addr().unwrap().port());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.read(&mut [0; 4096]).unwrap() > 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        assert_eq!(get(&client, &dialer, &to).await.unwrap(), StatusCode::OK);

        let (address, public) = server(PUBLIC, vec![redirect(&to)]);
        let error = get(&client, &dialer, address).await.unwrap_err();
        assert!(is_refused_redirect(&error), "{error:?}");
        public.join().unwrap();
        world.assert_silent_but_for(2);
        // It waits there still, for who asks for it.
        assert_eq!(get(&client, &dialer, &to).await.unwrap(), StatusCode::OK);
        world.assert_silent_but_for(2);
    }

    async fn a_redirect_from_a_name_that_is_found_to_be_private_to_another(_world: World) {
        let [inside, too] = INSIDE_NAMES;
        for dialer in dialers_to_loopback() {
            let ok = "HTTP/1.1 200 OK\r\nConnection: close".to_owned();
            let (last, last_served) = server("127.0.0.1", vec![ok]);
            let to = format!("{too}:{}", last.port());
            let (first, first_served) = server("127.0.0.1", vec![redirect(&to)]);
            let from = format!("{inside}:{}", first.port());
            assert_eq!(get(&client(), &dialer, &from).await.unwrap(), StatusCode::OK);
            first_served.join().unwrap();
            last_served.join().unwrap();
        }
    }

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
            assert!(matches!(error, HttpError::Redirect { source: RedirectError::Special, .. }), "{to}: {error:?}");
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
            assert!(matches!(error, HttpError::Redirect { source: RedirectError::Special, .. }), "{to}: {error:?}");
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

    async fn a_websocket_through_a_proxy_that_is_down_or_a_network_that_is_not_there(world: World) {
        let (app, networks, frame) = app_with(&socks5("127.0.0.1:1"));
        let (client, dialer) = (client(), dialer(&frame, &app).unwrap());
        let connect = async |scheme: &str, to: &str| {
            let request = WebSocketRequest::new(&format!("{scheme}://{to}/")).unwrap();
            match soon(client.websocket(&dialer, request)).await.unwrap_err() {
                WebSocketError::Http(HttpError::Network(error)) => std::sync::Arc::into_inner(error).unwrap(),
                error => panic!("{to}: {error:?}"),
            }
        };
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            for scheme in ["ws", "wss"] {
                let error = connect(scheme, to).await;
                assert!(matches!(error, NetworkError::Connect { .. }), "{to}: {error:?}");
            }
            world.assert_silent_but_for(2 * (tried as u64 + 1));
        }
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            let error = connect("ws", &to).await;
            assert!(matches!(error, NetworkError::NotFound { .. }), "{to}: {error:?}");
        }
        world.assert_silent_but_for(10);
    }

    async fn a_redirect_of_a_websocket_is_not_followed(world: World) {
        let ways = world.ways_to_the_decoy();
        let heads = ways.iter().map(|to| redirect(to)).collect();
        let (origin, served) = server("127.0.0.1", heads);
        let [dialer, _] = dialers_to_loopback();
        for opened in 1..=ways.len() as u64 {
            let request = WebSocketRequest::new(&format!("ws://{origin}/")).unwrap();
            let error = soon(client().websocket(&dialer, request)).await.unwrap_err();
            assert!(matches!(error, WebSocketError::Refused { .. }), "{error:?}");
            world.assert_silent_but_for(opened);
        }
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
