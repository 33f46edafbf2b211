//! What the tests of the network share.
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "../../../src/command/demo/relay.rs"]
pub mod relay;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use frame_net::audit::{AUDIT, Audit};
use frame_net::{BoxStream, DriverStep, Endpoint, NetworkError, NetworkRegistry};
use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Waits for what is to happen at once, and gives up long after.
pub async fn soon<F: Future>(event: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("it happens")
}

pub fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// An app with these networks. Unless the configuration says something of clearnet it leads to this host, too: a bait
/// on loopback is worth nothing where nobody could come to it.
pub fn app(config: Value) -> (App, NetworkRegistry) {
    app_with_audit(config, None)
}

/// The same, whose attempts are recorded by `audit`.
pub fn app_with_audit(mut config: Value, audit: Option<Arc<dyn Audit>>) -> (App, NetworkRegistry) {
    if config.get("clearnet").is_none() {
        config["clearnet"] = json!({ "allow": ["127.0.0.0/8", "::1"] });
    }
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    if let Some(audit) = audit {
        app.set(&AUDIT, audit).unwrap();
    }
    let networks = frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
    (app.build(), networks)
}

/// A frame for a call with these options.
pub fn frame(app: &App, options: &Value) -> Frame {
    let options = Options::from_json(options).unwrap();
    let mut frame = FrameBuilder::new();
    app.resolvers().resolve(&ResolveContext::new(app, None), &options, frame.pairs_mut()).unwrap();
    frame.seal()
}

/// The rules of a proxy's network that lets everything pass, this host included.
pub fn everything() -> Value {
    json!(["0.0.0.0/0", "::/0", "localhost", "*.localhost"])
}

/// Connects to `to` as a call with the option `network` does that names the network `proxy` describes: one of kind
/// `socks5`, that everything may be reached through, unless it says otherwise.
pub async fn connect_through(proxy: Value, to: &Endpoint) -> Result<BoxStream, NetworkError> {
    let mut network = json!({ "kind": "socks5", "allow": everything() });
    network.as_object_mut().unwrap().extend(proxy.as_object().unwrap().clone());
    let (app, _) = app(json!({ "networks": { "app:proxy": network } }));
    let frame = frame(&app, &json!({ "network": "app:proxy" }));
    soon(frame_net::dialer(&frame, &app)?.connect(to)).await
}

/// The step at which it failed, and the whole chain of causes as text.
pub fn failure(error: &NetworkError) -> (DriverStep, String) {
    let NetworkError::Connect { source, .. } = error else { panic!("{error:?}") };
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let text: Vec<_> = causes.map(ToString::to_string).collect();
    (source.step(), text.join(": "))
}

/// A port that answers on clearnet, and that nobody may ever come to.
pub struct Bait(std::net::TcpListener);

impl Bait {
    pub fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub fn endpoint(&self) -> Endpoint {
        self.0.local_addr().unwrap().try_into().unwrap()
    }

    /// On loopback a connection is there as soon as `connect` has returned, so there is nothing to wait for.
    pub fn assert_untouched(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

/// A move of a scripted proxy.
#[derive(Clone)]
pub enum Move {
    /// Receives exactly these bytes, or fails the test.
    Expect(Vec<u8>),
    Send(Vec<u8>),
}

pub fn expect(bytes: impl AsRef<[u8]>) -> Move {
    Move::Expect(bytes.as_ref().to_vec())
}

pub fn send(bytes: impl AsRef<[u8]>) -> Move {
    Move::Send(bytes.as_ref().to_vec())
}

/// What a scripted proxy does after its last move.
#[derive(Clone, Copy)]
pub enum Then {
    Close,
    /// Is silent, and waits for the client to close.
    Wait,
}

/// A proxy that plays a script, once.
pub struct Scripted {
    pub address: String,
    played: oneshot::Receiver<()>,
    task: JoinHandle<Vec<u8>>,
}

impl Scripted {
    pub async fn new(moves: &[Move], then: Then) -> Self {
        let moves = moves.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (is_played, played) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            for next in moves {
                match next {
                    Move::Send(bytes) => client.write_all(&bytes).await.unwrap(),
                    Move::Expect(bytes) => {
                        let mut received = vec![0; bytes.len()];
                        client.read_exact(&mut received).await.unwrap();
                        assert_eq!(received, bytes, "the client sends what the protocol says");
                    }
                }
            }
            let _ = is_played.send(());
            let mut rest = Vec::new();
            if let Then::Wait = then {
                // A client that gives up with something unread resets the connection.
                let _ = client.read_to_end(&mut rest).await;
            }
            rest
        });
        Self { address, played, task }
    }

    /// Waits for the end of the script.
    pub async fn played(&mut self) {
        soon(&mut self.played).await.unwrap();
    }

    /// What the client sent after the script, once it has closed.
    pub async fn rest(self) -> Vec<u8> {
        soon(self.task).await.unwrap()
    }
}
