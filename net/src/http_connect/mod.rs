//! HTTP proxies: the method CONNECT (RFC 9110, section 9.3.6) over HTTP/1.1 (RFC 9112), with basic authentication (RFC
//! 7617) and TLS to the proxy, and the network that speaks it.
//!
//! [`ConnectRequest`] is the client's side of the protocol without any I/O, [`HttpConnect`] the socket around it.

mod client;
mod config;
mod credentials;
mod request;

pub use self::client::{HttpConnect, HttpConnectDriver, HttpConnectTlsError};
pub use self::config::{HttpConnectConfig, ProxyAuthentication};
pub use self::credentials::{BasicCredentials, BasicCredentialsError};
pub use self::request::{ConnectAction, ConnectRequest, ConnectStage, HttpConnectError};
pub use crate::tls::Trust;
