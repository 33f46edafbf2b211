//! Faults of a proxy, at every step.

use frame_net::socks5::Refusal;
use frame_net::{Cause, LocalEndpoint, NetworkError};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::sealed::{self, World};
use crate::support::{Move, Scripted, Then, endpoint, expect, send};
use crate::{app_with, connect, sealed_tests, socks5, use_up, with_password};

const GREETING: &[u8] = &[5, 1, 0];
const GREETING_WITH_PASSWORD: &[u8] = &[5, 1, 2];
const CREDENTIALS: &[u8] = b"\x01\x03app\x05xyzzy";

/// Connects on every way to the decoy through a proxy that does this, and is refused each time.
async fn refused_by(world: &World, moves: &[Move], then: Then, password: bool) {
    refused_within(world, moves, then, password, 10_000).await;
}

/// The same within so many milliseconds, where the proxy never says so.
async fn refused_within(world: &World, moves: &[Move], then: Then, password: bool, deadline_ms: u64) {
    let mut opened = sealed::connections_opened();
    for to in world.ways_to_the_decoy() {
        let proxy = Scripted::new(moves, then).await;
        let mut config = if password { with_password(&proxy.address) } else { socks5(&proxy.address) };
        config["deadline"] = json!(format!("{deadline_ms}ms"));
        let (app, _, frame) = app_with(&config);
        let error = connect(&app, &frame, &to).await.unwrap_err();
        assert!(matches!(error, NetworkError::Connect { .. }), "{error:?}");
        opened += 1;
        world.assert_silent_but_for(opened);
    }
}

sealed_tests! {
    async fn a_proxy_that_is_down(world: World) {
        let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (app, _, frame) = app_with(&socks5(&down.to_string()));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            connect(&app, &frame, to).await.unwrap_err();
            world.assert_silent_but_for(tried as u64 + 1);
        }
    }

    async fn a_proxy_that_accepts_and_stays_silent(world: World) {
        refused_within(&world, &[expect(GREETING)], Then::Wait, false, 500).await;
        refused_within(&world, &[expect(GREETING), send([5, 0])], Then::Wait, false, 500).await;
    }

    async fn a_proxy_that_closes_in_the_middle_of_the_handshake(world: World) {
        refused_by(&world, &[], Then::Close, false).await;
        refused_by(&world, &[expect(GREETING), send([5])], Then::Close, false).await;
        refused_by(&world, &[expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, 0])], Then::Close, false)
            .await;
    }

    async fn a_wrong_password(world: World) {
        let moves = [expect(GREETING_WITH_PASSWORD), send([5, 2]), expect(CREDENTIALS), send([1, 1])];
        refused_by(&world, &moves, Then::Wait, true).await;
        refused_by(&world, &[expect(GREETING_WITH_PASSWORD), send([5, 0xff])], Then::Wait, true).await;
    }

    async fn a_proxy_that_chooses_no_authentication_though_credentials_are_set(world: World) {
        refused_by(&world, &[expect(GREETING_WITH_PASSWORD), send([5, 0])], Then::Wait, true).await;
    }

    async fn a_proxy_that_refuses(world: World) {
        for code in 1..=u8::MAX {
            let refusal = Refusal::from_code(code);
            assert!(refusal.is_some(), "{code}");
            // All ways to the decoy for the codes that mean something, one for the others.
            let moves = [expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, code])];
            if code <= 8 {
                refused_by(&world, &moves, Then::Wait, false).await;
            } else {
                let proxy = Scripted::new(&moves, Then::Wait).await;
                let (app, _, frame) = app_with(&socks5(&proxy.address));
                connect(&app, &frame, &world.ways_to_the_decoy()[0]).await.unwrap_err();
            }
        }
        world.assert_silent_but_for(8 * 5 + 247);
    }

    async fn a_network_that_is_unregistered_between_the_frame_and_the_dial(world: World) {
        let (app, networks, frame) = app_with(&socks5("127.0.0.1:1"));
        let dialer = frame_net::dialer(&frame, &app).unwrap();
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            let error = connect(&app, &frame, &to).await.unwrap_err();
            assert!(matches!(error, NetworkError::NotFound { .. }), "{error:?}");
            let error = dialer.connect(&endpoint(&to)).await.unwrap_err();
            assert!(matches!(error, NetworkError::NotFound { .. }), "{error:?}");
        }
        world.assert_silent_but_for(0);
    }

    async fn a_network_that_is_replaced_in_the_middle_of_a_connection(world: World) {
        let granted = [expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])];
        let old = Scripted::new(&granted, Then::Wait).await;
        let (app, networks, frame) = app_with(&socks5(&old.address));
        let stream = connect(&app, &frame, &world.ways_to_the_decoy()[4]).await.unwrap();

        let config = serde_json::from_value(socks5("127.0.0.1:1")).unwrap();
        networks.update(&"app:overlay".parse().unwrap(), &config).unwrap();
        use_up(stream).await;
        let rest = old.rest().await;
        assert!(rest.ends_with(b"to nobody"), "the connection goes on through the old proxy: {rest:?}");
        for to in world.ways_to_the_decoy() {
            connect(&app, &frame, &to).await.unwrap_err();
        }
        world.assert_silent_but_for(1 + 5);
    }

    async fn a_network_that_is_replaced_in_the_middle_of_a_handshake(world: World) {
        let mut old = Scripted::new(&[expect(GREETING)], Then::Wait).await;
        let mut config = socks5(&old.address);
        config["deadline"] = json!("60s");
        let (app, networks, frame) = app_with(&config);
        let to = world.ways_to_the_decoy()[0].clone();
        {
            let connecting = connect(&app, &frame, &to);
            tokio::pin!(connecting);
            tokio::select! {
                _ = &mut connecting => panic!("the proxy is silent"),
                () = old.played() => {}
            }
            assert!(networks.unregister(&"app:overlay".parse().unwrap()));
            // It is still with the old proxy, and nowhere else.
            assert!(poll_once(&mut connecting).await.is_none());
        }
        assert_eq!(old.rest().await, b"");
        world.assert_silent_but_for(1);
    }

    async fn a_dial_that_is_cancelled_at_any_step(world: World) {
        let steps: [&[Move]; 3] = [
            &[expect(GREETING)],
            &[expect(GREETING), send([5])],
            &[expect(GREETING), send([5, 0]), expect([5, 1, 0]), send([5, 0, 0])],
        ];
        let mut opened = 0;
        for moves in steps {
            for to in world.ways_to_the_decoy() {
                let mut proxy = Scripted::new(moves, Then::Wait).await;
                let mut config = socks5(&proxy.address);
                config["deadline"] = json!("60s");
                let (app, _, frame) = app_with(&config);
                tokio::select! {
                    _ = connect(&app, &frame, &to) => panic!("the proxy is silent"),
                    () = proxy.played() => {}
                }
                proxy.rest().await;
                opened += 1;
                world.assert_silent_but_for(opened);
            }
        }
    }

    async fn a_proxy_in_front_that_is_down(world: World) {
        let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (app, networks, frame) = app_with(&socks5(&down.to_string()));
        let mut config = socks5(&world.ways_to_the_decoy()[4]);
        config["via"] = json!("app:overlay");
        networks.create("app:behind".parse().unwrap(), &serde_json::from_value(config).unwrap()).unwrap();
        let behind = crate::frame(&app, &json!({ "network": "app:behind" }));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            let error = connect(&app, &behind, to).await.unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            world.assert_silent_but_for(tried as u64 + 1);
        }
        // With the one in front gone there is no way to the one behind, least of all a direct one.
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            let error = connect(&app, &behind, &to).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
        }
        world.assert_silent_but_for(5);
        drop(frame);
    }

    async fn a_proxy_that_only_another_network_knows(world: World) {
        for proxy in ["proxy.onion:1080", "PROXY.I2P.:1080"] {
            let (app, _, frame) = app_with(&socks5(proxy));
            let error = connect(&app, &frame, &world.ways_to_the_decoy()[0]).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
        }
        world.assert_silent_but_for(0);
    }

    async fn what_a_proxy_does_not_do_is_not_done_without_it(world: World) {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (app, _, frame) = app_with(&socks5(&proxy.local_addr().unwrap().to_string()));
        let dialer = frame_net::dialer(&frame, &app).unwrap();
        for at in [LocalEndpoint::port(0), LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0)] {
            let error = dialer.bind_datagram(&at).await.unwrap_err();
            assert!(matches!(error, NetworkError::Bind { .. }) && !error.is_retryable(), "{error:?}");
            let error = dialer.listen(&at).await.unwrap_err();
            assert!(matches!(error, NetworkError::Listen { .. }) && !error.is_retryable(), "{error:?}");
        }
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
            let error = dialer.lookup(&name.parse().unwrap()).await.unwrap_err();
            assert!(matches!(error, NetworkError::Lookup { .. }) && !error.is_retryable(), "{error:?}");
        }
        let isolated = dialer.isolated("tenant".parse().unwrap());
        for to in world.ways_to_the_decoy() {
            let error = isolated.connect(&endpoint(&to)).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
        }
        world.assert_silent_but_for(0);
    }

    async fn what_the_rules_of_a_proxy_refuse_is_not_asked_of_the_proxy(world: World) {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = socks5(&proxy.local_addr().unwrap().to_string());
        config.as_object_mut().unwrap().remove("allow");
        let (app, _, frame) = app_with(&config);
        let port = world.port();
        let local = [
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
            format!("[::ffff:127.0.0.1]:{port}"),
            format!("[64:ff9b::127.0.0.1]:{port}"),
            format!("[2a00::5efe:10.0.0.1]:{port}"),
            format!("0.0.0.0:{port}"),
            format!("169.254.169.254:{port}"),
            format!("localhost:{port}"),
            format!("LOCALHOST.:{port}"),
            format!("a.localhost:{port}"),
        ];
        let refused = async |app, frame, to: &str| {
            let NetworkError::Connect { source, .. } = connect(app, frame, to).await.unwrap_err() else {
                panic!("{to}")
            };
            assert!(matches!(source.cause(), Cause::Denied(_)) && !source.is_retryable(), "{to}: {source:?}");
            world.assert_silent_but_for(0);
        };
        for to in &local {
            refused(&app, &frame, to).await;
        }
        config["default"] = json!("deny");
        config["allow"] = json!(["0.0.0.0/0", "::/0", "other.example"]);
        let (app, _, frame) = app_with(&config);
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME] {
            refused(&app, &frame, &format!("{name}:{port}")).await;
        }
    }

    async fn names_without_a_rule_are_not_looked_up_where_the_default_is_to_deny(world: World) {
        let (app, _) = crate::support::app(json!({
            "clearnet": {
                "default": "deny",
                "allow": ["0.0.0.0/0", "::/0", "other.example", "*.below.example"],
                "listen": ["127.0.0.1"],
            },
        }));
        let dialer = frame_net::dialer(&crate::frame(&app, &json!({})), &app).unwrap();
        let datagrams = dialer.bind_datagram(&LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0)).await.unwrap();
        for name in [sealed::REMOTE_NAME, sealed::LOCAL_NAME, "secret.other.example", "below.example"] {
            let to = endpoint(&format!("{name}:{}", world.port()));
            let errors = [
                connect(&app, &crate::frame(&app, &json!({})), &to.to_string()).await.unwrap_err().to_string(),
                dialer.lookup(&name.parse().unwrap()).await.unwrap_err().to_string(),
                datagrams.send_to(b"x", &to).await.unwrap_err().to_string(),
            ];
            assert!(errors.iter().all(|error| error.contains(name)), "{errors:?}");
            world.assert_silent_but_for(0);
        }
        // A rule for the name has it looked up.
        dialer.lookup(&"a.below.example".parse().unwrap()).await.unwrap_err();
        assert!(world.dns_was_asked());
    }

    async fn names_go_to_the_proxy_as_they_are(world: World) {
        // Also those that this host could look up in a file.
        for (opened, name) in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"].into_iter().enumerate() {
            let mut asked = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
            asked.extend(name.as_bytes());
            asked.extend(80_u16.to_be_bytes());
            let mut proxy =
                Scripted::new(&[expect(GREETING), send([5, 0]), expect(asked)], Then::Close).await;
            let (app, _, frame) = app_with(&socks5(&proxy.address));
            connect(&app, &frame, &format!("{name}:80")).await.unwrap_err();
            proxy.played().await;
            world.assert_silent_but_for(opened as u64 + 1);
        }
    }

    async fn addresses_go_to_the_proxy_as_they_are(world: World) {
        let address: std::net::Ipv6Addr = sealed::PUBLIC_V6.parse().unwrap();
        let asked = [&[5, 1, 0, 4][..], &address.octets(), &world.port().to_be_bytes()].concat();
        let mut proxy = Scripted::new(&[expect(GREETING), send([5, 0]), expect(asked)], Then::Close).await;
        let (app, _, frame) = app_with(&socks5(&proxy.address));
        connect(&app, &frame, &format!("[{address}]:{}", world.port())).await.unwrap_err();
        proxy.played().await;
        world.assert_silent_but_for(1);
    }

    async fn variables_of_the_environment_lead_nowhere(world: World) {
        for variable in ["ALL_PROXY", "HTTP_PROXY", "https_proxy", "NO_PROXY"] {
            assert!(std::env::var_os(variable).is_some(), "the harness sets {variable}");
        }
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (app, _, frame) = app_with(&socks5(&proxy.local_addr().unwrap().to_string()));
        for (opened, to) in world.ways_to_the_decoy().iter().enumerate() {
            let accepted = async {
                let mut greeting = [0; 3];
                proxy.accept().await.unwrap().0.read_exact(&mut greeting).await.unwrap();
                greeting
            };
            let (connected, greeting) = tokio::join!(connect(&app, &frame, to), accepted);
            connected.unwrap_err();
            assert_eq!(greeting, GREETING);
            world.assert_silent_but_for(opened as u64 + 1);
        }
    }
}

/// The outcome of `future`, if it is there already.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        let polled = std::pin::Pin::new(&mut *future).poll(context);
        std::task::Poll::Ready(match polled {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
