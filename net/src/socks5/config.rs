//! The settings of a SOCKS5 network.

use std::time::Duration;

use serde::Deserialize;

use crate::deadline;
use crate::endpoint::Endpoint;
use crate::socks5::Credentials;

/// The settings of a [`Socks5`](super::Socks5) network. In text: `proxy`, `credentials`, `deadline_ms`.
///
/// ```
/// use frame_net::socks5::Socks5Config;
///
/// let json = r#"{ "proxy": "[::1]:9050", "deadline_ms": 60000 }"#;
/// let config: Socks5Config = serde_json::from_str(json)?;
/// assert_eq!(config.deadline.as_secs(), 60);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Socks5Config {
    /// Where the proxy is. If this is a name, then it is looked up by this host; names to connect to never are.
    pub proxy: Endpoint,
    /// Who the client is. With credentials no other way of authentication is offered, without them only none.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// How long a connection may take, from looking the proxy up to the end of the handshake: 30 seconds unless
    /// given.
    #[serde(
        rename = "deadline_ms",
        default = "default_deadline",
        deserialize_with = "deadline::from_millis"
    )]
    pub deadline: Duration,
}

impl Socks5Config {
    /// The settings for a proxy that asks nobody who they are.
    #[must_use]
    pub const fn new(proxy: Endpoint) -> Self {
        Self { proxy, credentials: None, deadline: deadline::DEFAULT }
    }

    /// With credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// With another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

const fn default_deadline() -> Duration {
    deadline::DEFAULT
}
