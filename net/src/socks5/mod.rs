//! SOCKS5: the protocol (RFC 1928) with user name and password (RFC 1929), and the network that speaks it.
//!
//! [`Handshake`] is the client's side of the protocol without any I/O, [`Socks5`] the socket around it.

mod client;
mod config;
mod credentials;
mod handshake;
mod refusal;
#[cfg(feature = "relay")]
mod relay;
mod wire;

pub use self::client::{Socks5, Socks5Driver};
pub use self::config::{Authentication, Socks5Config};
pub use self::credentials::{Credentials, CredentialsError};
pub use self::handshake::{Action, Handshake, HandshakeError, Stage};
pub use self::refusal::Refusal;
#[cfg(feature = "relay")]
pub use self::relay::{Relay, Request};
