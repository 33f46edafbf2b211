//! Faults of an HTTP proxy, at every step.

use frame_net::{LocalEndpoint, NetworkError};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::sealed::{self, World};
use crate::support::{self, Move, Scripted, Then, endpoint, expect, send};
use crate::{app_with, connect, sealed_tests, use_up};

const CONNECT: &[u8] = b"CONNECT ";

/// The settings of an HTTP proxy's network.
fn http_connect(proxy: &str) -> Value {
    json!({ "kind": "http-connect", "proxy": proxy, "allow": support::everything(), "deadline": "10s" })
}

/// Connects on every way to the decoy through a proxy that does this, and is refused each time.
async fn refused_by(world: &World, moves: &[Move], then: Then, settings: &Value) {
    let mut opened = sealed::connections_opened();
    for to in world.ways_to_the_decoy() {
        let proxy = Scripted::new(moves, then).await;
        let mut config = http_connect(&proxy.address);
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
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
        let (app, _, frame) = app_with(&http_connect(&down.to_string()));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            connect(&app, &frame, to).await.unwrap_err();
            world.assert_silent_but_for(tried as u64 + 1);
        }
    }

    async fn a_proxy_that_accepts_and_stays_silent(world: World) {
        let soon = json!({ "deadline": "500ms" });
        refused_by(&world, &[expect(CONNECT)], Then::Wait, &soon).await;
        refused_by(&world, &[expect(CONNECT), send("HTTP/1.1 200 OK\r\n")], Then::Wait, &soon).await;
        refused_by(&world, &[expect(b"\x16")], Then::Wait, &json!({ "deadline": "500ms", "tls": true })).await;
    }

    async fn a_proxy_that_closes_early(world: World) {
        refused_by(&world, &[], Then::Close, &json!({})).await;
        refused_by(&world, &[expect(CONNECT), send("HTTP/1.1 200")], Then::Close, &json!({})).await;
        refused_by(&world, &[], Then::Close, &json!({ "tls": true })).await;
    }

    async fn a_proxy_that_answers_with_a_redirect(world: World) {
        // To where clearnet leads, to the proxy itself, and to nowhere.
        for to in [format!("http://{}/", world.ways_to_the_decoy()[0]), "/".to_owned(), "http:".to_owned()] {
            for status in [301, 302, 303, 305, 307, 308] {
                let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                refused_by(&world, &[expect(CONNECT), send(answer)], Then::Wait, &json!({})).await;
            }
        }
    }

    async fn a_proxy_that_refuses(world: World) {
        for status in [101, 400, 401, 403, 404, 405, 407, 429, 500, 501, 502, 503, 504, 505] {
            let answer = format!("HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic\r\n\r\n");
            for settings in [json!({}), json!({ "credentials": { "username": "app", "password": "xyzzy" } })] {
                refused_by(&world, &[expect(CONNECT), send(&answer)], Then::Wait, &settings).await;
            }
        }
    }

    async fn a_proxy_that_answers_garbage(world: World) {
        for answer in ["\x05\x00", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/2 200\r\n\r\n", "\x15\x03\x01"] {
            refused_by(&world, &[expect(CONNECT), send(answer)], Then::Wait, &json!({})).await;
        }
        // In the place of TLS.
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "\x15\x03\x01\x00\x02\x02\x28"] {
            refused_by(&world, &[expect(b"\x16\x03"), send(answer)], Then::Wait, &json!({ "tls": true })).await;
        }
    }

    async fn a_dial_that_is_cancelled_at_any_step(world: World) {
        let steps: [&[Move]; 3] = [
            &[expect(CONNECT)],
            &[expect(CONNECT), send("HTTP/1.1 100 Continue\r\n\r\n")],
            &[expect(CONNECT), send("HTTP/1.1 200 OK\r\n")],
        ];
        let mut opened = 0;
        for moves in steps {
            for to in world.ways_to_the_decoy() {
                let mut proxy = Scripted::new(moves, Then::Wait).await;
                let (app, _, frame) = app_with(&http_connect(&proxy.address));
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

    async fn a_network_that_is_replaced_in_the_middle_of_a_connection(world: World) {
        let to = world.ways_to_the_decoy()[4].clone();
        let asked = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let old = Scripted::new(&[expect(asked), send("HTTP/1.1 200 OK\r\n\r\n")], Then::Wait).await;
        let (app, networks, frame) = app_with(&http_connect(&old.address));
        let stream = connect(&app, &frame, &to).await.unwrap();

        let config = serde_json::from_value(http_connect("127.0.0.1:1")).unwrap();
        networks.update(&"app:overlay".parse().unwrap(), &config).unwrap();
        use_up(stream).await;
        assert_eq!(old.rest().await, b"to nobody", "the connection goes on through the old proxy");
        for to in world.ways_to_the_decoy() {
            connect(&app, &frame, &to).await.unwrap_err();
        }
        world.assert_silent_but_for(1 + 5);
    }

    async fn a_proxy_in_front_that_is_down_or_gone(world: World) {
        let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (app, networks, _) = app_with(&http_connect(&down.to_string()));
        let mut config = http_connect(&world.ways_to_the_decoy()[4]);
        config["via"] = json!("app:overlay");
        networks.create("app:behind".parse().unwrap(), &serde_json::from_value(config).unwrap()).unwrap();
        let behind = support::frame(&app, &json!({ "network": "app:behind" }));
        for (tried, to) in world.ways_to_the_decoy().iter().enumerate() {
            let error = connect(&app, &behind, to).await.unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            world.assert_silent_but_for(tried as u64 + 1);
        }
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        for to in world.ways_to_the_decoy() {
            let error = connect(&app, &behind, &to).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
        }
        world.assert_silent_but_for(5);
    }

    async fn a_proxy_that_only_another_network_knows(world: World) {
        for proxy in ["proxy.onion:8118", "PROXY.I2P.:8118"] {
            let (app, _, frame) = app_with(&http_connect(proxy));
            let error = connect(&app, &frame, &world.ways_to_the_decoy()[0]).await.unwrap_err();
            assert!(!error.is_retryable(), "{error:?}");
        }
        world.assert_silent_but_for(0);
    }

    async fn what_its_rules_refuse_is_not_asked_of_the_proxy(world: World) {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = http_connect(&proxy.local_addr().unwrap().to_string());
        config.as_object_mut().unwrap().remove("allow");
        let (app, _, frame) = app_with(&config);
        let port = world.port();
        for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "localhost", "a.LOCALHOST."] {
            let error = connect(&app, &frame, &format!("{host}:{port}")).await.unwrap_err();
            assert!(!error.is_retryable(), "{host}: {error:?}");
        }
        world.assert_silent_but_for(0);
    }

    async fn what_a_proxy_does_not_do_is_not_done_without_it(world: World) {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (app, _, frame) = app_with(&http_connect(&proxy.local_addr().unwrap().to_string()));
        let dialer = frame_net::dialer(&frame, &app).unwrap();
        let at = LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0);
        assert!(!dialer.bind_datagram(&at).await.unwrap_err().is_retryable());
        assert!(!dialer.listen(&at).await.unwrap_err().is_retryable());
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
            assert!(!dialer.lookup(&name.parse().unwrap()).await.unwrap_err().is_retryable());
        }
        let isolated = dialer.isolated("tenant".parse().unwrap());
        for to in world.ways_to_the_decoy() {
            assert!(!isolated.connect(&endpoint(&to)).await.unwrap_err().is_retryable());
        }
        world.assert_silent_but_for(0);
    }

    async fn names_go_to_the_proxy_as_they_are(world: World) {
        // The environment is full of proxy variables, which nobody looks at.
        for (opened, name) in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"].into_iter().enumerate() {
            let asked = format!("CONNECT {name}:80 HTTP/1.1\r\nHost: {name}:80\r\n\r\n");
            let mut proxy = Scripted::new(&[expect(asked)], Then::Close).await;
            let (app, _, frame) = app_with(&http_connect(&proxy.address));
            connect(&app, &frame, &format!("{name}:80")).await.unwrap_err();
            proxy.played().await;
            world.assert_silent_but_for(opened as u64 + 1);
        }
    }
}
