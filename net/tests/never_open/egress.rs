//! Destinations that the option `egress` does not allow, on each kind of network: nothing is sent, and nothing looked up.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;

use frame_net::http::websocket::{WebSocketError, WebSocketRequest};
use frame_net::http::{EventSource, HttpClient, HttpConfig, HttpError, Request, StatusCode};
use frame_net::wireguard::PublicKey;
use frame_net::{Cause, Dialer, DriverStep, LocalEndpoint, NetworkError, Secret, dialer};
use frame_registry::App;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::bridge::{self, Bridge};
use crate::sealed::{self, LOCAL_NAME, PUBLIC, PUBLIC_V6, REMOTE_NAME, World};
use crate::support::{self, Scripted, Then, endpoint, expect, frame, send, soon};
use crate::wireguard::{PRIVATE, PRIVATE_OF_PEER, deaf, stacks, tunnel};
use crate::{app_with, sealed_tests, socks5};

/// Lists that none of the ways to the decoy pass.
fn refusing() -> [Value; 6] {
    [
        json!([]),
        json!(["other.example"]),
        json!(["*.decoy.example", "*.remote.example"]),
        json!([
            format!("{LOCAL_NAME}:1"),
            format!("{REMOTE_NAME}:1"),
            format!("{PUBLIC}:1"),
            "127.0.0.0/8:1"
        ]),
        json!(["10.0.0.0/8", "fd00::/8", "192.0.2.0/24"]),
        json!(["*.example:1", "::ffff:10.0.0.0/104"]),
    ]
}

/// A dialer through `network`, or over clearnet, that reaches what the list allows.
fn limited(app: &App, network: Option<&str>, egress: &Value) -> Dialer {
    let mut options = json!({ "egress": egress });
    if let Some(network) = network {
        options["network"] = json!(network);
    }
    dialer(&frame(app, &options), app).unwrap()
}

/// An app whose clearnet leads everywhere, and on which units can take ports of this host.
fn open_app() -> App {
    let everywhere =
        json!({ "allow": ["0.0.0.0/0", "::/0", "localhost"], "listen": ["127.0.0.1", "0.0.0.0"] });
    support::app(json!({ "clearnet": everywhere })).0
}

/// Fails unless `error` says that the list does not allow it, and that it is not to be tried again.
#[track_caller]
fn assert_refused(error: &NetworkError) {
    let (NetworkError::Connect { source, .. } | NetworkError::Lookup { source, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(matches!(source.cause(), Cause::Egress(_)), "{error:?}");
    assert!(!error.is_retryable());
}

/// Tries everything that leaves through `network`, and is refused each time.
async fn refused_everywhere(world: &World, app: &App, network: Option<&str>, egress: &Value) {
    let dialer = limited(app, network, egress);
    let client = client();
    for to in world.ways_to_the_decoy() {
        assert_refused(&soon(dialer.connect(&endpoint(&to))).await.unwrap_err());
        for scheme in ["http", "https"] {
            assert_refused(&network_error(
                get(&client, &dialer, &format!("{scheme}://{to}/")).await.unwrap_err(),
            ));
        }
        let request = WebSocketRequest::new(&format!("ws://{to}/")).unwrap();
        match soon(client.websocket(&dialer, request)).await.unwrap_err() {
            WebSocketError::Http(error) => assert_refused(&network_error(error)),
            error => panic!("{error:?}"),
        }
        let request = Request::get(&format!("http://{to}/")).unwrap();
        let mut events = EventSource::new(client.clone(), dialer.clone(), request).unwrap();
        assert_refused(&network_error(soon(events.next()).await.unwrap_err()));
    }
}

fn client() -> HttpClient {
    HttpClient::new(HttpConfig::default()).unwrap()
}

async fn get(client: &HttpClient, dialer: &Dialer, url: &str) -> Result<StatusCode, HttpError> {
    let response = soon(client.send(dialer, Request::get(url).unwrap())).await?;
    let status = response.status();
    response.bytes().await?;
    Ok(status)
}

fn network_error(error: HttpError) -> NetworkError {
    let HttpError::Network(error) = error else { panic!("{error:?}") };
    Arc::into_inner(error).unwrap()
}

/// Answers requests over one connection after the other, each with `head` and no body.
fn server(head: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind((PUBLIC, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            while stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {
                stream.write_all(format!("{head}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
            }
        }
    });
    address
}

/// A proxy, for SOCKS5 and HTTP CONNECT, that leads nowhere and answers each request itself: with a redirect to `location`.
fn redirecting_proxy(location: &str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let redirect = redirect.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    let answer: &[u8] = match &buffer[..len] {
                        // A username and a password, and that they are right.
                        [5, _, methods @ ..] if methods.contains(&2) && methods.len() < 3 => &[5, 2],
                        [1, ..] => &[1, 0],
                        [5, _, methods @ ..] if methods.len() < 3 => &[5, 0],
                        [5, ..] => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                        text if text.starts_with(b"CONNECT ") => b"HTTP/1.1 200 OK\r\n\r\n",
                        _ => redirect.as_bytes(),
                    };
                    stream.write_all(answer).unwrap();
                }
            });
        }
    });
    address
}

/// Answers a request over `stream` with a redirect to each of `locations` and the next with 200. Returns the stream, which
/// stays open.
async fn redirect_to_each<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, locations: Vec<String>) -> S {
    let redirects = locations.into_iter().map(|to| format!("302 Found\r\nLocation: http://{to}/"));
    for head in redirects.chain(["200 OK".to_owned()]) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    stream
}

sealed_tests! {
    async fn what_egress_does_not_allow_over_clearnet(world: World) {
        let app = open_app();
        for egress in refusing() {
            refused_everywhere(&world, &app, None, &egress).await;
            world.assert_silent_but_for(0);
        }
        // Rules of other names, and of other networks.
        for egress in [json!([]), json!(["other.example", "*.decoy.example", "*.remote.example"]), json!(["0.0.0.0/0"])] {
            let dialer = limited(&app, None, &egress);
            for name in [LOCAL_NAME, REMOTE_NAME, "REMOTE.example.", "localhost"] {
                assert_refused(&soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err());
            }
        }
        world.assert_silent_but_for(0);
    }

    async fn a_name_is_not_looked_up_for_a_rule_that_has_its_addresses(world: World) {
        let app = open_app();
        let dialer = limited(&app, None, &json!(["0.0.0.0/0", "::/0"]));
        let [v4, v6, loopback, local, remote] = world.ways_to_the_decoy();
        for name in [&local, &remote, &format!("localhost:{}", world.port())] {
            assert_refused(&soon(dialer.connect(&endpoint(name))).await.unwrap_err());
        }
        for name in [LOCAL_NAME, REMOTE_NAME, "localhost"] {
            assert_refused(&soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err());
        }
        world.assert_silent_but_for(0);
        for address in [v4, v6, loopback] {
            soon(dialer.connect(&endpoint(&address))).await.unwrap();
            world.decoy_is_reached().await;
        }
    }

    async fn a_name_that_a_rule_covers_is_reached_and_its_addresses_are_not(world: World) {
        let app = open_app();
        let port = world.port();
        let dialer = limited(&app, None, &json!([format!("{LOCAL_NAME}:{port}")]));
        soon(dialer.connect(&endpoint(&format!("DECOY.example.:{port}")))).await.unwrap();
        world.decoy_is_reached().await;
        let opened = sealed::connections_opened();
        for to in [format!("{PUBLIC}:{port}"), format!("[{PUBLIC_V6}]:{port}"), format!("{LOCAL_NAME}:1")] {
            assert_refused(&soon(dialer.connect(&endpoint(&to))).await.unwrap_err());
        }
        world.assert_silent_but_for(opened);
    }

    async fn a_mapped_address_is_the_address(world: World) {
        let app = open_app();
        let mapped = format!("[::ffff:{PUBLIC}]:{}", world.port());
        let dialer = limited(&app, None, &json!(["::/0"]));
        assert_refused(&soon(dialer.connect(&endpoint(&mapped))).await.unwrap_err());
        world.assert_silent_but_for(0);
        soon(limited(&app, None, &json!([PUBLIC])).connect(&endpoint(&mapped))).await.unwrap();
        world.decoy_is_reached().await;
    }

    async fn a_datagram_to_a_peer_that_egress_does_not_allow(world: World) {
        let app = open_app();
        let allowed = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = allowed.local_addr().unwrap();
        let dialer = limited(&app, None, &json!([to.to_string()]));
        let port = soon(dialer.bind_datagram(&LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0))).await.unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let mut refused = world.ways_to_the_decoy().to_vec();
        refused.push(other.local_addr().unwrap().to_string());
        refused.push(format!("localhost:{}", to.port()));
        // A peer that has sent something may not be answered for that.
        other.send_to(b"hello", port.local().to_string()).unwrap();
        let mut buffer = [0; 16];
        soon(port.receive_from(&mut buffer)).await.unwrap();
        for peer in refused {
            let error = soon(port.send_to(b"to nobody", &endpoint(&peer))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Egress(_)) && error.step() == DriverStep::Send, "{peer}: {error:?}");
        }
        assert!(!world.decoy_was_reached() && !world.dns_was_asked());
        assert_eq!(other.recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        soon(port.send_to(b"ping", &to.try_into().unwrap())).await.unwrap();
        assert_eq!(allowed.recv(&mut buffer).unwrap(), 4);
    }

    async fn a_redirect_to_where_egress_does_not_allow(world: World) {
        let app = open_app();
        let ways = world.ways_to_the_decoy();
        for (followed, to) in ways.iter().filter(|to| !to.starts_with("127.")).enumerate() {
            let origin = server(format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://{to}/"));
            let dialer = limited(&app, None, &json!([format!("{PUBLIC}:{}", origin.port())]));
            assert_refused(&network_error(get(&client(), &dialer, &format!("http://{origin}/")).await.unwrap_err()));
            world.assert_silent_but_for(followed as u64 + 1);
        }
    }

    async fn a_connection_that_waits_is_not_used_by_a_frame_that_may_not_reach_its_server(world: World) {
        let app = open_app();
        let origin = server("HTTP/1.1 200 OK".to_owned());
        let url = format!("http://{origin}/");
        let client = client();
        let open = dialer(&frame(&app, &json!({})), &app).unwrap();
        assert_eq!(get(&client, &open, &url).await.unwrap(), StatusCode::OK);
        world.assert_silent_but_for(1);
        for egress in refusing() {
            assert_refused(&network_error(get(&client, &limited(&app, None, &egress), &url).await.unwrap_err()));
            assert_refused(&limited(&app, None, &egress).connect(&origin.try_into().unwrap()).await.unwrap_err());
        }
        // It is used by frames that may.
        let allowed = limited(&app, None, &json!([origin.to_string()]));
        assert_eq!(get(&client, &allowed, &url).await.unwrap(), StatusCode::OK);
        world.assert_silent_but_for(1);
    }

    async fn what_egress_does_not_allow_is_not_asked_of_a_proxy(world: World) {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = proxy.local_addr().unwrap().to_string();
        let http_connect = json!({ "kind": "http-connect", "proxy": address, "allow": support::everything() });
        let i2p = json!({ "kind": "i2p", "sam": address });
        for network in [socks5(&address), http_connect, i2p] {
            let (app, _, _) = app_with(&network);
            for egress in refusing() {
                refused_everywhere(&world, &app, Some("app:overlay"), &egress).await;
            }
            // Names of overlays are names as any other.
            let dialer = limited(&app, Some("app:overlay"), &json!(["a.onion", "*.b.i2p", "0.0.0.0/0"]));
            for to in ["b.onion:80", "x.a.onion:80", "b.i2p:80", "a.i2p:80", "x.b.i2p.example:80"] {
                assert_refused(&soon(dialer.connect(&endpoint(to))).await.unwrap_err());
            }
            for name in ["b.i2p", LOCAL_NAME, REMOTE_NAME] {
                assert_refused(&soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err());
            }
        }
        world.assert_silent_but_for(0);
    }

    async fn a_redirect_and_a_connection_that_waits_behind_a_proxy(world: World) {
        let mut opened = 0;
        for is_socks in [true, false] {
            let address = redirecting_proxy(&format!("http://{REMOTE_NAME}/")).to_string();
            let network = if is_socks {
                socks5(&address)
            } else {
                json!({ "kind": "http-connect", "proxy": address, "allow": support::everything() })
            };
            let ((app, _, _), client) = (app_with(&network), client());
            let limited = |egress: &Value| limited(&app, Some("app:overlay"), egress);
            let (url, allowed) = ("http://origin.example/", limited(&json!(["origin.example:80"])));
            assert_refused(&network_error(get(&client, &allowed, url).await.unwrap_err()));
            opened += 1;
            world.assert_silent_but_for(opened);
            // The connection waits, and is only for frames that may reach its server.
            for egress in refusing() {
                assert_refused(&network_error(get(&client, &limited(&egress), url).await.unwrap_err()));
            }
            let request = Request::get(url).unwrap().max_redirects(0);
            assert_eq!(soon(client.send(&allowed, request)).await.unwrap().status(), StatusCode::FOUND);
            world.assert_silent_but_for(opened);
        }
    }

    async fn a_redirect_and_a_connection_that_waits_behind_a_sam_bridge(world: World) {
        let bridge = Bridge::new().await;
        let (app, _, _) = app_with(&json!({ "kind": "i2p", "sam": bridge.address() }));
        let (client, origin) = (client(), bridge::name(1));
        let (url, limited) =
            (format!("http://{origin}/"), |egress: &Value| limited(&app, Some("app:overlay"), egress));
        let allowed = limited(&json!([format!("{origin}:80")]));
        let [v4, _, _, local, remote] = world.ways_to_the_decoy();
        let locations = vec![bridge::name(2), format!("{origin}:81"), v4, local, remote];
        let redirects = locations.len();
        let served = async {
            let session = bridge.session(0).await;
            let stream = bridge.connection().await.into_stream();
            (session, redirect_to_each(stream, locations).await)
        };
        let asked = async {
            for _ in 0..redirects {
                assert_refused(&network_error(get(&client, &allowed, &url).await.unwrap_err()));
                // The session, and the connection in it, which waits and is used again.
                world.assert_silent_but_for(2);
                for egress in refusing() {
                    assert_refused(&network_error(get(&client, &limited(&egress), &url).await.unwrap_err()));
                }
            }
            assert_eq!(get(&client, &allowed, &url).await.unwrap(), StatusCode::OK);
        };
        let (_open, ()) = soon(Box::pin(async { tokio::join!(served, asked) })).await;
        bridge.assert_untouched();
        world.assert_silent_but_for(2);
    }

    async fn a_redirect_and_a_connection_that_waits_in_a_tunnel(world: World) {
        // Until the end: what is sent to a tunnel that has ended does not arrive.
        let mut tunnels = Vec::new();
        for stack in stacks() {
            let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            // The far end has the addresses of the decoy, so only `egress` keeps anything from it.
            let public = |private| PublicKey::of(&Secret::new(private)).unwrap().to_string();
            let far = json!({
                "kind": "wireguard", "stack": stack, "private_key": PRIVATE_OF_PEER, "bind": "127.0.0.1",
                "addresses": ["10.8.0.1/24", format!("{PUBLIC}/32"), format!("{PUBLIC_V6}/128")],
                "listen_port": port,
                "peers": [{ "public_key": public(PRIVATE), "allowed_ips": ["10.8.0.2/32", "fd00::2/128"] }],
            });
            let (far_app, far_networks, far_frame) = app_with(&far);
            let far = dialer(&far_frame, &far_app).unwrap();
            let mut origin = soon(far.listen(&LocalEndpoint::port(80))).await.unwrap();
            let mut other = soon(far.listen(&LocalEndpoint::port(world.port()))).await.unwrap();
            let names = soon(far.bind_datagram(&LocalEndpoint::port(53))).await.unwrap();

            let mut near = tunnel(stack, &format!("127.0.0.1:{port}"), &["0.0.0.0/0", "::/0"]);
            near["peers"][0]["public_key"] = json!(public(PRIVATE_OF_PEER));
            near["dns"] = json!(["10.8.0.1"]);
            near["deadline"] = json!("10s");
            let (app, networks, _) = app_with(&near);
            tunnels.push((far_networks, networks));
            let (client, url) = (client(), format!("http://{PUBLIC}/"));
            let limited = |egress: &Value| limited(&app, Some("app:overlay"), egress);
            let allowed = limited(&json!([format!("{PUBLIC}:80")]));
            let [v4, v6, _, local, remote] = world.ways_to_the_decoy();
            let locations = vec![v4.clone(), v6, local, remote];
            let redirects = locations.len();
            let served = async {
                let (stream, _) = origin.accept().await.unwrap();
                redirect_to_each(stream, locations).await
            };
            let asked = async {
                for _ in 0..redirects {
                    assert_refused(&network_error(get(&client, &allowed, &url).await.unwrap_err()));
                    // The connection waits, and is only for frames that may reach its server.
                    for egress in refusing() {
                        assert_refused(&network_error(get(&client, &limited(&egress), &url).await.unwrap_err()));
                    }
                }
                assert_eq!(get(&client, &allowed, &url).await.unwrap(), StatusCode::OK);
            };
            let (_connection, ()) = soon(Box::pin(async { tokio::join!(served, asked) })).await;
            world.assert_silent_but_for_datagrams(0);
            world.assert_datagrams_arrived();

            // What comes to the far end first is what is allowed.
            let connecting = async {
                let mut stream = limited(&json!([v4])).connect(&endpoint(&v4)).await.unwrap();
                stream.write_all(b"allowed").await.unwrap();
                stream
            };
            let (_near, (mut accepted, _)) =
                soon(async { tokio::join!(connecting, async { other.accept().await.unwrap() }) }).await;
            let mut received = [0; 7];
            soon(accepted.read_exact(&mut received)).await.unwrap();
            assert_eq!(&received, b"allowed");
            let mut questions = Vec::new();
            let answering = async {
                loop {
                    let mut question = [0; 512];
                    let (len, from) = names.receive_from(&mut question).await.unwrap();
                    questions.push(question[..len].to_vec());
                    // There is no such name.
                    (question[2], question[3]) = (question[2] | 0x80, 3);
                    let from = from.to_string().parse().unwrap();
                    names.send_to(&question[..len], &from).await.unwrap();
                }
            };
            let (allowed, name) = (limited(&json!(["allowed.example"])), "allowed.example".parse().unwrap());
            tokio::select! {
                found = soon(allowed.lookup(&name)) => found.unwrap_err(),
                () = answering => unreachable!("it goes on"),
            };
            let is_allowed = |question: &Vec<u8>| question.windows(8).any(|label| label == b"\x07allowed");
            assert!(!questions.is_empty() && questions.iter().all(is_allowed), "{questions:?}");
            world.assert_silent_but_for_datagrams(0);
        }
    }

    async fn a_name_that_a_rule_covers_goes_to_the_proxy_as_it_is(world: World) {
        let asked = format!("CONNECT {REMOTE_NAME}:80 HTTP/1.1\r\n");
        let mut proxy = Scripted::new(&[expect(asked), send("HTTP/1.1 502 No\r\n\r\n")], Then::Close).await;
        let http_connect = json!({ "kind": "http-connect", "proxy": proxy.address, "allow": support::everything() });
        let (app, _, _) = app_with(&http_connect);
        let dialer = limited(&app, Some("app:overlay"), &json!(["*.example:80"]));
        let error = soon(dialer.connect(&endpoint(&format!("{REMOTE_NAME}:80")))).await.unwrap_err();
        proxy.played().await;
        assert!(!matches!(&error, NetworkError::Connect { source, .. } if matches!(source.cause(), Cause::Egress(_))));
        world.assert_silent_but_for(1);
    }

    async fn the_proxy_of_a_network_is_not_the_egress_of_its_units(world: World) {
        let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (app, networks, _) = app_with(&socks5(&down));
        let mut behind = socks5("proxy.example:1080");
        behind["via"] = json!("app:overlay");
        networks.create("app:behind".parse().unwrap(), &serde_json::from_value(behind).unwrap()).unwrap();
        for (tried, network) in ["app:overlay", "app:behind"].into_iter().enumerate() {
            let dialer = limited(&app, Some(network), &json!([REMOTE_NAME]));
            let error = soon(dialer.connect(&endpoint(&format!("{REMOTE_NAME}:80")))).await.unwrap_err();
            assert!(error.is_retryable(), "the proxy is down: {error:?}");
            world.assert_silent_but_for(tried as u64 + 1);
        }
    }

    async fn what_egress_does_not_allow_through_a_tunnel(world: World) {
        for stack in stacks() {
            let (peer, address) = deaf();
            let mut config = tunnel(stack, &address, &["0.0.0.0/0", "::/0"]);
            config["dns"] = json!(["10.8.0.1"]);
            let (app, _, _) = app_with(&config);
            for egress in refusing() {
                refused_everywhere(&world, &app, Some("app:overlay"), &egress).await;
                let dialer = limited(&app, Some("app:overlay"), &egress);
                let port = soon(dialer.bind_datagram(&LocalEndpoint::default())).await.unwrap();
                for to in world.ways_to_the_decoy() {
                    let error = soon(port.send_to(b"to nobody", &endpoint(&to))).await.unwrap_err();
                    assert!(matches!(error.cause(), Cause::Egress(_)), "{error:?}");
                }
            }
            let dialer = limited(&app, Some("app:overlay"), &json!(["0.0.0.0/0", "::/0", "*.other.example"]));
            for name in [LOCAL_NAME, REMOTE_NAME, "other.example"] {
                assert_refused(&soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err());
            }
            assert!(peer.recv_from(&mut [0; 2048]).is_err(), "not even a handshake was begun");
            world.assert_silent_but_for(0);
        }
    }
}
