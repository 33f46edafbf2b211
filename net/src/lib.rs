//! Overlay networks as a frame option.
//!
//! A call chooses the network of its traffic with the option [`NETWORK`]. A resolver puts the choice on the frame under
//! [`NETWORK_KEY`], where whatever the call spawns inherits it. Connections are made by the [`dialer()`] of the frame.
//! A chosen network that is not registered is an error, never clearnet.
//!
//! The call's option wins over the preset of the entry (the dispatcher merges those two), then comes what the
//! parent's frame carries, then the default of the app, then clearnet.
//!
//! ```standalone_crate
//! use frame_net::{NETWORK, NetConfig, dialer};
//! use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use serde_json::json;
//!
//! let config: NetConfig = serde_json::from_value(json!({
//!     "networks": { "app:tor": { "kind": "socks5", "proxy": "127.0.0.1:9050" } },
//! }))?;
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! frame_net::boot(&mut app, config)?;
//! let app = app.build();
//!
//! let options = Options::from_json(&json!({ "network": "app:tor" }))?;
//! let mut frame = FrameBuilder::new();
//! app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
//!
//! let dialer = dialer(&frame.seal(), &app)?;
//! assert_eq!(dialer.route().to_string(), "network `app:tor`");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who may choose
//!
//! Options of the program itself, of its configuration and its command line are trusted. Those that a script or a
//! component gives for what it calls are [marked](frame_registry::Options::untrusted) by what runs it, and then:
//!
//! - A [`NETWORK`] is refused with [`NetworkError::NotSelectable`], and the frame with it, unless it is the one that the
//!   frame would have without, or is [selectable](NetworkConfig::is_selectable): marked in the configuration, with
//!   `selectable = true` beside its `kind`, as one that anybody may choose. Otherwise a script whose frame goes through
//!   Tor could have what it calls go through a network that shows who it is.
//! - An [`ISOLATION`] key tells apart within the key that the caller's frame carries, and never is another's: see
//!   [`IsolationKey::within`].
//! - An [`EGRESS`] list only takes away, from whatever code it comes: see [`egress`].
//! - What is preset for an entry stays: a network that is not selectable, or a key, given in its place is refused.
//!
//! A choice is judged when the frame is made. Where a network ceases to be selectable, frames that carry it keep it.
//!
//! # Cargo features
//!
//! - `http`: `http::HttpClient`, an HTTP client whose requests take the network of a frame, and `secrets`, which they
//!   carry and scripts do not see.
//! - `http-connect`: networks of kind `http-connect`, through an HTTP proxy, also over TLS: `http_connect::HttpConnect`.
//! - `i2p`: networks of kind `i2p`, through the SAM bridge of an I2P router: `i2p::I2p`.
//! - `websocket`: `http::websocket`, WebSockets that take the network of a frame. It implies `http`.
//! - `wireguard`: networks of kind `wireguard`, without privileges: `wireguard::WireGuard`. Call
//!   `wireguard::helper::init` first in `main`, so that they can use the kernel's TCP and UDP.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audit;
mod boot;
mod config;
mod deadline;
mod dialer;
mod direct;
mod dns;
mod driver;
pub mod egress;
mod endpoint;
mod error;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http-connect")]
pub mod http_connect;
#[cfg(feature = "i2p")]
pub mod i2p;
mod isolation;
mod limits;
mod lookup;
mod network;
mod overlay;
mod proxy;
mod reach;
mod registry;
mod secret;
#[cfg(feature = "http")]
pub mod secrets;
mod settings;
mod shield;
pub mod socks5;
mod tcp;
#[cfg(any(feature = "http", feature = "http-connect"))]
mod tls;
#[cfg(feature = "wireguard")]
pub mod wireguard;

pub use crate::boot::{BootError, boot, boot_with, install};
pub use crate::config::{NetConfig, NetworkConfig};
pub use crate::dialer::{Dialer, dialer};
pub use crate::direct::{
    AddressRule, Denied, DeniedBy, Direct, DirectConfig, DirectDefault, NameRule, Rule, RuleError,
};
pub use crate::driver::{ConfigError, Driver, Drivers};
pub use crate::egress::{
    EGRESS, EGRESS_KEY, Egress, EgressError, EgressList, EgressListError, EgressRefusal, EgressRule,
    EgressRuleError, Verdict,
};
pub use crate::endpoint::{Endpoint, EndpointError, Host, HostError, HostName, LocalEndpoint, NetworkAddr};
pub use crate::error::{Cause, ChosenBy, DriverError, DriverStep, InsteadOf, Missing, NetworkError};
pub use crate::isolation::{
    ISOLATION, ISOLATION_KEY, Isolation, IsolationError, IsolationKey, IsolationKeyError,
};
pub use crate::limits::{
    LimitReached, LimitScope, LimitedResource, LimitsConfig, Reserved, UNIT_OF, Unit, reserve,
};
pub use crate::network::{
    BoxDatagrams, BoxFuture, BoxListener, BoxStream, ByteStream, Datagrams, Listener, Network, NetworkId,
    NetworkKind, Route,
};
pub use crate::overlay::{NETWORK, NETWORK_KEY};
pub use crate::registry::{NETWORKS, NetworkChanges, NetworkRegistry, default_network};
pub use crate::secret::Secret;
#[cfg(feature = "http")]
pub use crate::secrets::{SECRETS, SECRETS_KEY, SecretId};
pub use crate::settings::{
    SettingError, SettingErrors, SettingFault, SettingPath, SettingSegment, read_settings,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
