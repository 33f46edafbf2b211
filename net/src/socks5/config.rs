//! The settings of a SOCKS5 network.

use std::time::Duration;

use serde::Deserialize;

use crate::deadline;
use crate::direct::{DirectDefault, Rule, rule_list};
use crate::endpoint::Endpoint;
use crate::network::NetworkId;
use crate::socks5::Credentials;

/// The settings of a [`Socks5`](super::Socks5) network. In text: `proxy`, `credentials` or `isolate`, `via`,
/// `allow`, `deny`, `default`, `deadline`.
///
/// ```
/// use frame_net::socks5::{Authentication, Socks5Config};
///
/// let json = r#"{ "proxy": "[::1]:9050", "isolate": true, "deadline": "1m" }"#;
/// let config: Socks5Config = serde_json::from_str(json)?;
/// assert_eq!((config.authentication, config.deadline.as_secs()), (Authentication::Isolate, 60));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Who may be reached
///
/// Before anything is sent to the proxy, in this order:
///
/// 1. A rule of [`deny`](Self::deny) has the address, or the name, and the port: denied.
/// 2. The address is special, as [`DirectConfig`](crate::DirectConfig) says, or holds one that is: it is allowed if an
///    address rule of [`allow`](Self::allow) has it, else denied. `localhost` and what is below it need a name rule
///    other than `*`.
/// 3. The [`default`](Self::default) is to allow, or a rule of `allow` has the address or the name: allowed.
/// 4. Else denied.
///
/// A name is judged as it is written, because its addresses are not known here. What it leads to is for the proxy to
/// refuse: one that runs beside private services has to have rules of its own.
///
/// Connections that another network makes to its own proxy via this one are not judged.
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
    /// Rules for destinations that are allowed in addition to what the default allows. Empty unless given.
    pub allow: Vec<Rule>,
    /// Rules for destinations that are denied, even if `allow` has them. Empty unless given.
    pub deny: Vec<Rule>,
    /// What is decided for names and public addresses that no rule has: to allow them unless given.
    pub default: DirectDefault,
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
        Self {
            proxy,
            authentication: Authentication::None,
            via: None,
            allow: Vec::new(),
            deny: Vec::new(),
            default: DirectDefault::Allow,
            deadline: deadline::DEFAULT,
        }
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

    /// With these rules to allow, instead of those it has.
    #[must_use]
    pub fn with_allow(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { allow: rules.into_iter().collect(), ..self }
    }

    /// With these rules to deny, instead of those it has.
    #[must_use]
    pub fn with_deny(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { deny: rules.into_iter().collect(), ..self }
    }

    /// With another default.
    #[must_use]
    pub fn with_default(self, default: DirectDefault) -> Self {
        Self { default, ..self }
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
    #[serde(default, deserialize_with = "rule_list")]
    allow: Vec<Rule>,
    #[serde(default, deserialize_with = "rule_list")]
    deny: Vec<Rule>,
    #[serde(default)]
    default: DirectDefault,
    #[serde(default = "deadline::default", deserialize_with = "deadline::from_text")]
    deadline: Duration,
}

impl TryFrom<Given> for Socks5Config {
    type Error = &'static str;

    fn try_from(given: Given) -> Result<Self, Self::Error> {
        let Given { proxy, credentials, isolate, via, allow, deny, default, deadline } = given;
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
        Ok(Self { proxy, authentication, via, allow, deny, default, deadline })
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
