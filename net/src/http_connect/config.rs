//! The settings of an HTTP proxy's network.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::credentials::BasicCredentials;
use crate::deadline;
use crate::direct::{DirectDefault, Rule, rule_list};
use crate::endpoint::Endpoint;
use crate::network::NetworkId;
use crate::tls::Trust;

/// The settings of an [`HttpConnect`](super::HttpConnect) network. In text: `proxy`, `tls`, `ca_file`, `credentials` or
/// `isolate`, `via`, `allow`, `deny`, `default`, `deadline`.
///
/// ```
/// use frame_net::http_connect::{HttpConnectConfig, ProxyAuthentication};
/// use serde_json::json;
///
/// let config: HttpConnectConfig = serde_json::from_value(json!({
///     "proxy": "proxy.example:3129",
///     "tls": true,
///     "credentials": { "username": "app", "password": "xyzzy" },
///     "deadline": "1m",
/// }))?;
/// assert!(config.tls.is_some() && matches!(config.authentication, ProxyAuthentication::Credentials(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Who may be reached is decided as by a [`socks5`](crate::socks5::Socks5Config#who-may-be-reached) network.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Given")]
#[non_exhaustive]
pub struct HttpConnectConfig {
    /// Where the proxy is. If this is a name, then it is looked up by this host, or by the network that it is reached
    /// [`via`](Self::via); names to connect to never are.
    pub proxy: Endpoint,
    /// Whom to trust about who the proxy is, if TLS is spoken with it. In text `tls = true` is Mozilla's roots, and
    /// those in `ca_file`, if that is given: an absolute path to certificates in PEM.
    ///
    /// Without it everything is sent to the proxy in the clear, the credentials included.
    pub tls: Option<Trust>,
    /// Who the client says it is.
    pub authentication: ProxyAuthentication,
    /// The network that the proxy is reached through, if it is not by this host.
    pub via: Option<NetworkId>,
    /// Rules for destinations that are allowed in addition to what the default allows. Empty unless given.
    pub allow: Vec<Rule>,
    /// Rules for destinations that are denied, even if `allow` has them. Empty unless given.
    pub deny: Vec<Rule>,
    /// What is decided for names and public addresses that no rule has: to allow them unless given.
    pub default: DirectDefault,
    /// How long a connection may take, from looking the proxy up to its answer: 30 seconds unless given.
    pub deadline: Duration,
}

/// How the client authenticates. Credentials are sent with the first request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyAuthentication {
    /// Without credentials.
    #[default]
    None,
    /// With these credentials.
    Credentials(BasicCredentials),
    /// With random credentials for each isolation key. Connections of one [`IsolationKey`](crate::IsolationKey) have
    /// the same.
    ///
    /// This is for a proxy that takes any credentials and keeps those of one apart from those of another, as Tor's
    /// `HTTPTunnelPort` does. One that only takes them gives no isolation, which cannot be seen from here.
    Isolate,
}

impl HttpConnectConfig {
    /// The settings for a proxy without TLS and without authentication.
    #[must_use]
    pub const fn new(proxy: Endpoint) -> Self {
        Self {
            proxy,
            tls: None,
            authentication: ProxyAuthentication::None,
            via: None,
            allow: Vec::new(),
            deny: Vec::new(),
            default: DirectDefault::Allow,
            deadline: deadline::DEFAULT,
        }
    }

    /// Over TLS, with a proxy that proves to be who it is to those who are trusted here.
    #[must_use]
    pub fn with_tls(self, trust: Trust) -> Self {
        Self { tls: Some(trust), ..self }
    }

    /// With another way of authentication.
    #[must_use]
    pub fn with_authentication(self, authentication: ProxyAuthentication) -> Self {
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
    tls: bool,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    credentials: Option<BasicCredentials>,
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

/// Settings of an HTTP proxy's network that make no sense together.
#[derive(Debug, thiserror::Error)]
enum GivenError {
    #[error(
        "`isolate` needs credentials of its own for each connection, so `credentials` cannot be given as well; leave one \
         of the two out"
    )]
    Authentication,
    #[error("`ca_file` says whom to trust over TLS; set `tls = true`, or leave it out")]
    CaWithoutTls,
    #[error("`ca_file` must be an absolute path")]
    RelativeCa,
    #[error("`ca_file` cannot be read as certificates in PEM: {0}")]
    Ca(rustls::pki_types::pem::Error),
    #[error("there is no certificate in `ca_file`")]
    EmptyCa,
}

impl TryFrom<Given> for HttpConnectConfig {
    type Error = GivenError;

    fn try_from(given: Given) -> Result<Self, GivenError> {
        let Given { proxy, tls, ca_file, credentials, isolate, via, allow, deny, default, deadline } = given;
        let authentication = match (credentials, isolate) {
            (Some(_), true) => return Err(GivenError::Authentication),
            (Some(credentials), false) => ProxyAuthentication::Credentials(credentials),
            (None, true) => ProxyAuthentication::Isolate,
            (None, false) => ProxyAuthentication::None,
        };
        let tls = match (tls, ca_file) {
            (false, None) => None,
            (false, Some(_)) => return Err(GivenError::CaWithoutTls),
            (true, None) => Some(Trust::default()),
            (true, Some(path)) => {
                if !path.is_absolute() {
                    return Err(GivenError::RelativeCa);
                }
                let certificates = CertificateDer::pem_file_iter(path).map_err(GivenError::Ca)?;
                let and: Vec<_> = certificates.collect::<Result<_, _>>().map_err(GivenError::Ca)?;
                if and.is_empty() {
                    return Err(GivenError::EmptyCa);
                }
                Some(Trust::Mozilla { and })
            }
        };
        Ok(Self { proxy, tls, authentication, via, allow, deny, default, deadline })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn error(settings: Value) -> String {
        serde_json::from_value::<HttpConnectConfig>(settings).unwrap_err().to_string()
    }

    #[test]
    fn settings_that_make_no_sense_together_are_refused() {
        let credentials = json!({ "username": "u", "password": "31337" });
        let both = error(json!({ "proxy": "h:1", "isolate": true, "credentials": credentials }));
        assert!(both.contains("leave one of the two out") && !both.contains("31337"), "{both}");
        let cases = [
            (json!({ "proxy": "h:1", "ca_file": "/ca.pem" }), "set `tls = true`"),
            (json!({ "proxy": "h:1", "tls": true, "ca_file": "ca.pem" }), "must be an absolute path"),
            (json!({ "proxy": "h:1", "tls": true, "ca_file": "/nowhere/ca.pem" }), "cannot be read"),
            (json!({ "proxy": "h:1", "tls": true, "ca_file": "/dev/null" }), "no certificate in `ca_file`"),
            (json!({ "proxy": "http://h:1" }), "without a scheme"),
            (json!({ "proxy": "h:1", "user": "u" }), "unknown field `user`"),
        ];
        for (settings, expected) in cases {
            let error = error(settings);
            assert!(error.contains(expected), "{error}");
        }
    }
}
