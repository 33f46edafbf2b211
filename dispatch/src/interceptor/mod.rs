//! What runs around every call: sees its task, calls the rest as often as it likes, and sees what comes of it.
//!
//! An [`Interceptor`] has a name, an order, and the dispatcher options that it reads; a call that sets none of them passes it
//! by at the cost of looking. Lower order is further outside. Built in are, each switched on by its option:
//!
//! | order | name | option | what it does |
//! |---:|---|---|---|
//! | 100 | `timeout` | [`TIMEOUT`] | ends the call, its retries and its waits included, in time |
//! | 200 | `retry` | [`RETRY`] | tries again what may succeed later |
//! | 300 | `rate_limit` | [`RATE_LIMIT`] | lets only so many calls begin in a time |
//! | 400 | `max_concurrent` | [`MAX_CONCURRENT`] | lets only so many calls run at once |
//! | 500 | `traced` | [`TRACED`] | puts every attempt in a span of `tracing` |
//!
//! So every attempt counts as a call where calls are limited, waiting for a limit takes from the timeout, and the span of an
//! attempt begins when it has waited.
//!
//! An interceptor can change a call's options; those further inside see that, and so do the resolvers. A dispatcher option that
//! is set, and that no interceptor reads, is refused: a limit that nobody keeps is no limit. So is one that an interceptor
//! which does not itself read it sets further inside than all that do, or changes there. A value of a type without `PartialEq`
//! counts as changed unless it is a copy of the one before. That an option is removed is not noticed: interceptors that change
//! options belong further outside than their readers.

mod chain;
mod max_concurrent;
mod rate_limit;
mod retry;
mod timeout;
mod traced;

pub use self::chain::{InterceptorError, Interceptors, Next};
pub use self::max_concurrent::{MAX_CONCURRENT, MaxConcurrent};
pub use self::rate_limit::{RATE_LIMIT, RateLimit};
pub use self::retry::{RETRY, Retries, RetryPolicy};
pub use self::timeout::{TIMEOUT, Timeout};
pub use self::traced::TRACED;

use frame_registry::DeclaredOption;
use futures_core::future::BoxFuture;

use crate::backoff::BackoffError;
use crate::context::CallContext;
use crate::error::CallError;
use crate::payload::Payload;
use crate::task::Task;

/// Something that runs around calls.
///
/// ```
/// use frame_dispatch::{BoxFuture, CallContext, CallError, Functions, Interceptor, Next, Payload, Task};
/// use frame_registry::{App, DeclaredOption, Options};
/// use serde_json::json;
///
/// /// Calls everything once more, to see that it gives the same.
/// struct Twice;
///
/// impl Interceptor for Twice {
///     fn name(&self) -> &'static str {
///         "twice"
///     }
///
///     fn order(&self) -> i32 {
///         50
///     }
///
///     fn intercept<'a>(
///         &'a self,
///         ctx: &'a CallContext,
///         task: Task,
///         next: Next<'a>,
///     ) -> BoxFuture<'a, Result<Payload, CallError>> {
///         Box::pin(async move {
///             let first = next.call(ctx, task.clone()).await?;
///             let second = next.call(ctx, task).await?;
///             (first == second).then_some(first).ok_or_else(|| CallError::invalid("it is not idempotent"))
///         })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let functions = Functions::new(App::builder().build());
/// functions.interceptors().register(Twice)?;
/// functions.register("app:one".parse()?, Options::new(), async |_: CallContext, _| Ok(Payload::from(json!(1))))?;
/// assert_eq!(functions.root().call(Task::new("app:one".parse()?)).await?, json!(1).into());
///
/// assert!(functions.interceptors().unregister("twice"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// What it is called, unique among the interceptors.
    fn name(&self) -> &'static str;

    /// Where it stands: the lowest is outermost. Ties stand in name order.
    fn order(&self) -> i32;

    /// The options that it reads, declared with `#[frame_option(…, dispatcher)]`. Asked once, when it is registered.
    fn options(&self) -> &[&'static DeclaredOption] {
        &[]
    }

    /// Whether it has to do with a call: what is asked only where one of its options is set, or where it reads none. If
    /// not, the call passes it by, which costs less than to have it do nothing.
    fn applies(&self, task: &Task) -> bool {
        let _ = task;
        true
    }

    /// Runs around a call. Whatever it waits for beside `next` it waits for in [`CallContext::bound`], so that the call can be
    /// cancelled.
    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>>;
}

/// A value is not one that an option of a built-in interceptor can have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfRange {
    /// A timeout of zero.
    #[error("a timeout is longer than zero; for none, leave it out")]
    Timeout,
    /// A value of a [`Backoff`](crate::Backoff).
    #[error(transparent)]
    Backoff(#[from] BackoffError),
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
