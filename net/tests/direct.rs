//! Clearnet, who gets there, and what is guarded there.

mod servers;
mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frame_net::{
    BoxDatagrams, Cause, DeniedBy, Direct, DirectConfig, DirectDefault, DriverError, DriverStep, Endpoint,
    HostName, LocalEndpoint, Network, NetworkError, Route,
};
use frame_registry::{App, FrameBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use servers::namespace::ipv6_tests;
use support::{Bait, app, endpoint, failure, frame, soon};

/// A clearnet on which loopback is allowed.
fn open() -> Value {
    json!({ "clearnet": { "allow": ["127.0.0.0/8", "::1"] } })
}

fn direct(config: Value) -> Direct {
    Direct::new(serde_json::from_value(config).unwrap())
}

/// What is wrong with a configuration.
fn misconfigured(config: Value) -> String {
    serde_json::from_value::<DirectConfig>(config).unwrap_err().to_string()
}

/// Why it was denied, as text; it was at this step, and trying again is of no use.
fn denial(step: DriverStep, error: &DriverError) -> String {
    assert_eq!(error.step(), step, "{error:?}");
    assert!(!error.is_retryable(), "{error:?}");
    let Cause::Denied(denied) = error.cause() else { panic!("{error:?}") };
    denied.to_string()
}

async fn refused(network: &Direct, to: &str) -> String {
    denial(DriverStep::Connect, &soon(network.connect(&endpoint(to), None)).await.unwrap_err())
}

fn local_endpoint(datagrams: &BoxDatagrams) -> Endpoint {
    datagrams.local().to_string().parse().unwrap()
}

#[tokio::test]
async fn a_frame_that_nothing_decides_for_is_on_clearnet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: Endpoint = listener.local_addr().unwrap().try_into().unwrap();
    let (app, _) = app(open());
    let dialer = frame_net::dialer(&frame(&app, &json!({})), &app).unwrap();
    assert_eq!(dialer.route(), &Route::Clearnet);
    let stream = soon(dialer.connect(&to)).await.unwrap();
    soon(listener.accept()).await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (app, _) = app(open());
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &app).unwrap();
    // Where the host file has `::1` as well, and first, nobody listens at that.
    soon(dialer.connect(&endpoint(&format!("localhost:{port}")))).await.unwrap();
    let found = soon(dialer.lookup(&"localhost".parse().unwrap())).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback));
}

#[tokio::test]
async fn an_error_says_that_it_was_clearnet_and_how_far_it_came() {
    let down: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (app, _) = app(open());
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &app).unwrap();
    let error = soon(dialer.connect(&down.try_into().unwrap())).await.unwrap_err();
    let (step, text) = failure(&error);
    assert_eq!(step, DriverStep::Connect);
    assert!(
        text.starts_with(&format!("no connection to {down} through clearnet: connecting to {down} failed: "))
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_frame_built_by_hand_does_not_get_around_the_default() {
    let bait = Bait::new();
    let mut config = open();
    config["default"] = json!("app:down");
    config["networks"] = json!({ "app:down": { "kind": "socks5", "proxy": "127.0.0.1:1" } });
    let (app, networks) = app(config);
    let unresolved = FrameBuilder::new().seal();
    let dialer = frame_net::dialer(&unresolved, &app).unwrap();
    assert_eq!(dialer.route().to_string(), "network `app:down`");
    soon(dialer.connect(&bait.endpoint())).await.unwrap_err();

    networks.unregister(&"app:down".parse().unwrap());
    assert!(matches!(frame_net::dialer(&unresolved, &app), Err(NetworkError::NotFound { .. })));
    bait.assert_untouched();
}

#[test]
fn an_app_that_was_not_booted_has_no_way_out() {
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &App::builder().build());
    assert!(matches!(dialer, Err(NetworkError::NotBooted)));
}

#[tokio::test]
async fn this_host_is_not_reached_unless_a_rule_allows_it() {
    let bait = Bait::new();
    let (app, _) = app(json!({ "clearnet": {} }));
    let dialer = frame_net::dialer(&FrameBuilder::new().seal(), &app).unwrap();
    let port = bait.endpoint().port();
    for host in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0:0]", "localhost"] {
        let error = soon(dialer.connect(&endpoint(&format!("{host}:{port}")))).await.unwrap_err();
        let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
        denial(DriverStep::Connect, source);
        assert!(!error.is_retryable());
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let bait = Bait::new();
    let port = bait.endpoint().port();
    // Not even if the name is allowed.
    let network = direct(json!({ "allow": ["localhost"] }));
    let error = refused(&network, &format!("localhost:{port}")).await;
    assert!(error.starts_with("`localhost` has the address "), "{error}");
    assert!(error.contains(", which is loopback (") && error.contains("; to allow it, add \""), "{error}");
    bait.assert_untouched();

    let error = soon(network.lookup(&"localhost".parse().unwrap())).await.unwrap_err();
    assert!(denial(DriverStep::Lookup, &error).starts_with("`localhost` has the address "));
}

#[tokio::test]
async fn a_name_that_is_denied_is_refused_without_an_answer() {
    // Nobody can look these names up (RFC 6761, 6.4): the rule is all that can be the reason.
    let network = direct(json!({ "deny": ["*.invalid"] }));
    assert_eq!(
        refused(&network, "a.b.INVALID.:80").await,
        "`a.b.INVALID.` is denied by the rule `*.invalid`"
    );
    let name: HostName = "a.invalid".parse().unwrap();
    let error = soon(network.lookup(&name)).await.unwrap_err();
    assert_eq!(denial(DriverStep::Lookup, &error), "`a.invalid` is denied by the rule `*.invalid`");
}

#[tokio::test]
async fn a_refusal_says_what_it_was_and_what_to_write() {
    let network = direct(
        json!({ "allow": ["64:ff9b::/96", "8.8.8.8:53"], "deny": ["1.1.1.0/24:25"], "default": "deny" }),
    );
    for (to, text) in [
        ("1.1.1.1:25", "1.1.1.1 is denied by the rule `1.1.1.0/24:25`"),
        (
            "1.1.1.1:80",
            "1.1.1.1 matches no rule of `allow`, and the default is to deny; to allow it, add \"1.1.1.1:80\" to \
             `allow`",
        ),
        (
            "10.0.0.1:80",
            "10.0.0.1 is private (10.0.0.0/8), and in no address rule of `allow`; to allow it, add \"10.0.0.1:80\" to \
             `allow`",
        ),
        (
            "[fe80::1]:80",
            "fe80::1 is link-local (fe80::/10), and in no address rule of `allow`; to allow it, add \"[fe80::1]:80\" \
             to `allow`",
        ),
        (
            "[64:ff9b::127.0.0.1]:80",
            "64:ff9b::7f00:1 is the NAT64 form of 127.0.0.1, which is loopback (127.0.0.0/8), and in no address rule \
             of `allow`; to allow it, add \"127.0.0.1:80\" to `allow`",
        ),
    ] {
        assert_eq!(refused(&network, to).await, text);
    }
    assert_eq!(
        refused(&direct(json!({ "default": "deny" })), "a.invalid:80").await,
        "`a.invalid` matches no name rule of `allow`, and the default is to deny without looking it up; to allow it, \
         add \"a.invalid:80\" to `allow`"
    );
    let error = soon(network.connect(&endpoint("1.1.1.1:25"), None)).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.peer()), ("connecting to 1.1.1.1:25 failed", "1.1.1.1:25"));
    let Cause::Denied(denied) = error.cause() else { panic!("{error:?}") };
    assert_eq!((denied.name(), denied.address()), (None, Some(Ipv4Addr::new(1, 1, 1, 1).into())));
    assert_eq!(denied.by(), &DeniedBy::Rule("1.1.1.0/24:25".parse().unwrap()));
}

#[tokio::test]
async fn a_configuration_in_code_is_the_same_as_in_text() {
    let rule = |text: &str| text.parse().unwrap();
    let config = DirectConfig::default()
        .with_allow([rule("a.example")])
        .with_deny([rule("10.0.0.0/8:25")])
        .with_default(DirectDefault::Deny)
        .with_listen(["::1".parse().unwrap()])
        .with_deadline(Duration::from_millis(500));
    let text = json!({
        "allow": ["a.example"],
        "deny": ["10.0.0.0/8:25"],
        "default": "deny",
        "listen": ["::1"],
        "deadline": "500ms",
    });
    assert_eq!(serde_json::from_value::<DirectConfig>(text).unwrap(), config);
    assert_eq!(serde_json::from_value::<DirectConfig>(json!({})).unwrap(), DirectConfig::default());
}

#[test]
fn a_configuration_that_is_wrong_says_what_to_write() {
    for (config, text) in [
        (json!({ "alow": [] }), "unknown field `alow`, expected one of `allow`, `deny`, `default`, `listen`"),
        (json!({ "allow": "10.0.0.0/8" }), "expected a list of rules, such as [\"10.0.0.0/8\""),
        (json!({ "deny": [443] }), "expected a rule, such as \"10.0.0.0/8\", \"*.example.com\""),
        (json!({ "allow": ["10.1.0.0/8"] }), "write `10.0.0.0/8` for the whole range"),
        (json!({ "listen": ["localhost:80"] }), "the rule `localhost:80` is a name, and only addresses"),
        (json!({ "listen": [8080] }), "expected an address, such as \"127.0.0.1\""),
        (json!({ "listen": ["127.0.0.1:0"] }), "has no port from 1 to 65535"),
        (json!({ "default": "refuse" }), "unknown variant `refuse`, expected `allow` or `deny`"),
        (json!({ "deadline": "0s" }), "longer than zero"),
    ] {
        let error = misconfigured(config);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn an_error_in_a_network_says_which_rule_it_is() {
    let mut builder = App::builder();
    builder.set_resolvers(frame_registry::FrameResolvers::linked()).unwrap();
    let config =
        json!({ "networks": { "app:lan": { "kind": "direct", "allow": ["10.0.0.0/8", "10.1.0.0/8"] } } });
    let error = frame_net::boot(&mut builder, serde_json::from_value(config).unwrap()).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(
        text.contains("`app:lan`") && text.contains("`allow[1]`: the rule `10.1.0.0/8` has bits"),
        "{text}"
    );
}

#[tokio::test]
async fn an_overlay_network_of_this_kind_has_rules_of_its_own() {
    let bait = Bait::new();
    let mut config = open();
    config["networks"] = json!({ "app:guarded": { "kind": "direct" } });
    let (app, _) = app(config);
    let dialer = frame_net::dialer(&frame(&app, &json!({ "network": "app:guarded" })), &app).unwrap();
    let error = soon(dialer.connect(&bait.endpoint())).await.unwrap_err();
    assert!(failure(&error).1.contains("through network `app:guarded`: "), "{error:?}");
    bait.assert_untouched();
    let clearnet = frame_net::dialer(&frame(&app, &json!({})), &app).unwrap();
    soon(clearnet.connect(&bait.endpoint())).await.unwrap();
}

#[tokio::test]
async fn the_proxy_of_an_overlay_network_is_not_guarded() {
    // Whoever configures the proxy's address means it, on a clearnet that denies everything as well.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = json!({
        "clearnet": { "default": "deny" },
        "networks": { "app:proxy": { "kind": "socks5", "proxy": proxy.local_addr().unwrap().to_string() } },
    });
    let (app, _) = app(config);
    let dialer = frame_net::dialer(&frame(&app, &json!({ "network": "app:proxy" })), &app).unwrap();
    let to = endpoint("example.com:80");
    tokio::select! {
        connected = dialer.connect(&to) => panic!("{connected:?}"),
        accepted = soon(proxy.accept()) => drop(accepted.unwrap()),
    }
}

#[tokio::test]
async fn the_error_of_a_name_with_several_addresses_shows_them_all() {
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let network = direct(json!({ "allow": ["127.0.0.0/8", "::1"] }));
    let found = soon(network.lookup(&"localhost".parse().unwrap())).await.unwrap();
    let error = soon(network.connect(&endpoint(&format!("localhost:{down}")), None)).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Io(_)) && error.is_retryable());
    if found.len() > 1 {
        let text = error.cause().to_string();
        assert!(text.starts_with(&format!("none of {} addresses could be connected to: ", found.len())));
        assert!(
            found.iter().all(|&address| text.contains(&SocketAddr::new(address, down).to_string())),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_answered_ends_at_the_deadline() {
    // The queue of this listener is full, so that the kernel drops what else knocks.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..64 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        queued.push(tokio::spawn(socket.connect(address)));
    }
    tokio::task::yield_now().await;
    let network = direct(json!({ "allow": ["127.0.0.1"], "deadline": "1234ms" }));
    let begun = tokio::time::Instant::now();
    let error = network.connect(&address.try_into().unwrap(), None).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::TimedOut { limit } if limit.as_millis() == 1234), "{error:?}");
    assert_eq!(error.cause().to_string(), "the deadline of 1.234s passed");
    assert!(error.is_retryable());
    assert!(begun.elapsed() < Duration::from_millis(1300));
}

#[tokio::test]
async fn nobody_listens_unless_a_rule_allows_it() {
    let network = direct(json!({ "allow": ["127.0.0.0/8", "::1"] }));
    for at in [LocalEndpoint::port(0), LocalEndpoint::new(Ipv4Addr::LOCALHOST.into(), 0)] {
        let error = soon(network.listen(&at)).await.unwrap_err();
        assert!(
            denial(DriverStep::Listen, &error).contains(" is in no rule of `listen`; to allow it, add \"")
        );
        let error = soon(network.bind_datagram(&at)).await.unwrap_err();
        assert!(denial(DriverStep::Bind, &error).contains(" is in no rule of `listen`; to allow it, add \""));
    }
    let at = LocalEndpoint::new(Ipv6Addr::LOCALHOST.into(), 8080);
    let error = soon(network.listen(&at)).await.unwrap_err();
    assert_eq!(error.to_string(), "listening at [::1]:8080 failed");
    assert_eq!(
        denial(DriverStep::Listen, &error),
        "::1 is in no rule of `listen`; to allow it, add \"[::1]:8080\" to `listen`"
    );
}

#[tokio::test]
async fn connections_are_accepted_where_a_rule_allows_it() {
    let network = direct(json!({ "allow": ["127.0.0.1"], "listen": ["127.0.0.1"] }));
    let mut listener =
        soon(network.listen(&LocalEndpoint::new(Ipv4Addr::LOCALHOST.into(), 0))).await.unwrap();
    let at: Endpoint = listener.local().to_string().parse().unwrap();
    let mut client = soon(network.connect(&at, None)).await.unwrap();
    let (mut server, peer) = soon(listener.accept()).await.unwrap();
    assert_eq!(peer.host, Ipv4Addr::LOCALHOST.into());
    assert_ne!(peer.port, at.port());
    soon(client.write_all(b"ping")).await.unwrap();
    let mut read = [0; 4];
    soon(server.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"ping");
    drop(listener);
    soon(network.connect(&at, None)).await.unwrap_err();
}

#[tokio::test]
async fn a_place_that_is_taken_is_an_error_that_may_pass() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let network = direct(json!({ "listen": ["127.0.0.0/8"] }));
    let error = soon(network.listen(&taken.local_addr().unwrap().into())).await.unwrap_err();
    assert_eq!(error.step(), DriverStep::Listen);
    assert!(matches!(error.cause(), Cause::Io(_)) && error.is_retryable());
}

ipv6_tests! {
    async fn all_addresses_are_those_that_the_rules_have() {
        let network = direct(json!({ "allow": ["127.0.0.1"], "listen": ["0.0.0.0"] }));
        let listener = soon(network.listen(&LocalEndpoint::port(0))).await.unwrap();
        assert_eq!(listener.local().host, Ipv4Addr::UNSPECIFIED.into());

        let network = direct(json!({ "allow": ["127.0.0.1"], "listen": ["0.0.0.0", "::"] }));
        let mut listener = soon(network.listen(&LocalEndpoint::port(0))).await.unwrap();
        assert_eq!(listener.local().host, Ipv6Addr::UNSPECIFIED.into());
        // A peer of IPv4 is shown as one.
        let to = Endpoint::new(Ipv4Addr::LOCALHOST.into(), listener.local().port).unwrap();
        let _client = soon(network.connect(&to, None)).await.unwrap();
        assert_eq!(soon(listener.accept()).await.unwrap().1.host, Ipv4Addr::LOCALHOST.into());
    }

    async fn datagrams_go_both_ways_where_rules_allow_it() {
        let network = direct(json!({ "allow": ["127.0.0.1", "::1"], "listen": ["127.0.0.1", "0.0.0.0", "::"] }));
        let at = LocalEndpoint::new(Ipv4Addr::LOCALHOST.into(), 0);
        let one = soon(network.bind_datagram(&at)).await.unwrap();
        let mut buffer = [0; 16];
        for other in [at, LocalEndpoint::port(0)] {
            let other = soon(network.bind_datagram(&other)).await.unwrap();
            soon(other.send_to(b"ping", &local_endpoint(&one))).await.unwrap();
            let (len, from) = soon(one.receive_from(&mut buffer)).await.unwrap();
            assert_eq!((&buffer[..len], &from.host), (&b"ping"[..], &Ipv4Addr::LOCALHOST.into()));
            assert_eq!(from.port, other.local().port);
            soon(one.send_to(b"pong", &from.to_string().parse().unwrap())).await.unwrap();
            let (len, from) = soon(other.receive_from(&mut buffer)).await.unwrap();
            assert_eq!((&buffer[..len], from), (&b"pong"[..], one.local()));
        }
        // By name, of whose addresses one is taken that fits the socket.
        let itself = endpoint(&format!("localhost:{}", one.local().port));
        soon(one.send_to(b"", &itself)).await.unwrap();
        assert_eq!(soon(one.receive_from(&mut buffer)).await.unwrap(), (0, one.local()));
    }
}

#[tokio::test]
async fn datagrams_come_from_anybody_and_go_to_nobody_who_is_denied() {
    let network = direct(json!({ "deny": ["*.invalid"], "listen": ["127.0.0.1"] }));
    let bound =
        soon(network.bind_datagram(&LocalEndpoint::new(Ipv4Addr::LOCALHOST.into(), 0))).await.unwrap();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(b"hello", bound.local().to_string()).await.unwrap();
    let mut buffer = [0; 16];
    let (len, from) = soon(bound.receive_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..len], from.clone()), (&b"hello"[..], stranger.local_addr().unwrap().into()));

    for (to, text) in [
        (from.to_string(), "127.0.0.1 is loopback (127.0.0.0/8)"),
        (format!("localhost:{}", from.port), "`localhost` has the address "),
        ("a.invalid:53".to_owned(), "`a.invalid` is denied by the rule `*.invalid`"),
        ("255.255.255.255:67".to_owned(), "255.255.255.255 is broadcast"),
        ("[ff02::fb]:5353".to_owned(), "ff02::fb is multicast"),
    ] {
        let error = soon(bound.send_to(b"answer", &endpoint(&to))).await.unwrap_err();
        assert!(denial(DriverStep::Send, &error).starts_with(text), "{error:?}");
    }
    // What was refused was not sent: the next datagram is the first.
    let other = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    other.send_to(b"first", stranger.local_addr().unwrap()).await.unwrap();
    let (len, _) = soon(stranger.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..len], b"first");
}

#[tokio::test]
async fn a_datagram_that_is_too_long_stays_so() {
    let network = direct(json!({ "allow": ["127.0.0.1"], "listen": ["127.0.0.1"] }));
    let at = LocalEndpoint::new(Ipv4Addr::LOCALHOST.into(), 0);
    let bound = soon(network.bind_datagram(&at)).await.unwrap();
    let itself = local_endpoint(&bound);
    let error = soon(bound.send_to(&vec![0; 65_508], &itself)).await.unwrap_err();
    assert!(!error.is_retryable(), "{error:?}");
    assert_eq!(error.cause().to_string(), "a datagram has at most 65507 bytes, not 65508");
    soon(bound.send_to(&vec![0; 65_507], &itself)).await.unwrap();
    assert_eq!(soon(bound.receive_from(&mut vec![0; 65_536])).await.unwrap().0, 65_507);
}

ipv6_tests! {
    async fn a_datagram_to_the_other_family_is_an_error() {
        let network = direct(json!({ "allow": ["::1", "127.0.0.1"], "listen": ["127.0.0.1", "::1"] }));
        let pairs = [("127.0.0.1", "[::1]:9"), ("::1", "127.0.0.1:9")];
        for (at, to) in pairs {
            let at = LocalEndpoint::new(at.parse().unwrap(), 0);
            let bound = soon(network.bind_datagram(&at)).await.unwrap();
            let error = soon(bound.send_to(b"", &endpoint(to))).await.unwrap_err();
            let text = error.cause().to_string();
            assert_eq!(text, format!("there is no address that can be sent to from {}", bound.local()));
        }
    }
}

#[test]
fn a_network_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Direct>();
    is_shared::<Arc<dyn Network>>();
}
