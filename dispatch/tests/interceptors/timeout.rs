//! The option `timeout`.

use std::error::Error;
use std::time::Duration;

use frame_dispatch::{CallContext, CallError, ErrorKind, Payload};
use frame_registry::Options;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Attempts, functions, id, json_of, read, task, task_with, wait};

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_time_is_up() {
    let functions = functions();
    functions.register(id("app:wait"), Options::new(), wait).unwrap();
    let root = functions.root();
    let call = |millis: u64| {
        root.call(task_with("app:wait", &json!({ "timeout": "1s500ms" })).with_payload(json!(millis)))
    };
    assert_eq!(json_of(call(1499).await.unwrap()), 1499);
    let begun = Instant::now();
    let error = call(1501).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_millis(1500));
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Deadline, false));
    assert_eq!(error.to_string(), "call of `app:wait`: not done within its timeout of 1.5s");
    assert!(error.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_call_calls_has_to_be_done_by_then_too() {
    let functions = functions();
    functions.register(id("app:wait"), Options::new(), wait).unwrap();
    let nests = async |ctx: CallContext, payload: Payload| {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let left = ctx.deadline().unwrap() - Instant::now();
        assert_eq!(left, Duration::from_millis(600));
        ctx.call(task_with("app:wait", &json!({ "timeout": "1h" })).with_payload(payload)).await
    };
    functions.register(id("app:nest"), Options::new(), nests).unwrap();
    let root = functions.root();
    let call = |millis: u64| {
        root.call(task_with("app:nest", &json!({ "timeout": "1s" })).with_payload(json!(millis)))
    };
    call(599).await.unwrap();
    let error = call(601).await.unwrap_err();
    assert_eq!(error.to_string(), "call of `app:nest`: not done within its timeout of 1s");
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "call of `app:wait`: not done by its deadline", "which says where the time went");
}

#[tokio::test(start_paused = true)]
async fn it_narrows_the_deadline_and_never_widens_it() {
    let functions = functions();
    functions.register(id("app:wait"), Options::new(), wait).unwrap();
    let begun = Instant::now();
    let root = functions.root().with_timeout(Duration::from_secs(1));
    let error = root.call(task_with("app:wait", &json!({ "timeout": "2s" }))).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(error.to_string(), "call of `app:wait`: not done by its deadline");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_call_goes_over_that_of_the_function() {
    let functions = functions();
    functions.register(id("app:wait"), read(&json!({ "timeout": "1s" })), wait).unwrap();
    let root = functions.root();
    let error = root.call(task("app:wait").with_payload(json!(2000))).await.unwrap_err();
    assert_eq!(error.message(), "not done within its timeout of 1s");
    root.call(task_with("app:wait", &json!({ "timeout": "3s" })).with_payload(json!(2000))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_holds_for_all_attempts_and_the_waits_between() {
    let functions = functions();
    let unavailable = |_| Err(CallError::new(ErrorKind::Unavailable, "not now"));
    let attempts = Attempts::register(&functions, "app:f", Options::new(), unavailable);
    let options = json!({
        "timeout": "1s",
        "retry": { "attempts": 100, "first_delay": "300ms", "factor": 1, "jitter": 0 },
    });
    let error = functions.root().call(task_with("app:f", &options)).await.unwrap_err();
    assert_eq!(attempts.times(), [0, 300, 600, 900], "the next would begin past the deadline");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_function_is_not_taken_for_its_timeout() {
    let functions = functions();
    let late = |_| Err(CallError::new(ErrorKind::Deadline, "the upstream was late"));
    Attempts::register(&functions, "app:f", Options::new(), late);
    let error = functions.root().call(task_with("app:f", &json!({ "timeout": "1s" }))).await.unwrap_err();
    assert_eq!(error.message(), "the upstream was late");
}

#[tokio::test]
async fn a_timeout_too_long_to_count_is_none() {
    let functions = functions();
    functions.register(id("app:wait"), Options::new(), wait).unwrap();
    let task = task_with("app:wait", &json!({ "timeout": "500000000000years" })).with_payload(json!(0));
    functions.root().call(task).await.unwrap();
}
