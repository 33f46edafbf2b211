//! Why a call failed, or a function was not registered.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::{BoxError, IdError, text};

use crate::pid::FunctionId;

/// Cuts a message that a guest or a caller chose, which may be as long as memory allows.
pub(crate) fn shorten_message(message: &str) -> String {
    text::shorten(message, 4096).into_owned()
}

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
    /// Whoever called wants it no more, or the functions stopped.
    Cancelled,
    /// It was not done in time.
    Deadline,
    /// Something the function needs is not there just now.
    Unavailable,
    /// A limit was reached: of memory, of calls at once, of calls in a time, of the size of what is given.
    Exhausted,
    /// The function failed in a way that is its own fault.
    Internal,
}

impl ErrorKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Invalid,
        Self::NotFound,
        Self::Denied,
        Self::Cancelled,
        Self::Deadline,
        Self::Unavailable,
        Self::Exhausted,
        Self::Internal,
    ];

    /// The kind's name in text: `invalid`, `not_found`, `denied`, `cancelled`, `deadline`, `unavailable`, `exhausted`
    /// or `internal`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Internal => "internal",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call that failed. A clone has the same causes.
///
/// ```
/// use frame_dispatch::{CallError, ErrorKind};
///
/// let error = CallError::new(ErrorKind::Unavailable, "the queue is not connected");
/// assert!(error.is_retryable());
/// assert!(!CallError::invalid("a number is expected").is_retryable());
/// ```
#[derive(Debug, Clone)]
pub struct CallError {
    kind: ErrorKind,
    is_retryable: bool,
    retry_after: Option<Duration>,
    function: Option<FunctionId>,
    message: String,
    source: Option<Source>,
}

/// What caused a failed call.
type Source = Arc<dyn Error + Send + Sync>;

/// A failed call as the cause of another, which did not catch it. It may have several effects.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Cause(pub(crate) Arc<CallError>);

impl CallError {
    /// A failure of this kind. Of those, [`Unavailable`](ErrorKind::Unavailable) and [`Exhausted`](ErrorKind::Exhausted)
    /// can be worth a retry.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let is_retryable = matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted);
        let message = message.into();
        Self { kind, is_retryable, retry_after: None, function: None, message, source: None }
    }

    /// A call that the function does not take.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Says whether the same call may succeed later, where its kind does not tell.
    #[must_use]
    pub const fn with_retryable(mut self, is_retryable: bool) -> Self {
        self.is_retryable = is_retryable;
        self
    }

    /// Says that the same call may succeed, but not sooner than after this time: what a server says with `Retry-After`.
    #[must_use]
    pub const fn with_retry_after(mut self, delay: Duration) -> Self {
        self.is_retryable = true;
        self.retry_after = Some(delay);
        self
    }

    /// Keeps the cause, for [`source`](Error::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    pub(crate) fn not_found() -> Self {
        Self::new(ErrorKind::NotFound, "no function is registered by this id")
    }

    pub(crate) fn denied(cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Denied, "its frame was refused, so it did not start").with_source(cause)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    pub(crate) fn stopped() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled, because the functions were stopped")
    }

    pub(crate) fn terminated() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled, because the process was terminated")
    }

    pub(crate) fn stopping() -> Self {
        Self::new(ErrorKind::Unavailable, "not started, because the functions are stopping")
            .with_retryable(false)
    }

    pub(crate) fn deadline() -> Self {
        Self::new(ErrorKind::Deadline, "not done by its deadline")
    }

    pub(crate) fn panicked(message: String) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same of another kind.
    #[cfg(feature = "lua")]
    pub(crate) const fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with a message of bounded length, which may be made of what a guest gave.
    #[cfg(feature = "lua")]
    pub(crate) fn shortened(mut self) -> Self {
        self.message = shorten_message(&self.message);
        self
    }

    /// Says more, and leaves everything else as it is.
    pub(crate) fn with_note(mut self, note: fmt::Arguments<'_>) -> Self {
        self.message = format!("{} ({note})", self.message);
        self
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

    /// What went wrong, without the function and the cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The function that failed: the innermost, where one calls another.
    pub const fn function(&self) -> Option<&FunctionId> {
        self.function.as_ref()
    }

    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    /// The time before which the same call cannot succeed, if that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// An id that is none makes for a call that the function does not take.
impl From<IdError> for CallError {
    fn from(error: IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// A [`CallError`] in the box stays as it is. Any other error becomes the [`source`](Error::source) of a
/// [`CallError`] of the kind [`Internal`](ErrorKind::Internal).
impl From<BoxError> for CallError {
    fn from(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::new(ErrorKind::Internal, "returned an error").with_source(error),
        }
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

/// A chain of failed calls can be long. It is taken apart link by link: dropped as it is, one inside another, it would take
/// a stack as deep.
impl Drop for CallError {
    fn drop(&mut self) {
        let mut next = self.source.take();
        while let Some(mut source) = next {
            // Whoever else has it drops the rest.
            next = Arc::get_mut(&mut source).and_then(take_source);
        }
    }
}

fn take_source(error: &mut (dyn Error + Send + Sync + 'static)) -> Option<Source> {
    if let Some(error) = error.downcast_mut::<CallError>() {
        return error.source.take();
    }
    let shared = if error.is::<Cause>() {
        &mut error.downcast_mut::<Cause>()?.0
    } else {
        error.downcast_mut::<Arc<CallError>>()?
    };
    Arc::get_mut(shared)?.source.take()
}

/// An error and its causes, in one line. Of many causes the first few.
pub(crate) struct WithCauses<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 16;
        let Self(error) = self;
        write!(f, "{error}")?;
        let mut next = error.source();
        for _ in 0..MOST {
            let Some(cause) = next else { return Ok(()) };
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        if next.is_some() { f.write_str(": …") } else { Ok(()) }
    }
}

/// A function was not registered. The functions are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionsError {
    /// The id is taken.
    #[error("a function `{id}` is registered already; replace it, or unregister it first")]
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
    /// The functions are stopping, or have stopped.
    #[error("`{id}` is not registered, because the functions are stopping")]
    Stopping {
        /// The id.
        id: FunctionId,
    },
}
