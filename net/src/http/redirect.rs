//! Where a response sends its request on to.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::error::{RedirectError, UrlError};
use super::header_names::is_secret;
use super::request::Hop;
use super::target::{Scheme, Target};
use crate::direct::is_special;
use crate::reach::Reach;

/// These describe a body.
const OF_BODY: [HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LOCATION, header::CONTENT_TYPE];

/// Where the response leads, if it is a redirect that can be followed: RFC 9110, section 15.4.
pub(super) fn location(status: StatusCode, headers: &HeaderMap) -> Option<&HeaderValue> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308).then(|| headers.get(header::LOCATION)).flatten()
}

/// A redirect that is not followed: as much of where it leads as may be shown, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) to: String,
    pub(super) why: RedirectError,
}

/// What `from` becomes where it is redirected to `location`.
///
/// It leads to a special address, or to `localhost`, only from there, whatever the network allows: that is for who makes
/// requests to choose, and not for servers. Where the name of the next host is looked up here, it is then that its
/// addresses are refused; `reach` is what that of `from` led to.
///
/// The method and the body change as the Fetch standard says, which browsers follow. What is secret, and where the
/// redirect comes from, stays within an origin.
pub(super) fn next(
    from: &Hop,
    reach: Reach,
    status: StatusCode,
    location: &HeaderValue,
    allow_downgrade: bool,
) -> Result<Hop, Refused> {
    let target = target(&from.target, location)?;
    let is_downgrade = from.target.origin.scheme == Scheme::Https && target.origin.scheme == Scheme::Http;
    if is_downgrade && !allow_downgrade {
        return Err(Refused { to: shown(&target.url), why: RedirectError::Downgrade });
    }

    let was_special = !from.is_from_public && is_special(from.target.origin.endpoint.host());
    if is_special(target.origin.endpoint.host()) && !was_special {
        return Err(Refused { to: shown(&target.url), why: RedirectError::Special });
    }

    let is_from_public = from.is_from_public || !was_special && reach != Reach::Special;
    let mut hop = Hop { target, is_from_public, ..from.clone() };
    if becomes_get(status, &hop.method) {
        hop.method = Method::GET;
        hop.body.clear();
        for name in &OF_BODY {
            hop.headers.remove(name);
        }
    }
    if !hop.body.can_be_sent() {
        return Err(Refused { to: shown(&hop.target.url), why: RedirectError::Streamed });
    }
    if hop.target.origin != from.target.origin {
        if !hop.body.is_empty() && !hop.forwards_body {
            return Err(Refused { to: shown(&hop.target.url), why: RedirectError::Body });
        }
        hop.secret = None;
        hop.headers =
            hop.headers.iter().filter(|(name, value)| !is_private(name, value)).map(owned).collect();
    }
    Ok(hop)
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

fn target(from: &Target, location: &HeaderValue) -> Result<Target, Refused> {
    let invalid = |error: UrlError| Refused { to: "what is no URL".to_owned(), why: error.into() };
    let text = location_text(location.as_bytes());
    let mut url = from.url.join(&text).map_err(|error| invalid(error.into()))?;
    if url.fragment().is_none() {
        url.set_fragment(from.url.fragment());
    }
    let to = shown(&url);
    Target::try_from(url).map_err(|error| Refused { to, why: error.into() })
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
