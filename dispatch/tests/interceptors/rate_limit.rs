//! The option `rate_limit`.

use std::time::Duration;

use frame_dispatch::interceptor::{RATE_LIMIT, RateLimit};
use frame_dispatch::{CallError, ErrorKind, Functions, Task};
use frame_registry::Options;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{Attempts, fine, functions, poll_once, read, task, task_with};

fn limited(limit: &Json) -> Task {
    task_with("app:f", &json!({ "rate_limit": limit }))
}

/// Makes so many calls at once and waits for all.
async fn burst(functions: &Functions, calls: usize, task: impl Fn() -> Task) {
    let mut all = JoinSet::new();
    for _ in 0..calls {
        let (functions, task) = (functions.clone(), task());
        all.spawn(async move { functions.root().call(task).await.unwrap() });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn calls_begin_in_a_burst_and_then_evenly() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let limit = json!({ "calls": 10, "per": "1s", "burst": 3 });
    burst(&functions, 6, || limited(&limit)).await;
    assert_eq!(attempts.times(), [0, 0, 0, 100, 200, 300]);
    sleep(Duration::from_millis(250)).await;
    burst(&functions, 3, || limited(&limit)).await;
    assert_eq!(attempts.times()[6..], [550, 550, 600], "as many as the rest made good for");
}

#[tokio::test(start_paused = true)]
async fn by_default_the_burst_is_all_the_calls_of_the_time() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    burst(&functions, 6, || limited(&json!("4/s"))).await;
    assert_eq!(attempts.times(), [0, 0, 0, 0, 250, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_past_the_deadline_is_not_waited_for() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let call = |millis| {
        let ctx = functions.root().with_timeout(Duration::from_millis(millis));
        async move { ctx.call(limited(&json!("1/s"))).await }
    };
    call(1).await.unwrap();
    sleep(Duration::from_millis(400)).await;
    let begun = Instant::now();
    let error = call(600).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(600)));
    assert_eq!(
        error.to_string(),
        "call of `app:f`: over its rate limit of 1 in 1s; the next slot is in 600ms"
    );
    let (first, second) = tokio::join!(call(601), call(1600));
    first.unwrap();
    assert_eq!(
        second.unwrap_err().retry_after(),
        Some(Duration::from_millis(1600)),
        "behind the one that waits"
    );
    assert_eq!(attempts.times(), [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_call_can_say_how_long_it_waits_at_most() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let limit = |wait: &str| limited(&json!({ "calls": 1, "per": "1s", "max_wait": wait }));
    let root = functions.root();
    root.call(limit("0s")).await.unwrap();
    for wait in ["0s", "1s"] {
        let error = root.call(limit(wait)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Exhausted, Some(Duration::from_secs(1))));
    }
    root.call(limit("1001ms")).await.unwrap();
    assert_eq!(attempts.times(), [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_takes_no_slot() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let root = functions.root();
    let call = || Box::pin(root.call(limited(&json!("1/s"))));
    call().await.unwrap();
    let (mut first, mut second, mut third) = (call(), call(), call());
    for waits in [&mut first, &mut second, &mut third] {
        assert!(!poll_once(waits).await);
    }
    drop(second);
    sleep(Duration::from_millis(500)).await;
    drop(first);
    third.await.unwrap();
    assert_eq!(attempts.times(), [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_and_stopping_end_the_wait() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let limit = json!("1/h");
    functions.root().call(limited(&limit)).await.unwrap();
    let token = CancellationToken::new();
    let (ctx, root) = (functions.root().with_cancellation(token.clone()), functions.root());
    // The second of each waits for its turn, and the first for its slot.
    let mut cancelled = [Box::pin(ctx.call(limited(&limit))), Box::pin(ctx.call(limited(&limit)))];
    let mut stopped = [Box::pin(root.call(limited(&limit))), Box::pin(root.call(limited(&limit)))];
    for waits in cancelled.iter_mut().chain(&mut stopped) {
        assert!(!poll_once(waits).await);
    }
    token.cancel();
    for waits in cancelled {
        assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::Cancelled);
    }
    let [first, second] = stopped;
    let (first, second, stopped) = tokio::join!(first, second, functions.stop(Instant::now()));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!((stopped.cancelled, stopped.running), (2, 0));
    assert_eq!(attempts.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_function_has_its_own_calls() {
    let functions = functions();
    let first = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let second = Attempts::register(&functions, "app:g", Options::new(), |_| Ok(fine()));
    burst(&functions, 2, || limited(&json!("1/s"))).await;
    burst(&functions, 1, || task_with("app:g", &json!({ "rate_limit": "1/s" }))).await;
    assert_eq!((first.times(), second.times()), (vec![0, 1000], vec![1000]));
}

#[tokio::test(start_paused = true)]
async fn a_call_cannot_widen_the_limit_of_the_function() {
    let functions = functions();
    let attempts =
        Attempts::register(&functions, "app:f", read(&json!({ "rate_limit": "1/s" })), |_| Ok(fine()));
    burst(&functions, 3, || limited(&json!("1000/s"))).await;
    assert_eq!(attempts.times(), [0, 1000, 2000]);
    functions.root().call(task("app:f")).await.unwrap();
    assert_eq!(attempts.times()[3], 3000, "they all keep it together");
}

#[tokio::test(start_paused = true)]
async fn a_call_can_narrow_the_limit_for_those_that_say_the_same() {
    let functions = functions();
    let preset = json!({ "calls": 10, "per": "1s", "burst": 1 });
    let attempts =
        Attempts::register(&functions, "app:f", read(&json!({ "rate_limit": preset })), |_| Ok(fine()));
    let narrow = || burst(&functions, 3, || limited(&json!("1/s")));
    let wide = async {
        // Behind the narrow ones, which do not hold these up.
        tokio::task::yield_now().await;
        burst(&functions, 3, || task("app:f")).await;
    };
    tokio::join!(narrow(), wide);
    assert_eq!(attempts.times(), [0, 100, 200, 300, 1000, 2000]);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_behind_the_functions_limit_takes_no_slot_of_its_own() {
    let functions = functions();
    let preset = json!({ "rate_limit": { "calls": 1, "per": "1s" } });
    let attempts = Attempts::register(&functions, "app:f", read(&preset), |_| Ok(fine()));
    functions.root().call(task("app:f")).await.unwrap();
    let narrow = || limited(&json!("1/2s"));
    let root = functions.root();
    let mut gives_up = Box::pin(root.call(narrow()));
    assert!(!poll_once(&mut gives_up).await);
    drop(gives_up);
    root.call(narrow()).await.unwrap();
    assert_eq!(attempts.times(), [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_counts() {
    let functions = functions();
    let fails = |_| Err(CallError::new(ErrorKind::Unavailable, "not now"));
    let attempts = Attempts::register(&functions, "app:f", Options::new(), fails);
    let options = json!({ "retry": { "attempts": 3, "first_delay": "0s" }, "rate_limit": "1/s" });
    functions.root().call(task_with("app:f", &options)).await.unwrap_err();
    assert_eq!(attempts.times(), [0, 1000, 2000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Calls come at random and some give up at random; never do more begin than the limit lets, and none that could
    /// begin when it came was kept waiting.
    #[test]
    fn never_do_more_begin_than_may(
        burst in 1_u32..4,
        calls in prop::collection::vec((0_u64..60, 1_u64..80), 1..30),
    ) {
        const INTERVAL: u64 = 10;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut times = runtime.block_on(async {
            let functions = functions();
            let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
            let limit = RateLimit::new(100, Duration::from_secs(1)).unwrap().with_burst(burst).unwrap();
            let mut all = JoinSet::new();
            for (comes, gives_up) in calls {
                let functions = functions.clone();
                all.spawn(async move {
                    sleep(Duration::from_millis(comes)).await;
                    let task = task("app:f").with_options(Options::new().with(&RATE_LIMIT, limit));
                    let ctx = functions.root();
                    let _ = tokio::time::timeout(Duration::from_millis(gives_up), ctx.call(task)).await;
                });
            }
            while let Some(done) = all.join_next().await {
                done.unwrap();
            }
            // Whoever gave up is not in the way of the next.
            functions.root().call(limited(&json!({ "calls": 100, "per": "1s", "burst": burst }))).await.unwrap();
            attempts.times()
        });
        times.sort_unstable();
        for (index, first) in times.iter().enumerate() {
            for (count, last) in times[index..].iter().enumerate() {
                let may = u128::from(burst) + (last - first) / u128::from(INTERVAL);
                prop_assert!((count as u128) < may, "{times:?}");
            }
        }
    }
}
