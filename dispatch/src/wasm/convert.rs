//! Payloads and errors, as guests see them and as functions do.

use std::fmt::{self, Write};

use frame_registry::{Options, text};

use super::bindings::frame::function::types;
use super::json::{JsonBudget, JsonError};
use crate::error::{CallError, ErrorKind, WithCauses};
use crate::log::LONGEST;
use crate::payload::Payload;
use crate::script::clock;

/// A payload on its way to a guest. JSON goes as text.
pub(crate) fn to_guest(payload: Payload) -> types::Payload {
    let _slice = clock::enter_host();
    match payload {
        Payload::Json(json) => {
            types::Payload::Json(serde_json::to_string(&json).expect("a JSON value has a text"))
        }
        Payload::Bytes(bytes) => types::Payload::Bytes(bytes),
    }
}

/// The same, unless it would have more than `longest` bytes.
pub(crate) fn to_guest_within(payload: Payload, longest: usize) -> Result<types::Payload, TooLarge> {
    let _slice = clock::enter_host();
    match payload {
        Payload::Json(json) => {
            let mut text = Limited { text: String::new(), longest };
            write!(text, "{json}").map_err(|_full| TooLarge)?;
            Ok(types::Payload::Json(text.text))
        }
        Payload::Bytes(bytes) if bytes.len() > longest => Err(TooLarge),
        Payload::Bytes(bytes) => Ok(types::Payload::Bytes(bytes)),
    }
}

/// A payload is more than may be handed to a guest.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// Text that does not become longer than it may.
struct Limited {
    text: String,
    longest: usize,
}

impl Write for Limited {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > self.longest {
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

/// A payload that a guest gave. As JSON it may take `json_memory` bytes.
pub(crate) fn from_guest(payload: types::Payload, json_memory: usize) -> Result<Payload, JsonError> {
    from_guest_within(payload, &mut JsonBudget::new(json_memory))
}

/// The same, where there is one budget for several.
pub(crate) fn from_guest_within(
    payload: types::Payload,
    json: &mut JsonBudget,
) -> Result<Payload, JsonError> {
    Ok(match payload {
        types::Payload::Json(text) => Payload::Json(json.read(&text)?),
        types::Payload::Bytes(bytes) => Payload::Bytes(bytes),
    })
}

/// How many bytes of text the options of one call, or of one process, may be.
const LONGEST_OPTIONS: usize = 64 << 10;

/// The options that a guest gave for what `whom` names, and of which resolvers know that it did.
pub(crate) fn options(text: &str, whom: &str, json: &mut JsonBudget) -> Result<Options, CallError> {
    if text.len() > LONGEST_OPTIONS {
        return Err(CallError::invalid(format!(
            "the options for {whom} have {} bytes, and may have {LONGEST_OPTIONS}",
            text.len()
        )));
    }
    let json = json
        .read(text)
        .map_err(|error| error.into_error(&format!("the options for {whom} are"), ErrorKind::Invalid))?;
    Options::from_untrusted_json(&json).map_err(|error| CallError::invalid(WithCauses(&error).to_string()))
}

impl From<&CallError> for types::Error {
    fn from(error: &CallError) -> Self {
        Self { kind: error.kind().into(), message: error.to_string(), retryable: error.is_retryable() }
    }
}

impl From<types::Error> for CallError {
    fn from(error: types::Error) -> Self {
        // Errors are kept and logged, so they are not as long as the guest likes.
        let message = text::shorten(&error.message, LONGEST);
        Self::new(error.kind.into(), message).with_retryable(error.retryable)
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
