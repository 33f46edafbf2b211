//! Payloads and errors, as guests see them and as functions do.

use super::bindings::frame::function::types;
use super::json::{self, Unreadable};
use super::log::LONGEST;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;

/// A payload on its way to a guest. JSON goes as text.
pub(crate) fn to_guest(payload: Payload) -> types::Payload {
    match payload {
        // Its `Display` writes what `serde_json::to_string` does, and cannot fail.
        Payload::Json(json) => types::Payload::Json(json.to_string()),
        Payload::Bytes(bytes) => types::Payload::Bytes(bytes),
    }
}

/// A payload that a guest gave. As JSON it may take `json_memory` bytes.
pub(crate) fn from_guest(payload: types::Payload, json_memory: usize) -> Result<Payload, Unreadable> {
    Ok(match payload {
        types::Payload::Json(text) => Payload::Json(json::read(&text, json_memory)?),
        types::Payload::Bytes(bytes) => Payload::Bytes(bytes),
    })
}

impl From<&CallError> for types::Error {
    fn from(error: &CallError) -> Self {
        Self { kind: error.kind().into(), message: error.to_string(), retryable: error.is_retryable() }
    }
}

impl From<types::Error> for CallError {
    fn from(mut error: types::Error) -> Self {
        // Errors are kept and logged, so they are not as long as the guest likes.
        error.message.truncate(error.message.floor_char_boundary(LONGEST));
        error.message.shrink_to_fit();
        Self::new(error.kind.into(), error.message).with_retryable(error.retryable)
    }
}

impl From<ErrorKind> for types::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Deadline => Self::Deadline,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Exhausted => Self::Exhausted,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

impl From<types::ErrorKind> for ErrorKind {
    fn from(kind: types::ErrorKind) -> Self {
        match kind {
            types::ErrorKind::Invalid => Self::Invalid,
            types::ErrorKind::NotFound => Self::NotFound,
            types::ErrorKind::Denied => Self::Denied,
            types::ErrorKind::Cancelled => Self::Cancelled,
            types::ErrorKind::Deadline => Self::Deadline,
            types::ErrorKind::Unavailable => Self::Unavailable,
            types::ErrorKind::Exhausted => Self::Exhausted,
            types::ErrorKind::Internal => Self::Internal,
        }
    }
}
