//! Two apps, each with an end of one tunnel.

use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use frame_net::wireguard::{PublicKey, WireGuard, WireGuardConfig, helper};
use frame_net::{
    BoxListener, BoxStream, Cause, Dialer, LocalEndpoint, NetworkError, NetworkRegistry, Secret,
};
use frame_registry::App;
use serde_json::{Value, json};

use crate::servers::program::skipped;
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
pub fn left(stack: &str, endpoint: impl Display) -> Value {
    json!({
        "stack": stack,
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
pub fn right(stack: &str) -> Value {
    json!({
        "stack": stack,
        "private_key": RIGHT,
        "addresses": ["10.9.0.2/24", "fd09::2/64"],
        "bind": "127.0.0.1",
        "peers": [{ "public_key": public(LEFT), "allowed_ips": ["10.9.0.1/32", "fd09::1"] }],
    })
}

/// Declares tests that run with each of the stacks, whose name they are given.
macro_rules! on_both_stacks {
    ($($(#[$meta:meta])* async fn $name:ident($stack:ident) $body:block)*) => {
        $($(#[$meta])* mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[tokio::test]
            async fn in_user_space() {
                run("user").await;
            }

            #[tokio::test]
            async fn of_the_kernel() {
                if crate::pair::has_kernel_stack() {
                    run("kernel").await;
                }
            }

            async fn run($stack: &str) $body
        })*
    };
}
pub(crate) use on_both_stacks;

/// Whether the kernel's stack can be used here. In CI it must be. Call it before a network is made.
pub fn has_kernel_stack() -> bool {
    static WHY_NOT: LazyLock<Option<String>> = LazyLock::new(|| {
        helper::use_program(env!("CARGO_BIN_EXE_frame-net-helper"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let config: WireGuardConfig = serde_json::from_value(left("kernel", "127.0.0.1:1")).unwrap();
        WireGuard::new(&config).err().map(|error| format!("{error:?}"))
    });
    // A runtime must not be made where another is running.
    let why_not = std::thread::spawn(|| WHY_NOT.as_deref()).join().unwrap();
    if let Some(why) = why_not {
        skipped(&format!("this needs user and network namespaces, and /dev/net/tun: {why}"));
    }
    why_not.is_none()
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
        Self::in_app(json!({ "networks": { ID: settings } }))
    }

    /// The network is one of an app with this configuration.
    pub fn in_app(config: Value) -> Self {
        let (app, networks) = app(config);
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
    pub fn new(stack: &str) -> Self {
        Self::with(stack, |_, _| {})
    }

    /// With other settings.
    pub fn with(stack: &str, change: impl FnOnce(&mut Value, &mut Value)) -> Self {
        let (mut left, mut right) = (left(stack, "127.0.0.1:1"), right(stack));
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
