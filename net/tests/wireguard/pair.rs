//! Two apps, each with an end of one tunnel.

use std::fmt::Display;
use std::sync::Arc;

use frame_net::wireguard::{PublicKey, WireGuard, WireGuardConfig};
use frame_net::{
    BoxListener, BoxStream, Cause, Dialer, LocalEndpoint, NetworkError, NetworkRegistry, Secret,
};
use frame_registry::App;
use serde_json::{Value, json};

use crate::support::{app, endpoint, frame, soon};

pub const LEFT: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
pub const RIGHT: &str = "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM=";
pub const OTHER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// What the network is registered as.
pub const ID: &str = "app:wg";

pub fn public(private: &str) -> String {
    PublicKey::of(&Secret::new(private)).unwrap().to_string()
}

/// The settings of the left end, at 10.9.0.1, whose peer is at `endpoint`.
pub fn left(endpoint: impl Display) -> Value {
    json!({
        "private_key": LEFT,
        "addresses": ["10.9.0.1/24", "fd09::1/64"],
        "bind": "127.0.0.1",
        "peers": [{
            "public_key": public(RIGHT),
            "endpoint": endpoint.to_string(),
            "allowed_ips": ["10.9.0.2", "fd09::2/128"],
        }],
    })
}

/// The settings of the right end, at 10.9.0.2, whose peer has to come.
pub fn right() -> Value {
    json!({
        "private_key": RIGHT,
        "addresses": ["10.9.0.2/24", "fd09::2/64"],
        "bind": "127.0.0.1",
        "peers": [{ "public_key": public(LEFT), "allowed_ips": ["10.9.0.1/32", "fd09::1"] }],
    })
}

/// A network that is registered nowhere.
pub fn network(settings: Value) -> WireGuard {
    let config: WireGuardConfig = serde_json::from_value(settings).unwrap();
    WireGuard::new(&config).unwrap()
}

/// An app with one network, and a frame's way to it.
pub struct Side {
    pub networks: NetworkRegistry,
    pub dialer: Dialer,
    _app: App,
}

impl Side {
    /// The network is made from its settings, as an app does it.
    pub fn new(mut settings: Value) -> Self {
        settings["kind"] = json!("wireguard");
        let (app, networks) = app(json!({ "networks": { ID: settings } }));
        Self::with(app, networks)
    }

    pub fn of(network: WireGuard) -> Self {
        let (app, networks) = app(json!({}));
        networks.register(ID.parse().unwrap(), Arc::new(network)).unwrap();
        Self::with(app, networks)
    }

    fn with(app: App, networks: NetworkRegistry) -> Self {
        let dialer = frame_net::dialer(&frame(&app, &json!({ "network": ID })), &app).unwrap();
        Self { networks, dialer, _app: app }
    }

    pub async fn listen(&self, port: u16) -> BoxListener {
        self.dialer.listen(&LocalEndpoint::port(port)).await.unwrap()
    }

    pub async fn connect(&self, to: &str) -> Result<BoxStream, NetworkError> {
        soon(self.dialer.connect(&endpoint(to))).await
    }
}

pub struct Pair {
    pub left: Side,
    pub right: Side,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(&mut Value, &mut Value)) -> Self {
        let (mut left, mut right) = (left("127.0.0.1:1"), right());
        change(&mut left, &mut right);
        let right = network(right);
        left["peers"][0]["endpoint"] = json!(right.local_address().to_string());
        Self { left: Side::new(left), right: Side::of(right) }
    }

    /// Both ends of a connection to the right.
    pub async fn connected(&self) -> (BoxStream, BoxStream) {
        let mut listener = self.right.listen(0).await;
        let to = format!("10.9.0.2:{}", listener.local().port);
        let (connected, accepted) = tokio::join!(self.left.connect(&to), soon(listener.accept()));
        (connected.unwrap(), accepted.unwrap().0)
    }
}

/// Why no connection was made.
pub fn cause(error: &NetworkError) -> &Cause {
    match error {
        NetworkError::Connect { source, .. }
        | NetworkError::Listen { source, .. }
        | NetworkError::Bind { source, .. }
        | NetworkError::Lookup { source, .. } => source.cause(),
        _ => panic!("{error:?}"),
    }
}
