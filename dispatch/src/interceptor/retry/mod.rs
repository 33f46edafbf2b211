//! Trying again what may succeed later.

mod policy;

use std::fmt;

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use tokio::time::{Instant, sleep};

pub use self::policy::RetryPolicy;

use super::timeout::call_within;
use super::{Interceptor, Next};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::task::Task;

/// How often the call is tried, when, and after which errors. In text the number of attempts, or a map: see
/// [`RetryPolicy`].
///
/// Every attempt has a frame and a PID of its own. A call that was cancelled, or whose time is up, is not tried again; nor
/// is one whose time would be up before the next attempt begins.
#[frame_option(name = "retry", dispatcher)]
pub static RETRY: FrameOption<RetryPolicy>;

/// Does what [`RETRY`] says: the interceptor `retry`, which is built in.
///
/// It is public so that where delays have to be the same each time it can be put in place of the one that is there:
///
/// ```
/// use frame_dispatch::Functions;
/// use frame_dispatch::interceptor::Retries;
/// use frame_registry::App;
///
/// let functions = Functions::new(App::builder().build());
/// functions.interceptors().remove("retry");
/// functions.interceptors().register(Retries::with_random(|| 0.5))?;
/// # Ok::<(), frame_dispatch::InterceptorError>(())
/// ```
pub struct Retries {
    random: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Retries {
    /// With the delays shortened at random.
    #[must_use]
    pub fn new() -> Self {
        Self::with_random(fastrand::f64)
    }

    /// With the delays shortened by what `random` gives: numbers from 0 to 1.
    #[must_use]
    pub fn with_random(random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { random: Box::new(random) }
    }

    async fn run(
        &self,
        policy: RetryPolicy,
        ctx: &CallContext,
        mut task: Task,
        next: Next<'_>,
    ) -> Result<Payload, CallError> {
        for attempt in 1..policy.attempts() {
            task.set_attempt(attempt);
            let error = match try_once(&policy, ctx, task.clone(), next).await {
                Ok(payload) => return Ok(payload),
                Err(error) => error,
            };
            if ctx.check().is_err() || !policy.retries(&error) {
                return Err(with_attempts(error, attempt, next));
            }
            let delay = policy.delay(attempt, (self.random)()).max(error.retry_after().unwrap_or_default());
            let left = ctx.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left <= delay) {
                return Err(with_attempts(error, attempt, next));
            }
            if let Err(ended) = ctx.bound(sleep(delay)).await {
                return Err(ended.with_source(error));
            }
        }
        task.set_attempt(policy.attempts());
        let last = try_once(&policy, ctx, task, next).await;
        last.map_err(|error| with_attempts(error, policy.attempts(), next))
    }
}

async fn try_once(
    policy: &RetryPolicy,
    ctx: &CallContext,
    task: Task,
    next: Next<'_>,
) -> Result<Payload, CallError> {
    match policy.timeout() {
        None => next.call(ctx, task).await,
        Some(timeout) => {
            let late = || {
                let message =
                    format!("an attempt was not done within its timeout of {:?}", timeout.duration());
                CallError::new(ErrorKind::Deadline, message).with_retryable(true)
            };
            call_within(timeout, ctx, task, next, late).await
        }
    }
}

/// The error of the last of several attempts.
fn with_attempts(error: CallError, attempts: u32, next: Next<'_>) -> CallError {
    if attempts <= 1 {
        return error;
    }
    match error.function() {
        // What failed is a function that it calls, which was not itself tried again.
        Some(inner) if inner != next.function() => {
            error.with_note(format_args!("the last of {attempts} attempts at `{}`", next.function()))
        }
        _ => error.with_note(format_args!("the last of {attempts} attempts")),
    }
}

impl Interceptor for Retries {
    fn name(&self) -> &'static str {
        "retry"
    }

    fn order(&self) -> i32 {
        200
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        const { &[RETRY.declared()] }
    }

    fn applies(&self, task: &Task) -> bool {
        task.options().get(&RETRY).is_some_and(RetryPolicy::is_on)
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        match task.options().get(&RETRY) {
            Some(policy) => Box::pin(self.run(policy.clone(), ctx, task, next)),
            None => next.call(ctx, task),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retries").finish_non_exhaustive()
    }
}
