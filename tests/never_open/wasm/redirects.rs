//! What servers redirect components to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use frame_net::socks5::Refusal;
use serde_json::json;
use tokio::sync::mpsc;

use crate::guest::{Ask, Outcome, World as App};
use crate::sealed::PUBLIC;
use crate::support::relay::Relay;
use crate::support::{endpoint, soon};
use crate::{app_with, sealed_tests, socks5};

/// A server that redirects one request after the other to the next of these.
fn server(at: &str, to: Vec<String>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        for to in to {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://{to}/\r\n");
            stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    (address, served)
}

/// Where a response leads to, without the scheme and the path.
fn location(outcome: Outcome) -> String {
    let headers = outcome.response().headers;
    let location = headers.lines().find_map(|line| line.strip_prefix("location: http://")).unwrap();
    location.trim_end_matches('/').to_owned()
}

sealed_tests! {
    async fn a_redirect_over_clearnet_to_a_private_address(world: World) {
        // Clearnet as it is unless told otherwise: what is public may be reached.
        let app = App::with(&json!({ "clearnet": {} }), json!({}));
        let port = world.port();
        let inside = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "localhost"];
        for (tried, host) in inside.iter().enumerate() {
            let (address, served) = server(PUBLIC, vec![format!("{host}:{port}")]);
            let to = location(app.ask(&Ask::get(address), None).await);
            // As a component does that follows it.
            let outcome = app.ask(&Ask::get(&to), None).await;
            let code = if *host == "localhost" { "HTTP-request-denied" } else { "destination-IP-prohibited" };
            assert_eq!(outcome, Outcome::Failed(code), "{to}");
            served.join().unwrap();
            world.assert_silent_but_for(tried as u64 + 1);
        }
    }

    async fn a_redirect_through_an_overlay_network_goes_through_it_too(world: World) {
        let ways = world.ways_to_the_decoy();
        let (origin, served) = server("127.0.0.1", ways.to_vec());
        let relay = Relay::bind("127.0.0.1:0").await.unwrap();
        let app = app_with(&socks5(&relay.local_addr().unwrap().to_string()));
        let (asked, mut requests) = mpsc::unbounded_channel();
        tokio::spawn(relay.serve(move |request| {
            asked.send(request.to.clone()).unwrap();
            if request.to.to_string() == "origin.example:80" { Ok(origin) } else { Err(Refusal::NotAllowed) }
        }));
        for (tried, way) in ways.iter().enumerate() {
            let to = location(app.ask(&Ask::get("origin.example"), Some("app:overlay")).await);
            assert_eq!(to, *way);
            assert_eq!(soon(requests.recv()).await.unwrap(), endpoint("origin.example:80"));
            assert!(requests.try_recv().is_err(), "nobody but the component follows it");
            let outcome = app.ask(&Ask::get(&to), Some("app:overlay")).await;
            assert_eq!(outcome, Outcome::Failed("HTTP-request-denied"), "{to}");
            assert_eq!(soon(requests.recv()).await.unwrap(), endpoint(way));
            // Two to the relay, and the relay's own to the origin.
            world.assert_silent_but_for(3 * (tried as u64 + 1));
        }
        served.join().unwrap();
    }
}
