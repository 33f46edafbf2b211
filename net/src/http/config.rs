//! What a client may do, and how much of it.

use std::fmt::{self, Display};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::default_headers::{self, DefaultHeader};
use super::error::HttpError;
#[cfg(feature = "websocket")]
use super::websocket::WebSocketConfig;
use crate::deadline;
use crate::direct::Rule;
use crate::endpoint::Host;
use crate::network::{NetworkId, Route};
use crate::tls::Trust;

/// The settings of an [`HttpClient`](super::HttpClient). In text they have the names of the fields, and durations
/// and sizes their units; [`trust`](HttpConfig::trust) is set in code only.
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig = serde_json::from_str(r#"{ "time_limit": "500ms", "max_redirects": 3 }"#)?;
/// assert_eq!((config.time_limit.as_millis(), config.max_redirects), (500, 3));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HttpConfig {
    /// How long a request may take with everything that belongs to it: connections, redirects and the whole body of
    /// the response. 30 seconds unless given. What the network allows for a connection holds beside it.
    #[serde(deserialize_with = "deadline::from_text")]
    pub time_limit: Duration,
    /// How long each connection may take, TLS included: 15 seconds unless given. What the network allows for a connection
    /// holds beside it.
    #[serde(deserialize_with = "deadline::from_text")]
    pub connect_limit: Duration,
    /// How long each server may take from when there is a connection until the head of its response is there. There is no
    /// such limit unless given.
    #[serde(deserialize_with = "deadline::optional")]
    pub answer_limit: Option<Duration>,
    /// How many redirects are followed: 10 unless given. Where it is 0 a redirect is a response as any other.
    pub max_redirects: usize,
    /// Whether a redirect may lead from `https` to `http`. It may not unless given.
    pub allow_downgrade: bool,
    /// How many bytes the body of a request may have: 16 MiB unless given.
    #[serde(deserialize_with = "size")]
    pub max_request_body: u64,
    /// How many bytes the body of a response may have: 16 MiB unless given.
    #[serde(deserialize_with = "size")]
    pub max_response_body: u64,
    /// How many bytes a body may have that is streamed, in either direction. There is no such limit unless given: however
    /// long a stream is, little of it is in memory.
    #[serde(deserialize_with = "optional_size")]
    pub max_streamed_body: Option<u64>,
    /// How long a body that is streamed may stand still: until the next piece arrives, or the next can be sent, and until
    /// the answer once all was sent. 30 seconds unless given.
    #[serde(deserialize_with = "deadline::from_text")]
    pub stall_limit: Duration,
    /// How many bytes of memory the decoders of `gzip`, `br` and `zstd` may take that work for one unit at a time: 256 MiB
    /// unless given. A decoder takes as much as the server chose when it encoded the body, and at most 16 MiB.
    #[serde(deserialize_with = "size")]
    pub max_decoder_memory: u64,
    /// How many bytes the status line and the headers of a response may have, and its trailers: 64 KiB unless given, and at
    /// most 400 KiB.
    #[serde(deserialize_with = "max_response_head")]
    pub max_response_head: u32,
    /// How many headers a response may have, and how many trailers: 100 unless given, and at most 10 000.
    #[serde(deserialize_with = "max_response_headers")]
    pub max_response_headers: usize,
    /// How many connections are kept for later requests, those of all units, networks and isolation keys together. Unless
    /// given, a quarter of the [connections](crate::LimitsConfig::connections) that there may be. Beyond that one is
    /// closed that was used longest ago, of a unit that has more than its even share. Those that are kept count as
    /// connections, and are closed where there is no room for new ones. Where it is 0 none is kept.
    pub max_idle: Option<usize>,
    /// How many connections are kept for one host, of one unit, one network and one isolation key: 8 unless given.
    pub max_idle_per_host: usize,
    /// How many connections to one host there may be at a time, of one unit, one network and one isolation key, in one Tokio
    /// runtime. There is no such limit unless given. Requests beyond it wait in their order, within their limits of time;
    /// over HTTP/2 they share a connection. Where each request has a connection of its own, because none may be seen to
    /// belong with another, it does not count. WebSockets do not count either.
    pub max_connections_per_host: Option<NonZeroUsize>,
    /// How long a connection is kept that nobody uses: 90 seconds unless given.
    #[serde(deserialize_with = "deadline::from_text")]
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is offered to servers that speak TLS. It is unless given.
    pub http2: bool,
    /// Headers that requests have unless they have their own: none unless given. In text it is a table, in which a name has
    /// a value, or the settings of a [`DefaultHeader`], or a list of these, of which the first that is for a server counts.
    #[serde(deserialize_with = "default_headers::from_table")]
    pub headers: Vec<DefaultHeader>,
    /// Whose certificates count beside those of [`ca_files`](Self::ca_files).
    pub roots: Roots,
    /// Files of certificates in PEM. Servers whose certificates these issued are trusted.
    pub ca_files: Vec<PathBuf>,
    /// A certificate that is shown to every server that asks for one. A server learns from it who the client is, whatever
    /// the network and the isolation key are. Mostly a rule in [`tls`](Self::tls) is the better place.
    pub client_certificate: Option<ClientCertificate>,
    /// What holds for some servers instead. The first rule that is about a server counts.
    pub tls: Vec<TlsRule>,
    /// What holds for WebSockets.
    #[cfg(feature = "websocket")]
    pub websocket: WebSocketConfig,
    /// The same, for code. [`Trust::Only`] stands in the place of [`roots`](Self::roots), and [`Trust::Custom`] in that of
    /// all settings of TLS.
    #[serde(skip)]
    pub trust: Trust,
}

/// Whose certificates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's roots, as they were when this program was built.
    #[default]
    Bundled,
    /// Those of the operating system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` if these are set.
    System,
    /// None but those of [`ca_files`](HttpConfig::ca_files).
    Only,
}

/// A certificate that the client shows, and its key: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate, and those that lead from it to its authority.
    #[serde(deserialize_with = "path")]
    pub certificate: PathBuf,
    /// The private key, which is not encrypted.
    #[serde(deserialize_with = "path")]
    pub key: PathBuf,
}

/// A path, and not by mistake what would be in the file: errors show paths.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.contains("-----BEGIN") || text.contains('\n') {
        return Err(D::Error::custom("not the path of a file; write the PEM into a file and name that here"));
    }
    Ok(text.into())
}

/// Settings of TLS for some servers. What it leaves out is as for all others, but for the client's certificate, of which
/// there is none then.
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig = serde_json::from_str(
///     r#"{ "tls": [{ "hosts": ["*.corp.internal", "10.0.0.0/8"], "ca_files": ["corp.pem"], "roots": "only" }] }"#,
/// )?;
/// assert_eq!(config.tls[0].hosts.len(), 2);
///
/// let error = serde_json::from_str::<HttpConfig>(r#"{ "tls": [{ "roots": "only" }] }"#).unwrap_err();
/// assert!(error.to_string().contains("needs `hosts` or `networks`"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "TlsRuleText")]
#[non_exhaustive]
pub struct TlsRule {
    /// The servers, by the names and addresses that URLs have. If it is empty, the rule applies to all servers.
    pub hosts: Vec<Rule>,
    /// The networks that they are reached through. If it is empty, the rule applies to all networks and to clearnet.
    pub networks: Vec<NetworkId>,
    /// In the place of [`HttpConfig::roots`].
    pub roots: Option<Roots>,
    /// In the place of [`HttpConfig::ca_files`].
    pub ca_files: Option<Vec<PathBuf>>,
    /// In the place of [`HttpConfig::client_certificate`].
    pub client_certificate: Option<ClientCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsRuleText {
    #[serde(default)]
    hosts: Vec<Rule>,
    #[serde(default)]
    networks: Vec<NetworkId>,
    roots: Option<Roots>,
    ca_files: Option<Vec<PathBuf>>,
    client_certificate: Option<ClientCertificate>,
}

impl TryFrom<TlsRuleText> for TlsRule {
    type Error = &'static str;

    fn try_from(text: TlsRuleText) -> Result<Self, &'static str> {
        let TlsRuleText { hosts, networks, roots, ca_files, client_certificate } = text;
        if hosts.is_empty() && networks.is_empty() {
            return Err(
                "a rule of `tls` needs `hosts` or `networks`; settings for all servers are beside `tls`",
            );
        }
        if hosts.iter().any(|rule| !rule.has_all_ports()) {
            return Err("`hosts` of a rule of `tls` are names and addresses without ports");
        }
        Ok(Self { hosts, networks, roots, ca_files, client_certificate })
    }
}

impl TlsRule {
    pub(super) fn is_about(&self, host: &Host, route: &Route) -> bool {
        let is_there = match route {
            Route::Network(id) => self.networks.is_empty() || self.networks.contains(id),
            Route::Clearnet => self.networks.is_empty(),
        };
        is_there && (self.hosts.is_empty() || self.hosts.iter().any(|rule| rule.covers(host)))
    }
}

/// Over HTTP/1.1 hyper reads little more than this before it gives up.
const MAX_RESPONSE_HEAD: u32 = 400 << 10;

/// For as many there is room before the first is read.
const MAX_RESPONSE_HEADERS: usize = 10_000;

impl HttpConfig {
    /// Lets the paths of files begin at `directory`, unless they are absolute.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        let certificates = self.tls.iter_mut().filter_map(|rule| rule.client_certificate.as_mut());
        let certificates = certificates.chain(&mut self.client_certificate);
        for ClientCertificate { certificate, key } in certificates {
            (*certificate, *key) = (directory.join(&*certificate), directory.join(&*key));
        }
        let ca_files = self.tls.iter_mut().filter_map(|rule| rule.ca_files.as_mut()).flatten();
        for path in ca_files.chain(&mut self.ca_files) {
            *path = directory.join(&*path);
        }
        self
    }

    /// Code can set what text cannot.
    pub(super) fn check(&self) -> Result<(), HttpError> {
        if self.max_response_head > MAX_RESPONSE_HEAD {
            return Err(HttpError::Config { setting: "max_response_head", max: MAX_RESPONSE_HEAD.into() });
        }
        if self.max_response_headers > MAX_RESPONSE_HEADERS {
            let max = u64::try_from(MAX_RESPONSE_HEADERS).unwrap_or(u64::MAX);
            return Err(HttpError::Config { setting: "max_response_headers", max });
        }
        default_headers::check(&self.headers)
    }
}

fn max_response_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes = size(deserializer)?;
    at_most(MAX_RESPONSE_HEAD, u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn max_response_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_most(MAX_RESPONSE_HEADERS, usize::deserialize(deserializer)?)
}

/// Reads a number of bytes, or text with a unit, such as `16MiB`. No error shows the text: settings can be secret.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Size;

    impl Visitor<'_> for Size {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size: a number of bytes, or text with a unit, such as \"16MiB\" or \"500kB\"")
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            let size = text.parse::<ByteSize>();
            size.map(|size| size.as_u64()).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Size)
}

fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size(deserializer).map(Some)
}

fn at_most<T: Copy + Ord + Display, E: Error>(max: T, value: T) -> Result<T, E> {
    if value > max {
        return Err(E::custom(format_args!("it can be at most {max}, and is {value}")));
    }
    Ok(value)
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(30),
            connect_limit: Duration::from_secs(15),
            answer_limit: None,
            max_redirects: 10,
            allow_downgrade: false,
            max_request_body: 16 << 20,
            max_response_body: 16 << 20,
            max_streamed_body: None,
            stall_limit: Duration::from_secs(30),
            max_decoder_memory: 256 << 20,
            max_response_head: 64 << 10,
            max_response_headers: 100,
            max_idle: None,
            max_idle_per_host: 8,
            max_connections_per_host: None,
            idle_timeout: Duration::from_secs(90),
            http2: true,
            headers: Vec::new(),
            roots: Roots::default(),
            ca_files: Vec::new(),
            client_certificate: None,
            tls: Vec::new(),
            #[cfg(feature = "websocket")]
            websocket: WebSocketConfig::default(),
            trust: Trust::default(),
        }
    }
}
