//! The settings of a client.

use std::fmt::{self, Display};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::HttpError;
use super::headers::{self, DefaultHeader};
use crate::deadline;
use crate::direct::Rule;
use crate::endpoint::Host;
use crate::network::{NetworkId, Route};
use crate::tls::Trust;

/// The settings of an [`HttpClient`](super::HttpClient). In text they have the names of the fields, and durations
/// and sizes have units. [`trust`](HttpConfig::trust) is set in code only.
///
/// It can be serialised, unless it has a sensitive [default header](Self::headers).
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig = serde_json::from_str(r#"{ "time_limit": "500ms", "max_redirects": 3 }"#)?;
/// assert_eq!((config.time_limit.as_millis(), config.max_redirects), (500, 3));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HttpConfig {
    /// How long a request may take with everything that belongs to it: connections, redirects and the whole body of
    /// the response. 30 seconds unless set. What the network allows for a connection holds beside it.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub time_limit: Duration,
    /// How long each connection may take, TLS included: 15 seconds unless set. What the network allows for a connection
    /// holds beside it.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub connect_limit: Duration,
    /// How long each server may take from when there is a connection until the head of its response is there. There is no
    /// such limit unless set.
    #[serde(
        deserialize_with = "deadline::optional",
        serialize_with = "deadline::optional_to_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub answer_limit: Option<Duration>,
    /// How many redirects are followed: 10 unless set. Where it is 0 a redirect is a response as any other.
    pub max_redirects: usize,
    /// Whether a redirect may lead from `https` to `http`. It may not unless set.
    pub allow_downgrade: bool,
    /// How many bytes the body of a request may have: 16 MiB unless set.
    #[serde(deserialize_with = "size")]
    pub max_request_body: u64,
    /// How many bytes the body of a response may have: 16 MiB unless set.
    #[serde(deserialize_with = "size")]
    pub max_response_body: u64,
    /// How many bytes a body may have that is streamed, in either direction. There is no such limit unless set: however
    /// long a stream is, little of it is in memory.
    #[serde(deserialize_with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub max_streamed_body: Option<u64>,
    /// How long a body that is streamed may stand still: until the next piece arrives, or the next can be sent, and until
    /// the answer once all was sent. 30 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub stall_limit: Duration,
    /// How many bytes of memory the decoders of `gzip`, `br` and `zstd` may take that work for one unit at a time: 256 MiB
    /// unless set. A decoder takes as much as the server chose when it encoded the body, and at most 16 MiB.
    #[serde(deserialize_with = "size")]
    pub max_decoder_memory: u64,
    /// How many bytes the status line and the headers of a response may have, and its trailers: 64 KiB unless set, and at
    /// most 400 KiB.
    #[serde(deserialize_with = "max_response_head")]
    pub max_response_head: u32,
    /// How many headers a response may have, and how many trailers: 100 unless set, and at most 10 000.
    #[serde(deserialize_with = "max_response_headers")]
    pub max_response_headers: usize,
    /// How many connections are kept for later requests, those of all units, networks and isolation keys together. Unless
    /// given, a quarter of the [connections](crate::LimitsConfig::connections) that there may be. Beyond that one is
    /// closed that was used longest ago, of a unit that has more than its even share. Those that are kept count as
    /// connections, and are closed where there is no room for new ones. Where it is 0 none is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<usize>,
    /// How many connections are kept for one host, of one unit, one network and one isolation key: 8 unless set.
    pub max_idle_per_host: usize,
    /// How many connections to one host there may be at a time, of one unit, one network and one isolation key, in one Tokio
    /// runtime. There is no such limit unless set. Requests beyond it wait in their order, within their limits of time;
    /// over HTTP/2 they share a connection. Where each request has a connection of its own, because none may be seen to
    /// belong with another, it does not count. WebSockets do not count either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_host: Option<NonZeroUsize>,
    /// How long an idle connection is kept: 90 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is offered to servers that speak TLS. It is unless set.
    pub http2: bool,
    /// Headers that requests have unless they have their own: none unless set. In text it is a table, in which a name has
    /// a value, or the settings of a [`DefaultHeader`], or a list of these, of which the first that is for a server counts.
    #[serde(deserialize_with = "headers::from_table", serialize_with = "headers::to_table")]
    pub headers: Vec<DefaultHeader>,
    /// The roots that are trusted beside [`ca_files`](Self::ca_files).
    pub roots: Roots,
    /// Files of certificates in PEM. Servers whose certificates these issued are trusted.
    pub ca_files: Vec<PathBuf>,
    /// A certificate that is shown to every server that asks for one. A server learns from it who the client is, whatever
    /// the network and the isolation key are. Mostly a rule in [`tls`](Self::tls) is the better place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// What holds for some servers instead. The first rule that is about a server counts.
    pub tls: Vec<TlsRule>,
    /// What holds for WebSockets.
    #[cfg(feature = "websocket")]
    pub websocket: WebSocketConfig,
    /// Trusted certificates, set in code. [`Trust::Only`] replaces [`roots`](Self::roots), and [`Trust::Custom`] replaces
    /// all settings of TLS. A configuration with anything but the default is not serialised.
    #[serde(skip_deserializing, skip_serializing_if = "is_default_trust", serialize_with = "refuse_trust")]
    pub trust: Trust,
}

/// The certificate authorities that are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's roots, as they were when this program was built.
    #[default]
    Bundled,
    /// Those of the operating system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` if these are set.
    System,
    /// Only those of [`ca_files`](HttpConfig::ca_files).
    Only,
}

impl Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bundled => "bundled",
            Self::System => "system",
            Self::Only => "only",
        })
    }
}

/// A certificate that the client shows, and its key: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "TlsRuleText")]
#[non_exhaustive]
pub struct TlsRule {
    /// The servers, by the names and addresses that URLs have. If it is empty, the rule applies to all servers.
    #[serde(serialize_with = "rules", skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Rule>,
    /// The networks that they are reached through. If it is empty, the rule applies to all networks and to clearnet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkId>,
    /// In the place of [`HttpConfig::roots`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<Roots>,
    /// In the place of [`HttpConfig::ca_files`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_files: Option<Vec<PathBuf>>,
    /// In the place of [`HttpConfig::client_certificate`].
    #[serde(skip_serializing_if = "Option::is_none")]
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
    pub(crate) fn is_about(&self, host: &Host, route: &Route) -> bool {
        let is_there = match route {
            Route::Network(id) => self.networks.is_empty() || self.networks.contains(id),
            Route::Clearnet => self.networks.is_empty(),
        };
        is_there && (self.hosts.is_empty() || self.hosts.iter().any(|rule| rule.covers(host)))
    }
}

/// Over HTTP/1.1 hyper reads little more than this before it gives up.
const MAX_RESPONSE_HEAD: u32 = 400 << 10;

/// hyper allocates room for so many before it reads the first.
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

    /// Checks what code can set and text cannot.
    pub(crate) fn check(&self) -> Result<(), HttpError> {
        if self.max_response_head > MAX_RESPONSE_HEAD {
            return Err(HttpError::Config { setting: "max_response_head", max: MAX_RESPONSE_HEAD.into() });
        }
        if self.max_response_headers > MAX_RESPONSE_HEADERS {
            let max = u64::try_from(MAX_RESPONSE_HEADERS).unwrap_or(u64::MAX);
            return Err(HttpError::Config { setting: "max_response_headers", max });
        }
        headers::check_defaults(&self.headers)
    }
}

/// Writes rules as text.
pub(crate) fn rules<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rules.iter().map(ToString::to_string))
}

fn is_default_trust(trust: &Trust) -> bool {
    matches!(trust, Trust::Mozilla { and } if and.is_empty())
}

/// Text has no word for it, and without it the configuration would trust other servers.
fn refuse_trust<S: Serializer>(_: &Trust, _: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("`trust` is set in code and cannot be written; use `roots` and `ca_files`"))
}

fn max_response_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes = size(deserializer)?;
    at_most(MAX_RESPONSE_HEAD, u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn max_response_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_most(MAX_RESPONSE_HEADERS, usize::deserialize(deserializer)?)
}

/// Reads a number of bytes, or text with a unit, such as `16MiB`. No error shows the text: settings can be secret.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
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

/// The settings of WebSockets, in [`HttpConfig::websocket`](HttpConfig::websocket). All other settings of a
/// client apply to the handshake.
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig =
///     serde_json::from_str(r#"{ "websocket": { "max_message": "64KiB", "ping_interval": "30s" } }"#)?;
/// assert_eq!(config.websocket.max_message, 65_536);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[cfg(feature = "websocket")]
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// The most bytes that a message may have, received or sent: 1 MiB unless set. A connection holds at most about three
    /// messages of this size in each direction.
    #[serde(deserialize_with = "size")]
    pub max_message: u64,
    /// The most bytes that a frame may have that is received. A message has one or more frames. Unless set, the limit is
    /// that of the message.
    #[serde(deserialize_with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub max_frame: Option<u64>,
    /// How long a closing handshake may take: 5 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub close_limit: Duration,
    /// How often the server is pinged. It is not pinged unless this is set. Without pings, the end of a server that has
    /// crashed or become unreachable is noticed only when something is sent.
    #[serde(
        deserialize_with = "deadline::optional",
        serialize_with = "deadline::optional_to_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ping_interval: Option<Duration>,
    /// How long the server may take after a ping until anything is received: 20 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub pong_limit: Duration,
}

#[cfg(feature = "websocket")]
impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            max_frame: None,
            close_limit: Duration::from_secs(5),
            ping_interval: None,
            pong_limit: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is written of the configuration that `text` is read as. It is read and written the same again.
    fn written(text: Value) -> Value {
        let config: HttpConfig = serde_json::from_value(text).unwrap();
        let written = serde_json::to_value(&config).unwrap();
        let again: HttpConfig = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
        written
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        written(json!({}));
        let text = json!({
            "time_limit": "1m 30s", "connect_limit": "500ms", "answer_limit": "2s", "stall_limit": "1s",
            "idle_timeout": "1m", "max_redirects": 3, "allow_downgrade": true, "max_request_body": 100,
            "max_response_body": 200, "max_streamed_body": 300, "max_decoder_memory": 400, "max_response_head": 500,
            "max_response_headers": 6, "max_idle": 7, "max_idle_per_host": 8, "max_connections_per_host": 9,
            "http2": false, "roots": "system", "ca_files": ["a.pem"],
            "client_certificate": { "certificate": "c.pem", "key": "k.pem" },
        });
        let expected = written(text.clone());
        for (name, value) in text.as_object().unwrap() {
            assert_eq!(expected.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn rules_of_tls_and_default_headers_are_read_as_they_were_written() {
        let text = json!({
            "tls": [
                { "hosts": ["*.corp.internal", "10.0.0.0/8"], "roots": "only", "ca_files": ["corp.pem"] },
                { "networks": ["app:tor"], "client_certificate": { "certificate": "c.pem", "key": "k.pem" } },
            ],
            "headers": {
                "user-agent": "shop/1.0",
                "x-a": [{ "value": "1", "hosts": ["a.example:443"], "isolated": true }, { "value": "2" }],
            },
        });
        let written = written(text.clone());
        assert_eq!(written["tls"], text["tls"]);
        let settings = |value: &str, hosts: &[&str], isolated: bool| {
            let mut settings = json!({ "value": value, "isolated": isolated, "allow_http": false });
            if !hosts.is_empty() {
                settings["hosts"] = json!(hosts);
            }
            settings
        };
        assert_eq!(written["headers"]["user-agent"], json!([settings("shop/1.0", &[], false)]));
        let both = [settings("1", &["a.example:443"], true), settings("2", &[], false)];
        assert_eq!(written["headers"]["x-a"], json!(both));
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn settings_of_websockets_are_read_as_they_were_written() {
        let text = json!({ "max_message": 10, "max_frame": 5, "close_limit": "1s", "ping_interval": "2s", "pong_limit": "3s" });
        assert_eq!(written(json!({ "websocket": text }))["websocket"], text);
    }

    #[test]
    fn no_secret_is_written() {
        let header = json!({ "value": "31337", "hosts": ["a.example"], "sensitive": true });
        let named = json!({ "value": "31337", "hosts": ["a.example"] });
        for text in
            [json!({ "headers": { "x-key": header } }), json!({ "headers": { "authorization": named } })]
        {
            let config: HttpConfig = serde_json::from_value(text).unwrap();
            let error = serde_json::to_string(&config).unwrap_err().to_string();
            assert!(error.contains("is sensitive and cannot be written"), "{error}");
            assert!(!error.contains("31337"), "{error}");
        }
    }

    #[test]
    fn trust_of_code_is_not_dropped_silently() {
        let config = HttpConfig { trust: Trust::Only(Vec::new()), ..HttpConfig::default() };
        let error = serde_json::to_string(&config).unwrap_err().to_string();
        assert!(error.contains("`trust` is set in code"), "{error}");
    }
}
