//! The secret that a request carries, and what must not come back of it.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};

use super::error::HttpError;
use super::request::Request;
use crate::dialer::Dialer;
use crate::endpoint::Endpoint;
use crate::secrets::{EchoGuard, SecretError, SecretId, StoredSecret};

/// The header of a secret on a request. It keeps the value that the secret had when the request began.
pub(super) struct SecretHeader {
    id: SecretId,
    stored: Arc<StoredSecret>,
}

impl SecretHeader {
    /// The header that `request` is to have through `dialer`, if it names a secret.
    pub(super) fn of(dialer: &Dialer, request: &Request) -> Result<Option<Arc<Self>>, SecretError> {
        let Some(id) = &request.secret else { return Ok(None) };
        let id = id.clone();
        let stored = dialer.secret(&id)?;
        let (hop, header) = (&request.hop, stored.header());
        let to = &hop.target.origin.endpoint;
        if hop.target.server_name.is_none() {
            return Err(SecretError::Cleartext { id });
        }
        if !stored.is_for(to) {
            return Err(SecretError::Host { id, to: to.clone() });
        }
        // Methods are compared with case, and some servers do not do that.
        if hop.method.as_str().eq_ignore_ascii_case(Method::TRACE.as_str()) {
            return Err(SecretError::Trace { id });
        }
        if hop.headers.contains_key(header) || hop.body.trailers().contains(header) {
            return Err(SecretError::HeaderGiven { id, header: header.clone() });
        }
        Ok(Some(Arc::new(Self { id, stored })))
    }

    /// Which secret it is.
    pub(super) const fn id(&self) -> &SecretId {
        &self.id
    }

    /// Whether this is the header `name`.
    pub(super) fn is(&self, name: &http::HeaderName) -> bool {
        self.stored.header() == name
    }

    /// Adds it to a message that is written to a connection.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(self.stored.header().clone(), self.stored.line().clone());
    }

    /// Whether the value is in `text`.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        self.stored.is_in(text)
    }

    /// Whether the value is in headers or trailers.
    pub(super) fn is_in_headers(&self, headers: &HeaderMap) -> bool {
        headers
            .iter()
            .any(|(name, value)| self.is_in(name.as_str().as_bytes()) || self.is_in(value.as_bytes()))
    }

    /// Finds the value in a body that is read piece by piece.
    pub(super) fn guard(&self) -> EchoGuard {
        EchoGuard::new(Arc::clone(&self.stored))
    }

    /// Refuses a response whose body would be passed on in a form in which the value is not found.
    pub(super) fn check_coding(&self, headers: &HeaderMap, from: &Endpoint) -> Result<(), SecretError> {
        let values = headers.get_all(header::CONTENT_ENCODING);
        let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
        if values.iter().all(is_plain) {
            return Ok(());
        }
        Err(SecretError::Encoded { id: self.id.clone(), from: from.clone() })
    }

    /// The server has sent the value back.
    pub(super) fn echoed(&self, from: &Endpoint) -> SecretError {
        SecretError::Echoed { id: self.id.clone(), from: from.clone() }
    }

    /// The error, unless what it shows has the value in it. Libraries put what servers say into errors, such as the debug data
    /// of HTTP/2's GOAWAY.
    pub(super) fn hidden_from(&self, error: HttpError, from: &Endpoint) -> HttpError {
        let mut shown = format!("{error:?}");
        let causes = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
        for cause in causes {
            // Writing to a string does not fail.
            let _ = write!(shown, "\n{cause}\n{cause:?}");
        }
        if self.is_in(shown.as_bytes()) { self.echoed(from).into() } else { error }
    }
}
