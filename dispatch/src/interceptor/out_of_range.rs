//! What is wrong with a value that an option cannot have.

/// A value is not one that an option of a built-in interceptor can have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfRange {
    /// A timeout of zero.
    #[error("a timeout is longer than zero; for none, leave it out")]
    Timeout,
    /// A factor by which delays would shrink, or that is no number.
    #[error("`factor` is a finite number, 1 or more, not {0}")]
    Factor(f64),
    /// A jitter that is no share.
    #[error("`jitter` is a number from 0 to 1, not {0}")]
    Jitter(f64),
    /// A rate of no calls.
    #[error("a rate limit is of at least 1 call; for none, leave it out")]
    NoCalls,
    /// A rate of calls in no time.
    #[error("a rate limit is of calls in a time longer than zero")]
    NoTime,
    /// A burst of no calls.
    #[error("`burst` is at least 1: without a first call there is no second")]
    Burst,
    /// No calls at once.
    #[error("at least 1 call may run at once; for no limit, leave it out")]
    NoneAtOnce,
}
