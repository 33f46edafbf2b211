//! The I2P network against a SAM bridge that plays a script, as a program uses it.

mod bridge;
mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use frame_net::i2p::{SamError, SamRefusal, Stage};
use frame_net::{
    BoxStream, Cause, Dialer, DriverError, DriverStep, LocalEndpoint, NetworkError, NetworkRegistry,
};
use frame_registry::App;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use bridge::{Bridge, HELLO, Socket, destination, name, private_key};
use support::{Bait, endpoint, failure, soon};

/// An app with the I2P network of these settings beside `sam`.
fn app(bridge: &Bridge, settings: &Value) -> (App, NetworkRegistry) {
    let mut config = settings.clone();
    config["kind"] = json!("i2p");
    config["sam"] = json!(bridge.address());
    support::app(
        json!({ "networks": { "app:i2p": config, "app:direct": { "kind": "direct", "allow": ["127.0.0.1"] } } }),
    )
}

fn dialer(app: &App) -> Dialer {
    let frame = support::frame(app, &json!({ "network": "app:i2p" }));
    frame_net::dialer(&frame, app).unwrap()
}

/// Connects to `stats.i2p` while the bridge plays `script`.
async fn connect(
    dialer: &Dialer,
    script: impl Future<Output = Socket>,
) -> (Result<BoxStream, NetworkError>, Socket) {
    let to = endpoint("stats.i2p:80");
    soon(async { tokio::join!(dialer.connect(&to), script) }).await
}

fn driver_error(error: &NetworkError) -> &DriverError {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.unwrap_or_else(|| panic!("{error:?}"))
}

fn sam_error(error: &DriverError) -> &SamError {
    let Cause::Sam(error) = error.cause() else { panic!("{error:?}") };
    error
}

/// Why there was no session.
fn session_error(error: &NetworkError) -> &DriverError {
    match sam_error(driver_error(error)) {
        SamError::Session(error) | SamError::Backoff { source: error, .. } => error,
        error => panic!("{error:?}"),
    }
}

/// Text both ways.
async fn assert_connected(stream: &mut BoxStream, socket: &mut Socket) {
    stream.write_all(b"there").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(socket.bytes(5).await, b"there");
    socket.send("back!").await;
    let mut received = [0; 5];
    soon(stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"back!");
}

const CONNECT: &str = "STREAM CONNECT ID={} DESTINATION=stats.i2p SILENT=false";

#[tokio::test]
async fn the_requests_are_those_of_the_protocol() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let script = async {
        let mut control = bridge.socket().await;
        control.expect(HELLO).await;
        control.send("HELLO REPLY RESULT=OK VERSION=3.1\n").await;
        let request = control.line().await;
        let rest = request.strip_prefix("SESSION CREATE STYLE=STREAM ID=").unwrap();
        let (id, rest) = rest.split_once(' ').unwrap();
        assert!(id.len() > 20 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{id}");
        assert_eq!(rest, "DESTINATION=TRANSIENT SIGNATURE_TYPE=7");
        control.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(1))).await;
        let mut socket = bridge.socket().await;
        socket.expect(HELLO).await;
        socket.send("HELLO REPLY RESULT=OK VERSION=3.1\n").await;
        socket.expect(&CONNECT.replace("{}", id)).await;
        socket.send("STREAM STATUS RESULT=OK\n").await;
        socket.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn settings_are_in_the_requests() {
    let bridge = Bridge::new().await;
    let (app, _) = app(
        &bridge,
        &json!({
            "user": "app",
            "password": "xy\" zzy",
            "destination": { "private_key": private_key(3) },
            "options": { "inbound.length": 1, "i2cp.fastReceive": true, "outbound.nickname": "app" },
        }),
    );
    let hello = r#"HELLO VERSION MIN=3.1 MAX=3.3 USER="app" PASSWORD="xy\" zzy""#;
    let script = async {
        let mut control = bridge.socket().await;
        control.expect(hello).await;
        control.send("HELLO REPLY RESULT=OK VERSION=3.3\n").await;
        let request = control.line().await;
        let (_, rest) = request.split_once(" DESTINATION=").unwrap();
        let options = "i2cp.fastReceive=true inbound.length=1 outbound.nickname=app";
        assert_eq!(rest, format!("{} {options}", private_key(3)));
        control.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(3))).await;
        let mut socket = bridge.socket().await;
        socket.expect(hello).await;
        socket.send("HELLO REPLY RESULT=OK VERSION=3.3\n").await;
        assert!(socket.line().await.ends_with(" DESTINATION=stats.i2p SILENT=false TO_PORT=80"));
        socket.send("STREAM STATUS RESULT=OK\n").await;
        socket.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn what_comes_with_the_status_is_delivered() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "first_byte_timeout": "1ms" }));
    let script = async {
        let control = bridge.session(1).await;
        let mut socket = bridge.request("STREAM CONNECT").await;
        socket.send("STREAM STATUS RESULT=OK\nhello\nSTREAM").await;
        socket.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    let mut stream = stream.unwrap();
    let mut received = [0; 3];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hel");
    socket.send(" more").await;
    let mut received = [0; 14];
    soon(stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"lo\nSTREAM more");
}

#[tokio::test]
async fn every_refusal_of_a_connection_is_an_error_of_its_own() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let dialer = dialer(&app);
    let (stream, control) = connect(&dialer, bridge.session_and_connection(1)).await;
    let refusals = [
        ("CANT_REACH_PEER", SamRefusal::CantReachPeer),
        ("I2P_ERROR", SamRefusal::I2pError),
        ("KEY_NOT_FOUND", SamRefusal::KeyNotFound),
        ("PEER_NOT_FOUND", SamRefusal::PeerNotFound),
        ("TIMEOUT", SamRefusal::Timeout),
        ("LEASESET_NOT_FOUND", SamRefusal::LeaseSetNotFound),
        ("DUPLICATED_ID", SamRefusal::DuplicatedId),
        ("DUPLICATED_DEST", SamRefusal::DuplicatedDestination),
        ("ALREADY_ACCEPTING", SamRefusal::AlreadyAccepting),
        ("NEW\x1b[1mTHING", SamRefusal::Other("NEW\\u{1b}[1mTHING".into())),
    ];
    for (result, expected) in refusals {
        let script = async {
            let mut socket = bridge.request("STREAM CONNECT").await;
            socket
                .send(&format!("STREAM STATUS RESULT={result} MESSAGE=\"no \\\"way\\\" \x07there\"\n"))
                .await;
            socket
        };
        let error = connect(&dialer, script).await.0.unwrap_err();
        let (step, text) = failure(&error);
        assert_eq!(step, DriverStep::Sam(Stage::Connect));
        assert!(text.ends_with("; it says: no \"way\" \\u{7}there"), "{text}");
        let SamError::Refused { refusal, .. } = sam_error(driver_error(&error)) else { panic!("{error:?}") };
        assert_eq!(*refusal, expected);
        assert!(error.is_retryable());
    }
    drop((stream, control));
}

#[tokio::test]
async fn every_refusal_of_a_session_is_an_error_of_its_own() {
    let refusals = [
        ("DUPLICATED_ID", SamRefusal::DuplicatedId),
        ("DUPLICATED_DEST", SamRefusal::DuplicatedDestination),
        ("I2P_ERROR", SamRefusal::I2pError),
    ];
    for (result, expected) in refusals {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let script = async {
            let mut socket = bridge.request("SESSION CREATE").await;
            socket.send(&format!("SESSION STATUS RESULT={result} MESSAGE=in words\n")).await;
            socket
        };
        let error = connect(&dialer(&app), script).await.0.unwrap_err();
        let source = session_error(&error);
        assert_eq!((source.step(), source.peer()), (DriverStep::Sam(Stage::Session), &*bridge.address()));
        let SamError::Refused { refusal, message } = sam_error(source) else { panic!("{error:?}") };
        assert_eq!((refusal, message.as_deref()), (&expected, Some("in words")));
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_refused_private_key_is_permanent() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "destination": { "private_key": private_key(3) } }));
    let script = async {
        let mut socket = bridge.request("SESSION CREATE").await;
        socket.send("SESSION STATUS RESULT=INVALID_KEY MESSAGE=\"in words\"\n").await;
        socket
    };
    let error = connect(&dialer(&app), script).await.0.unwrap_err();
    let source = sam_error(session_error(&error));
    let SamError::PrivateKeyRefused { message: Some(message) } = source else { panic!("{error:?}") };
    assert!(&**message == "in words" && !error.is_retryable());
}

#[tokio::test]
async fn a_session_is_at_the_destination_that_was_configured_or_there_is_none() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "destination": { "private_key": private_key(3) } }));
    let error = connect(&dialer(&app), bridge.session(1)).await.0.unwrap_err();
    assert_eq!(session_error(&error).step(), DriverStep::Sam(Stage::Session));
    assert!(matches!(sam_error(session_error(&error)), SamError::OtherDestination), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_refused_greeting_is_permanent() {
    for reply in ["RESULT=NOVERSION", "RESULT=I2P_ERROR MESSAGE=\"who are you\"", "RESULT=OK VERSION=3.0"] {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({ "user": "u", "password": "31337" }));
        let script = async {
            let mut socket = bridge.socket().await;
            socket.line().await;
            socket.send(&format!("HELLO REPLY {reply}\n")).await;
            socket
        };
        let error = connect(&dialer(&app), script).await.0.unwrap_err();
        assert_eq!(session_error(&error).step(), DriverStep::Sam(Stage::Greeting));
        assert!(!error.is_retryable() && !format!("{error:?}").contains("31337"), "{error:?}");
    }
}

#[tokio::test]
async fn a_router_that_fails_at_the_greeting_is_not_taken_for_one_that_asks_for_a_password() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let script = async {
        let mut socket = bridge.socket().await;
        socket.line().await;
        socket.send("HELLO REPLY RESULT=I2P_ERROR MESSAGE=\"starting up\"\n").await;
        socket
    };
    let error = connect(&dialer(&app), script).await.0.unwrap_err();
    let source = session_error(&error);
    assert_eq!(source.step(), DriverStep::Sam(Stage::Greeting));
    let text = source.cause().to_string();
    assert!(text.contains("the router failed (I2P_ERROR)") && text.contains("starting up"), "{text}");
    assert!(!text.contains("password") && error.is_retryable(), "{text}");
}

#[tokio::test]
async fn a_bridge_that_never_ends_its_line_fails_with_the_deadline() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "deadline": "500ms", "session_deadline": "500ms" }));
    let script = async {
        let mut socket = bridge.socket().await;
        socket.line().await;
        socket.send("HELLO REPLY RESULT=OK").await;
        socket
    };
    let error = connect(&dialer(&app), script).await.0.unwrap_err();
    let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((source.step(), source.peer()), (DriverStep::Sam(Stage::Greeting), &*bridge.address()));
    assert!(matches!(source.cause(), Cause::TimedOut { limit } if limit.as_millis() == 500), "{error:?}");
    assert!(error.is_retryable());
}

/// Plays the beginning of a connection up to `step`: the socket that is then waited on, and others to keep open.
async fn play_to(bridge: &Bridge, step: DriverStep) -> Socket {
    match step {
        DriverStep::Sam(Stage::Greeting) => {
            let mut socket = bridge.socket().await;
            socket.line().await;
            socket
        }
        DriverStep::Sam(Stage::Session) => bridge.request("SESSION CREATE").await,
        DriverStep::Sam(Stage::Connect) => {
            let control = bridge.session(1).await;
            bridge.request("STREAM CONNECT").await.keep(control)
        }
        _ => unreachable!(),
    }
}

const STEPS: [DriverStep; 3] =
    [DriverStep::Sam(Stage::Greeting), DriverStep::Sam(Stage::Session), DriverStep::Sam(Stage::Connect)];

/// The error of the step at which it failed.
fn at_step(error: &NetworkError) -> &DriverError {
    let error = driver_error(error);
    match error.cause() {
        Cause::Sam(sam) => match &**sam {
            SamError::Session(source) => source,
            _ => error,
        },
        _ => error,
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    for step in STEPS {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({ "deadline": "500ms", "session_deadline": "500ms" }));
        let (dialled, socket) = connect(&dialer(&app), play_to(&bridge, step)).await;
        let error = dialled.unwrap_err();
        assert_eq!(at_step(&error).step(), step);
        assert!(matches!(at_step(&error).cause(), Cause::TimedOut { limit } if limit.as_millis() == 500));
        assert!(error.is_retryable());
        socket.closed().await;
    }
}

#[tokio::test]
async fn a_bridge_that_closes_is_an_error() {
    for step in STEPS {
        for half in ["", "HELLO REP", "STREAM STATUS RESULT=OK"] {
            let bridge = Bridge::new().await;
            let (app, _) = app(&bridge, &json!({}));
            let script = async {
                let mut socket = play_to(&bridge, step).await;
                socket.send(half).await;
                socket.shut_down().await;
                socket
            };
            let error = connect(&dialer(&app), script).await.0.unwrap_err();
            assert_eq!(at_step(&error).step(), step);
            assert!(matches!(at_step(&error).cause(), Cause::Closed), "{error:?}");
            assert!(error.is_retryable());
        }
    }
}

#[tokio::test]
async fn what_is_no_bridge_is_an_error() {
    let endless = "x".repeat(70_000);
    let noise =
        ["HTTP/1.1 400 Bad Request\r\n\r\n", "\n", "HELLO REPLY RESULT=\"OK\n", "\u{0}\u{1}\n", &endless];
    for step in STEPS {
        for noise in noise {
            let bridge = Bridge::new().await;
            let (app, _) = app(&bridge, &json!({}));
            let script = async {
                let mut socket = play_to(&bridge, step).await;
                socket.try_send(noise).await;
                socket
            };
            let error = connect(&dialer(&app), script).await.0.unwrap_err();
            let (SamError::Unexpected { .. } | SamError::Malformed(_) | SamError::LineTooLong { .. }) =
                sam_error(at_step(&error))
            else {
                panic!("{error:?}")
            };
            assert_eq!(at_step(&error).step(), step);
            assert!(failure(&error).1.is_ascii(), "{error}");
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_not_on_i2p() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let bait = Bait::new();
    for to in [bait.endpoint(), endpoint("example.com:80"), endpoint("[::1]:80"), endpoint("i2p:80")] {
        let error = soon(dialer(&app).connect(&to)).await.unwrap_err();
        assert!(matches!(sam_error(driver_error(&error)), SamError::NotI2p), "{error:?}");
        assert!(!error.is_retryable());
        assert!(failure(&error).1.contains("`.i2p`"));
    }
    bridge.assert_untouched();
    bait.assert_untouched();
}

#[tokio::test]
async fn what_i2p_does_not_do_is_refused() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let dialer = dialer(&app);
    let not_supported = |error: &NetworkError| {
        assert!(matches!(driver_error(error).cause(), Cause::NotSupported { kind: "i2p", .. }), "{error:?}");
    };
    not_supported(&dialer.bind_datagram(&LocalEndpoint::port(0)).await.unwrap_err());
    not_supported(&dialer.lookup(&"stats.i2p".parse().unwrap()).await.unwrap_err());
    let at = LocalEndpoint::new([127, 0, 0, 1].into(), 80);
    not_supported(&dialer.listen(&at).await.unwrap_err());
    let isolated = dialer.isolated("a".parse().unwrap());
    not_supported(&isolated.connect(&endpoint("stats.i2p:80")).await.unwrap_err());
    bridge.assert_untouched();
}

#[tokio::test]
async fn many_connections_share_one_session() {
    const DIALS: usize = 20;
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let dials = (0..DIALS).map(|_| {
        let dialer = dialer(&app);
        tokio::spawn(async move { dialer.connect(&endpoint("stats.i2p:80")).await })
    });
    let dials: Vec<_> = dials.collect();
    // There is no second request for a session: it would not be for a connection.
    let control = bridge.session(1).await;
    let mut sockets = Vec::new();
    for _ in 0..DIALS {
        sockets.push(bridge.connection().await);
    }
    for dial in dials {
        soon(dial).await.unwrap().unwrap();
    }
    // So does one that comes later.
    let (stream, mut socket) = connect(&dialer(&app), bridge.connection()).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
    drop(control);
}

#[tokio::test]
async fn all_who_wait_for_a_session_learn_why_there_is_none() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let dials = (0..5).map(|_| {
        let dialer = dialer(&app);
        tokio::spawn(async move { dialer.connect(&endpoint("stats.i2p:80")).await })
    });
    let dials: Vec<_> = dials.collect();
    let mut control = bridge.request("SESSION CREATE").await;
    control.send("SESSION STATUS RESULT=I2P_ERROR MESSAGE=\"no tunnels\"\n").await;
    for dial in dials {
        let error = soon(dial).await.unwrap().unwrap_err();
        assert!(failure(&error).1.ends_with("it says: no tunnels"), "{error:?}");
    }
    control.closed().await;
    bridge.assert_untouched();
}

#[tokio::test]
async fn who_goes_away_spoils_the_session_for_nobody() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let first = dialer(&app);
    let first = tokio::spawn(async move { first.connect(&endpoint("stats.i2p:80")).await });
    let control = bridge.request("SESSION CREATE").await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let script = async {
        let mut control = control;
        control.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(1))).await;
        bridge.connection().await.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn a_dropped_dial_closes_its_socket_and_leaves_the_session() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let (stream, first) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    for greets in [false, true] {
        let dropped = dialer(&app);
        let dropped = tokio::spawn(async move { dropped.connect(&endpoint("stats.i2p:80")).await });
        let socket = if greets { bridge.request("STREAM CONNECT").await } else { bridge.socket().await };
        dropped.abort();
        socket.closed().await;
    }
    let (stream2, mut socket) = connect(&dialer(&app), bridge.connection()).await;
    assert_connected(&mut stream2.unwrap(), &mut socket).await;
    drop((stream, first));
}

#[tokio::test]
async fn a_session_that_ended_is_created_again_at_the_same_destination() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "options": { "inbound.length": 0 } }));
    let (stream, socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    let mut control = socket.kept();
    control.shut_down().await;
    // The session is over when its socket is closed from this end, too.
    control.closed().await;
    let script = async {
        let mut control = bridge.request("SESSION CREATE").await;
        let asked = control.asked();
        assert!(asked.ends_with(&format!("DESTINATION={} inbound.length=0", private_key(1))), "{asked}");
        control.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(1))).await;
        bridge.connection().await.keep(control)
    };
    let (stream2, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream2.unwrap(), &mut socket).await;
    drop(stream);
}

#[tokio::test]
async fn a_session_that_the_router_does_not_know_is_created_again_at_once() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let (stream, first) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    let script = async {
        let mut socket = bridge.request("STREAM CONNECT").await;
        socket.send("STREAM STATUS RESULT=INVALID_ID\n").await;
        bridge.session_and_connection(1).await
    };
    let (stream2, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream2.unwrap(), &mut socket).await;
    drop((stream, first));
}

#[tokio::test]
async fn after_a_failure_there_is_no_attempt_for_a_while() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let dialer = dialer(&app);
    let script = async {
        let mut socket = bridge.socket().await;
        socket.shut_down().await;
        socket
    };
    assert!(connect(&dialer, script).await.0.unwrap_err().is_retryable());
    let error = soon(dialer.connect(&endpoint("stats.i2p:80"))).await.unwrap_err();
    let SamError::Backoff { left, source } = sam_error(driver_error(&error)) else { panic!("{error:?}") };
    assert!(*left <= Duration::from_millis(500), "{left:?}");
    assert!(matches!(source.cause(), Cause::Closed) && error.is_retryable());
    bridge.assert_untouched();
    // Nothing happens until then that could be waited for.
    tokio::time::sleep(*left).await;
    let (stream, mut socket) = connect(&dialer, bridge.session_and_connection(1)).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn a_router_that_does_not_connect_to_names_is_asked_for_the_destination() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let script = async {
        let mut control = bridge.session(1).await;
        let mut refused = bridge.request("STREAM CONNECT").await;
        refused.send("STREAM STATUS RESULT=INVALID_KEY\n").await;
        control.expect("NAMING LOOKUP NAME=stats.i2p").await;
        let reply = format!("NAMING REPLY RESULT=OK NAME=stats.i2p VALUE={}\n", destination(2));
        control.send(&reply).await;
        let mut socket = bridge.request("STREAM CONNECT").await;
        let asked = socket.asked();
        assert!(asked.ends_with(&format!(" DESTINATION={} SILENT=false", destination(2))), "{asked}");
        socket.send("STREAM STATUS RESULT=OK\n").await;
        socket.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn a_name_that_the_router_does_not_know_is_an_error() {
    for (result, expected) in
        [("KEY_NOT_FOUND", SamRefusal::KeyNotFound), ("INVALID_KEY", SamRefusal::InvalidKey)]
    {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let script = async {
            let mut control = bridge.session(1).await;
            let mut refused = bridge.request("STREAM CONNECT").await;
            refused.send("STREAM STATUS RESULT=INVALID_KEY\n").await;
            control.expect("NAMING LOOKUP NAME=stats.i2p").await;
            control.send(&format!("NAMING REPLY RESULT={result} NAME=stats.i2p\n")).await;
            control
        };
        let error = connect(&dialer(&app), script).await.0.unwrap_err();
        assert_eq!(driver_error(&error).step(), DriverStep::Sam(Stage::Lookup));
        let SamError::Refused { refusal, .. } = sam_error(driver_error(&error)) else { panic!("{error:?}") };
        assert!(*refusal == expected && error.is_retryable());
    }
}

#[tokio::test]
async fn a_session_answers_whether_it_is_there() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({}));
    let (stream, socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    let mut control = socket.kept();
    control.send("PING are you there\nWHATEVER\nPING\n").await;
    control.expect("PONG are you there").await;
    control.expect("PONG").await;
    drop(stream);
}

#[tokio::test]
async fn a_session_whose_bridge_does_not_read_is_over() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "deadline": "500ms" }));
    let dialer = dialer(&app);
    let (stream, mut socket) = connect(&dialer, bridge.session_and_connection(1)).await;
    let ping = format!("PING {}\n", "x".repeat(60_000));
    socket.take_kept().flood(&ping).await;
    let (stream2, mut socket) = connect(&dialer, bridge.session_and_connection(1)).await;
    assert_connected(&mut stream2.unwrap(), &mut socket).await;
    drop(stream);
}

#[tokio::test]
async fn the_session_ends_with_the_last_who_uses_it() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({}));
    let dialer = dialer(&app);
    let (stream, mut socket) = connect(&dialer, bridge.session_and_connection(1)).await;
    let mut stream = stream.unwrap();
    assert!(networks.unregister(&"app:i2p".parse().unwrap()));
    // It stands still: who has a connection has the session.
    assert_connected(&mut stream, &mut socket).await;
    let mut control = socket.take_kept();
    control.send("PING\n").await;
    control.expect("PONG").await;
    drop(stream);
    control.closed().await;
    socket.closed().await;
}

#[tokio::test]
async fn a_session_that_is_being_created_ends_with_the_network() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({}));
    let dialer = dialer(&app);
    let dial = tokio::spawn(async move { dialer.connect(&endpoint("stats.i2p:80")).await });
    let control = bridge.request("SESSION CREATE").await;
    assert!(networks.unregister(&"app:i2p".parse().unwrap()));
    dial.abort();
    control.closed().await;
}

#[tokio::test]
async fn where_it_is_asked_the_first_byte_has_its_time() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "first_byte_timeout": "50ms" }));
    let (stream, mut socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    let mut stream = stream.unwrap();
    // The client may speak first.
    stream.write_all(b"GET").await.unwrap();
    let mut received = [0; 8];
    let error = soon(stream.read(&mut received)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("50ms"), "{error}");
    // It stays so, and what is sent too late is not mistaken for an answer.
    socket.send("late").await;
    assert_eq!(soon(stream.read(&mut received)).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(socket.bytes(3).await, b"GET");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(socket.bytes(4).await, b"more");
}

#[tokio::test]
async fn the_first_byte_ends_the_wait_for_it() {
    let bridge = Bridge::new().await;
    let (app, _) = app(&bridge, &json!({ "first_byte_timeout": "500ms" }));
    let connected = Instant::now();
    let (stream, mut socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    let mut stream = stream.unwrap();
    socket.send("x").await;
    let mut received = [0; 8];
    assert_eq!(soon(stream.read(&mut received)).await.unwrap(), 1);
    let read = tokio::time::timeout(Duration::from_millis(600), stream.read(&mut received)).await;
    assert!(read.is_err() && connected.elapsed() > Duration::from_millis(500), "it waits: {read:?}");
    assert_connected(&mut stream, &mut socket).await;
}

#[tokio::test]
async fn the_bridge_is_reached_through_another_network() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({ "via": "app:direct" }));
    let (stream, mut socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
    assert!(networks.unregister(&"app:direct".parse().unwrap()));
    let error = soon(dialer(&app).connect(&endpoint("stats.i2p:80"))).await.unwrap_err();
    assert!(matches!(session_error(&error).cause(), Cause::Via(_)), "{error:?}");
    bridge.assert_untouched();
}

/// The way to the bridge becomes another.
fn change_the_way(networks: &NetworkRegistry) {
    let hop = serde_json::from_value(json!({ "kind": "direct", "allow": ["127.0.0.1"] })).unwrap();
    networks.update(&"app:direct".parse().unwrap(), &hop).unwrap();
}

#[tokio::test]
async fn a_session_is_not_continued_on_another_way() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({ "via": "app:direct" }));
    let dialer = dialer(&app);
    let (stream, mut first) = connect(&dialer, bridge.session_and_connection(1)).await;
    let mut stream = stream.unwrap();
    change_the_way(&networks);
    let script = async {
        let mut control = bridge.request("SESSION CREATE").await;
        assert!(control.asked().ends_with(" DESTINATION=TRANSIENT SIGNATURE_TYPE=7"), "{}", control.asked());
        control.create(2).await;
        bridge.connection().await.keep(control)
    };
    let (stream2, mut second) = connect(&dialer, script).await;
    assert_ne!(session_id(&second), session_id(&first));
    assert_connected(&mut stream2.unwrap(), &mut second).await;
    // What there is goes on, and the session with it.
    assert_connected(&mut stream, &mut first).await;
    let mut control = first.take_kept();
    control.send("PING\n").await;
    control.expect("PONG").await;
    drop(stream);
    control.closed().await;
}

/// The session that a request is about.
fn session_id(socket: &Socket) -> String {
    socket.asked().split_once(" ID=").unwrap().1.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_with_the_way() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({ "via": "app:direct" }));
    let (stream, socket) = connect(&dialer(&app), bridge.session_and_connection(1)).await;
    drop(stream.unwrap());
    change_the_way(&networks);
    socket.kept().closed().await;
    bridge.assert_untouched();
}

#[tokio::test]
async fn a_session_that_is_being_created_starts_over_on_another_way() {
    let bridge = Bridge::new().await;
    let (app, networks) = app(&bridge, &json!({ "via": "app:direct" }));
    let script = async {
        let first = bridge.request("SESSION CREATE").await;
        change_the_way(&networks);
        let id = session_id(&first);
        first.closed().await;
        let mut control = bridge.request("SESSION CREATE").await;
        assert_ne!(session_id(&control), id);
        control.create(1).await;
        bridge.connection().await.keep(control)
    };
    let (stream, mut socket) = connect(&dialer(&app), script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

#[tokio::test]
async fn a_dial_that_finds_the_way_changed_starts_over() {
    // A hop that can be stopped in the middle: the way changes between the session's check and the dial.
    let bridge = Bridge::new().await;
    let hop = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = json!({ "kind": "socks5", "proxy": hop.local_addr().unwrap().to_string() });
    let (app, networks) = support::app(json!({ "networks": {
        "app:hop": proxy,
        "app:i2p": { "kind": "i2p", "sam": bridge.address(), "via": "app:hop" },
    } }));
    let dialer = dialer(&app);
    let address = bridge.address();
    let change = || {
        let id = "app:hop".parse().unwrap();
        networks.update(&id, &serde_json::from_value(proxy.clone()).unwrap()).unwrap();
    };
    let script = async {
        let ((), control) = tokio::join!(relay(&hop, &address, || ()), bridge.session(1));
        let ((), socket) = tokio::join!(relay(&hop, &address, change), bridge.socket());
        // Nothing was said on it.
        socket.closed().await;
        control.closed().await;
        let ((), control) = tokio::join!(relay(&hop, &address, || ()), bridge.session(2));
        let ((), connection) = tokio::join!(relay(&hop, &address, || ()), bridge.connection());
        connection.keep(control)
    };
    let (stream, mut socket) = connect(&dialer, script).await;
    assert_connected(&mut stream.unwrap(), &mut socket).await;
}

/// Carries one connection to `to` from a client of the SOCKS5 proxy at `hop`, in the background. `before` is done before
/// the client is told that it is connected.
async fn relay(hop: &TcpListener, to: &str, before: impl FnOnce()) {
    let (mut client, _) = soon(hop.accept()).await.unwrap();
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; greeting[1].into()];
    client.read_exact(&mut methods).await.unwrap();
    client.write_all(&[5, 0]).await.unwrap();
    // CONNECT to an IPv4 address.
    let mut request = [0; 10];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 1]);
    let mut bridge = tokio::net::TcpStream::connect(to).await.unwrap();
    before();
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut bridge).await });
}

#[tokio::test]
async fn nobody_listens_at_the_bridge() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (app, _) = support::app(json!({ "networks": { "app:i2p": { "kind": "i2p", "sam": address } } }));
    let error = soon(dialer(&app).connect(&endpoint("stats.i2p:80"))).await.unwrap_err();
    let Cause::Io(source) = session_error(&error).cause() else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    assert!(error.is_retryable());
}

mod listening {
    use super::*;

    async fn listen(dialer: &Dialer, port: u16, bridge: &Bridge) -> (frame_net::BoxListener, Socket) {
        let script = async {
            let control = bridge.session(1).await;
            let mut socket = bridge.request("STREAM ACCEPT").await;
            socket.send("STREAM STATUS RESULT=OK\n").await;
            socket.keep(control)
        };
        let at = LocalEndpoint::port(port);
        let (listener, socket) = soon(async { tokio::join!(dialer.listen(&at), script) }).await;
        (listener.unwrap(), socket)
    }

    /// The next socket on which a connection is waited for.
    async fn waits(bridge: &Bridge) -> Socket {
        let mut socket = bridge.request("STREAM ACCEPT").await;
        socket.send("STREAM STATUS RESULT=OK\n").await;
        socket
    }

    #[tokio::test]
    async fn connections_come_with_who_made_them() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 80, &bridge).await;
        assert_eq!(listener.local().to_string(), format!("{}:80", name(1)));
        assert!(socket.asked().ends_with(" SILENT=false"));
        socket.send(&format!("{}\nhel", destination(2))).await;
        let (mut stream, peer) = soon(listener.accept()).await.unwrap();
        assert_eq!(peer.to_string(), format!("{}:0", name(2)));
        socket.send("lo").await;
        let mut received = [0; 5];
        soon(stream.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"hello");
        assert_connected(&mut stream, &mut socket).await;
        // The next is waited for without anybody asking for it.
        let mut socket2 = waits(&bridge).await;
        socket2.send(&format!("{} FROM_PORT=7 TO_PORT=80\n", destination(3))).await;
        let (mut stream2, peer) = soon(listener.accept()).await.unwrap();
        assert_eq!(peer.to_string(), format!("{}:7", name(3)));
        assert_connected(&mut stream2, &mut socket2).await;
    }

    #[tokio::test]
    async fn a_dropped_accept_loses_no_connection() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        let at_once = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(at_once.is_err());
        socket.send(&format!("{}\n", destination(2))).await;
        let mut socket2 = waits(&bridge).await;
        socket2.send(&format!("{}\n", destination(3))).await;
        for (n, socket) in [(2, &mut socket), (3, &mut socket2)] {
            let (mut stream, peer) = soon(listener.accept()).await.unwrap();
            assert_eq!(peer.host.to_string(), name(n));
            assert_connected(&mut stream, socket).await;
        }
    }

    #[tokio::test]
    async fn a_connection_to_another_port_is_closed() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 80, &bridge).await;
        socket.send(&format!("{} TO_PORT=81\n", destination(2))).await;
        let mut control = socket.take_kept();
        socket.closed().await;
        let mut socket = waits(&bridge).await;
        socket.send(&format!("{} TO_PORT=0\n", destination(3))).await;
        let (_stream, peer) = soon(listener.accept()).await.unwrap();
        assert_eq!(peer.host.to_string(), name(3));
        control.send("PING\n").await;
        control.expect("PONG").await;
    }

    #[tokio::test]
    async fn a_dropped_listener_waits_for_nothing_and_leaves_its_place() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let dialer = dialer(&app);
        let (listener, mut socket) = listen(&dialer, 0, &bridge).await;
        let error = soon(dialer.listen(&LocalEndpoint::port(0))).await.unwrap_err();
        assert!(matches!(sam_error(driver_error(&error)), SamError::AlreadyListening));
        assert!(error.is_retryable());
        let control = socket.take_kept();
        drop(listener);
        socket.closed().await;
        let at = LocalEndpoint::port(0);
        let (listener, socket) = soon(async { tokio::join!(dialer.listen(&at), waits(&bridge)) }).await;
        assert!(listener.is_ok());
        drop((socket, control));
    }

    #[tokio::test]
    async fn a_listener_keeps_the_session_of_a_network_that_is_gone() {
        let bridge = Bridge::new().await;
        let (app, networks) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        assert!(networks.unregister(&"app:i2p".parse().unwrap()));
        let control = socket.take_kept();
        socket.send(&format!("{}\n", destination(2))).await;
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        assert_connected(&mut stream, &mut socket).await;
        drop(stream);
        drop(listener);
        control.closed().await;
    }

    #[tokio::test]
    async fn a_refused_listener_is_an_error() {
        for (result, expected) in
            [("ALREADY_ACCEPTING", SamRefusal::AlreadyAccepting), ("I2P_ERROR", SamRefusal::I2pError)]
        {
            let bridge = Bridge::new().await;
            let (app, _) = app(&bridge, &json!({}));
            let dialer = dialer(&app);
            let script = async {
                let control = bridge.session(1).await;
                let mut socket = bridge.request("STREAM ACCEPT").await;
                socket.send(&format!("STREAM STATUS RESULT={result}\n")).await;
                socket.keep(control)
            };
            let at = LocalEndpoint::port(0);
            let (listener, socket) = soon(async { tokio::join!(dialer.listen(&at), script) }).await;
            let error = listener.unwrap_err();
            assert_eq!(driver_error(&error).step(), DriverStep::Sam(Stage::Accept));
            let SamError::Refused { refusal, .. } = sam_error(driver_error(&error)) else {
                panic!("{error:?}")
            };
            assert_eq!(*refusal, expected);
            // The place is free again.
            let (listener, socket2) = soon(async { tokio::join!(dialer.listen(&at), waits(&bridge)) }).await;
            assert!(listener.is_ok());
            drop((socket, socket2));
        }
    }

    #[tokio::test]
    async fn a_listener_goes_on_after_what_ends_one_connection() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        for line in ["STREAM STATUS RESULT=I2P_ERROR MESSAGE=\"restarting\"\n", "not a destination\n", ""] {
            let control = socket.take_kept();
            socket.send(line).await;
            socket.shut_down().await;
            let error = soon(listener.accept()).await.unwrap_err();
            assert_eq!(error.step(), DriverStep::Sam(Stage::Incoming));
            assert!(error.is_retryable(), "{error:?}");
            let mut came = waits(&bridge).await;
            came.send(&format!("{}\n", destination(2))).await;
            let (mut stream, _) = soon(listener.accept()).await.unwrap();
            assert_connected(&mut stream, &mut came).await;
            socket = waits(&bridge).await.keep(control);
        }
    }

    #[tokio::test]
    async fn a_listener_whose_every_wait_is_ended_waits_longer_each_time() {
        const FIRST: Duration = Duration::from_millis(500);
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        let _control = socket.take_kept();
        for shortest in [FIRST / 2, FIRST] {
            let ended = Instant::now();
            socket.shut_down().await;
            soon(listener.accept()).await.unwrap_err();
            socket = waits(&bridge).await;
            assert!(ended.elapsed() >= shortest, "{:?}", ended.elapsed());
        }
    }

    #[tokio::test]
    async fn a_listener_stays_where_it_is_on_another_way() {
        let bridge = Bridge::new().await;
        let (app, networks) = app(&bridge, &json!({ "via": "app:direct" }));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        let control = socket.take_kept();
        change_the_way(&networks);
        let error = soon(listener.accept()).await.unwrap_err();
        assert!(matches!(sam_error(&error), SamError::SessionEnded) && error.is_retryable(), "{error:?}");
        socket.closed().await;
        control.closed().await;
        let mut control = bridge.request("SESSION CREATE").await;
        assert!(control.asked().contains(&private_key(1)), "{}", control.asked());
        control.create(1).await;
        let mut socket = waits(&bridge).await;
        socket.send(&format!("{}\n", destination(2))).await;
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        assert_connected(&mut stream, &mut socket).await;
    }

    #[tokio::test]
    async fn a_listener_outlives_its_session() {
        let bridge = Bridge::new().await;
        let (app, _) = app(&bridge, &json!({}));
        let (mut listener, mut socket) = listen(&dialer(&app), 0, &bridge).await;
        socket.take_kept().shut_down().await;
        let error = soon(listener.accept()).await.unwrap_err();
        assert!(matches!(sam_error(&error), SamError::SessionEnded) && error.is_retryable(), "{error:?}");
        let mut control = bridge.request("SESSION CREATE").await;
        assert!(control.asked().contains(&private_key(1)), "it is at the same destination");
        control.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(1))).await;
        let mut socket = waits(&bridge).await;
        socket.send(&format!("{}\n", destination(2))).await;
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        assert_connected(&mut stream, &mut socket).await;
        drop(control);
    }
}

mod naming {
    use super::*;
    use frame_net::Direct;
    use frame_net::i2p::{I2p, I2pConfig};
    use std::sync::Arc;

    fn network(bridge: &Bridge) -> I2p {
        with_deadline(bridge, Duration::from_secs(90))
    }

    fn with_deadline(bridge: &Bridge, deadline: Duration) -> I2p {
        let networks = NetworkRegistry::new(Arc::new(Direct::default()));
        let mut config = I2pConfig::new(endpoint(&bridge.address()));
        config.deadline = deadline;
        I2p::new(config, &networks)
    }

    /// A session in which `forum.i2p` is found.
    async fn finds(bridge: &Bridge) -> Socket {
        let mut control = bridge.session(1).await;
        control.expect("NAMING LOOKUP NAME=forum.i2p").await;
        let reply = format!("NAMING REPLY RESULT=OK NAME=forum.i2p VALUE={}\n", destination(3));
        control.send(&reply).await;
        control
    }

    #[tokio::test]
    async fn names_are_looked_up_on_the_socket_of_the_session() {
        let bridge = Bridge::new().await;
        let network = network(&bridge);
        let (stats, forum) = ("stats.i2p".parse().unwrap(), "Forum.i2p".parse().unwrap());
        let script = async {
            let mut control = bridge.session(1).await;
            control.expect("NAMING LOOKUP NAME=stats.i2p").await;
            let reply = format!("NAMING REPLY RESULT=OK NAME=stats.i2p VALUE={}\n", destination(2));
            control.send(&reply).await;
            control.expect("NAMING LOOKUP NAME=forum.i2p").await;
            control.send("NAMING REPLY RESULT=KEY_NOT_FOUND NAME=forum.i2p\n").await;
            control
        };
        let found = async { (network.destination(&stats).await, network.destination(&forum).await) };
        let ((found, not_found), _control) = soon(async { tokio::join!(found, script) }).await;
        let found = found.unwrap();
        assert_eq!((found.to_string(), found.host_name().to_string()), (destination(2), name(2)));
        let not_found = not_found.unwrap_err();
        assert_eq!((not_found.step(), not_found.is_retryable()), (DriverStep::Sam(Stage::Lookup), true));
        let error = soon(network.destination(&"example.com".parse().unwrap())).await.unwrap_err();
        assert!(matches!(sam_error(&error), SamError::NotI2p));
    }

    #[tokio::test]
    async fn a_lookup_without_an_answer_ends_with_the_deadline() {
        let bridge = Bridge::new().await;
        let network = with_deadline(&bridge, Duration::from_millis(500));
        let (stats, forum) = ("stats.i2p".parse().unwrap(), "forum.i2p".parse().unwrap());
        let (found, mut control) =
            soon(async { tokio::join!(network.destination(&stats), bridge.session(1)) }).await;
        let error = found.unwrap_err();
        assert!(matches!(error.cause(), Cause::TimedOut { .. }), "{error:?}");
        assert_eq!(error.step(), DriverStep::Sam(Stage::Lookup));
        // So does the session: the bridge would leave the next without an answer, too.
        control.expect("NAMING LOOKUP NAME=stats.i2p").await;
        control.closed().await;
        let (found, _control) =
            soon(async { tokio::join!(network.destination(&forum), finds(&bridge)) }).await;
        assert_eq!(found.unwrap().to_string(), destination(3));
    }

    #[tokio::test]
    async fn what_is_no_answer_to_a_lookup_ends_the_session_and_not_the_next_lookup() {
        let of_another = format!("NAMING REPLY RESULT=OK NAME=forum.i2p VALUE={}\n", destination(3));
        for line in ["NAMING REPLY RESULT=KEY_NOT_FOUND NAME=stats.i2p MESSAGE=\"oh\n", &of_another] {
            let bridge = Bridge::new().await;
            let network = network(&bridge);
            let (stats, forum) = ("stats.i2p".parse().unwrap(), "forum.i2p".parse().unwrap());
            let script = async {
                let mut control = bridge.session(1).await;
                control.expect("NAMING LOOKUP NAME=stats.i2p").await;
                control.send(line).await;
                control.closed().await;
            };
            let (found, ()) = soon(async { tokio::join!(network.destination(&stats), script) }).await;
            let error = found.unwrap_err();
            assert!(matches!(sam_error(&error), SamError::Malformed(_)), "{error:?}");
            assert!(error.step() == DriverStep::Sam(Stage::Lookup) && error.is_retryable());
            let (found, _control) =
                soon(async { tokio::join!(network.destination(&forum), finds(&bridge)) }).await;
            assert_eq!(found.unwrap().to_string(), destination(3));
        }
    }

    #[tokio::test]
    async fn a_session_that_ends_tells_who_waits_for_an_answer() {
        let bridge = Bridge::new().await;
        let network = network(&bridge);
        let stats = "stats.i2p".parse().unwrap();
        let script = async { bridge.session(1).await.expect("NAMING LOOKUP NAME=stats.i2p").await };
        let (found, ()) = soon(async { tokio::join!(network.destination(&stats), script) }).await;
        let error = found.unwrap_err();
        assert!(matches!(sam_error(&error), SamError::SessionEnded) && error.is_retryable(), "{error:?}");
    }

    #[tokio::test]
    async fn a_dropped_lookup_leaves_the_session_to_the_next() {
        let bridge = Bridge::new().await;
        let network = Arc::new(network(&bridge));
        let dropped = Arc::clone(&network);
        let dropped = tokio::spawn(async move { dropped.destination(&"stats.i2p".parse().unwrap()).await });
        let mut control = bridge.session(1).await;
        control.expect("NAMING LOOKUP NAME=stats.i2p").await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        let forum = "forum.i2p".parse().unwrap();
        let script = async {
            control.send("NAMING REPLY RESULT=KEY_NOT_FOUND NAME=stats.i2p\n").await;
            control.expect("NAMING LOOKUP NAME=forum.i2p").await;
            let reply = format!("NAMING REPLY RESULT=OK NAME=forum.i2p VALUE={}\n", destination(3));
            control.send(&reply).await;
            control
        };
        let (found, _control) = soon(async { tokio::join!(network.destination(&forum), script) }).await;
        assert_eq!(found.unwrap().to_string(), destination(3));
    }
}

#[test]
fn keys_in_the_wrong_place_are_not_shown() {
    for settings in [
        json!({ "destination": { "signature_type": "31337" } }),
        json!({ "destination": 31337 }),
        json!({ "destination": "31337" }),
        json!({ "options": "31337" }),
        json!({ "password": 31337 }),
    ] {
        let mut config = settings.clone();
        config["sam"] = json!("127.0.0.1:7656");
        let error = serde_json::from_value::<frame_net::i2p::I2pConfig>(config).unwrap_err();
        assert!(!error.to_string().contains("31337"), "{settings}: {error}");
    }
}
