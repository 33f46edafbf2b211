//! The settings of an HTTP proxy's network, and the credentials in them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use zeroize::Zeroizing;

use crate::deadline;
use crate::direct::{DirectDefault, Rule};
use crate::endpoint::Endpoint;
use crate::network::NetworkId;
use crate::proxy::{Authentication, AuthenticationError, GivenCredentials, proxy_setters, proxy_settings};
use crate::secret::Secret;
use crate::tls::Trust;

/// The settings of an [`HttpConnect`](super::HttpConnect) network. In text: `proxy`, `tls`, `ca_file`, `credentials` or
/// `isolate`, `via`, `allow`, `deny`, `default`, `deadline`.
///
/// ```
/// use frame_net::http_connect::{Authentication, HttpConnectConfig};
/// use serde_json::json;
///
/// let config: HttpConnectConfig = serde_json::from_value(json!({
///     "proxy": "proxy.example:3129",
///     "tls": true,
///     "credentials": { "username": "app", "password": "xyzzy" },
///     "deadline": "1m",
/// }))?;
/// assert!(config.tls.is_some() && matches!(config.authentication, Authentication::Credentials(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Who may be reached is decided as by a [`socks5`](crate::socks5::Socks5Config#who-may-be-reached) network.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
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
    /// The file that `tls` was read from, and the certificates in it.
    ca: Option<(PathBuf, Vec<CertificateDer<'static>>)>,
    /// How the client authenticates. Credentials are sent with the first request.
    pub authentication: Authentication<BasicCredentials>,
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

impl HttpConnectConfig {
    /// The settings for a proxy without TLS and without authentication.
    #[must_use]
    pub const fn new(proxy: Endpoint) -> Self {
        Self {
            proxy,
            tls: None,
            ca: None,
            authentication: Authentication::None,
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
}

proxy_setters!(HttpConnectConfig, BasicCredentials);

proxy_settings! {
    /// The settings as they are written.
    struct Written<BasicCredentials> {
        #[serde(default)]
        tls: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

/// Settings of an HTTP proxy's network that make no sense together.
#[derive(Debug, thiserror::Error)]
enum WrittenError {
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error("`ca_file` says whom to trust over TLS; set `tls = true`, or leave it out")]
    CaWithoutTls,
    #[error("`ca_file` must be an absolute path")]
    RelativeCa,
    #[error("`ca_file` cannot be read as certificates in PEM: {0}")]
    Ca(rustls::pki_types::pem::Error),
    #[error("there is no certificate in `ca_file`")]
    EmptyCa,
}

impl TryFrom<Written> for HttpConnectConfig {
    type Error = WrittenError;

    fn try_from(written: Written) -> Result<Self, WrittenError> {
        let Written { proxy, tls, ca_file, credentials, isolate, via, allow, deny, default, deadline } =
            written;
        let authentication = Authentication::from_settings(credentials, isolate)?;
        let mut config =
            Self { proxy, tls: None, ca: None, authentication, via, allow, deny, default, deadline };
        match (tls, ca_file) {
            (false, None) => {}
            (false, Some(_)) => return Err(WrittenError::CaWithoutTls),
            (true, None) => config.tls = Some(Trust::default()),
            (true, Some(path)) => {
                let and = read_certificates(&path)?;
                config.ca = Some((path, and.clone()));
                config.tls = Some(Trust::Mozilla { and });
            }
        }
        Ok(config)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WrittenError> {
    if !path.is_absolute() {
        return Err(WrittenError::RelativeCa);
    }
    let certificates = CertificateDer::pem_file_iter(path).map_err(WrittenError::Ca)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(WrittenError::Ca)?;
    if certificates.is_empty() { Err(WrittenError::EmptyCa) } else { Ok(certificates) }
}

/// Certificates and configurations of rustls that code has set have no text.
impl Serialize for HttpConnectConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { proxy, tls, ca, authentication, via, allow, deny, default, deadline } = self.clone();
        let ca_file = match (&tls, ca) {
            (None, _) => None,
            (Some(Trust::Mozilla { and }), _) if and.is_empty() => None,
            (Some(Trust::Mozilla { and }), Some((path, read))) if *and == read => Some(path),
            (Some(_), _) => {
                return Err(ser::Error::custom("`tls` was set in code and cannot be written; use `ca_file`"));
            }
        };
        let (credentials, isolate) = authentication.into_settings();
        let tls = tls.is_some();
        Written { proxy, tls, ca_file, credentials, isolate, via, allow, deny, default, deadline }
            .serialize(serializer)
    }
}

/// A user name and a password for basic authentication (RFC 7617), sent as UTF-8. There is no colon in the user name and no
/// control character in either; one of them may be empty. The password is never shown. In text it may be an environment
/// variable's, as any [`Secret`].
///
/// ```
/// use frame_net::http_connect::BasicCredentials;
///
/// let credentials = BasicCredentials::new("app", "xyzzy")?;
/// assert_eq!(format!("{credentials:?}"), r#"BasicCredentials { username: "app", password: <secret> }"#);
/// assert!(BasicCredentials::new("app:x", "yzzy").is_err());
/// # Ok::<(), frame_net::http_connect::BasicCredentialsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    username: Box<str>,
    password: Secret,
}

impl BasicCredentials {
    /// The longest that either can be, in bytes: proxies limit the size of a header.
    pub const MAX_LEN: usize = 1024;

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// [`BasicCredentialsError`] if one of them is too long or has a character in it that it cannot have, or if both are
    /// empty.
    pub fn new(
        username: impl Into<Box<str>>,
        password: impl Into<String>,
    ) -> Result<Self, BasicCredentialsError> {
        Self::with_secret(username.into(), Secret::new(password))
    }

    fn with_secret(username: Box<str>, password: Secret) -> Result<Self, BasicCredentialsError> {
        if username.is_empty() && password.expose().is_empty() {
            return Err(BasicCredentialsError::Empty);
        }
        if username.contains(':') {
            return Err(BasicCredentialsError::Colon);
        }
        for (text, part) in [(&*username, "user name"), (password.expose(), "password")] {
            if text.len() > Self::MAX_LEN {
                return Err(BasicCredentialsError::Length { part, len: text.len() });
            }
            if text.contains(char::is_control) {
                return Err(BasicCredentialsError::Control { part });
            }
        }
        Ok(Self { username, password })
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The two in the form that they are sent in.
    pub(super) fn encoded(&self) -> Zeroizing<String> {
        let parts = [&*self.username, ":", self.password.expose()];
        // Allocated in full: a buffer that grows leaves copies that are not overwritten.
        let joined = Zeroizing::new(parts.concat());
        Zeroizing::new(BASE64.encode(joined.as_bytes()))
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials")
            .field("username", &self.username)
            .field("password", &self.password)
            .finish()
    }
}

impl Serialize for BasicCredentials {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (username, password) = (self.username.to_string(), self.password.clone());
        GivenCredentials { username, password }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BasicCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let GivenCredentials { username, password } = GivenCredentials::deserialize(deserializer)?;
        Self::with_secret(username.into(), password).map_err(D::Error::custom)
    }
}

/// A user name and a password cannot be sent to an HTTP proxy. Neither is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BasicCredentialsError {
    /// Both are empty.
    #[error("the user name and the password for the HTTP proxy are both empty; leave `credentials` out")]
    Empty,
    /// There is a colon in the user name, which ends it on the wire.
    #[error("the user name for the HTTP proxy cannot have a colon in it")]
    Colon,
    /// One of them is too long.
    #[error("the {part} for the HTTP proxy has {len} bytes; it can have {}", BasicCredentials::MAX_LEN)]
    Length {
        /// Which one.
        part: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// There is a control character in one of them, such as a line break.
    #[error("the {part} for the HTTP proxy cannot have control characters in it")]
    Control {
        /// Which one.
        part: &'static str,
    },
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

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let new = |username: &str, password: &str| BasicCredentials::new(username, password);
        let longest = "x".repeat(BasicCredentials::MAX_LEN);
        for (username, password) in [("u", ""), ("", "p"), (&longest, &longest), ("ü", "p:p ä"), ("u", ":")]
        {
            assert!(new(username, password).is_ok(), "{username} {password}");
        }
        assert_eq!(new("", ""), Err(BasicCredentialsError::Empty));
        assert_eq!(new("u:", "p"), Err(BasicCredentialsError::Colon));
        assert_eq!(new("u\r\nX", "p"), Err(BasicCredentialsError::Control { part: "user name" }));
        assert_eq!(new("u", "p\u{85}"), Err(BasicCredentialsError::Control { part: "password" }));
        assert_eq!(
            new("u", &(longest + "x")),
            Err(BasicCredentialsError::Length { part: "password", len: 1025 })
        );
    }

    #[test]
    fn they_are_encoded_as_the_rfc_has_it() {
        // RFC 7617, section 2 and 2.1.
        let encoded = |username, password| BasicCredentials::new(username, password).unwrap().encoded();
        assert_eq!(*encoded("Aladdin", "open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(*encoded("test", "123£"), "dGVzdDoxMjPCow==");
    }
}
