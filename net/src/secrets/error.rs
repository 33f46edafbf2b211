//! Why a request does not carry a secret.

use http::HeaderName;

use super::option::SecretId;
use crate::endpoint::Endpoint;

/// A request that names a secret was not sent, or what was answered is not passed on. None of these shows the value, or
/// which hosts a secret is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The frame does not have it. Whether the app has a secret of this id is not told.
    #[error("the secret `{id}` is not granted to this unit; add it to its option `secrets`")]
    NotGranted {
        /// The secret.
        id: SecretId,
    },
    /// The app has it no longer.
    #[error("the secret `{id}` is not configured any more")]
    NotFound {
        /// The secret.
        id: SecretId,
    },
    /// The URL is not `https` or `wss`.
    #[error("the secret `{id}` is sent over TLS only; use `https`, or `wss` for a WebSocket")]
    Cleartext {
        /// The secret.
        id: SecretId,
    },
    /// It is not for this server.
    #[error("the secret `{id}` may not be sent to {to}")]
    Host {
        /// The secret.
        id: SecretId,
        /// The server.
        to: Endpoint,
    },
    /// The request has the header itself, or a trailer of that name.
    #[error("the request has the header `{header}` itself, which carries the secret `{id}`; remove it")]
    HeaderGiven {
        /// The secret.
        id: SecretId,
        /// The header.
        header: HeaderName,
    },
    /// A server answers `TRACE` with the request.
    #[error("a `TRACE` request cannot carry the secret `{id}`: its response has the request in it")]
    Trace {
        /// The secret.
        id: SecretId,
    },
    /// The response has a content coding that is not decoded, so the value could not be found in it.
    #[error(
        "{from} answered a request with the secret `{id}` in a content coding that is not decoded, so that the secret would \
         not be found in its response"
    )]
    Encoded {
        /// The secret.
        id: SecretId,
        /// The server.
        from: Endpoint,
    },
    /// The value is in the response, or in an error about it.
    #[error("{from} sent the secret `{id}` back, so its response is not passed on")]
    Echoed {
        /// The secret.
        id: SecretId,
        /// The server.
        from: Endpoint,
    },
}
