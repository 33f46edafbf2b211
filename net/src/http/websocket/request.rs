//! A request for a WebSocket, and the opening handshake: RFC 6455, section 4.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version, response};
use sha1::{Digest as _, Sha1};
use url::Url;

use super::driver::Bounds;
use super::error::{HandshakeError, WebSocketError};
use super::socket::WebSocket;
use crate::endpoint::Endpoint;
use crate::http::client::Upgrade;
use crate::http::config::WebSocketConfig;
use crate::http::error::{HttpError, UrlError};
use crate::http::request::Request;
use crate::secrets::SecretId;

/// A request for a WebSocket, for [`HttpClient::websocket`](crate::http::HttpClient::websocket).
///
/// As with other [requests](crate::http::Request), only the headers are sent that it is given, and those that a handshake
/// cannot do without. There is no `Origin` and no `User-Agent`, and no extension is offered.
///
/// ```
/// use frame_net::http::websocket::WebSocketRequest;
///
/// let request = WebSocketRequest::new("wss://example.com/feed")?
///     .header("authorization", "Bearer 31337")?
///     .subprotocol("v2.feed")?;
/// assert!(WebSocketRequest::new("https://example.com/feed").is_err());
/// assert!(request.header("sec-websocket-key", "x").is_err());
/// # Ok::<(), frame_net::http::websocket::WebSocketError>(())
/// ```
#[derive(Clone)]
pub struct WebSocketRequest {
    request: Request,
    subprotocols: Vec<HeaderValue>,
    limits: RequestLimits,
}

/// The settings of a request, which replace those of the configuration.
#[derive(Debug, Clone, Copy, Default)]
struct RequestLimits {
    max_message: Option<u64>,
    max_frame: Option<u64>,
    ping_interval: Option<Duration>,
    pong_limit: Option<Duration>,
}

/// The handshake consists of these.
const RESERVED: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
];

impl WebSocketRequest {
    /// A request for `url`, whose scheme is `ws` or, with TLS, `wss`. What follows `#` is not sent.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if no request can go there.
    pub fn new(url: &str) -> Result<Self, WebSocketError> {
        let mut url = Url::parse(url).map_err(|error| HttpError::Url(error.into()))?;
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            _ => return Err(HttpError::Url(UrlError::WebSocketScheme).into()),
        };
        url.set_scheme(scheme).map_err(|()| HttpError::Url(UrlError::WebSocketScheme))?;
        let request = Request::new(Method::GET, url.as_str())?;
        Ok(Self { request, subprotocols: Vec::new(), limits: RequestLimits::default() })
    }

    /// Adds this header.
    ///
    /// # Errors
    ///
    /// As [`Request::header`], and [`HttpError::ReservedHeader`] for `Sec-WebSocket-*`.
    pub fn header(
        self,
        name: impl TryInto<HeaderName>,
        value: impl TryInto<HeaderValue>,
    ) -> Result<Self, WebSocketError> {
        let name = name.try_into().map_err(|_| HttpError::InvalidHeader)?;
        if RESERVED.contains(&name) {
            return Err(HttpError::ReservedHeader { name }.into());
        }
        Ok(Self { request: self.request.header(name, value)?, ..self })
    }

    /// Has the handshake carry a secret, as [`Request::secret`]. What the server sends is held against it: a message with the
    /// value in it closes the connection.
    #[must_use]
    pub fn secret(self, id: SecretId) -> Self {
        Self { request: self.request.secret(id), ..self }
    }

    /// Offers this subprotocol, after those offered before. The server selects one or none:
    /// [`WebSocket::subprotocol`](super::WebSocket::subprotocol).
    ///
    /// # Errors
    ///
    /// [`WebSocketError::InvalidSubprotocol`] if it is not a token of HTTP (RFC 9110, section 5.6.2), has more than 255
    /// bytes, was offered before, or is the 33rd.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, WebSocketError> {
        const MOST: usize = 32;
        const LONGEST: usize = 255;
        let invalid = || WebSocketError::InvalidSubprotocol;
        // A method is a token, too.
        Method::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let name = HeaderValue::from_str(name).map_err(|_| invalid())?;
        let is_taken = self.subprotocols.contains(&name);
        if is_taken || name.len() > LONGEST || self.subprotocols.len() == MOST {
            return Err(invalid());
        }
        self.subprotocols.push(name);
        Ok(self)
    }

    /// Begins the handshake. Returns the request that asks for it as well.
    pub(crate) fn into_handshake(self) -> Result<(Handshake, Request), HttpError> {
        let Self { mut request, subprotocols, limits } = self;
        let key = HandshakeKey::random()?;
        key.write(&mut request.hop.headers, &subprotocols)?;
        Ok((Handshake { key, subprotocols, limits }, request))
    }

    /// Returns where it goes.
    pub const fn endpoint(&self) -> &Endpoint {
        self.request.endpoint()
    }

    /// How long the handshake may take, with the connection, in the place of
    /// [`HttpConfig::time_limit`](crate::http::HttpConfig::time_limit).
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        Self { request: self.request.time_limit(limit), ..self }
    }

    /// In the place of [`HttpConfig::connect_limit`](crate::http::HttpConfig::connect_limit).
    #[must_use]
    pub fn connect_limit(self, limit: Duration) -> Self {
        Self { request: self.request.connect_limit(limit), ..self }
    }

    /// In the place of [`HttpConfig::answer_limit`](crate::http::HttpConfig::answer_limit).
    #[must_use]
    pub fn answer_limit(self, limit: Duration) -> Self {
        Self { request: self.request.answer_limit(limit), ..self }
    }

    /// In the place of [`WebSocketConfig::max_message`](super::WebSocketConfig::max_message).
    #[must_use]
    pub const fn max_message(mut self, limit: u64) -> Self {
        self.limits.max_message = Some(limit);
        self
    }

    /// In the place of [`WebSocketConfig::max_frame`](super::WebSocketConfig::max_frame).
    #[must_use]
    pub const fn max_frame(mut self, limit: u64) -> Self {
        self.limits.max_frame = Some(limit);
        self
    }

    /// In the place of [`WebSocketConfig::ping_interval`](super::WebSocketConfig::ping_interval). If it is zero, the server
    /// is not pinged.
    #[must_use]
    pub const fn ping_interval(mut self, interval: Duration) -> Self {
        self.limits.ping_interval = Some(interval);
        self
    }

    /// In the place of [`WebSocketConfig::pong_limit`](super::WebSocketConfig::pong_limit).
    #[must_use]
    pub const fn pong_limit(mut self, limit: Duration) -> Self {
        self.limits.pong_limit = Some(limit);
        self
    }
}

/// Without the path, the query and the values of headers, where secrets may be.
impl fmt::Debug for WebSocketRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketRequest")
            .field("request", &self.request)
            .field("subprotocols", &self.subprotocols)
            .field("limits", &self.limits)
            .finish()
    }
}

/// An opening handshake that was begun.
pub(crate) struct Handshake {
    key: HandshakeKey,
    subprotocols: Vec<HeaderValue>,
    limits: RequestLimits,
}

impl Handshake {
    /// Checks the answer of the server, and returns the WebSocket.
    pub(crate) fn finish(
        self,
        answer: Upgrade,
        config: &WebSocketConfig,
    ) -> Result<WebSocket, WebSocketError> {
        let Upgrade { peer, head, switched, secret } = answer;
        let Some((stream, received)) = switched else {
            return Err(WebSocketError::Refused { peer, status: head.status });
        };
        let subprotocol = match self.key.check(&head, &self.subprotocols) {
            Ok(subprotocol) => subprotocol,
            Err(source) => return Err(WebSocketError::Handshake { peer, source }),
        };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits = self.limits;
        let max_message = size(limits.max_message.unwrap_or(config.max_message));
        let max_frame = limits.max_frame.or(config.max_frame).map_or(max_message, size);
        let bounds = Bounds {
            max_message,
            max_frame: max_frame.min(max_message),
            close_limit: config.close_limit,
            ping_interval: limits
                .ping_interval
                .or(config.ping_interval)
                .filter(|interval| !interval.is_zero()),
            pong_limit: limits.pong_limit.unwrap_or(config.pong_limit),
        };
        Ok(WebSocket::new(stream, &received, peer, bounds, head.headers, subprotocol, secret))
    }
}

/// The value of `Sec-WebSocket-HandshakeKey`. The server proves that it has read the request with a hash of it.
struct HandshakeKey(String);

impl HandshakeKey {
    fn random() -> Result<Self, HttpError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| HttpError::Random(Arc::new(error.into())))?;
        Ok(Self(BASE64.encode(&bytes)))
    }

    /// The value of `Sec-WebSocket-Accept` that answers it.
    fn accept(&self) -> String {
        const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let hash = Sha1::new().chain_update(&self.0).chain_update(GUID);
        BASE64.encode(&hash.finalize())
    }

    /// Asks for a WebSocket, and offers these subprotocols.
    fn write(&self, headers: &mut HeaderMap, subprotocols: &[HeaderValue]) -> Result<(), HttpError> {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| HttpError::InvalidHeader);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, value(self.0.as_bytes())?);
        if !subprotocols.is_empty() {
            // In one line: not all servers read several.
            let names: Vec<_> = subprotocols.iter().map(HeaderValue::as_bytes).collect();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&names.join(&b", "[..]))?);
        }
        Ok(())
    }

    /// Checks a response that switches protocols. Returns the subprotocol that the server selected.
    fn check(
        &self,
        head: &response::Parts,
        offered: &[HeaderValue],
    ) -> Result<Option<String>, HandshakeError> {
        let headers = &head.headers;
        let is = |name, expected: &str| {
            only(headers, &name).is_some_and(|value| value.eq_ignore_ascii_case(expected))
        };
        if head.version != Version::HTTP_11 {
            return Err(HandshakeError::Version);
        }
        if !is(header::UPGRADE, "websocket") {
            return Err(HandshakeError::Upgrade);
        }
        let mut connection =
            headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        if !connection.any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
        {
            return Err(HandshakeError::Connection);
        }
        if only(headers, &header::SEC_WEBSOCKET_ACCEPT) != Some(&self.accept()) {
            return Err(HandshakeError::Accept);
        }
        if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(HandshakeError::Extension);
        }
        if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            return Ok(None);
        }
        let selected = only(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let selected = selected.filter(|selected| offered.iter().any(|offered| offered == selected));
        selected.map(|selected| Some(selected.to_owned())).ok_or(HandshakeError::Subprotocol)
    }
}

/// The value of a header, of which there is one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    first.filter(|_| second.is_none())?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_follows_from_the_key_as_in_the_example_of_the_rfc() {
        let key = HandshakeKey("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
