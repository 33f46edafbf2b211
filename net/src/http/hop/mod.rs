//! What is sent to one server: a request, and the requests that redirects make of it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use url::Url;

use super::body::{Body, OutgoingBody};
use super::error::{Peer, RedirectError, UrlError};
use super::headers::is_secret;
use super::secret::SecretHeader;
use super::target::{Scheme, Target};
use crate::audit::{AttemptKind, Recording, RequestDetails};
use crate::dialer::Dialer;
use crate::direct::is_special;
use crate::reach::Reach;
use crate::secrets::{SecretError, SecretId};

/// A request to one server. A redirect makes the next one of it.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Whether the server is told that trailers are read.
    pub(crate) accepts_trailers: bool,
    /// Whether the body may go to another origin.
    pub(crate) forwards_body: bool,
    /// Whether the redirects that led here began at a public host, or passed one.
    pub(crate) is_from_public: bool,
    /// Added when the request is written to a connection.
    pub(crate) secret: Option<Arc<SecretHeader>>,
}

/// A redirect that is not followed: as much of where it leads as may be shown, and why.
#[derive(Debug)]
pub(crate) struct RefusedRedirect {
    pub(crate) to: String,
    pub(crate) why: RedirectError,
}

/// Headers that describe a body.
const OF_BODY: [HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LOCATION, header::CONTENT_TYPE];

/// The length of `HTTP/1.1 200` with the end of the line.
const STATUS_LINE: usize = 15;

impl Hop {
    pub(crate) fn new(method: Method, target: Target) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::default(),
            accepts_trailers: false,
            forwards_body: false,
            is_from_public: false,
            secret: None,
        }
    }

    /// The server, through the network of `dialer`.
    pub(crate) fn peer(&self, dialer: &Dialer) -> Peer {
        Peer { endpoint: self.target.origin.endpoint.clone(), route: dialer.route().clone() }
    }

    /// What the audit log records of the request. `secret` is the id of the secret that it carries, or was to carry.
    pub(crate) fn details(&self, kind: AttemptKind, secret: Option<Arc<str>>) -> RequestDetails {
        let scheme = match (kind, self.target.origin.scheme) {
            (AttemptKind::WebSocket, Scheme::Http) => "ws",
            (AttemptKind::WebSocket, Scheme::Https) => "wss",
            (_, Scheme::Http) => "http",
            (_, Scheme::Https) => "https",
        };
        RequestDetails::new(&self.method, scheme, secret)
    }

    /// Has the request carry the secret `id`, unless it may not, which is recorded as a refusal.
    pub(crate) fn carry_secret(
        &mut self,
        kind: AttemptKind,
        dialer: &Dialer,
        id: &SecretId,
    ) -> Result<(), SecretError> {
        let header = self.secret_header(dialer, id).inspect_err(|error| {
            let details = || self.details(kind, Some(id.as_str().into()));
            dialer.record_refusal(kind, &self.target.origin.endpoint, error, details);
        })?;
        self.secret = Some(Arc::new(header));
        Ok(())
    }

    /// The header of the secret `id`, if `dialer` has it and this request may carry it.
    fn secret_header(&self, dialer: &Dialer, id: &SecretId) -> Result<SecretHeader, SecretError> {
        let id = id.clone();
        let stored = dialer.secret(&id)?;
        let (to, header) = (&self.target.origin.endpoint, stored.header());
        if self.target.server_name.is_none() {
            return Err(SecretError::Cleartext { id });
        }
        if !stored.is_for(to) {
            return Err(SecretError::Host { id, to: to.clone() });
        }
        // Methods are compared with case, and some servers do not do that.
        if self.method.as_str().eq_ignore_ascii_case(Method::TRACE.as_str()) {
            return Err(SecretError::Trace { id });
        }
        if self.headers.contains_key(header) || self.body.trailers().contains(header) {
            return Err(SecretError::HeaderGiven { id, header: header.clone() });
        }
        Ok(SecretHeader::new(id, stored))
    }

    /// The message of this version of HTTP. `recording` counts what is sent of it.
    pub(crate) fn message(
        &self,
        version: Version,
        recording: &Recording,
    ) -> Result<http::Request<OutgoingBody>, UrlError> {
        let authority = self.target.authority();
        let path: PathAndQuery = self.target.path().parse().map_err(|_| UrlError::Path)?;
        let mut message = http::Request::new(self.body.attempt(recording));
        *message.method_mut() = self.method.clone();
        *message.version_mut() = version;
        if version == Version::HTTP_2 {
            let uri =
                Uri::builder().scheme(self.target.url.scheme()).authority(authority).path_and_query(path);
            *message.uri_mut() = uri.build().map_err(|_| UrlError::Path)?;
            *message.headers_mut() = self.headers.clone();
        } else {
            *message.uri_mut() = path.into();
            let headers = message.headers_mut();
            headers.reserve(self.headers.len() + 1);
            headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| UrlError::Path)?);
            for (name, value) in &self.headers {
                headers.append(name, value.clone());
            }
        }
        self.frame_body(version, message.headers_mut());
        if recording.is_on() {
            let request_line = self.method.as_str().len() + self.target.path().len() + " HTTP/1.1\r\n ".len();
            let host = if version == Version::HTTP_2 { "host: \r\n".len() + authority.len() } else { 0 };
            recording.add_sent(head_len(request_line + host, message.headers()));
        }
        // Last, so that nothing but the connection has it.
        if let Some(secret) = &self.secret {
            secret.write(message.headers_mut());
        }
        Ok(message)
    }

    /// Writes how the body is delimited, where hyper does not, and which trailers follow it.
    fn frame_body(&self, version: Version, headers: &mut HeaderMap) {
        let is_http1 = version == Version::HTTP_11;
        if self.accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            if is_http1 {
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        let trailers = self.body.trailers();
        for name in trailers {
            headers.append(TRAILER, name.clone().into());
        }
        if self.body.is_empty() && trailers.is_empty() {
            // Servers want to know of an empty body if the method allows one (RFC 9110, section 8.6).
            if [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        } else if is_http1 && (self.body.length().is_none() || !trailers.is_empty()) {
            // hyper would send a `GET` without its body, and no trailers after a known length.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }

    /// What this becomes if it is redirected to `location`.
    ///
    /// A redirect may lead to a special address, or to `localhost`, only from such a place, whatever the network allows: the
    /// caller chooses such servers, and other servers do not. `reach` is what the connection of this request led to. If the
    /// name of the next host is looked up here, its addresses are checked when it is dialled.
    ///
    /// The method and the body change as in the Fetch standard, which browsers follow. Secrets, and where the redirect comes
    /// from, stay within an origin.
    pub(crate) fn redirected(
        &self,
        reach: Reach,
        status: StatusCode,
        location: &HeaderValue,
        allow_downgrade: bool,
    ) -> Result<Self, RefusedRedirect> {
        let target = redirect_target(&self.target, location)?;
        let to = shown(&target.url);
        let refused = |why| Err(RefusedRedirect { to, why });
        let is_downgrade = self.target.origin.scheme == Scheme::Https && target.origin.scheme == Scheme::Http;
        if is_downgrade && !allow_downgrade {
            return refused(RedirectError::Downgrade);
        }

        let was_special = !self.is_from_public && is_special(self.target.origin.endpoint.host());
        if is_special(target.origin.endpoint.host()) && !was_special {
            return refused(RedirectError::Special);
        }

        let is_from_public = self.is_from_public || !was_special && reach != Reach::Special;
        let mut hop = Self { target, is_from_public, ..self.clone() };
        if becomes_get(status, &hop.method) {
            hop.method = Method::GET;
            hop.body.clear();
            for name in &OF_BODY {
                hop.headers.remove(name);
            }
        }
        if !hop.body.can_be_sent() {
            return refused(RedirectError::Streamed);
        }
        if hop.target.origin != self.target.origin {
            if !hop.body.is_empty() && !hop.forwards_body {
                return refused(RedirectError::Body);
            }
            hop.secret = None;
            hop.headers =
                hop.headers.iter().filter(|(name, value)| !is_private(name, value)).map(owned).collect();
        }
        Ok(hop)
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &headers)
            .field("body", &self.body)
            .field("secret", &self.secret.as_ref().map(|secret| secret.id()))
            .finish_non_exhaustive()
    }
}

/// The length of the head of a response, as HTTP/1.1 writes it.
pub(crate) fn response_head_len(headers: &HeaderMap) -> usize {
    head_len(STATUS_LINE, headers)
}

/// The length of a head, as HTTP/1.1 writes it: its first line, its fields, and the empty line.
fn head_len(first_line: usize, headers: &HeaderMap) -> usize {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    first_line + fields.sum::<usize>() + 2
}

/// Where a response leads, if it is a redirect that can be followed: RFC 9110, section 15.4.
pub(crate) fn location(status: StatusCode, headers: &HeaderMap) -> Option<&HeaderValue> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308).then(|| headers.get(header::LOCATION)).flatten()
}

fn becomes_get(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
        StatusCode::SEE_OTHER => method != Method::HEAD,
        _ => false,
    }
}

fn is_private(name: &HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || is_secret(name) || name == header::REFERER || name == header::ORIGIN
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

fn redirect_target(from: &Target, location: &HeaderValue) -> Result<Target, RefusedRedirect> {
    let invalid = |error: UrlError| RefusedRedirect { to: "an invalid URL".to_owned(), why: error.into() };
    let text = location_text(location.as_bytes());
    let mut url = from.url.join(&text).map_err(|error| invalid(error.into()))?;
    if url.fragment().is_none() {
        url.set_fragment(from.url.fragment());
    }
    let to = shown(&url);
    Target::try_from(url).map_err(|error| RefusedRedirect { to, why: error.into() })
}

/// UTF-8 as it is, which becomes part of the URL percent-encoded. Of other text, such as Latin-1, each byte is
/// percent-encoded, so that the server gets back what it sent.
fn location_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii() {
            text.push(char::from(byte));
        } else {
            text.extend(['%', hex(byte >> 4), hex(byte & 0xf)]);
        }
    }
    text.into()
}

fn hex(digit: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(digit)])
}

/// The scheme, and the host with its port.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    match url.host_str() {
        Some(host) => format!("{}://{host}{port}", url.scheme()),
        None => format!("the scheme `{}`", url.scheme()),
    }
}

#[cfg(test)]
mod tests;
