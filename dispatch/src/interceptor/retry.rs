//! Tries calls again that may succeed later.

use std::fmt;
use std::time::Duration;

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep};

use super::timeout::{DurationText, Timeout, call_within};
use super::{Interceptor, Next, OutOfRange};
use crate::backoff::Backoff;
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

/// The value of [`RETRY`]: how often a call is tried, when, and after which errors.
///
/// In text it is the number of attempts, or a map of what differs from [`new`](Self::new):
///
/// ```
/// use frame_dispatch::{Backoff, ErrorKind};
/// use frame_dispatch::interceptor::{RETRY, RetryPolicy};
/// use frame_registry::Options;
/// use serde_json::json;
/// use std::time::Duration;
///
/// let options = Options::from_json(&json!({ "retry": 3 }))?;
/// assert_eq!(options.get(&RETRY), Some(&RetryPolicy::new(3)));
///
/// let options = Options::from_json(&json!({ "retry": {
///     "attempts": 5,
///     "first_delay": "50ms",
///     "factor": 1.5,
///     "max_delay": "2s",
///     "jitter": 0.5,
///     "attempt_timeout": "1s",
///     "on": ["internal"],
///     "except": ["exhausted"],
/// } }))?;
/// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_factor(1.5).with_jitter(0.5);
/// let policy = RetryPolicy::new(5)
///     .with_backoff(backoff)?
///     .with_attempt_timeout(Duration::from_secs(1))?
///     .with_on([ErrorKind::Internal])
///     .with_except([ErrorKind::Exhausted]);
/// assert_eq!(options.get(&RETRY), Some(&policy));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    attempts: u32,
    backoff: Backoff,
    attempt_timeout: Option<Timeout>,
    on: Vec<ErrorKind>,
    except: Vec<ErrorKind>,
}

impl RetryPolicy {
    /// Creates a policy of at most this many attempts, the first included: 0 and 1 mean no retry. The delays between them are
    /// those of [`Backoff::default`]. Only [retryable](CallError::is_retryable) errors are retried.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts,
            backoff: Backoff::default(),
            attempt_timeout: None,
            on: Vec::new(),
            except: Vec::new(),
        }
    }

    /// Sets the delays between attempts. If an error [says](CallError::retry_after) when the call may succeed, the next attempt
    /// waits until then, or, if that is longer than the longest delay, is not made.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Backoff`] if a value of it is out of range.
    pub fn with_backoff(mut self, backoff: Backoff) -> Result<Self, OutOfRange> {
        backoff.check()?;
        self.backoff = backoff;
        Ok(self)
    }

    /// Sets the timeout of each attempt. An attempt that reaches it can be retried.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Timeout`] for zero.
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Result<Self, OutOfRange> {
        self.attempt_timeout = Some(Timeout::new(timeout)?);
        Ok(self)
    }

    /// Retries errors of these kinds, too, if they are not [retryable](CallError::is_retryable).
    #[must_use]
    pub fn with_on(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.on.extend(kinds);
        self
    }

    /// Retries no errors of these kinds. This wins over all else.
    #[must_use]
    pub fn with_except(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.except.extend(kinds);
        self
    }

    /// The highest number of attempts, which is at least 1.
    pub const fn attempts(&self) -> u32 {
        if self.attempts == 0 { 1 } else { self.attempts }
    }

    /// The timeout of each attempt.
    pub fn attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout.map(Timeout::duration)
    }

    /// Returns whether `error` is retried while there are attempts and time left.
    pub fn retries(&self, error: &CallError) -> bool {
        let kind = error.kind();
        let is_soon = error.retry_after().is_none_or(|delay| delay <= self.backoff.max());
        is_soon && !self.except.contains(&kind) && (self.on.contains(&kind) || error.is_retryable())
    }

    /// The delays between attempts.
    pub const fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Returns whether it changes anything about a call.
    const fn is_on(&self) -> bool {
        self.attempts > 1 || self.attempt_timeout.is_some()
    }
}

impl<'de> Deserialize<'de> for RetryPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RetryVisitor;

        impl<'de> Visitor<'de> for RetryVisitor {
            type Value = RetryPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a number of attempts, or a map such as { attempts = 3, first_delay = \"100ms\" }",
                )
            }

            fn visit_u64<E: Error>(self, attempts: u64) -> Result<RetryPolicy, E> {
                let attempts = u32::try_from(attempts);
                attempts.map(RetryPolicy::new).map_err(|_| E::custom("so many attempts cannot be counted"))
            }

            fn visit_i64<E: Error>(self, attempts: i64) -> Result<RetryPolicy, E> {
                let counted = u64::try_from(attempts);
                counted
                    .map_err(|_| E::invalid_value(Unexpected::Signed(attempts), &self))
                    .and_then(|attempts| self.visit_u64(attempts))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetryPolicy, A::Error> {
                let fields = RetryFields::deserialize(MapAccessDeserializer::new(map))?;
                RetryPolicy::try_from(fields).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(RetryVisitor)
    }
}

/// The policy as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryFields {
    attempts: u32,
    first_delay: Option<DurationText>,
    factor: Option<f64>,
    max_delay: Option<DurationText>,
    jitter: Option<f64>,
    attempt_timeout: Option<Timeout>,
    #[serde(default)]
    on: Vec<KindName>,
    #[serde(default)]
    except: Vec<KindName>,
}

impl TryFrom<RetryFields> for RetryPolicy {
    type Error = OutOfRange;

    fn try_from(fields: RetryFields) -> Result<Self, OutOfRange> {
        let standard = Backoff::default();
        let max = fields.max_delay.map_or(standard.max(), |text| text.0);
        // A longer one would be cut to `max` each time.
        let first = fields.first_delay.map_or(standard.first(), |text| text.0).min(max);
        let mut backoff = Backoff::new(first, max);
        if let Some(factor) = fields.factor {
            backoff = backoff.with_factor(factor);
        }
        if let Some(jitter) = fields.jitter {
            backoff = backoff.with_jitter(jitter);
        }
        let policy = Self::new(fields.attempts).with_backoff(backoff)?;
        Ok(Self {
            attempt_timeout: fields.attempt_timeout,
            on: fields.on.into_iter().map(|name| name.0).collect(),
            except: fields.except.into_iter().map(|name| name.0).collect(),
            ..policy
        })
    }
}

/// A kind by its name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct KindName(ErrorKind);

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let kind = ErrorKind::from_name(&name);
        kind.map(Self).ok_or_else(|| {
            let kinds: Vec<_> = ErrorKind::ALL.into_iter().map(ErrorKind::as_str).collect();
            format!("no kind of error is named {name:?}; there are {}", kinds.join(", "))
        })
    }
}

/// The interceptor `retry`, which is built in and applies [`RETRY`].
///
/// It is public so that a test can replace it by one whose delays are the same each time:
///
/// ```
/// use frame_dispatch::Functions;
/// use frame_dispatch::interceptor::Retries;
/// use frame_registry::App;
///
/// let functions = Functions::new(App::builder().build());
/// functions.interceptors().replace(Retries::with_random(|| 0.5))?;
/// # Ok::<(), frame_dispatch::InterceptorError>(())
/// ```
pub struct Retries {
    random: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Retries {
    /// Creates an interceptor that shortens the delays at random.
    #[must_use]
    pub fn new() -> Self {
        Self::with_random(fastrand::f64)
    }

    /// Creates an interceptor that shortens the delays by what `random` returns, which is from 0 to 1.
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
            let delay =
                policy.backoff.delay(attempt, (self.random)()).max(error.retry_after().unwrap_or_default());
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
    match policy.attempt_timeout {
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
