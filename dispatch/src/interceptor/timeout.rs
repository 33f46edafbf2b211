//! Limits the time that a call takes.

use std::fmt;
use std::time::Duration;

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Interceptor, Next, OutOfRange};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::task::Task;

/// How long the call may take in all: every attempt at it, and every wait between them or for a limit. What it calls has
/// to be done by then too. In text a duration with its unit, such as `"2s"`, `"500ms"` or `"1m30s"`.
#[frame_option(name = "timeout", dispatcher)]
pub static TIMEOUT: FrameOption<Timeout>;

/// The value of [`TIMEOUT`]: a time longer than zero.
///
/// ```
/// # use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
/// use frame_dispatch::interceptor::{TIMEOUT, Timeout};
/// use frame_registry::{App, Options};
/// use serde_json::json;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// # let functions = Functions::new(App::builder().build());
/// # functions.register("app:wait".parse()?, Options::new(), async |_: CallContext, _: Payload| {
/// #     std::future::pending::<Result<Payload, CallError>>().await
/// # })?;
/// let options = Options::new().with(&TIMEOUT, Timeout::new(Duration::from_secs(2))?);
/// let error = functions.root().call(Task::new("app:wait".parse()?).with_options(options)).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Deadline);
/// assert_eq!(error.to_string(), "call of `app:wait`: not done within its timeout of 2s");
///
/// let same = Options::from_json(&json!({ "timeout": "2s" }))?;
/// # assert_eq!(same.get(&TIMEOUT).unwrap().duration(), Duration::from_secs(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "DurationText")]
pub struct Timeout(Duration);

impl Timeout {
    /// A timeout.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Timeout`] for zero.
    pub const fn new(duration: Duration) -> Result<Self, OutOfRange> {
        if duration.is_zero() { Err(OutOfRange::Timeout) } else { Ok(Self(duration)) }
    }

    /// How long.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<DurationText> for Timeout {
    type Error = OutOfRange;

    fn try_from(text: DurationText) -> Result<Self, OutOfRange> {
        Self::new(text.0)
    }
}

/// A duration that is read from text such as `2s`, `500ms` or `1m30s`.
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration with its unit, such as "2s", "500ms" or "1m30s""#)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DurationText, E> {
                parse_duration(text).map(DurationText).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(DurationVisitor)
    }
}

/// Parses a number with its unit, such as `2s`, or several of them.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!(r#"{text:?} is not a duration such as "2s", "500ms" or "1m30s": {error}"#))
}

/// Keeps [`TIMEOUT`].
#[derive(Debug)]
pub(super) struct Timeouts;

impl Interceptor for Timeouts {
    fn name(&self) -> &'static str {
        "timeout"
    }

    fn order(&self) -> i32 {
        100
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        const { &[TIMEOUT.declared()] }
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        match task.options().get(&TIMEOUT) {
            Some(&timeout) => Box::pin(call_within(timeout, ctx, task, next, move || {
                let message = format!("not done within its timeout of {:?}", timeout.duration());
                CallError::new(ErrorKind::Deadline, message)
            })),
            None => next.call(ctx, task),
        }
    }
}

/// Goes on with a call for as long as `timeout`; past that it fails with `late`.
pub(super) async fn call_within(
    timeout: Timeout,
    ctx: &CallContext,
    task: Task,
    next: Next<'_>,
    late: impl FnOnce() -> CallError,
) -> Result<Payload, CallError> {
    let narrowed = ctx.with_timeout(timeout.duration());
    let error = match narrowed.bound(next.call(&narrowed, task)).await.flatten() {
        Ok(payload) => return Ok(payload),
        Err(error) => error,
    };
    // A function can fail this way before its own time is up, and the time of its caller can be up first.
    let is_late = error.kind() == ErrorKind::Deadline
        && narrowed.deadline() != ctx.deadline()
        && narrowed.check().is_err_and(|ended| ended.kind() == ErrorKind::Deadline);
    if !is_late {
        return Err(error);
    }
    // Which of the functions that it calls took the time is worth to know.
    Err(if error.function().is_some() { late().with_source(error) } else { late() })
}
