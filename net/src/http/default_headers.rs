//! Headers that requests have unless they have their own.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::HttpError;
use super::header_names::is_secret;
use super::request::{Hop, check_name};
use super::target::Scheme;
use crate::direct::Rule;
use crate::network::{NetworkId, Route};

/// A header that requests to some servers have, unless they have one of its name.
///
/// A header that is sensitive (it [is marked](Self::sensitive), or has one of the names of secrets, see
/// [`Request::header`](super::Request::header)) needs [`hosts`](Self::hosts): otherwise a script could have it sent to a
/// server of its own. It is sent over `https` only, unless [`allow_http`](Self::allow_http) says otherwise.
///
/// A header for some hosts, or a sensitive one, stays with the origin of a request, and does not go along to others that it
/// redirects to.
///
/// A request with an isolation key, or through a network that keeps all connections apart, has no header of these unless it
/// is [`isolated`](Self::isolated): servers could tell by it that requests of two keys have the same sender.
///
/// ```
/// use frame_net::http::{DefaultHeader, HttpClient, HttpConfig};
///
/// let mut config = HttpConfig::default();
/// let key = DefaultHeader::new("x-api-key", "xyzzy")?.hosts(["api.example:443".parse()?]);
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
    pub fn hosts(self, hosts: impl IntoIterator<Item = Rule>) -> Self {
        Self { hosts: hosts.into_iter().collect(), ..self }
    }

    /// For servers that are reached through these networks, and not through clearnet. With none of them it is for all
    /// networks and for clearnet.
    #[must_use]
    pub fn networks(self, networks: impl IntoIterator<Item = NetworkId>) -> Self {
        Self { networks: networks.into_iter().collect(), ..self }
    }

    /// With a value that is a secret.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.value.set_sensitive(true);
        self
    }

    /// Whether requests have it whose connections are kept apart, too.
    #[must_use]
    pub fn isolated(self, is: bool) -> Self {
        Self { isolated: is, ..self }
    }

    /// Whether it is sent over `http`, too, if it is sensitive.
    #[must_use]
    pub fn allow_http(self, does: bool) -> Self {
        Self { allow_http: does, ..self }
    }

    /// Its name.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// # Errors
    ///
    /// [`HttpError::SecretForAll`] if it is sensitive and for all hosts.
    pub(super) fn check(&self) -> Result<(), HttpError> {
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
pub(super) fn check(headers: &[DefaultHeader]) -> Result<(), HttpError> {
    if headers.len() > MAX {
        let max = u64::try_from(MAX).unwrap_or(u64::MAX);
        return Err(HttpError::Config { setting: "headers", max });
    }
    headers.iter().try_for_each(DefaultHeader::check)
}

/// Adds to the first request of several that follow on each other what it has not itself. Of the defaults of one name, the
/// first that is for the server counts. `is_apart` is whether the connection is kept apart from others.
pub(super) fn add(defaults: &[DefaultHeader], hop: &mut Hop, route: &Route, is_apart: bool) {
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
pub(super) fn from_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DefaultHeader>, D::Error> {
    struct Headers;

    impl<'de> Visitor<'de> for Headers {
        type Value = Vec<DefaultHeader>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of headers, such as { user-agent = \"shop/1.0\" }")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                let Given(values) = map.next_value_seed(Of(&name))?;
                headers.extend(values);
                if headers.len() > MAX {
                    return Err(Error::custom(format_args!("there can be at most {MAX} headers")));
                }
            }
            Ok(headers)
        }
    }

    deserializer.deserialize_map(Headers)
}

/// The headers of one name.
struct Given(Vec<DefaultHeader>);

/// Reads the headers of this name.
struct Of<'a>(&'a str);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    value: String,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    hosts: Vec<Rule>,
    #[serde(default)]
    networks: Vec<NetworkId>,
    #[serde(default)]
    isolated: bool,
    #[serde(default)]
    allow_http: bool,
}

impl Of<'_> {
    fn header<E: Error>(&self, settings: Settings) -> Result<DefaultHeader, E> {
        let Settings { value, sensitive, hosts, networks, isolated, allow_http } = settings;
        let name = HeaderName::try_from(self.0).map_err(|_| E::custom("not a valid name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| E::custom("not a valid value of a header"))?;
        let header = DefaultHeader::new(name, value).map_err(E::custom)?;
        let header = header.hosts(hosts).networks(networks).isolated(isolated).allow_http(allow_http);
        let header = if sensitive { header.sensitive() } else { header };
        header.check().map_err(E::custom)?;
        Ok(header)
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Of<'_> {
    type Value = Given;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Given, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Of<'_> {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a header, or a table such as { value = \"…\", hosts = [\"api.example\"] }")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Given, E> {
        let value = value.to_owned();
        let settings = Settings {
            value,
            sensitive: false,
            hosts: Vec::new(),
            networks: Vec::new(),
            isolated: false,
            allow_http: false,
        };
        Ok(Given(vec![self.header(settings)?]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Given, A::Error> {
        let settings = Settings::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Given(vec![self.header(settings)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
        let mut headers = Vec::new();
        while let Some(settings) = list.next_element::<Settings>()? {
            headers.push(self.header(settings)?);
            if headers.len() > MAX {
                return Err(Error::custom(format_args!("there can be at most {MAX} headers")));
            }
        }
        Ok(Given(headers))
    }
}
