//! The I2P network through i2pd, as a program uses it.
//!
//! A session of i2pd takes 20 seconds, even where there is nothing to wait for; so each of these tests has several
//! things to say.

mod servers;
mod support;

use std::time::{Duration, Instant};

use frame_net::i2p::{I2p, I2pConfig, SamError, SamRefusal, Stage};
use frame_net::{
    BoxListener, BoxStream, Cause, Dialer, DriverError, DriverStep, Endpoint, Host, LocalEndpoint,
    NetworkAddr, NetworkError, NetworkRegistry,
};
use frame_registry::App;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use servers::i2pd::{I2pd, WITHOUT_HOPS};
use servers::origin::{assert_connected, assert_ended, bytes, transfer};
use support::{app, endpoint, frame, soon};

const MIB: usize = 1 << 20;

/// Waits for what needs a session.
async fn with_session<F: Future>(event: F) -> F::Output {
    timeout(Duration::from_mins(3), event).await.expect("it happens")
}

fn config(router: &I2pd) -> Value {
    let options: serde_json::Map<_, _> =
        WITHOUT_HOPS.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({ "kind": "i2p", "sam": router.sam.to_string(), "options": options })
}

fn dialer(app: &App, network: &str) -> Dialer {
    frame_net::dialer(&frame(app, &json!({ "network": network })), app).unwrap()
}

fn address(of: &NetworkAddr) -> Endpoint {
    Endpoint::new(of.host.clone(), 80).unwrap()
}

/// Both ends of a connection, and how long it took.
async fn connect(dialer: &Dialer, listener: &mut BoxListener) -> (BoxStream, BoxStream, NetworkAddr) {
    let to = address(&listener.local());
    let started = Instant::now();
    // The other end learns of it with the first byte.
    let dial = async {
        let mut stream = dialer.connect(&to).await.unwrap();
        eprintln!("connected in {:?}", started.elapsed());
        stream.write_all(b"!").await.unwrap();
        stream
    };
    let accept = async {
        let (mut stream, peer) = listener.accept().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        eprintln!("accepted in {:?}", started.elapsed());
        (stream, peer)
    };
    let (client, (server, peer)) = soon(async { tokio::join!(dial, accept) }).await;
    (client, server, peer)
}

fn driver_error(error: &NetworkError) -> &DriverError {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.unwrap_or_else(|| panic!("{error:?}"))
}

fn refusal(error: &NetworkError) -> (DriverStep, &SamRefusal) {
    let error = driver_error(error);
    let Cause::Sam(sam) = error.cause() else { panic!("{error:?}") };
    let SamError::Refused { refusal, .. } = &**sam else { panic!("{error:?}") };
    (error.step(), refusal)
}

/// When there may be another attempt.
fn due(error: &NetworkError) -> Duration {
    const SOON: Duration = Duration::from_millis(100);
    match driver_error(error).cause() {
        Cause::Sam(sam) => match &**sam {
            SamError::Backoff { left, .. } => *left,
            _ => SOON,
        },
        _ => SOON,
    }
}

/// A private key that the router makes.
async fn private_key(router: &I2pd) -> String {
    let mut socket = TcpStream::connect(router.sam).await.unwrap();
    let mut reply = [0; 4096];
    socket.write_all(b"HELLO VERSION\n").await.unwrap();
    let _ = soon(socket.read(&mut reply)).await.unwrap();
    socket.write_all(b"DEST GENERATE SIGNATURE_TYPE=7\n").await.unwrap();
    let len = soon(socket.read(&mut reply)).await.unwrap();
    let reply = std::str::from_utf8(&reply[..len]).unwrap();
    reply.trim_end().split_once(" PRIV=").unwrap().1.to_owned()
}

#[tokio::test]
async fn two_destinations_reach_each_other() {
    let Some(router) = I2pd::start().await else { return };
    let mut at_home = config(&router);
    at_home["destination"] = json!({ "private_key": private_key(&router).await });
    let (app, _) = app(json!({ "networks": { "app:server": at_home, "app:client": config(&router) } }));
    let (server, client) = (dialer(&app, "app:server"), dialer(&app, "app:client"));
    let started = Instant::now();
    let any = LocalEndpoint::port(0);
    let listeners = async { tokio::join!(server.listen(&any), client.listen(&any)) };
    let (listener, client_listener) = with_session(listeners).await;
    let (mut listener, client_listener) = (listener.unwrap(), client_listener.unwrap());
    eprintln!("two sessions in {:?}", started.elapsed());

    // The other end is told who it is that connects.
    let (mut near, mut far, peer) = connect(&client, &mut listener).await;
    assert_eq!(peer.host, client_listener.local().host);
    let (there, back) = (bytes(1, MIB), bytes(2, MIB));
    let started = Instant::now();
    transfer(&mut near, &mut far, &there).await;
    transfer(&mut far, &mut near, &back).await;
    eprintln!("1 MiB there and back in {:?}", started.elapsed());
    // What one end sent before it closed arrives.
    near.write_all(&there).await.unwrap();
    near.flush().await.unwrap();
    drop(near);
    let mut received = vec![0; MIB];
    soon(far.read_exact(&mut received)).await.unwrap();
    assert!(received == there, "other bytes arrive than were sent");
    assert_ended(&mut far).await;

    // Many connections use the same session, at the same time and one after the other.
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(connect(&client, &mut listener).await);
    }
    for (near, far, _) in &mut open {
        assert_connected(near, far).await;
    }

    // What comes while nobody accepts is not lost.
    let to = address(&listener.local());
    let mut waiting = Vec::new();
    for number in 0..6 {
        let mut near = soon(client.connect(&to)).await.unwrap();
        near.write_all(&[number]).await.unwrap();
        waiting.push(near);
    }
    let mut came = Vec::new();
    for _ in 0..6 {
        let (mut far, _) = soon(listener.accept()).await.unwrap();
        came.push(soon(far.read_u8()).await.unwrap());
    }
    came.sort_unstable();
    assert_eq!(came, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_cannot_be_reached_is_an_error() {
    let Some(router) = I2pd::start().await else { return };
    let mut impatient = config(&router);
    impatient["first_byte_timeout"] = json!("500ms");
    let (app, _) = app(json!({ "networks": { "app:i2p": impatient, "app:silent": config(&router) } }));
    let (client, silent) = (dialer(&app, "app:i2p"), dialer(&app, "app:silent"));
    let nowhere = endpoint(&format!("{}.b32.i2p:80", "a".repeat(52)));
    let any = LocalEndpoint::port(0);
    let (failed, listener) =
        with_session(async { tokio::join!(client.connect(&nowhere), silent.listen(&any)) }).await;
    let error = failed.unwrap_err();
    assert_eq!(refusal(&error), (DriverStep::Sam(Stage::Connect), &SamRefusal::CantReachPeer));
    assert!(error.is_retryable());

    // i2pd says of a name that it does not know that it is invalid, as of one that it did not find in time.
    let error = soon(client.connect(&endpoint("no-such-name.i2p:80"))).await.unwrap_err();
    assert_eq!(refusal(&error), (DriverStep::Sam(Stage::Lookup), &SamRefusal::InvalidKey));
    assert!(error.is_retryable());

    // It connects to who does not answer, which only the first read tells.
    let listener = listener.unwrap();
    let mut stream = soon(client.connect(&address(&listener.local()))).await.unwrap();
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_session_comes_back_with_the_router() {
    let Some(mut router) = I2pd::start().await else { return };
    let (app, _) = app(json!({ "networks": { "app:a": config(&router), "app:b": config(&router) } }));
    let (server, client) = (dialer(&app, "app:a"), dialer(&app, "app:b"));
    let any = LocalEndpoint::port(0);
    let nowhere = endpoint(&format!("{}.b32.i2p:80", "a".repeat(52)));
    let (listener, _) =
        with_session(async { tokio::join!(server.listen(&any), client.connect(&nowhere)) }).await;
    let mut listener = listener.unwrap();
    let (_, mut far, peer) = connect(&client, &mut listener).await;

    router.stop();
    // Connections end with it.
    let mut rest = Vec::new();
    let _ = soon(far.read_to_end(&mut rest)).await;
    assert!(router.start_again().await);

    // The listener says that something was amiss, and then goes on at the same address.
    let address = address(&listener.local());
    let dial = async {
        let started = Instant::now();
        loop {
            match client.connect(&address).await {
                Ok(mut stream) => {
                    eprintln!("connected {:?} after the restart", started.elapsed());
                    stream.write_all(b"!").await.unwrap();
                    return stream;
                }
                // Until the listener's session is there, too.
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    tokio::time::sleep(due(&error)).await;
                }
            }
        }
    };
    let accept = async {
        let mut errors = 0;
        loop {
            match listener.accept().await {
                Ok((mut stream, peer)) => {
                    assert_eq!(stream.read_u8().await.unwrap(), b'!');
                    return (stream, peer, errors);
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    errors += 1;
                }
            }
        }
    };
    let (mut near, (mut far, same_peer, errors)) = with_session(async { tokio::join!(dial, accept) }).await;
    assert!(errors > 0);
    assert_eq!(same_peer.host, peer.host, "both are where they were");
    assert_connected(&mut near, &mut far).await;
}

#[tokio::test]
async fn names_are_looked_up_by_the_router() {
    let Some(router) = I2pd::start().await else { return };
    let networks = NetworkRegistry::new(std::sync::Arc::new(frame_net::Direct::default()));
    let mut settings = config(&router);
    settings.as_object_mut().unwrap().remove("kind");
    let config: I2pConfig = serde_json::from_value(settings).unwrap();
    let i2p = I2p::new(config, &networks);
    let mut listener = with_session(frame_net::Network::listen(&i2p, &LocalEndpoint::port(0))).await.unwrap();
    let Host::Name(name) = listener.local().host else { panic!("{listener:?}") };
    let found = soon(i2p.destination(&name)).await.unwrap();
    assert_eq!(found.host_name(), name);
    let error = soon(i2p.destination(&"no-such-name.i2p".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.step(), DriverStep::Sam(Stage::Lookup));
    assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
}
