//! The settings of a SOCKS5 network, and the credentials in them.

use std::fmt;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deadline;
use crate::direct::{DirectDefault, Rule};
use crate::endpoint::Endpoint;
use crate::network::NetworkId;
use crate::proxy::{Authentication, AuthenticationError, GivenCredentials, proxy_setters, proxy_settings};
use crate::secret::Secret;

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
#[non_exhaustive]
pub struct Socks5Config {
    /// Where the proxy is. If this is a name, then it is looked up by this host, or by the network that it is reached
    /// [`via`](Self::via); names to connect to never are.
    pub proxy: Endpoint,
    /// How the client authenticates to the proxy.
    pub authentication: Authentication<Credentials>,
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

impl Socks5Config {
    /// Returns the settings for a proxy without authentication.
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
}

proxy_setters!(Socks5Config, Credentials);

proxy_settings! {
    /// The settings as they are written.
    struct Written<Credentials> {}
}

impl TryFrom<Written> for Socks5Config {
    type Error = AuthenticationError;

    fn try_from(written: Written) -> Result<Self, AuthenticationError> {
        let Written { proxy, credentials, isolate, via, allow, deny, default, deadline } = written;
        let authentication = Authentication::from_settings(credentials, isolate)?;
        Ok(Self { proxy, authentication, via, allow, deny, default, deadline })
    }
}

impl From<Socks5Config> for Written {
    fn from(config: Socks5Config) -> Self {
        let Socks5Config { proxy, authentication, via, allow, deny, default, deadline } = config;
        let (credentials, isolate) = authentication.into_settings();
        Self { proxy, credentials, isolate, via, allow, deny, default, deadline }
    }
}

/// A user name and a password (RFC 1929), each of 1 to 255 bytes. The password is never shown: not in `Debug`, and
/// not in an error about a configuration that has it in the wrong place. In text it may be an environment variable's,
/// as any [`Secret`].
///
/// ```
/// use frame_net::socks5::Credentials;
///
/// let credentials = Credentials::new("app", "xyzzy")?;
/// assert_eq!(format!("{credentials:?}"), r#"Credentials { username: "app", password: <secret> }"#);
/// assert!(Credentials::new("app", "").is_err());
/// # Ok::<(), frame_net::socks5::CredentialsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Box<str>,
    password: Secret,
}

impl Credentials {
    /// The longest that either can be, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if one of them is empty or too long.
    pub fn new(username: impl Into<Box<str>>, password: impl Into<String>) -> Result<Self, CredentialsError> {
        Self::with_secret(username.into(), Secret::new(password))
    }

    fn with_secret(username: Box<str>, password: Secret) -> Result<Self, CredentialsError> {
        for (part, called) in [(&*username, "username"), (password.expose(), "password")] {
            if part.is_empty() || part.len() > Self::MAX_LEN {
                return Err(CredentialsError { part: called, len: part.len() });
            }
        }
        Ok(Self { username, password })
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    pub(super) fn password(&self) -> &str {
        self.password.expose()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password)
            .finish()
    }
}

/// A user name or a password is empty, or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the SOCKS5 `{part}` has {len} bytes; it must have 1 to {}", Credentials::MAX_LEN)]
pub struct CredentialsError {
    part: &'static str,
    len: usize,
}

impl Serialize for Credentials {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (username, password) = (self.username.to_string(), self.password.clone());
        GivenCredentials { username, password }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let GivenCredentials { username, password } = GivenCredentials::deserialize(deserializer)?;
        Self::with_secret(username.into(), password).map_err(D::Error::custom)
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

    #[test]
    fn each_part_has_1_to_255_bytes() {
        let longest = "x".repeat(Credentials::MAX_LEN);
        assert!(Credentials::new(longest.clone(), longest.clone()).is_ok());
        for (username, password) in [("", "p"), ("u", "")] {
            assert!(Credentials::new(username, password).is_err());
        }
        let error = Credentials::new("u", longest + "x").unwrap_err();
        assert_eq!(error.to_string(), "the SOCKS5 `password` has 256 bytes; it must have 1 to 255");
    }
}
