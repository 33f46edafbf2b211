//! Faults of a WireGuard tunnel. Datagrams are what carries it, so only here some are allowed.

use std::net::UdpSocket;

use frame_net::wireguard::PublicKey;
use frame_net::{Endpoint, LocalEndpoint, NetworkError, Secret, dialer};
use serde_json::{Value, json};

use crate::raw::{Raw, datagram};
use crate::sealed::{self, PUBLIC};
use crate::support::{endpoint, soon};
use crate::{app_with, connect, sealed_tests};

/// A key, and somebody else's public one.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC_OF_ANOTHER: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";

/// The key of a peer that is played by hand.
const PRIVATE_OF_PEER: &str = "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM=";

/// A tunnel to a peer at `endpoint` that owns these addresses.
fn tunnel(endpoint: &str, allowed_ips: &[&str]) -> Value {
    json!({
        "kind": "wireguard",
        "private_key": PRIVATE,
        "addresses": ["10.8.0.2/24", "fd00::2/64"],
        "bind": "127.0.0.1",
        "deadline": "1s",
        "peers": [{ "public_key": PUBLIC_OF_ANOTHER, "endpoint": endpoint, "allowed_ips": allowed_ips }],
    })
}

/// What a peer with another key does with what it gets: nothing.
fn deaf() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

sealed_tests! {
    async fn a_peer_that_has_another_key(world: World) {
        // Another end of a tunnel that runs, only that it is not whom the first one looks for.
        let (_, address) = deaf();
        let mut other = tunnel("127.0.0.1:1", &["10.8.0.2/32"]);
        other["listen_port"] = json!(address.parse::<std::net::SocketAddr>().unwrap().port());
        other["private_key"] = json!("QKV6UrGUVNvBKFHBsC5mVkaBJMgnTMEVp0PkX0uRUnE=");
        let (_app, _, _) = app_with(&other);

        let (app, _, frame) = app_with(&tunnel(&address, &["0.0.0.0/0", "::/0"]));
        let [v4, v6, loopback, ..] = world.ways_to_the_decoy();
        for to in [&v4, &v6, &loopback] {
            let error = soon(connect(&app, &frame, to)).await.unwrap_err();
            // What is a host's own address is nowhere in a tunnel.
            assert_eq!(error.is_retryable(), *to != loopback, "{error:?}");
            world.assert_silent_but_for_datagrams(0);
        }
    }

    async fn a_peer_that_is_silent(world: World) {
        let (peer, address) = deaf();
        let (app, _, frame) = app_with(&tunnel(&address, &["0.0.0.0/0", "::/0"]));
        let error = soon(connect(&app, &frame, &world.ways_to_the_decoy()[0])).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(peer.recv_from(&mut [0; 2048]).is_ok(), "it was asked for a handshake");
        world.assert_silent_but_for_datagrams(0);
    }

    async fn a_destination_that_no_peer_owns(world: World) {
        let (peer, address) = deaf();
        let (app, _, frame) = app_with(&tunnel(&address, &["10.8.0.0/24"]));
        let [v4, v6, loopback, ..] = world.ways_to_the_decoy();
        for to in [v4, v6, loopback] {
            let error = soon(connect(&app, &frame, &to)).await.unwrap_err();
            assert!(matches!(error, NetworkError::Connect { .. }) && !error.is_retryable(), "{error:?}");
        }
        let dialer = dialer(&frame, &app).unwrap();
        let datagrams = soon(dialer.bind_datagram(&LocalEndpoint::port(0))).await.unwrap();
        let decoy: Endpoint = endpoint(&format!("{PUBLIC}:53"));
        soon(datagrams.send_to(b"to nobody", &decoy)).await.unwrap_err();
        assert!(peer.recv_from(&mut [0; 2048]).is_err(), "not even a handshake was begun");
        world.assert_silent_but_for(0);
    }

    async fn a_peer_that_forges_the_source_of_what_it_sends(world: World) {
        let mut peer = Raw::new(PRIVATE_OF_PEER, PRIVATE).await;
        let mut config = tunnel(&peer.address().to_string(), &["10.8.0.1/32"]);
        config["peers"][0]["public_key"] = json!(PublicKey::of(&Secret::new(PRIVATE_OF_PEER)).unwrap().to_string());
        let (app, _, frame) = app_with(&config);
        let dialer = dialer(&frame, &app).unwrap();
        let datagrams = soon(dialer.bind_datagram(&LocalEndpoint::port(9))).await.unwrap();
        soon(datagrams.send_to(b"hello", &endpoint("10.8.0.1:9"))).await.unwrap();
        let (_, from) = peer.packet().await;

        let ours = ([10, 8, 0, 2].into(), 9);
        for forged in [[10, 8, 0, 3].into(), PUBLIC.parse().unwrap(), [127, 0, 0, 1].into(), ours.0] {
            peer.send(&datagram((forged, 9), ours, b"forged"), from).await;
        }
        // And one that is for somebody else, whom this host could pass it on to.
        let decoy = (PUBLIC.parse().unwrap(), world.port());
        peer.send(&datagram(([10, 8, 0, 1].into(), 9), decoy, b"for the decoy"), from).await;
        peer.send(&datagram(([10, 8, 0, 1].into(), 9), ours, b"honest"), from).await;
        let mut buffer = [0; 100];
        let (len, sender) = soon(datagrams.receive_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..len], sender.to_string().as_str()), (&b"honest"[..], "10.8.0.1:9"));
        world.assert_silent_but_for_datagrams(0);
    }

    async fn a_name_where_there_is_no_name_server_in_the_tunnel(world: World) {
        let (_peer, address) = deaf();
        let (app, _, frame) = app_with(&tunnel(&address, &["0.0.0.0/0", "::/0"]));
        let dialer = dialer(&frame, &app).unwrap();
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
            let error = soon(connect(&app, &frame, &format!("{name}:80"))).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
            soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err();
        }
        world.assert_silent_but_for(0);
    }

    async fn a_name_server_in_the_tunnel_that_is_silent(world: World) {
        let (_peer, address) = deaf();
        let mut config = tunnel(&address, &["0.0.0.0/0", "::/0"]);
        // Its address is that of the DNS server of this host, which is another.
        config["dns"] = json!([PUBLIC, "127.0.0.1"]);
        let (app, _, frame) = app_with(&config);
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
            soon(connect(&app, &frame, &format!("{name}:80"))).await.unwrap_err();
            world.assert_silent_but_for_datagrams(0);
        }
    }

    async fn a_dial_through_a_tunnel_that_is_cancelled(world: World) {
        let (peer, address) = deaf();
        peer.set_nonblocking(false).unwrap();
        let mut config = tunnel(&address, &["0.0.0.0/0", "::/0"]);
        config["deadline"] = json!("60s");
        let (app, networks, frame) = app_with(&config);
        let asked = tokio::task::spawn_blocking(move || peer.recv_from(&mut [0; 2048]).is_ok());
        let to = &world.ways_to_the_decoy()[0];
        tokio::select! {
            _ = connect(&app, &frame, to) => panic!("the peer is silent"),
            asked = soon(asked) => assert!(asked.unwrap()),
        }
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        world.assert_silent_but_for_datagrams(0);
    }
}
