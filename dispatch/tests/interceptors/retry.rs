//! The option `retry`.

use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use frame_dispatch::interceptor::{RETRY, Retries, RetryPolicy};
use frame_dispatch::{Backoff, CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_registry::Options;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Attempts, Outcome, fine, functions, id, poll_once, read, task, task_with, wait};

fn unavailable() -> CallError {
    CallError::new(ErrorKind::Unavailable, "not now")
}

/// Succeeds with the attempt of this number.
fn from(success: usize) -> impl Fn(usize) -> Outcome + Send + Sync {
    move |attempt| if attempt < success { Err(unavailable()) } else { Ok(fine()) }
}

/// Functions whose delays are shortened by all of the jitter times `random`.
fn functions_with(random: f64) -> Functions {
    let functions = functions();
    assert!(functions.interceptors().unregister("retry"));
    functions.interceptors().register(Retries::with_random(move || random)).unwrap();
    functions
}

fn retry(policy: &Json) -> Task {
    task_with("app:f", &json!({ "retry": policy }))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_until_it_succeeds_each_time_with_a_fresh_frame() {
    let functions = functions_with(0.0);
    let attempts = Attempts::register(&functions, "app:f", Options::new(), from(4));
    functions.root().call(retry(&json!(10))).await.unwrap();
    let seen = attempts.seen();
    assert_eq!(attempts.numbers(), [1, 2, 3, 4]);
    assert!(seen.windows(2).all(|pair| pair[0].pid < pair[1].pid), "{seen:?}");
    assert_eq!(attempts.times(), [0, 100, 300, 700], "100 ms, then twice as long each time");
}

#[tokio::test(start_paused = true)]
async fn delays_are_shortened_by_the_jitter() {
    let functions = functions_with(1.0);
    let attempts = Attempts::register(&functions, "app:f", Options::new(), from(3));
    functions.root().call(retry(&json!({ "attempts": 3, "jitter": 0.5 }))).await.unwrap();
    assert_eq!(attempts.times(), [0, 50, 150]);
}

#[tokio::test(start_paused = true)]
async fn delays_do_not_grow_past_the_longest() {
    let functions = functions_with(0.0);
    let attempts = Attempts::register(&functions, "app:f", Options::new(), from(10));
    functions.root().call(retry(&json!(10))).await.unwrap();
    let times = attempts.times();
    let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
}

proptest! {
    #[test]
    fn delays_follow_the_formula(
        first in 0_u64..100_000,
        max in 0_u64..100_000,
        factor in 1.0..10.0_f64,
        jitter in 0.0..=1.0_f64,
        failed in 1_u32..40,
        random in 0.0..=1.0_f64,
    ) {
        let backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(max))
            .with_factor(factor)
            .with_jitter(jitter);
        let mut whole = Duration::from_millis(first).as_secs_f64();
        for _ in 1..failed {
            whole *= factor;
        }
        let whole = whole.min(Duration::from_millis(max).as_secs_f64());
        let delay = backoff.delay(failed, random).as_secs_f64();
        prop_assert!((delay - whole * (1.0 - jitter * random)).abs() < 1e-6 * (1.0 + whole), "{delay} of {whole}");
        prop_assert!(backoff.delay(failed, random) <= Duration::from_millis(max));
    }

    #[test]
    fn no_policy_makes_a_delay_that_cannot_be_counted(
        first in any::<Duration>(),
        max in any::<Duration>(),
        factor in 1.0..f64::MAX,
        failed in any::<u32>(),
        random in any::<f64>(),
    ) {
        let backoff = Backoff::new(first, max).with_factor(factor);
        prop_assert!(backoff.delay(failed, random).as_secs_f64() <= max.as_secs_f64());
        prop_assert_eq!(Backoff::new(Duration::ZERO, max).with_factor(factor).delay(failed, random), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn one_attempt_or_none_is_no_retry() {
    let functions = functions();
    let preset = read(&json!({ "retry": 3 }));
    let attempts = Attempts::register(&functions, "app:f", preset, |_| Err(unavailable()));
    for policy in [json!(0), json!(1), json!({ "attempts": 1 })] {
        let error = functions.root().call(retry(&policy)).await.unwrap_err();
        assert_eq!(error.message(), "not now");
    }
    assert_eq!(attempts.numbers(), [1, 1, 1]);
    functions.root().call(task("app:f")).await.unwrap_err();
    assert_eq!(
        attempts.seen().len(),
        6,
        "what the function is registered with holds where a call says nothing"
    );
}

/// How many attempts are made of 3 where each fails with this error.
async fn attempts_after(policy: Json, error: impl Fn() -> CallError + Send + Sync + 'static) -> usize {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), move |_| Err(error()));
    functions.root().call(retry(&policy)).await.unwrap_err();
    attempts.seen().len()
}

#[tokio::test(start_paused = true)]
async fn what_is_retryable_is_retried_and_nothing_else() {
    use ErrorKind::{Cancelled, Deadline, Denied, Exhausted, Internal, Invalid, NotFound, Unavailable};
    for kind in [Invalid, NotFound, Denied, Cancelled, Deadline, Internal] {
        assert_eq!(attempts_after(json!(3), move || CallError::new(kind, "no")).await, 1, "{kind}");
    }
    for kind in [Unavailable, Exhausted] {
        assert_eq!(attempts_after(json!(3), move || CallError::new(kind, "no")).await, 3, "{kind}");
        let never = move || CallError::new(kind, "no").with_retryable(false);
        assert_eq!(attempts_after(json!(3), never).await, 1, "{kind}");
    }
    let marked = || CallError::new(Internal, "no").with_retryable(true);
    assert_eq!(attempts_after(json!(3), marked).await, 3);
}

#[tokio::test(start_paused = true)]
async fn kinds_can_be_added_and_taken_away_and_taking_away_wins() {
    let internal = || CallError::new(ErrorKind::Internal, "no");
    let late = || CallError::new(ErrorKind::Deadline, "an upstream was late");
    let on = |kinds: &[&str]| json!({ "attempts": 3, "on": kinds });
    assert_eq!(attempts_after(on(&["internal", "deadline"]), internal).await, 3);
    assert_eq!(attempts_after(on(&["internal", "deadline"]), late).await, 3);
    assert_eq!(attempts_after(on(&["internal"]), unavailable).await, 3, "beside those that are anyway");
    assert_eq!(attempts_after(json!({ "attempts": 3, "except": ["unavailable"] }), unavailable).await, 1);
    let both = json!({ "attempts": 3, "on": ["internal"], "except": ["internal"] });
    assert_eq!(attempts_after(both, internal).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_own_time_is_up_or_that_was_cancelled_is_not_tried_again() {
    let functions = functions();
    let policy = json!({ "attempts": 3, "on": ["deadline", "cancelled"], "first_delay": "0s" });
    functions.register(id("app:f"), Options::new(), wait).unwrap();
    let begun = Instant::now();
    let error = functions.root().with_timeout(Duration::from_secs(1)).call(retry(&policy)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Deadline, Duration::from_secs(1)));
    assert_eq!(error.message(), "not done by its deadline");

    let token = CancellationToken::new();
    let ctx = functions.root().with_cancellation(token.clone());
    let mut call = Box::pin(ctx.call(retry(&policy)));
    assert!(!poll_once(&mut call).await);
    token.cancel();
    assert_eq!(call.await.unwrap_err().message(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_wait_between_attempts() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Err(unavailable()));
    let token = CancellationToken::new();
    let ctx = functions.root().with_cancellation(token.clone());
    let mut call =
        Box::pin(ctx.call(retry(&json!({ "attempts": 3, "first_delay": "1h", "max_delay": "1h" }))));
    assert!(!poll_once(&mut call).await);
    let begun = Instant::now();
    token.cancel();
    let error = call.await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Cancelled, Duration::ZERO));
    assert_eq!(error.source().unwrap().to_string(), "not now", "why it waited");
    assert_eq!(attempts.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_wait_between_attempts() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Err(unavailable()));
    let root = functions.root();
    let call = root.call(retry(&json!({ "attempts": 3, "first_delay": "1h", "max_delay": "1h" })));
    let (outcome, stopped) = tokio::join!(call, functions.stop(Instant::now() + Duration::from_secs(1)));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!((stopped.cancelled, stopped.running), (1, 0));
    assert_eq!(attempts.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_pass_the_deadline_is_not_begun() {
    let functions = functions_with(0.0);
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Err(unavailable()));
    let begun = Instant::now();
    let ctx = functions.root().with_timeout(Duration::from_millis(300));
    let error = ctx.call(retry(&json!(5))).await.unwrap_err();
    assert_eq!(attempts.times(), [0, 100]);
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(error.to_string(), "call of `app:f`: not now (the last of 2 attempts)");
}

#[tokio::test(start_paused = true)]
async fn the_last_error_says_how_many_attempts_there_were_and_keeps_the_rest() {
    let functions = functions();
    let fails = |attempt| {
        let error = CallError::new(ErrorKind::Internal, format!("attempt {attempt} failed"));
        Err(error.with_retryable(true).with_source("a cause"))
    };
    Attempts::register(&functions, "app:f", Options::new(), fails);
    let error = functions.root().call(retry(&json!(3))).await.unwrap_err();
    assert_eq!(error.to_string(), "call of `app:f`: attempt 3 failed (the last of 3 attempts)");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, true));
    assert_eq!(error.source().unwrap().to_string(), "a cause");

    let nests = async |ctx: CallContext, _: Payload| ctx.call(task("app:f")).await;
    functions.register(id("app:outer"), Options::new(), nests).unwrap();
    let error = functions.root().call(task_with("app:outer", &json!({ "retry": 2 }))).await.unwrap_err();
    assert_eq!(error.function(), Some(&id("app:f")));
    assert_eq!(
        error.to_string(),
        "call of `app:f`: attempt 5 failed (the last of 2 attempts at `app:outer`)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_payload_is_copied_only_where_another_attempt_may_follow() {
    let functions = functions();
    let bytes = vec![1_u8; 100];
    let given = bytes.as_ptr() as usize;
    let places = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = places.clone();
    let fails = move |_: CallContext, payload: Payload| {
        seen.lock().unwrap().push(payload.as_bytes().unwrap().as_ptr() as usize);
        async { Err(unavailable()) }
    };
    functions.register(id("app:f"), Options::new(), fails).unwrap();
    functions.root().call(retry(&json!(3)).with_payload(bytes)).await.unwrap_err();
    let is_given: Vec<_> = places.lock().unwrap().iter().map(|place| *place == given).collect();
    assert_eq!(is_given, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_again() {
    let functions = functions_with(0.0);
    functions.register(id("app:f"), Options::new(), wait).unwrap();
    let begun = Instant::now();
    let policy = json!({ "attempts": 2, "attempt_timeout": "1s" });
    let error = functions.root().call(retry(&policy)).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_millis(2100));
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Deadline, true));
    assert_eq!(
        error.to_string(),
        "call of `app:f`: an attempt was not done within its timeout of 1s (the last of 2 attempts)"
    );
    for policy in [
        json!({ "attempts": 1, "attempt_timeout": "1s" }),
        json!({ "attempts": 2, "attempt_timeout": "1s", "except": ["deadline"] }),
    ] {
        let begun = Instant::now();
        functions.root().call(retry(&policy)).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_can_say_when_to_try_again() {
    let functions = functions_with(0.0);
    let busy = |seconds| move |_| Err(unavailable().with_retry_after(Duration::from_secs(seconds)));
    let soon = Attempts::register(&functions, "app:f", Options::new(), busy(5));
    functions.root().call(retry(&json!(2))).await.unwrap_err();
    assert_eq!(soon.times(), [0, 5000]);
    let never = Attempts::register(&functions, "app:g", Options::new(), busy(11));
    let error = functions.root().call(task_with("app:g", &json!({ "retry": 2 }))).await.unwrap_err();
    assert_eq!(never.seen().len(), 1, "that is longer than the longest delay");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(11)));
}

#[test]
fn a_policy_is_checked_where_it_is_made() {
    let policy = || RetryPolicy::new(3);
    for factor in [0.99, -1.0, f64::NAN, f64::INFINITY] {
        let refused = policy().with_backoff(Backoff::default().with_factor(factor)).unwrap_err();
        assert!(refused.to_string().starts_with("invalid backoff factor"), "{factor}");
    }
    for jitter in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
        let refused = policy().with_backoff(Backoff::default().with_jitter(jitter)).unwrap_err();
        assert!(refused.to_string().starts_with("invalid backoff jitter"), "{jitter}");
    }
    policy().with_attempt_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((RetryPolicy::new(0).attempts(), RetryPolicy::new(7).attempts()), (1, 7));
    let shown = format!("{:?}", Options::new().with(&RETRY, policy()));
    assert!(shown.starts_with(r#"Options {"retry": RetryPolicy { attempts: 3, "#), "{shown}");
}
