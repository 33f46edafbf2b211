//! Why a call failed, or a function was not registered.

use std::error::Error;
use std::fmt;

use frame_registry::BoxError;

use crate::id::FunctionId;

/// What kind of failure a [`CallError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call was not one that the function takes.
    Invalid,
    /// There is no function of the id.
    NotFound,
    /// The frame was refused, so the function did not start.
    Denied,
    /// Something the function needs is not there just now.
    Unavailable,
    /// The function failed in a way that is its own fault.
    Internal,
}

/// A call that failed.
///
/// ```
/// use frame_dispatch::{CallError, ErrorKind};
///
/// let error = CallError::new(ErrorKind::Unavailable, "the queue is not connected");
/// assert!(error.is_retryable());
/// assert!(!CallError::invalid("a number is expected").is_retryable());
/// ```
#[derive(Debug)]
pub struct CallError {
    kind: ErrorKind,
    function: Option<FunctionId>,
    message: String,
    source: Option<BoxError>,
}

impl CallError {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, function: None, message: message.into(), source: None }
    }

    /// A call that the function does not take.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Keeps the cause, for [`source`](Error::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn not_found(function: &FunctionId) -> Self {
        Self::new(ErrorKind::NotFound, "no function is registered by this id").of(function)
    }

    pub(crate) fn denied(function: &FunctionId, cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Denied, "its frame was refused, so it did not start")
            .of(function)
            .with_source(cause)
    }

    pub(crate) fn panicked(message: &str) -> Self {
        Self::new(ErrorKind::Internal, format!("panicked: {message}"))
    }

    /// Says which function failed, unless a call inside it has said so.
    pub(crate) fn of(mut self, function: &FunctionId) -> Self {
        self.function.get_or_insert_with(|| function.clone());
        self
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The function that failed: the innermost, where one calls another.
    pub const fn function(&self) -> Option<&FunctionId> {
        self.function.as_ref()
    }

    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            write!(f, "call of `{function}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A function was not registered; the functions are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionsError {
    /// The id is taken.
    #[error("a function `{id}` is registered already; replace it, or remove it first")]
    AlreadyRegistered {
        /// The id.
        id: FunctionId,
    },
    /// There is nothing to replace.
    #[error("no function `{id}` is registered, so it cannot be replaced; register it")]
    NotRegistered {
        /// The id.
        id: FunctionId,
    },
}
