//! What is asked of a server.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use url::Url;

use super::error::WebSocketError;
use crate::endpoint::Endpoint;
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
    pub(super) request: Request,
    pub(super) subprotocols: Vec<HeaderValue>,
    pub(super) limits: Limits,
}

/// What a request says in the place of the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) max_message: Option<u64>,
    pub(super) max_frame: Option<u64>,
    pub(super) ping_interval: Option<Duration>,
    pub(super) pong_limit: Option<Duration>,
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
        Ok(Self { request, subprotocols: Vec::new(), limits: Limits::default() })
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

    /// Where it goes.
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
