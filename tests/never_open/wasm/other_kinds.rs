//! Networks that are no proxies.

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::guest::{Ask, Outcome};
use crate::sealed::{LOCAL_NAME, REMOTE_NAME};
use crate::{app_with, refused, sealed_tests};

fn i2p(bridge: &str) -> Value {
    json!({ "kind": "i2p", "sam": bridge, "deadline": "300ms", "session_deadline": "300ms" })
}

/// A tunnel whose peer, at `endpoint`, owns these addresses.
fn tunnel(endpoint: &str, allowed_ips: &[&str]) -> Value {
    json!({
        "kind": "wireguard",
        "private_key": "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
        "addresses": ["10.8.0.2/24", "fd00::2/64"],
        "bind": "127.0.0.1",
        "deadline": "500ms",
        "peers": [{
            "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
            "endpoint": endpoint,
            "allowed_ips": allowed_ips,
        }],
    })
}

sealed_tests! {
    async fn a_bridge_of_i2p_that_is_down(world: World) {
        let app = app_with(&i2p("127.0.0.1:1"));
        let to = "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p";
        let outcome = app.ask(&Ask::get(to), Some("app:overlay")).await;
        assert_eq!(outcome, Outcome::Failed("destination-unavailable"));
        assert!(!world.decoy_was_reached() && !world.dns_was_asked());
    }

    async fn what_is_not_on_i2p(world: World) {
        let app = app_with(&i2p("127.0.0.1:1"));
        for to in world.ways_to_the_decoy() {
            assert_eq!(refused(&app, &to).await, ["destination-unavailable"; 2], "{to}");
        }
        // The bridge was not even asked.
        world.assert_silent_but_for(0);
    }

    async fn a_peer_of_a_tunnel_that_is_silent(world: World) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let app = app_with(&tunnel(&peer.local_addr().unwrap().to_string(), &["0.0.0.0/0", "::/0"]));
        let to = &world.ways_to_the_decoy()[0];
        assert_eq!(refused(&app, to).await, ["connection-timeout"; 2]);
        assert!(peer.recv_from(&mut [0; 2048]).is_ok(), "it was asked for a handshake");
        world.assert_silent_but_for_datagrams(0);
    }

    async fn what_no_peer_of_a_tunnel_owns(world: World) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let app = app_with(&tunnel(&peer.local_addr().unwrap().to_string(), &["10.8.0.0/24"]));
        let [v4, v6, loopback, ..] = world.ways_to_the_decoy();
        for to in [&v4, &v6, &loopback] {
            assert_eq!(refused(&app, to).await, ["destination-unavailable"; 2], "{to}");
        }
        // There is no name server in it.
        for name in [LOCAL_NAME, REMOTE_NAME, "localhost"] {
            assert_eq!(refused(&app, name).await, ["configuration-error"; 2], "{name}");
        }
        world.assert_silent_but_for(0);
    }
}
