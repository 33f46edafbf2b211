//! The headers of requests: which names are special, credentials, and the defaults of a configuration.

use std::fmt;

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::config;
use super::error::HttpError;
use super::hop::Hop;
use super::target::Scheme;
use crate::direct::Rule;
use crate::network::NetworkId;
use crate::network::Route;

/// These say where a message ends, whom it is for, or what becomes of the connection. Who could set them could make
/// one request look like two.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const RESERVED_TOO: [&str; 3] = ["http2-settings", "keep-alive", "proxy-connection"];

/// These are secrets whatever is in them.
const SECRET: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::WWW_AUTHENTICATE,
];
const SECRET_TOO: [&str; 11] = [
    "api-key",
    "cookie2",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth",
    "x-auth-token",
    "x-csrf-token",
    "x-goog-api-key",
    "x-vault-token",
    "x-xsrf-token",
];

/// Returns whether a header of this name is a secret whatever its value is.
pub(crate) fn is_secret(name: &HeaderName) -> bool {
    SECRET.contains(name) || SECRET_TOO.contains(&name.as_str())
}

/// Returns whether the client alone decides on a header of this name.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(name) || RESERVED_TOO.contains(&name.as_str())
}

/// These are read before the body, or say how to read it: RFC 9110, section 6.5.1. hyper would leave them out over HTTP/1.1.
const NOT_TRAILERS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
];

/// Returns whether a header of this name cannot be a trailer.
fn is_not_a_trailer(name: &HeaderName) -> bool {
    NOT_TRAILERS.contains(name)
}

/// Refuses a header that the client alone decides on.
pub(crate) fn check_name(name: &HeaderName) -> Result<(), HttpError> {
    if is_reserved(name) {
        return Err(HttpError::ReservedHeader { name: name.clone() });
    }
    Ok(())
}

/// Refuses a trailer that no body can have.
pub(crate) fn check_trailer(name: &HeaderName) -> Result<(), HttpError> {
    if is_not_a_trailer(name) {
        return Err(HttpError::InvalidTrailer { name: name.clone() });
    }
    check_name(name)
}

/// Credentials that no header can carry. They are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A colon ends the user name: RFC 7617, section 2.
    #[error("a user name cannot contain `:`, where the password begins")]
    Colon,
    /// A user name or a password has a control character: RFC 7617, section 2.
    #[error("a user name or a password cannot contain control characters")]
    Control,
    /// A token has characters that end it, or that no header has.
    #[error("a token consists of visible ASCII characters, without spaces")]
    Token,
}

/// RFC 7617, with UTF-8.
pub(crate) fn basic_credentials(username: &str, password: &str) -> Result<HeaderValue, CredentialsError> {
    if username.contains(':') {
        return Err(CredentialsError::Colon);
    }
    if username.contains(char::is_control) || password.contains(char::is_control) {
        return Err(CredentialsError::Control);
    }
    let value = format!("Basic {}", BASE64.encode(format!("{username}:{password}").as_bytes()));
    // Base64 is valid in a header.
    HeaderValue::try_from(value).map_err(|_| CredentialsError::Control)
}

/// RFC 6750, for tokens with any visible characters: issuers use more than the RFC has.
pub(crate) fn bearer_credentials(token: &str) -> Result<HeaderValue, CredentialsError> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialsError::Token);
    }
    HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| CredentialsError::Token)
}

/// A header that requests to some servers have, unless they have one of its name.
///
/// A header that is sensitive (it [is marked](Self::with_sensitive), or has one of the names of secrets, see
/// [`Request::header`](super::Request::header)) needs [`hosts`](Self::with_hosts): otherwise a script could have it sent to a
/// server of its own. It is sent over `https` only, unless [`allow_http`](Self::with_allow_http) says otherwise.
///
/// A header for some hosts, or a sensitive one, stays with the origin of a request, and does not go along to others that it
/// redirects to.
///
/// A request with an isolation key, or through a network that keeps all connections apart, has no header of these unless it
/// is [`isolated`](Self::with_isolated): servers could tell by it that requests of two keys have the same sender.
///
/// ```
/// use frame_net::http::{DefaultHeader, HttpClient, HttpConfig};
///
/// let mut config = HttpConfig::default();
/// let key = DefaultHeader::new("x-api-key", "xyzzy")?.with_hosts(["api.example:443".parse()?]);
/// config.headers = vec![DefaultHeader::new("user-agent", "shop/1.0")?, key];
/// HttpClient::new(config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DefaultHeader {
    name: HeaderName,
    /// It is marked as sensitive if it is.
    value: HeaderValue,
    hosts: Vec<Rule>,
    networks: Vec<NetworkId>,
    isolated: bool,
    allow_http: bool,
}

impl DefaultHeader {
    /// A header for all servers.
    ///
    /// # Errors
    ///
    /// [`HttpError::InvalidHeader`] if there is no such name or value, and [`HttpError::ReservedHeader`] for what the client
    /// alone decides on.
    pub fn new(name: impl TryInto<HeaderName>, value: impl TryInto<HeaderValue>) -> Result<Self, HttpError> {
        let name = name.try_into().map_err(|_| HttpError::InvalidHeader)?;
        let mut value = value.try_into().map_err(|_| HttpError::InvalidHeader)?;
        check_name(&name)?;
        if is_secret(&name) {
            value.set_sensitive(true);
        }
        Ok(Self { name, value, hosts: Vec::new(), networks: Vec::new(), isolated: false, allow_http: false })
    }

    /// For these servers, by the names and addresses that URLs have, and by their ports.
    #[must_use]
    pub fn with_hosts(self, hosts: impl IntoIterator<Item = Rule>) -> Self {
        Self { hosts: hosts.into_iter().collect(), ..self }
    }

    /// For servers that are reached through these networks, and not through clearnet. With none of them it is for all
    /// networks and for clearnet.
    #[must_use]
    pub fn with_networks(self, networks: impl IntoIterator<Item = NetworkId>) -> Self {
        Self { networks: networks.into_iter().collect(), ..self }
    }

    /// Marks the value as a secret. A header with one of the names of secrets is always marked.
    #[must_use]
    pub fn with_sensitive(mut self, is_sensitive: bool) -> Self {
        self.value.set_sensitive(is_sensitive || is_secret(&self.name));
        self
    }

    /// Whether requests have it whose connections are kept apart, too.
    #[must_use]
    pub fn with_isolated(self, is: bool) -> Self {
        Self { isolated: is, ..self }
    }

    /// Whether it is sent over `http`, too, if it is sensitive.
    #[must_use]
    pub fn with_allow_http(self, does: bool) -> Self {
        Self { allow_http: does, ..self }
    }

    /// Its name.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// # Errors
    ///
    /// [`HttpError::SecretForAll`] if it is sensitive and for all hosts.
    fn check(&self) -> Result<(), HttpError> {
        if self.value.is_sensitive() && self.hosts.is_empty() {
            return Err(HttpError::SecretForAll { name: self.name.clone() });
        }
        Ok(())
    }

    fn is_for(&self, hop: &Hop, route: &Route, is_apart: bool) -> bool {
        let origin = &hop.target.origin;
        let is_there = match route {
            Route::Network(id) => self.networks.is_empty() || self.networks.contains(id),
            Route::Clearnet => self.networks.is_empty(),
        };
        let is_safe = !self.value.is_sensitive() || self.allow_http || origin.scheme == Scheme::Https;
        let is_about = |rule: &Rule| rule.covers_endpoint(&origin.endpoint);
        is_there
            && is_safe
            && (!is_apart || self.isolated)
            && (self.hosts.is_empty() || self.hosts.iter().any(is_about))
    }
}

/// Holds the headers of a configuration against what they can be.
pub(crate) fn check_defaults(headers: &[DefaultHeader]) -> Result<(), HttpError> {
    if headers.len() > MAX {
        let max = u64::try_from(MAX).unwrap_or(u64::MAX);
        return Err(HttpError::Config { setting: "headers", max });
    }
    headers.iter().try_for_each(DefaultHeader::check)
}

/// Adds to the first request of several that follow on each other what it has not itself. Of the defaults of one name, the
/// first that is for the server counts. `is_apart` is whether the connection is kept apart from others.
pub(crate) fn add_defaults(defaults: &[DefaultHeader], hop: &mut Hop, route: &Route, is_apart: bool) {
    let mut added = HeaderMap::new();
    for default in defaults {
        let is_given = hop.headers.contains_key(&default.name)
            || added.contains_key(&default.name)
            || hop.secret.as_ref().is_some_and(|secret| secret.is(&default.name));
        if is_given || !default.is_for(hop, route, is_apart) {
            continue;
        }
        let mut value = default.value.clone();
        // It is not for other hosts, so it stays within the origin as secrets do.
        value.set_sensitive(value.is_sensitive() || !default.hosts.is_empty());
        added.insert(default.name.clone(), value);
    }
    hop.headers.extend(added);
}

/// Without the value.
impl fmt::Debug for DefaultHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultHeader")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .field("networks", &self.networks)
            .field("isolated", &self.isolated)
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

/// More would fill the headers of a request.
const MAX: usize = 100;

/// Reads a table of headers: a name with a value, with a table of settings, or with a list of such tables. No error shows
/// a value.
pub(crate) fn from_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DefaultHeader>, D::Error> {
    struct HeaderTable;

    impl<'de> Visitor<'de> for HeaderTable {
        type Value = Vec<DefaultHeader>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of headers, such as { user-agent = \"shop/1.0\" }")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                let HeadersOfName(values) = map.next_value_seed(HeaderSeed(&name))?;
                headers.extend(values);
                if headers.len() > MAX {
                    return Err(Error::custom(format_args!("there can be at most {MAX} headers")));
                }
            }
            Ok(headers)
        }
    }

    deserializer.deserialize_map(HeaderTable)
}

/// Writes headers as [`from_table`] reads them. Fails if one is sensitive: a secret is never written.
pub(crate) fn to_table<S: Serializer>(headers: &[DefaultHeader], serializer: S) -> Result<S::Ok, S::Error> {
    let mut table: Vec<(&str, Vec<HeaderSettings>)> = Vec::new();
    for header in headers {
        let settings = HeaderSettings::of(header).map_err(ser::Error::custom)?;
        match table.iter_mut().find(|(name, _)| *name == header.name.as_str()) {
            Some((_, headers)) => headers.push(settings),
            None => table.push((header.name.as_str(), vec![settings])),
        }
    }
    serializer.collect_map(table)
}

/// The headers of one name.
struct HeadersOfName(Vec<DefaultHeader>);

/// Reads the headers of this name.
struct HeaderSeed<'a>(&'a str);

/// A [`DefaultHeader`] in text.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSettings {
    value: String,
    #[serde(default, skip_serializing)]
    sensitive: bool,
    #[serde(default, serialize_with = "config::rules", skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<NetworkId>,
    #[serde(default)]
    isolated: bool,
    #[serde(default)]
    allow_http: bool,
}

impl HeaderSettings {
    fn of(header: &DefaultHeader) -> Result<Self, String> {
        let DefaultHeader { name, value, hosts, networks, isolated, allow_http } = header;
        if value.is_sensitive() {
            return Err(format!("the default header `{name}` is sensitive and cannot be written"));
        }
        let value = value
            .to_str()
            .map_err(|_| format!("the default header `{name}` has a value that is not text"))?;
        Ok(Self {
            value: value.to_owned(),
            sensitive: false,
            hosts: hosts.clone(),
            networks: networks.clone(),
            isolated: *isolated,
            allow_http: *allow_http,
        })
    }
}

impl HeaderSeed<'_> {
    fn header<E: Error>(&self, settings: HeaderSettings) -> Result<DefaultHeader, E> {
        let HeaderSettings { value, sensitive, hosts, networks, isolated, allow_http } = settings;
        let name = HeaderName::try_from(self.0).map_err(|_| E::custom("not a valid name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| E::custom("not a valid value of a header"))?;
        let header = DefaultHeader::new(name, value).map_err(E::custom)?;
        let header = header
            .with_sensitive(sensitive)
            .with_hosts(hosts)
            .with_networks(networks)
            .with_isolated(isolated)
            .with_allow_http(allow_http);
        header.check().map_err(E::custom)?;
        Ok(header)
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = HeadersOfName;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<HeadersOfName, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = HeadersOfName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a header, or a table such as { value = \"…\", hosts = [\"api.example\"] }")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<HeadersOfName, E> {
        let settings = HeaderSettings { value: value.to_owned(), ..HeaderSettings::default() };
        Ok(HeadersOfName(vec![self.header(settings)?]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeadersOfName, A::Error> {
        let settings = HeaderSettings::deserialize(MapAccessDeserializer::new(map))?;
        Ok(HeadersOfName(vec![self.header(settings)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HeadersOfName, A::Error> {
        let mut headers = Vec::new();
        while let Some(settings) = list.next_element::<HeaderSettings>()? {
            headers.push(self.header(settings)?);
            if headers.len() > MAX {
                return Err(Error::custom(format_args!("there can be at most {MAX} headers")));
            }
        }
        Ok(HeadersOfName(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_as_in_the_examples_of_the_rfc() {
        assert_eq!(
            basic_credentials("Aladdin", "open sesame").unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(basic_credentials("test", "123£").unwrap(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic_credentials("", "").unwrap(), "Basic Og==");
        assert_eq!(basic_credentials("a", "b:c").unwrap(), "Basic YTpiOmM=");
    }

    #[test]
    fn credentials_that_would_be_read_as_others_are_refused() {
        assert_eq!(basic_credentials("a:b", "c"), Err(CredentialsError::Colon));
        assert_eq!(basic_credentials("a\n", "c"), Err(CredentialsError::Control));
        assert_eq!(basic_credentials("a", "c\u{7f}"), Err(CredentialsError::Control));
        assert_eq!(bearer_credentials("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM");
        assert_eq!(bearer_credentials("7|abc:/+=~").unwrap(), "Bearer 7|abc:/+=~");
        for token in ["", "a b", "a\r\nx: y", "é"] {
            assert_eq!(bearer_credentials(token), Err(CredentialsError::Token), "{token}");
        }
    }
}
