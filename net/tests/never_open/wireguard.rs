//! Faults of a WireGuard tunnel. Datagrams are what carries it, so only here some are allowed.

use std::net::UdpSocket;
use std::sync::LazyLock;
use std::time::Duration;

use frame_net::wireguard::{PublicKey, helper};
use frame_net::{Endpoint, LocalEndpoint, NetworkError, Secret, dialer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::raw::{Raw, datagram};
use crate::sealed::{self, PUBLIC};
use crate::servers::program::skipped;
use crate::support::{endpoint, soon};
use crate::{app_with, connect, sealed_tests};

/// A key, and somebody else's public one.
pub(crate) const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC_OF_ANOTHER: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";

/// The key of a peer that is played by hand.
pub(crate) const PRIVATE_OF_PEER: &str = "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM=";

/// A tunnel to a peer at `endpoint` that owns these addresses.
pub(crate) fn tunnel(stack: &str, endpoint: &str, allowed_ips: &[&str]) -> Value {
    json!({
        "kind": "wireguard",
        "stack": stack,
        "private_key": PRIVATE,
        "addresses": ["10.8.0.2/24", "fd00::2/64"],
        "bind": "127.0.0.1",
        "deadline": "1s",
        "peers": [{ "public_key": PUBLIC_OF_ANOTHER, "endpoint": endpoint, "allowed_ips": allowed_ips }],
    })
}

/// The stacks that there are here.
pub(crate) fn stacks() -> &'static [&'static str] {
    static ALL: LazyLock<bool> = LazyLock::new(|| {
        helper::use_program(env!("CARGO_BIN_EXE_frame-net-helper"));
        let opened = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
        if let Err(error) = &opened {
            skipped(&format!("the kernel's stack needs /dev/net/tun: {error}"));
        }
        opened.is_ok()
    });
    if *ALL { &["user", "kernel"] } else { &["user"] }
}

/// What a peer with another key does with what it gets: nothing.
pub(crate) fn deaf() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

sealed_tests! {
    async fn a_peer_that_has_another_key(world: World) {
        for stack in stacks() {
            // Another end of a tunnel that runs, only that it is not whom the first one looks for.
            let (_, address) = deaf();
            let mut other = tunnel(stack, "127.0.0.1:1", &["10.8.0.2/32"]);
            other["listen_port"] = json!(address.parse::<std::net::SocketAddr>().unwrap().port());
            other["private_key"] = json!("QKV6UrGUVNvBKFHBsC5mVkaBJMgnTMEVp0PkX0uRUnE=");
            let (_app, _, _) = app_with(&other);

            let (app, _, frame) = app_with(&tunnel(stack, &address, &["0.0.0.0/0", "::/0"]));
            let [v4, v6, loopback, ..] = world.ways_to_the_decoy();
            for to in [&v4, &v6, &loopback] {
                let error = soon(connect(&app, &frame, to)).await.unwrap_err();
                // What is a host's own address is nowhere in a tunnel.
                assert_eq!(error.is_retryable(), *to != loopback, "{error:?}");
                world.assert_silent_but_for_datagrams(0);
            }
        }
    }

    async fn a_peer_that_is_silent(world: World) {
        for stack in stacks() {
            let (peer, address) = deaf();
            let (app, _, frame) = app_with(&tunnel(stack, &address, &["0.0.0.0/0", "::/0"]));
            let error = soon(connect(&app, &frame, &world.ways_to_the_decoy()[0])).await.unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            assert!(peer.recv_from(&mut [0; 2048]).is_ok(), "it was asked for a handshake");
            world.assert_silent_but_for_datagrams(0);
        }
    }

    async fn a_destination_that_no_peer_owns(world: World) {
        for stack in stacks() {
            let (peer, address) = deaf();
            let (app, _, frame) = app_with(&tunnel(stack, &address, &["10.8.0.0/24"]));
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
    }

    async fn a_peer_that_forges_the_source_of_what_it_sends(world: World) {
        for stack in stacks() {
            let mut peer = Raw::new(PRIVATE_OF_PEER, PRIVATE).await;
            let mut config = tunnel(stack, &peer.address().to_string(), &["10.8.0.1/32"]);
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
    }

    async fn a_name_where_there_is_no_name_server_in_the_tunnel(world: World) {
        for stack in stacks() {
            let (_peer, address) = deaf();
            let (app, _, frame) = app_with(&tunnel(stack, &address, &["0.0.0.0/0", "::/0"]));
            let dialer = dialer(&frame, &app).unwrap();
            for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
                let error = soon(connect(&app, &frame, &format!("{name}:80"))).await.unwrap_err();
                assert!(!error.is_retryable(), "{error:?}");
                soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err();
            }
            world.assert_silent_but_for(0);
        }
    }

    async fn a_name_server_in_the_tunnel_that_is_silent(world: World) {
        for stack in stacks() {
            let (_peer, address) = deaf();
            let mut config = tunnel(stack, &address, &["0.0.0.0/0", "::/0"]);
            // Its address is that of the DNS server of this host, which is another.
            config["dns"] = json!([PUBLIC, "127.0.0.1"]);
            let (app, _, frame) = app_with(&config);
            for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
                soon(connect(&app, &frame, &format!("{name}:80"))).await.unwrap_err();
                world.assert_silent_but_for_datagrams(0);
            }
        }
    }

    async fn a_dial_through_a_tunnel_that_is_cancelled(world: World) {
        for stack in stacks() {
            let (peer, address) = deaf();
            peer.set_nonblocking(false).unwrap();
            let mut config = tunnel(stack, &address, &["0.0.0.0/0", "::/0"]);
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

    async fn a_helper_that_is_killed_at_random_instants(world: World) {
        if !stacks().contains(&"kernel") {
            return;
        }
        let (_peer, address) = deaf();
        let mut config = tunnel("kernel", &address, &["0.0.0.0/0", "::/0"]);
        config["deadline"] = json!("300ms");
        let (app, _, frame) = app_with(&config);
        let dialer = dialer(&frame, &app).unwrap();
        let [v4, v6, ..] = world.ways_to_the_decoy();
        let mut random = 0x5eed_u64;
        let mut killed = 0;
        for _ in 0..40 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pause = Duration::from_micros((random >> 33) % 30_000);
            let kill = async {
                tokio::time::sleep(pause).await;
                helpers().into_iter().inspect(|&helper| kill(helper)).count()
            };
            let (port, any) = (LocalEndpoint::port(0), LocalEndpoint::default());
            let (one, other, datagrams, listener, count) = soon(async {
                tokio::join!(
                    connect(&app, &frame, &v4),
                    connect(&app, &frame, &v6),
                    dialer.bind_datagram(&port),
                    dialer.listen(&any),
                    kill
                )
            })
            .await;
            killed += count;
            one.unwrap_err();
            other.unwrap_err();
            if let Ok(datagrams) = datagrams {
                let _ = soon(datagrams.send_to(b"to nobody", &endpoint(&v4))).await;
            }
            drop(listener);
            world.assert_silent_but_for_datagrams(0);
        }
        assert!(killed >= 3, "{killed} helpers were killed");
        // It recovers: there is a port again, and only what belongs to one namespace is open.
        let port = soon(async {
            loop {
                if let Ok(port) = dialer.bind_datagram(&LocalEndpoint::default()).await {
                    return port;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(helpers().len(), 1);
        let open = descriptors();
        drop(port);
        assert!(descriptors() < open && open <= BASE_DESCRIPTORS, "{open} descriptors are open");
        world.assert_silent_but_for_datagrams(0);
    }

    async fn a_helper_that_is_stopped(world: World) {
        if !stacks().contains(&"kernel") {
            return;
        }
        let (_peer, address) = deaf();
        let mut config = tunnel("kernel", &address, &["0.0.0.0/0", "::/0"]);
        config["deadline"] = json!("60s");
        let (app, networks, frame) = app_with(&config);
        let dialer = dialer(&frame, &app).unwrap();
        let stopped = helpers();
        assert_eq!(stopped.len(), 1);
        signal("STOP", stopped[0]);
        // A caller that gives up is not what ends it.
        let to = &world.ways_to_the_decoy()[0];
        tokio::time::timeout(Duration::from_millis(50), connect(&app, &frame, to)).await.unwrap_err();
        let error = soon(connect(&app, &frame, to)).await.unwrap_err();
        assert!(chain(&error).contains("did not answer") && error.is_retryable(), "{error:?}");
        soon(async {
            while dialer.bind_datagram(&LocalEndpoint::default()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let running = helpers();
        assert!(running.len() == 1 && running != stopped, "{running:?}");

        // Nor does a network that is dropped leave one behind.
        signal("STOP", running[0]);
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        soon(async {
            while !helpers().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        world.assert_silent_but_for_datagrams(0);
    }

    async fn connections_whose_helper_is_killed(world: World) {
        if !stacks().contains(&"kernel") {
            return;
        }
        let right = json!({
            "kind": "wireguard", "stack": "kernel", "private_key": PRIVATE_OF_PEER, "bind": "127.0.0.1",
            "addresses": ["10.8.0.1/24"], "listen_port": 51_820,
            "peers": [{ "public_key": PublicKey::of(&Secret::new(PRIVATE)).unwrap().to_string(),
                        "allowed_ips": ["10.8.0.2/32"] }],
        });
        let (right_app, _, right_frame) = app_with(&right);
        let mut left = tunnel("kernel", "127.0.0.1:51820", &["10.8.0.1/32"]);
        left["peers"][0]["public_key"] = json!(PublicKey::of(&Secret::new(PRIVATE_OF_PEER)).unwrap().to_string());
        left["deadline"] = json!("10s");
        let (left_app, _, left_frame) = app_with(&left);
        let right = dialer(&right_frame, &right_app).unwrap();
        let mut listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let connecting = connect(&left_app, &left_frame, "10.8.0.1:80");
        let (client, server) = soon(async { tokio::join!(connecting, listener.accept()) }).await;
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        let port = right.bind_datagram(&LocalEndpoint::default()).await.unwrap();

        let before = helpers();
        assert_eq!(before.len(), 2);
        let (reading, mut buffer) = (client.read_u8(), [0; 8]);
        let killing = async { before.iter().copied().map(kill).count() };
        let (read, received, accepted, _) = soon(async {
            tokio::join!(reading, port.receive_from(&mut buffer), listener.accept(), killing)
        })
        .await;
        // Not an end that could be taken for the far end's.
        for error in [read.unwrap_err().to_string(), chain(&received.unwrap_err()), chain(&accepted.unwrap_err())] {
            assert!(error.contains("the helper process that owned the tunnel's namespace has ended"), "{error}");
        }
        soon(server.write_all(&[7; 100])).await.unwrap_err();
        soon(server.read_u8()).await.unwrap_err();
        world.assert_silent_but_for_datagrams(0);

        // A namespace is made again for those who ask.
        let mut listener = soon(async {
            loop {
                match right.listen(&LocalEndpoint::port(80)).await {
                    Ok(listener) => return listener,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let connecting = async {
            loop {
                match connect(&left_app, &left_frame, "10.8.0.1:80").await {
                    Ok(stream) => return stream,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (_, accepted) = soon(async { tokio::join!(connecting, listener.accept()) }).await;
        accepted.unwrap();
        world.assert_silent_but_for_datagrams(0);
    }
}

/// What a process has open whose network has one namespace, and its tests' own sockets.
const BASE_DESCRIPTORS: usize = 32;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The helpers that this process has started and that have not ended.
fn helpers() -> Vec<u32> {
    let own = std::process::id().to_string();
    let is_helper = |id: &u32| {
        let read = |file| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        let status = String::from_utf8(read("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        read("cmdline").starts_with(b"frame-wireguard-helper") && parent == Some(&*own)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_helper).collect()
}

fn kill(helper: u32) {
    signal("KILL", helper);
}

fn signal(name: &str, helper: u32) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &helper.to_string()]).status();
    assert!(sent.is_ok());
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
