//! The SOCKS5 network against proxies that play a script: what it sends is compared byte by byte, and whatever a
//! proxy does wrong, the connection is refused and nobody is connected to directly.

mod support;

use frame_net::socks5::{HandshakeError, Refusal, Stage};
use frame_net::{Cause, ChosenBy, DriverStep, NetworkError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use support::{Bait, Scripted, Then, app, connect_through, endpoint, expect, failure, frame, send, soon};

const NO_AUTHENTICATION: &[u8] = &[5, 1, 0];
const PASSWORD: &[u8] = &[5, 1, 2];
const CREDENTIALS: &[u8] = b"\x01\x03app\x05xyzzy";
const GRANTED: &[u8] = &[5, 0, 0, 1, 127, 0, 0, 1, 0x1f, 0x90];

fn with_credentials(address: &str) -> Value {
    json!({ "proxy": address, "credentials": { "username": "app", "password": "xyzzy" } })
}

/// The request for the address of a [`Bait`].
fn request_for(bait: &Bait) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 1, 127, 0, 0, 1];
    request.extend(bait.endpoint().port().to_be_bytes());
    request
}

/// Connects to a bait through the proxy, which must fail, at `step`, with the bait untouched, nothing more sent,
/// the connection closed, and the password in no error.
async fn assert_refused(proxy: Scripted, config: Value, bait: &Bait, step: Stage) -> NetworkError {
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    bait.assert_untouched();
    let (failed, text) = failure(&error);
    assert_eq!(failed, DriverStep::Socks5(step), "{text}");
    assert!(text.contains("network `app:proxy`") && text.contains(&proxy.address), "{text}");
    assert!(!format!("{text}{error:?}").contains("xyzzy"), "{text}");
    assert_eq!(proxy.rest().await, b"");
    error
}

fn handshake_error(error: &NetworkError) -> HandshakeError {
    match error {
        NetworkError::Connect { source, .. } => match source.cause() {
            Cause::Handshake(error) => *error,
            cause => panic!("{cause:?}"),
        },
        _ => panic!("{error:?}"),
    }
}

fn cause(error: &NetworkError) -> &Cause {
    match error {
        NetworkError::Connect { source, .. } => source.cause(),
        _ => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_name_goes_to_the_proxy_as_it_is() {
    let request = b"\x05\x01\x00\x03\x10does-not.invalid\x01\xbb";
    let moves = [
        expect(NO_AUTHENTICATION),
        send([5, 0]),
        expect(request),
        send(GRANTED),
        expect(b"ping"),
        send(b"pong"),
    ];
    let proxy = Scripted::new(&moves, Then::Wait).await;
    let connected =
        connect_through(json!({ "proxy": proxy.address }), &endpoint("does-not.invalid:443")).await;
    let mut stream = connected.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"pong");
    drop(stream);
    assert_eq!(proxy.rest().await, b"");
}

#[tokio::test]
async fn addresses_go_as_addresses() {
    let v6 = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
    let v4 = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50";
    for (to, request) in [("[2001:db8::1]:80", &v6[..]), ("192.0.2.7:80", &v4[..])] {
        let moves = [expect(NO_AUTHENTICATION), send([5, 0]), expect(request), send(GRANTED)];
        let proxy = Scripted::new(&moves, Then::Wait).await;
        connect_through(json!({ "proxy": proxy.address }), &endpoint(to)).await.unwrap();
        assert_eq!(proxy.rest().await, b"");
    }
}

#[tokio::test]
async fn credentials_are_the_only_method_that_is_offered() {
    let request = b"\x05\x01\x00\x03\x01h\x00\x50";
    let moves =
        [expect(PASSWORD), send([5, 2]), expect(CREDENTIALS), send([1, 0]), expect(request), send(GRANTED)];
    let proxy = Scripted::new(&moves, Then::Wait).await;
    connect_through(with_credentials(&proxy.address), &endpoint("h:80")).await.unwrap();
    assert_eq!(proxy.rest().await, b"");
}

#[tokio::test]
async fn what_follows_the_reply_at_once_is_not_lost() {
    let bound_to_name = b"\x05\x00\x00\x03\x04host\x00\x50SSH-2.0";
    let moves = [
        expect(NO_AUTHENTICATION),
        send([5, 0]),
        expect(b"\x05\x01\x00\x03\x01h\x00\x16"),
        send(bound_to_name),
    ];
    let proxy = Scripted::new(&moves, Then::Close).await;
    let mut stream = connect_through(json!({ "proxy": proxy.address }), &endpoint("h:22")).await.unwrap();
    let mut received = String::new();
    soon(stream.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "SSH-2.0");
}

#[tokio::test]
async fn a_proxy_that_is_down_is_no_reason_to_go_without() {
    let bait = Bait::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = connect_through(json!({ "proxy": address }), &bait.endpoint()).await.unwrap_err();
    bait.assert_untouched();
    let (step, text) = failure(&error);
    assert_eq!(step, DriverStep::Connect, "{text}");
    assert!(matches!(cause(&error), Cause::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn one_deadline_ends_silence_at_every_stage() {
    let mut cases = JoinSet::new();
    // How many moves the proxy makes before it is silent. The last leaves it in the middle of its reply.
    for (moves, stage) in
        [(1, Stage::Greeting), (3, Stage::Authentication), (5, Stage::Request), (6, Stage::Request)]
    {
        cases.spawn(async move {
            let bait = Bait::new();
            let script = [
                expect(PASSWORD),
                send([5, 2]),
                expect(CREDENTIALS),
                send([1, 0]),
                expect(request_for(&bait)),
                send(&GRANTED[..4]),
            ];
            let proxy = Scripted::new(&script[..moves], Then::Wait).await;
            let mut config = with_credentials(&proxy.address);
            config["deadline"] = json!("1s");
            let error = assert_refused(proxy, config, &bait, stage).await;
            assert!(matches!(cause(&error), Cause::TimedOut { limit } if limit.as_millis() == 1_000));
            assert!(error.is_retryable());
        });
    }
    cases.join_all().await;
}

/// A listener of which Linux accepts one connection, and lets the next wait.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_deadline_covers_the_connection_to_the_proxy() {
    let bait = Bait::new();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _queued = std::net::TcpStream::connect(address).unwrap();

    let config = json!({ "proxy": address.to_string(), "deadline": "100ms" });
    let error = connect_through(config, &bait.endpoint()).await.unwrap_err();
    bait.assert_untouched();
    assert_eq!(failure(&error).0, DriverStep::Connect);
    assert!(matches!(cause(&error), Cause::TimedOut { limit } if limit.as_millis() == 100), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_closes_in_between_is_refused() {
    let bait = Bait::new();
    let request = request_for(&bait);
    let script = [expect(NO_AUTHENTICATION), send([5]), send([0]), expect(&request), send(&GRANTED[..9])];
    for (moves, stage) in
        [(1, Stage::Greeting), (2, Stage::Greeting), (4, Stage::Request), (5, Stage::Request)]
    {
        let proxy = Scripted::new(&script[..moves], Then::Close).await;
        let config = json!({ "proxy": proxy.address });
        let error = assert_refused(proxy, config, &bait, stage).await;
        assert!(matches!(cause(&error), Cause::Closed), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn wrong_credentials_are_final() {
    let bait = Bait::new();
    let script = [expect(PASSWORD), send([5, 2]), expect(CREDENTIALS), send([1, 7])];
    let proxy = Scripted::new(&script, Then::Wait).await;
    let config = with_credentials(&proxy.address);
    let error = assert_refused(proxy, config, &bait, Stage::Authentication).await;
    assert_eq!(handshake_error(&error), HandshakeError::CredentialsRefused { status: 7 });
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_method_that_was_not_offered_is_refused() {
    let bait = Bait::new();
    for (offered, chosen) in [(2, 0), (2, 1), (0, 2), (0, 0x80)] {
        let proxy = Scripted::new(&[expect([5, 1, offered]), send([5, chosen])], Then::Wait).await;
        let config = match offered {
            2 => with_credentials(&proxy.address),
            _ => json!({ "proxy": proxy.address }),
        };
        let error = assert_refused(proxy, config, &bait, Stage::Greeting).await;
        assert_eq!(handshake_error(&error), HandshakeError::MethodNotOffered { chosen, offered });
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_proxy_that_accepts_no_method_is_refused() {
    let bait = Bait::new();
    let proxy = Scripted::new(&[expect(NO_AUTHENTICATION), send([5, 0xff])], Then::Wait).await;
    let config = json!({ "proxy": proxy.address });
    let error = assert_refused(proxy, config, &bait, Stage::Greeting).await;
    assert_eq!(handshake_error(&error), HandshakeError::NoMethod { offered: 0 });
}

#[tokio::test]
async fn every_refusal_is_an_error_of_its_own() {
    let bait = Bait::new();
    let request = request_for(&bait);
    for code in (1..=9).chain([0xf0, 0xff]) {
        // Some proxies send no more than this and close.
        let script = [expect(NO_AUTHENTICATION), send([5, 0]), expect(&request), send([5, code])];
        let proxy = Scripted::new(&script, Then::Wait).await;
        let config = json!({ "proxy": proxy.address });
        let error = assert_refused(proxy, config, &bait, Stage::Request).await;
        let refusal = Refusal::from_code(code).unwrap();
        assert_eq!(handshake_error(&error), HandshakeError::Refused(refusal));
        assert_eq!(error.is_retryable(), refusal.is_retryable());
    }
}

#[tokio::test]
async fn who_does_not_speak_socks5_is_refused() {
    let bait = Bait::new();
    let proxy = Scripted::new(&[expect(NO_AUTHENTICATION), send(b"HTTP/1.1 400\r\n\r\n")], Then::Wait).await;
    let config = json!({ "proxy": proxy.address });
    let error = assert_refused(proxy, config, &bait, Stage::Greeting).await;
    assert_eq!(handshake_error(&error), HandshakeError::Version { version: b'H' });
}

#[tokio::test]
async fn dropping_a_connect_closes_the_connection_to_the_proxy() {
    let mut proxy = Scripted::new(&[expect(NO_AUTHENTICATION)], Then::Wait).await;
    let config = json!({ "proxy": proxy.address });
    let dialing = tokio::spawn(async move { connect_through(config, &endpoint("h:80")).await });
    proxy.played().await;
    dialing.abort();
    assert!(soon(dialing).await.unwrap_err().is_cancelled());
    // The proxy waits for the end of the connection.
    assert_eq!(proxy.rest().await, b"");
}

#[tokio::test]
async fn a_network_that_is_removed_between_frame_and_dial_is_not_found() {
    let bait = Bait::new();
    let config = json!({ "networks": { "app:proxy": { "kind": "socks5", "proxy": "127.0.0.1:1" } } });
    let (app, networks) = app(config);
    let frame = frame(&app, &json!({ "network": "app:proxy" }));
    let dialer = frame_net::dialer(&frame, &app).unwrap();
    assert!(networks.unregister(&"app:proxy".parse().unwrap()));

    for error in [
        dialer.connect(&bait.endpoint()).await.unwrap_err(),
        dialer.lookup(&"localhost".parse().unwrap()).await.unwrap_err(),
        frame_net::dialer(&frame, &app).unwrap_err(),
    ] {
        assert!(matches!(error, NetworkError::NotFound { chosen_by: ChosenBy::Frame, .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn names_are_not_looked_up_for_a_frame_on_a_network_that_cannot() {
    let config = json!({ "networks": { "app:proxy": { "kind": "socks5", "proxy": "127.0.0.1:1" } } });
    let (app, _) = app(config);
    let dialer = frame_net::dialer(&frame(&app, &json!({ "network": "app:proxy" })), &app).unwrap();
    let error = dialer.lookup(&"localhost".parse().unwrap()).await.unwrap_err();
    let NetworkError::Lookup { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.cause(), Cause::NotSupported { kind: "socks5", .. }));
    assert!(!error.is_retryable());
}
