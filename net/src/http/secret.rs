//! The secret that a request carries, and what must not come back of it.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::error::HttpError;
#[cfg(feature = "websocket")]
use crate::audit::Recording;
use crate::endpoint::Endpoint;
use crate::secrets::{EchoGuard, SecretError, SecretId, StoredSecret};

/// The header of a secret on a request. It keeps the value that the secret had when the request began.
pub(crate) struct SecretHeader {
    id: SecretId,
    stored: Arc<StoredSecret>,
}

impl SecretHeader {
    pub(crate) const fn new(id: SecretId, stored: Arc<StoredSecret>) -> Self {
        Self { id, stored }
    }

    /// Which secret it is.
    pub(crate) const fn id(&self) -> &SecretId {
        &self.id
    }

    /// Whether this is the header `name`.
    pub(crate) fn is(&self, name: &HeaderName) -> bool {
        self.stored.header() == name
    }

    /// Adds it to a message that is written to a connection.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(self.stored.header().clone(), self.stored.line().clone());
    }

    /// Whether the value is in `text`.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        self.stored.is_in(text)
    }

    /// Whether the value is in headers or trailers.
    pub(crate) fn is_in_headers(&self, headers: &HeaderMap) -> bool {
        headers
            .iter()
            .any(|(name, value)| self.is_in(name.as_str().as_bytes()) || self.is_in(value.as_bytes()))
    }

    /// Finds the value in a body that is read piece by piece.
    pub(crate) fn guard(&self) -> EchoGuard {
        EchoGuard::new(Arc::clone(&self.stored))
    }

    /// Refuses a response whose body would be passed on in a form in which the value is not found.
    pub(crate) fn check_coding(&self, headers: &HeaderMap, from: &Endpoint) -> Result<(), SecretError> {
        let values = headers.get_all(header::CONTENT_ENCODING);
        let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
        if values.iter().all(is_plain) {
            return Ok(());
        }
        Err(SecretError::Encoded { id: self.id.clone(), from: from.clone() })
    }

    /// The server has sent the value back.
    pub(crate) fn echoed(&self, from: &Endpoint) -> SecretError {
        SecretError::Echoed { id: self.id.clone(), from: from.clone() }
    }

    /// The error, unless what it shows has the value in it. Libraries put what servers say into errors, such as the debug data
    /// of HTTP/2's GOAWAY.
    pub(crate) fn hidden_from(&self, error: HttpError, from: &Endpoint) -> HttpError {
        let mut shown = format!("{error:?}");
        let causes = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
        for cause in causes {
            // Writing to a string does not fail.
            let _ = write!(shown, "\n{cause}\n{cause:?}");
        }
        if self.is_in(shown.as_bytes()) { self.echoed(from).into() } else { error }
    }
}

/// A secret that was sent, and the record of the request that it was sent with.
#[cfg(feature = "websocket")]
pub(crate) struct SentSecret {
    pub(crate) secret: Arc<SecretHeader>,
    pub(crate) recording: Recording,
}
