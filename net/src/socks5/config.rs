//! The settings of a SOCKS5 network.

use std::time::Duration;

use serde::Deserialize;

use crate::deadline;
use crate::endpoint::Endpoint;
use crate::id::NetworkId;
use crate::socks5::Credentials;

/// The settings of a [`Socks5`](super::Socks5) network. In text: `proxy`, `credentials` or `isolate`, `via`,
/// `deadline`.
///
/// ```
/// use frame_net::socks5::{Authentication, Socks5Config};
///
/// let json = r#"{ "proxy": "[::1]:9050", "isolate": true, "deadline": "1m" }"#;
/// let config: Socks5Config = serde_json::from_str(json)?;
/// assert_eq!((config.authentication, config.deadline.as_secs()), (Authentication::Isolate, 60));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
#[non_exhaustive]
pub struct Socks5Config {
    /// Where the proxy is. If this is a name, then it is looked up by this host, or by the network that it is reached
    /// [`via`](Self::via); names to connect to never are.
    pub proxy: Endpoint,
    /// Who the client says it is.
    pub authentication: Authentication,
    /// The network that the proxy is reached through, if it is not by this host.
    pub via: Option<NetworkId>,
    /// How long a connection may take, from looking the proxy up to the end of the handshake: 30 seconds unless
    /// given.
    pub deadline: Duration,
}

/// Who the client says it is. It offers the proxy this way of authentication and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// Nobody.
    #[default]
    None,
    /// Who has these credentials.
    Credentials(Credentials),
    /// Somebody else each time, with random credentials: of connections with other credentials Tor knows not to let
    /// them share a circuit. Connections of one [`IsolationKey`](crate::IsolationKey) have the same.
    ///
    /// This is for a proxy that takes any credentials, as Tor's does, and keeps those of one apart from those of
    /// another. One that only takes them gives no isolation, which cannot be seen from here.
    Isolate,
}

impl Socks5Config {
    /// The settings for a proxy that asks nobody who they are.
    #[must_use]
    pub const fn new(proxy: Endpoint) -> Self {
        Self { proxy, authentication: Authentication::None, via: None, deadline: deadline::DEFAULT }
    }

    /// With another way of authentication.
    #[must_use]
    pub fn with_authentication(self, authentication: Authentication) -> Self {
        Self { authentication, ..self }
    }

    /// Through another network.
    #[must_use]
    pub fn with_via(self, via: NetworkId) -> Self {
        Self { via: Some(via), ..self }
    }

    /// With another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

/// The settings as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    proxy: Endpoint,
    #[serde(default)]
    credentials: Option<Credentials>,
    #[serde(default)]
    isolate: bool,
    #[serde(default)]
    via: Option<NetworkId>,
    #[serde(default = "deadline::default", deserialize_with = "deadline::from_text")]
    deadline: Duration,
}

impl TryFrom<Given> for Socks5Config {
    type Error = &'static str;

    fn try_from(given: Given) -> Result<Self, Self::Error> {
        let Given { proxy, credentials, isolate, via, deadline } = given;
        let authentication = match (credentials, isolate) {
            (Some(_), true) => {
                return Err(
                    "`isolate` needs credentials of its own for each connection, so `credentials` cannot be \
                            given as well; leave one of the two out",
                );
            }
            (Some(credentials), false) => Authentication::Credentials(credentials),
            (None, true) => Authentication::Isolate,
            (None, false) => Authentication::None,
        };
        Ok(Self { proxy, authentication, via, deadline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_with_credentials_is_refused() {
        let json =
            r#"{ "proxy": "h:1", "isolate": true, "credentials": { "username": "u", "password": "p" } }"#;
        let error = serde_json::from_str::<Socks5Config>(json).unwrap_err();
        assert!(error.to_string().contains("leave one of the two out"), "{error}");
    }
}
