//! A request, as the caller describes it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::body::Body;
use super::error::{HttpError, UrlError};
use super::headers::{basic_credentials, bearer_credentials, check_name, is_secret};
use super::hop::Hop;
use super::multipart::Form;
use super::target::Target;
use crate::endpoint::Endpoint;
use crate::secrets::SecretId;

/// A request for [`HttpClient::send`](super::HttpClient::send).
///
/// It has the headers that it is given, those that say where it goes and how long its body is, and an `Accept-Encoding`
/// that is the same for all requests. Nothing identifies the sender: there is no `User-Agent`, no `Referer`, no cookie.
///
/// ```
/// use frame_net::http::{HttpError, Request};
///
/// let request = Request::get("https://example.com/")?.header("accept", "text/html")?;
/// assert!(matches!(Request::get("https://user:pass@example.com/"), Err(HttpError::Url(_))));
/// assert!(matches!(request.header("host", "example.org"), Err(HttpError::ReservedHeader { .. })));
/// # Ok::<(), HttpError>(())
/// ```
#[derive(Clone)]
pub struct Request {
    pub(crate) hop: Hop,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) steps: StepLimits,
    pub(crate) max_redirects: Option<usize>,
    pub(crate) max_response_body: Option<u64>,
    pub(crate) is_streamed: bool,
    pub(crate) has_own_connection: bool,
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) decodes: bool,
    /// The secret that it is to carry.
    pub(crate) secret: Option<SecretId>,
    content_type: ContentType,
}

/// Where the `Content-Type` of a request comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ContentType {
    /// The headers, if there is one.
    Headers,
    /// The kind of the body. One that is given replaces it.
    Body,
    /// The body, which no other can describe.
    Multipart,
}

/// How long single steps may take, beside the limit for everything.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepLimits {
    pub(crate) connect: Option<Duration>,
    pub(crate) answer: Option<Duration>,
}

/// Far below what a [`HeaderMap`] can hold: where it is full some of its methods panic, and so do those who add to it.
const MAX_HEADERS: usize = 1000;

/// The most that the URL of a message can have.
const MAX_URL: usize = u16::MAX as usize - 1;

/// The method that `method` is another way to write.
fn normalized(method: Method) -> Method {
    const NORMALIZED: [Method; 6] =
        [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT];
    let same = |known: &Method| known.as_str().eq_ignore_ascii_case(method.as_str());
    NORMALIZED.into_iter().find(same).unwrap_or(method)
}

impl Request {
    /// A request of `method` for `url`.
    ///
    /// As in the Fetch standard, `DELETE`, `GET`, `HEAD`, `OPTIONS`, `POST` and `PUT` may be given in lower case. Other
    /// methods are sent as they are.
    ///
    /// An international name is sent in its ASCII form. What follows `#` is not sent.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request, and [`HttpError::Method`] for `CONNECT`, which asks for a tunnel.
    pub fn new(method: Method, url: &str) -> Result<Self, HttpError> {
        if method.as_str().eq_ignore_ascii_case("connect") {
            return Err(HttpError::Method { method });
        }
        let method = normalized(method);
        let target = Target::parse(url)?;
        Ok(Self {
            hop: Hop::new(method, target),
            time_limit: None,
            steps: StepLimits::default(),
            max_redirects: None,
            max_response_body: None,
            content_type: ContentType::Headers,
            is_streamed: false,
            has_own_connection: false,
            stall_limit: None,
            decodes: true,
            secret: None,
        })
    }

    /// A `GET` request for `url`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn get(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::GET, url)
    }

    /// A `POST` request for `url`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn post(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::POST, url)
    }

    /// A `HEAD` request for `url`. Its response has no body, whatever its headers say.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn head(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::HEAD, url)
    }

    /// A `PUT` request for `url`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn put(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::PUT, url)
    }

    /// A `PATCH` request for `url`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn patch(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::PATCH, url)
    }

    /// A `DELETE` request for `url`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] if the URL is not valid for a request.
    pub fn delete(url: &str) -> Result<Self, HttpError> {
        Self::new(Method::DELETE, url)
    }

    /// Appends pairs to the query of the URL, in this order. Names may repeat.
    ///
    /// They are written as [`form`](Self::form) writes them: a space is `+`, and the bytes of what is not a letter, a digit
    /// or one of `*-._` are percent-encoded.
    ///
    /// ```
    /// use frame_net::http::{HttpError, Request};
    ///
    /// let request = Request::get("https://example.com/?lang=en")?.query([("q", "a&b c"), ("tag", "x"), ("tag", "y")])?;
    /// assert_eq!(request.url().as_str(), "https://example.com/?lang=en&q=a%26b+c&tag=x&tag=y");
    /// # Ok::<(), HttpError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`UrlError::TooLong`] if the URL is longer than a request can carry then.
    pub fn query<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        mut self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, HttpError> {
        let url = &mut self.hop.target.url;
        let mut left = MAX_URL.saturating_sub(url.as_str().len());
        let mut query = url.query().unwrap_or_default().to_owned();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let before = query.len();
            // Nothing is encoded that cannot fit.
            if name.len().saturating_add(value.len()) < left {
                append_pair(&mut query, name, value);
            }
            let appended = query.len() - before;
            if appended == 0 || appended > left {
                return Err(UrlError::TooLong { limit: MAX_URL }.into());
            }
            left -= appended;
        }
        if !query.is_empty() {
            url.set_query(Some(&query));
        }
        Ok(self)
    }

    /// Adds this header, beside others of its name.
    ///
    /// Secrets go to the origin of the URL, and not to others that it redirects to. These are `Authorization`, `Cookie`,
    /// `Cookie2`, `Proxy-Authenticate`, `Proxy-Authorization`, `WWW-Authenticate`, the usual names of keys and tokens
    /// (`Api-Key`, `X-Access-Token`, `X-Amz-Security-Token`, `X-Api-Key`, `X-Auth`, `X-Auth-Token`, `X-Csrf-Token`,
    /// `X-Goog-Api-Key`, `X-Vault-Token`, `X-Xsrf-Token`), and each value that [is marked as
    /// sensitive](HeaderValue::set_sensitive).
    ///
    /// # Errors
    ///
    /// [`HttpError::InvalidHeader`] if there is no such name or value, [`HttpError::ReservedHeader`] for what says where
    /// the request goes, how long it is, or what becomes of the connection, and [`HttpError::TooManyHeaders`] beyond
    /// 1 000.
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName>,
        value: impl TryInto<HeaderValue>,
    ) -> Result<Self, HttpError> {
        let name = name.try_into().map_err(|_| HttpError::InvalidHeader)?;
        let mut value = value.try_into().map_err(|_| HttpError::InvalidHeader)?;
        check_name(&name)?;
        if is_secret(&name) {
            value.set_sensitive(true);
        }
        if name == header::CONTENT_TYPE {
            match self.content_type {
                ContentType::Headers => {}
                ContentType::Body => self.forget_content_type(),
                ContentType::Multipart => return Err(HttpError::ReservedHeader { name }),
            }
        }
        if self.hop.headers.len() >= MAX_HEADERS {
            return Err(HttpError::TooManyHeaders { limit: MAX_HEADERS });
        }
        self.hop.headers.append(name, value);
        Ok(self)
    }

    /// Sets `Authorization: Basic` to a user name and a password, in UTF-8 (RFC 7617). Replaces another `Authorization`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Credentials`] if the user name contains `:`, or either contains a control character, and
    /// [`HttpError::TooManyHeaders`] if there is no room for the header.
    pub fn basic_auth(self, username: &str, password: &str) -> Result<Self, HttpError> {
        self.authorization(basic_credentials(username, password)?)
    }

    /// Sets `Authorization: Bearer` (RFC 6750). Replaces another `Authorization`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Credentials`] if the token is empty or has other characters than visible ASCII, and
    /// [`HttpError::TooManyHeaders`] if there is no room for the header.
    pub fn bearer_auth(self, token: &str) -> Result<Self, HttpError> {
        self.authorization(bearer_credentials(token)?)
    }

    /// Has the request carry the [secret](crate::secrets) `id`, which the frame of the dialer must have been granted. It is
    /// sent over TLS to its own hosts only, and does not go along to another origin. The client adds its header when it sends
    /// the request, which must not have that header itself; [`headers`](Self::headers) does not show it.
    ///
    /// A request that cannot carry it is refused by [`HttpClient::send`](super::HttpClient::send), with
    /// [`HttpError::Secret`].
    #[must_use]
    pub fn secret(self, id: SecretId) -> Self {
        Self { secret: Some(id), ..self }
    }

    fn authorization(mut self, value: HeaderValue) -> Result<Self, HttpError> {
        self.hop.headers.remove(header::AUTHORIZATION);
        self.header(header::AUTHORIZATION, value)
    }

    /// Returns the method.
    pub const fn method(&self) -> &Method {
        &self.hop.method
    }

    /// Returns the headers that it was given.
    pub const fn headers(&self) -> &HeaderMap {
        &self.hop.headers
    }

    /// Returns the URL of the first server. Its query may contain secrets.
    pub const fn url(&self) -> &Url {
        &self.hop.target.url
    }

    /// Returns the first server.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.hop.target.origin.endpoint
    }

    /// Returns the length of its body, if that is known.
    pub fn body_length(&self) -> Option<u64> {
        self.hop.body.length()
    }

    /// Sets the body: bytes, or a [stream](Body) of them.
    ///
    /// While a stream is sent, [`HttpConfig::time_limit`](super::HttpConfig::time_limit) does not apply unless the
    /// request [sets](Self::time_limit) one, but [`stall_limit`](Self::stall_limit) does. It may be as long as
    /// [`HttpConfig::max_streamed_body`](super::HttpConfig::max_streamed_body) allows.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        if self.content_type == ContentType::Multipart {
            self.forget_content_type();
        }
        self.hop.body = body.into();
        self
    }

    /// Sets the body to a value, as JSON. Adds the `Content-Type` of JSON if there is none.
    ///
    /// # Errors
    ///
    /// [`HttpError::Encode`] if it cannot be written as JSON, and [`HttpError::TooManyHeaders`] if there is no room for
    /// a `Content-Type`.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Result<Self, HttpError> {
        let text = serde_json::to_vec(body).map_err(|error| HttpError::Encode(error.into()))?;
        self.json_text(text)
    }

    /// Sets the body to text that is JSON already. Adds the `Content-Type` of JSON if there is none.
    ///
    /// # Errors
    ///
    /// [`HttpError::TooManyHeaders`] if there is no room for a `Content-Type`.
    pub fn json_text(self, text: impl Into<Bytes>) -> Result<Self, HttpError> {
        self.typed(text.into(), "application/json")
    }

    /// Sets the body to a form: pairs as HTML forms send them, in this order. Names may repeat. Adds the `Content-Type`
    /// `application/x-www-form-urlencoded` if there is none.
    ///
    /// # Errors
    ///
    /// [`HttpError::TooManyHeaders`] if there is no room for a `Content-Type`.
    pub fn form<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, HttpError> {
        let mut text = String::new();
        for (name, value) in pairs {
            append_pair(&mut text, name.as_ref(), value.as_ref());
        }
        self.typed(text.into(), FORM_MEDIA_TYPE)
    }

    /// Sets the body to a form of several parts, as HTML forms with files send it, and sets its `Content-Type`.
    ///
    /// # Errors
    ///
    /// [`HttpError::ReservedHeader`] if it has another `Content-Type`, or is given one later: it would not name the boundary.
    /// [`HttpError::TooManyHeaders`] if there is no room for it, and [`HttpError::Random`] if the system has no random bytes.
    /// [`HttpError::RequestBody`] if a part is a stream that was sent already.
    pub fn multipart(mut self, form: Form) -> Result<Self, HttpError> {
        if self.content_type != ContentType::Headers {
            self.forget_content_type();
        }
        if self.hop.headers.contains_key(header::CONTENT_TYPE) {
            return Err(HttpError::ReservedHeader { name: header::CONTENT_TYPE });
        }
        let (body, content_type) = form.encode()?;
        self = self.body(body).header(header::CONTENT_TYPE, content_type)?;
        Ok(Self { content_type: ContentType::Multipart, ..self })
    }

    /// With a body of this type, unless a header says another.
    fn typed(mut self, body: Bytes, content_type: &'static str) -> Result<Self, HttpError> {
        if self.content_type != ContentType::Headers {
            self.forget_content_type();
        }
        self.hop.body = body.into();
        if self.hop.headers.contains_key(header::CONTENT_TYPE) {
            return Ok(self);
        }
        self = self.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))?;
        Ok(Self { content_type: ContentType::Body, ..self })
    }

    /// Removes the `Content-Type` that came with a body.
    fn forget_content_type(&mut self) {
        self.hop.headers.remove(header::CONTENT_TYPE);
        self.content_type = ContentType::Headers;
    }

    /// Sets the limit of this request, in place of [`HttpConfig::time_limit`](super::HttpConfig::time_limit).
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        Self { time_limit: Some(limit), ..self }
    }

    /// Sets whether the body is sent on if a redirect with 307 or 308 leads to another origin. By default such a redirect is
    /// an error.
    #[must_use]
    pub fn forward_body(mut self, does: bool) -> Self {
        self.hop.forwards_body = does;
        self
    }

    /// Sets the limit of this request, in place of [`HttpConfig::connect_limit`](super::HttpConfig::connect_limit).
    #[must_use]
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.steps.connect = Some(limit);
        self
    }

    /// Sets the limit of this request, in place of [`HttpConfig::answer_limit`](super::HttpConfig::answer_limit).
    #[must_use]
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        self.steps.answer = Some(limit);
        self
    }

    /// Reads the body of the response as a stream, piece by piece, over a [connection of its own](Self::own_connection).
    ///
    /// [`HttpConfig::time_limit`](super::HttpConfig::time_limit) ends with the head of the response then, unless the
    /// request [sets](Self::time_limit) one. [`stall_limit`](Self::stall_limit) applies to each piece, and
    /// [`HttpConfig::max_streamed_body`](super::HttpConfig::max_streamed_body) to the length in the place of
    /// [`HttpConfig::max_response_body`](super::HttpConfig::max_response_body).
    #[must_use]
    pub fn streamed(self) -> Self {
        Self { is_streamed: true, has_own_connection: true, ..self }
    }

    /// Sets whether the request has a connection for itself, also over HTTP/2. One that was used before can serve it over
    /// HTTP/1.1. Requests whose responses are [streamed](Self::streamed) have one, unless this says otherwise: a response
    /// that is not read takes up what all on its connection may have on their way.
    #[must_use]
    pub fn own_connection(self, does: bool) -> Self {
        Self { has_own_connection: does, ..self }
    }

    /// Sets the limit of this request, in place of [`HttpConfig::stall_limit`](super::HttpConfig::stall_limit). It applies to what is
    /// streamed.
    #[must_use]
    pub fn stall_limit(self, limit: Duration) -> Self {
        Self { stall_limit: Some(limit), ..self }
    }

    /// Sets whether `gzip`, `br` and `zstd` are asked for, with `Accept-Encoding`, and decoded. They are by default, unless
    /// the request has an `Accept-Encoding` or a `Range` of its own. Otherwise the body is as it was sent. With a
    /// [secret](Self::secret) the server is asked not to encode it then, because the secret would not be found in it.
    #[must_use]
    pub fn decode(self, does: bool) -> Self {
        Self { decodes: does, ..self }
    }

    /// Tells the server, with `TE`, that [trailers](super::Response::trailers) are read. Many send them anyway.
    #[must_use]
    pub fn accept_trailers(mut self) -> Self {
        self.hop.accepts_trailers = true;
        self
    }

    /// Asks for events, as browsers do.
    pub(crate) fn for_events(mut self) -> Result<Self, HttpError> {
        for (name, value) in [(header::ACCEPT, "text/event-stream"), (header::CACHE_CONTROL, "no-store")] {
            if !self.hop.headers.contains_key(&name) {
                self = self.header(name, HeaderValue::from_static(value))?;
            }
        }
        Ok(self.streamed())
    }

    /// Sets the limit of this request, in place of [`HttpConfig::max_redirects`](super::HttpConfig::max_redirects).
    #[must_use]
    pub fn max_redirects(self, limit: usize) -> Self {
        Self { max_redirects: Some(limit), ..self }
    }

    /// Sets the limit of this request, in place of [`HttpConfig::max_response_body`](super::HttpConfig::max_response_body).
    #[must_use]
    pub fn max_response_body(self, limit: u64) -> Self {
        Self { max_response_body: Some(limit), ..self }
    }
}

/// Without the path, the query, the values of headers and the body, where secrets may be.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hop.fmt(f)
    }
}

/// The media type of a form whose pairs are percent-encoded.
const FORM_MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Appends a pair to `text`, as `application/x-www-form-urlencoded` has it.
///
/// As in the URL standard, letters, digits and `*-._` are themselves, a space is `+`, and each byte of anything else is
/// percent-encoded.
fn append_pair(text: &mut String, name: &[u8], value: &[u8]) {
    if !text.is_empty() && !text.ends_with('&') {
        text.push('&');
    }
    text.extend(byte_serialize(name));
    text.push('=');
    text.extend(byte_serialize(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (name, value) in pairs {
            append_pair(&mut text, name.as_bytes(), value.as_bytes());
        }
        text
    }

    #[test]
    fn pairs_are_written_as_browsers_write_them() {
        assert_eq!(encoded(&[]), "");
        assert_eq!(encoded(&[("a", "1"), ("b", ""), ("", "c"), ("a", "2")]), "a=1&b=&=c&a=2");
        assert_eq!(encoded(&[("a b", "c+d&e=f/g?h#i%")]), "a+b=c%2Bd%26e%3Df%2Fg%3Fh%23i%25");
        assert_eq!(encoded(&[("*-._~", "é\r\n\0")]), "*-._%7E=%C3%A9%0D%0A%00");
    }

    #[test]
    fn bytes_that_are_not_text_are_percent_encoded() {
        let mut text = "a=1".to_owned();
        append_pair(&mut text, b"b", &[0xff, b' ']);
        assert_eq!(text, "a=1&b=%FF+");
    }
}
