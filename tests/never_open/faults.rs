//! Overlay networks that do not work.

use std::net::{TcpListener, UdpSocket};

use frame_dispatch::{CallContext, Payload};
use frame_net::socks5::Refusal;
use frame_registry::Options;
use serde_json::{Value as Json, json};

use crate::sealed::{World, connections_opened, sealed_tests};
use crate::support::relay::Relay;
use crate::support::{Move, Scripted, Then, expect, send, soon};
use crate::{CONNECTING, Sandbox, assert_shut, socks5};

const GREETING: &[u8] = &[5, 1, 0];

fn wireguard(endpoint: &str, allowed_ips: &[&str]) -> Json {
    json!({
        "kind": "wireguard",
        "private_key": "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
        "addresses": ["10.8.0.2/24", "fd00::2/64"],
        "bind": "127.0.0.1",
        "deadline": "300ms",
        "peers": [{
            "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
            "endpoint": endpoint,
            "allowed_ips": allowed_ips,
        }],
    })
}

/// Tries every way out to every way to the decoy, and is told by each that there is none.
async fn try_all(sandbox: &Sandbox, world: &World) {
    for to in world.ways_to_the_decoy() {
        assert_shut(&sandbox.call("app:try", json!(to)).await.unwrap());
    }
}

/// The requests of one way to the decoy, each to a proxy that does this.
async fn refused_by(world: &World, moves: &[Move], then: Then, deadline_ms: u64) {
    for to in world.ways_to_the_decoy() {
        let before = connections_opened();
        let proxy = Scripted::new(moves, then).await;
        let mut config = socks5(&proxy.address);
        config["deadline"] = json!(format!("{deadline_ms}ms"));
        let sandbox = Sandbox::new(&config);
        // The proxy plays once, and is gone for all that follows.
        assert_shut(&sandbox.call("app:try", json!(to)).await.unwrap());
        world.assert_silent_but_for(before + CONNECTING);
    }
}

sealed_tests! {
    async fn a_proxy_that_is_down(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        try_all(&sandbox, &world).await;
        world.assert_silent_but_for(5 * CONNECTING);
    }

    async fn a_proxy_that_is_silent_or_closes_or_refuses(world: World) {
        refused_by(&world, &[expect(GREETING)], Then::Wait, 200).await;
        refused_by(&world, &[], Then::Close, 10_000).await;
        refused_by(&world, &[expect(GREETING), send([5])], Then::Close, 10_000).await;
        refused_by(&world, &[expect(GREETING), send([5, 0xff])], Then::Close, 10_000).await;
        for code in 1..=8 {
            let moves = [expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, code])];
            refused_by(&world, &moves, Then::Wait, 10_000).await;
        }
    }

    async fn a_proxy_that_only_another_network_knows(world: World) {
        let sandbox = Sandbox::new(&socks5("proxy.onion:1080"));
        try_all(&sandbox, &world).await;
        world.assert_silent_but_for(0);
    }

    async fn a_bridge_of_i2p_that_is_down(world: World) {
        let sandbox = Sandbox::new(&json!({
            "kind": "i2p", "sam": "127.0.0.1:1", "deadline": "300ms", "session_deadline": "300ms",
        }));
        try_all(&sandbox, &world).await;
        // What is not on I2P is not even asked for.
        world.assert_silent_but_for(0);
        let on_i2p = "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p:80";
        assert_shut(&sandbox.call("app:try", json!(on_i2p)).await.unwrap());
        assert!(!world.decoy_was_reached() && !world.dns_was_asked());
    }

    async fn a_tunnel_whose_peer_is_silent(world: World) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap().to_string();
        try_all(&Sandbox::new(&wireguard(&address, &["0.0.0.0/0", "::/0"])), &world).await;
        world.assert_silent_but_for_datagrams(0);
    }

    async fn a_tunnel_whose_peer_owns_nothing_of_it(world: World) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap().to_string();
        try_all(&Sandbox::new(&wireguard(&address, &["10.8.0.0/24"])), &world).await;
        world.assert_silent_but_for(0);
    }

    async fn a_network_in_front_that_is_down(world: World) {
        let decoy = &world.ways_to_the_decoy()[4];
        let mut behind = socks5(decoy);
        behind["via"] = json!("app:front");
        let sandbox = Sandbox::with(json!({
            "networks": { "app:front": socks5("127.0.0.1:1"), "app:overlay": behind },
        }));
        try_all(&sandbox, &world).await;
        world.assert_silent_but_for(5 * CONNECTING);
    }

    async fn a_default_that_is_broken(world: World) {
        let sandbox = Sandbox::with(json!({
            "default": "app:overlay", "networks": { "app:overlay": socks5("127.0.0.1:1") },
        }));
        for to in world.ways_to_the_decoy() {
            assert_shut(&sandbox.call_with("app:try", json!(to), json!({})).await.unwrap());
        }
        world.assert_silent_but_for(5 * CONNECTING);
    }

    async fn a_network_that_goes_away_under_a_script(world: World) {
        let sandbox = Sandbox::new(&socks5("127.0.0.1:1"));
        let networks = sandbox.networks.clone();
        let unregister = move |_: CallContext, _: Payload| {
            let is_gone = networks.unregister(&"app:overlay".parse().unwrap());
            async move { Ok(Payload::from(json!(is_gone))) }
        };
        let registered = sandbox.functions.register("app:unregister".parse().unwrap(), Options::new(), unregister);
        registered.unwrap();
        let source = format!("assert(call('app:unregister')) {}", crate::TRY);
        sandbox.add("app:script", &source, Options::new());
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            if tried > 0 {
                let again = serde_json::from_value(socks5("127.0.0.1:1")).unwrap();
                sandbox.networks.create("app:overlay".parse().unwrap(), &again).unwrap();
            }
            assert_shut(&sandbox.call("app:script", json!(to)).await.unwrap());
        }
        world.assert_silent_but_for(0);
    }

    async fn a_redirect_through_an_overlay_network(world: World) {
        let ways = world.ways_to_the_decoy();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = listener.local_addr().unwrap();
        let locations = ways.clone();
        let served = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for to in locations {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                let head = format!(
                    "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
            }
        });
        let relay = Relay::bind("127.0.0.1:0").await.unwrap();
        let sandbox = Sandbox::new(&socks5(&relay.local_addr().unwrap().to_string()));
        tokio::spawn(relay.serve(move |request| {
            if request.to.to_string() == "origin.example:80" { Ok(origin) } else { Err(Refusal::NotAllowed) }
        }));
        sandbox.add("app:get", "http.get('http://origin.example/', { timeout = 20 })", Options::new());
        let mut opened = 0;
        for to in &ways {
            let error = sandbox.call("app:get", json!(null)).await.unwrap_err();
            // Two to the relay, unless no redirect may lead there, and the relay's own to the origin.
            let is_special = to.starts_with("127.");
            assert_eq!(error.message().contains("no connection to"), !is_special, "{to}: {error}");
            opened += if is_special { 2 } else { 3 };
            world.assert_silent_but_for(opened);
        }
        soon(tokio::task::spawn_blocking(|| served.join().unwrap())).await.unwrap();
    }
}
