//! The option `max_concurrent`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_registry::Options;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{Attempts, Log, Outcome, fine, functions, id, poll_once, read, task, task_with, wait};

/// How many calls of a function run, and how many ran at once at most.
#[derive(Clone, Default)]
struct Running {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// A call that runs until it is dropped.
struct Runs(Running);

impl Running {
    fn enter(&self) -> Runs {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Runs(self.clone())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Registers `app:f`, which takes as many milliseconds as its payload says.
fn register(functions: &Functions, preset: Options) -> Running {
    let running = Running::default();
    let counted = running.clone();
    let takes = move |ctx: CallContext, payload: Payload| {
        let runs = counted.enter();
        async move {
            let outcome = wait(ctx, payload).await;
            drop(runs);
            outcome
        }
    };
    functions.register(id("app:f"), preset, takes).unwrap();
    running
}

fn limited(limit: &Json, millis: u64) -> Task {
    task_with("app:f", &json!({ "max_concurrent": limit })).with_payload(json!(millis))
}

async fn all(functions: &Functions, tasks: impl IntoIterator<Item = Task>) -> Vec<Outcome> {
    let mut set = JoinSet::new();
    for task in tasks {
        let functions = functions.clone();
        set.spawn(async move { functions.root().call(task).await });
    }
    set.join_all().await
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may_and_the_others_wait() {
    let functions = functions();
    let running = register(&functions, Options::new());
    let begun = Instant::now();
    let outcomes = all(&functions, (0..10).map(|_| limited(&json!(3), 100))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(running.most.load(Ordering::SeqCst), 3);
    assert_eq!(begun.elapsed(), Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_run_in_the_order_they_came() {
    let (functions, log) = (functions(), Log::default());
    let seen = log.clone();
    let logs = move |_: CallContext, payload: Payload| {
        seen.push(payload.as_json().unwrap().to_string());
        async {
            sleep(Duration::from_millis(1)).await;
            Ok(fine())
        }
    };
    functions.register(id("app:f"), Options::new(), logs).unwrap();
    all(&functions, (0..20).map(|number| limited(&json!(2), number))).await;
    assert_eq!(log.take(), (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn each_function_has_its_own_limit() {
    let functions = functions();
    register(&functions, Options::new());
    functions.register(id("app:g"), Options::new(), wait).unwrap();
    let other = task_with("app:g", &json!({ "max_concurrent": 1 })).with_payload(json!(100));
    let begun = Instant::now();
    all(&functions, [limited(&json!(1), 100), other]).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn the_narrower_limit_of_call_and_function_holds() {
    for (preset, call, most) in [(2, 100, 2), (100, 2, 2), (1, 1, 1)] {
        let functions = functions();
        let running = register(&functions, read(&json!({ "max_concurrent": preset })));
        all(&functions, (0..6).map(|_| limited(&json!(call), 10))).await;
        assert_eq!(running.most.load(Ordering::SeqCst), most, "{preset} {call}");
    }
    let functions = functions();
    let preset = json!({ "max_concurrent": { "calls": 1, "max_waiting": 0 } });
    register(&functions, read(&preset));
    let outcomes =
        all(&functions, (0..3).map(|_| limited(&json!({ "calls": 9, "max_waiting": 9 }), 10))).await;
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        2,
        "nor can it wait where none may"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_narrows_its_own_limit_holds_up_nobody_else() {
    let functions = functions();
    let running = register(&functions, read(&json!({ "max_concurrent": 4 })));
    let root = functions.root();
    let shared = |millis| task("app:f").with_payload(json!(millis));
    let begun = Instant::now();
    let mut long = Box::pin(root.call(shared(1000)));
    let mut narrow = Box::pin(root.call(limited(&json!(1), 1000)));
    let mut waits = Box::pin(root.call(limited(&json!(1), 0)));
    for call in [&mut long, &mut narrow, &mut waits] {
        assert!(!poll_once(call).await);
    }
    assert_eq!(running.now.load(Ordering::SeqCst), 2, "only those that say 1 count for 1");
    root.call(shared(0)).await.unwrap();
    root.call(limited(&json!(2), 0)).await.unwrap();
    assert!(!poll_once(&mut waits).await);
    drop(narrow);
    waits.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waited for those that run");
    long.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_narrows_its_own_limit_keeps_that_of_the_function_too() {
    let functions = functions();
    let running = register(&functions, read(&json!({ "max_concurrent": 2 })));
    let tasks = (0..8).map(|number| {
        if number % 2 == 0 { limited(&json!(1), 100) } else { task("app:f").with_payload(json!(100)) }
    });
    let begun = Instant::now();
    let outcomes = all(&functions, tasks).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(running.most.load(Ordering::SeqCst), 2);
    // However they take turns, a place stays empty only where none but those that say 1 are left.
    assert!(begun.elapsed() <= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_in_any_line_than_the_function_lets() {
    let functions = functions();
    register(&functions, read(&json!({ "max_concurrent": { "calls": 2, "max_waiting": 1 } })));
    let root = functions.root();
    let shared = || task("app:f").with_payload(json!(100));
    let mut own = [(); 2].map(|()| Box::pin(root.call(limited(&json!(1), 100))));
    for call in &mut own {
        assert!(!poll_once(call).await);
    }
    let error = root.call(limited(&json!(1), 0)).await.unwrap_err();
    assert_eq!(error.message(), "no room within its limit of 1 at once, nor in its line of 1");
    // The one that waits for its own limit takes no room in the function's line.
    let mut others = [(); 2].map(|()| Box::pin(root.call(shared())));
    for call in &mut others {
        assert!(!poll_once(call).await);
    }
    let error = root.call(shared()).await.unwrap_err();
    assert_eq!(error.message(), "no room within its limit of 2 at once, nor in its line of 1");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_until_the_deadline_is_told_why() {
    let functions = functions();
    register(&functions, Options::new());
    let root = functions.root();
    let mut runs = Box::pin(root.call(limited(&json!(1), u64::MAX)));
    assert!(!poll_once(&mut runs).await);
    let begun = Instant::now();
    let error = root.with_timeout(Duration::from_secs(1)).call(limited(&json!(1), 0)).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
    assert_eq!(error.to_string(), "call of `app:f`: no room within its limit of 1 at once by its deadline");
    let options = json!({ "max_concurrent": 1, "timeout": "1s", "retry": 5 });
    let error = root.call(task_with("app:f", &options)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Exhausted, Duration::from_secs(2)));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_may_wait() {
    let functions = functions();
    register(&functions, Options::new());
    let root = functions.root();
    let limit = json!({ "calls": 1, "max_waiting": 1 });
    let (mut runs, mut waits) =
        (Box::pin(root.call(limited(&limit, 100))), Box::pin(root.call(limited(&limit, 100))));
    assert!(!poll_once(&mut runs).await);
    assert!(!poll_once(&mut waits).await);
    let begun = Instant::now();
    let error = root.call(limited(&limit, 0)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Exhausted, Duration::ZERO));
    assert_eq!(error.message(), "no room within its limit of 1 at once, nor in its line of 1");
    drop(waits);
    let (first, next) = tokio::join!(runs, root.call(limited(&limit, 0)));
    first.unwrap();
    next.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelling_and_stopping_end_the_wait() {
    let functions = functions();
    let running = register(&functions, Options::new());
    let token = CancellationToken::new();
    let (ctx, root) = (functions.root().with_cancellation(token.clone()), functions.root());
    let mut runs = Box::pin(root.call(limited(&json!(1), u64::MAX)));
    let mut cancelled = Box::pin(ctx.call(limited(&json!(1), 0)));
    let mut stopped = Box::pin(root.call(limited(&json!(1), 0)));
    for waits in [&mut runs, &mut cancelled, &mut stopped] {
        assert!(!poll_once(waits).await);
    }
    token.cancel();
    assert_eq!(cancelled.await.unwrap_err().kind(), ErrorKind::Cancelled);
    let (runs, stopped, report) = tokio::join!(runs, stopped, functions.stop(Instant::now()));
    assert_eq!(runs.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!((report.cancelled, report.running), (2, 0));
    assert_eq!(running.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_or_is_dropped_makes_room() {
    let functions = functions();
    let panics = async |_: CallContext, payload: Payload| match payload.as_json() {
        Some(Json::Null) => panic!("out of order"),
        Some(Json::Bool(true)) => std::future::pending().await,
        _ => Ok(fine()),
    };
    functions.register(id("app:f"), read(&json!({ "max_concurrent": 1 })), panics).unwrap();
    let root = functions.root();
    assert_eq!(root.call(task("app:f")).await.unwrap_err().kind(), ErrorKind::Internal);
    let mut dropped = Box::pin(root.call(task("app:f").with_payload(json!(true))));
    assert!(!poll_once(&mut dropped).await);
    drop(dropped);
    root.call(task("app:f").with_payload(json!(1))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_between_attempts_is_in_nobodys_way() {
    let functions = functions();
    let fails_once = |number| {
        if number == 1 { Err(CallError::new(ErrorKind::Unavailable, "not now")) } else { Ok(fine()) }
    };
    let attempts = Attempts::register(&functions, "app:f", read(&json!({ "max_concurrent": 1 })), fails_once);
    let retries = task_with("app:f", &json!({ "retry": { "attempts": 2, "jitter": 0 } }));
    let outcomes = all(&functions, [retries, task("app:f")]).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(attempts.times(), [0, 0, 100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_are_cancelled_anywhere_by_any_thread_lose_no_place() {
    const LIMIT: usize = 3;
    let functions = functions();
    let running = Running::default();
    let counted = running.clone();
    let yields = move |_: CallContext, payload: Payload| {
        let runs = counted.enter();
        let times = payload.as_json().unwrap().as_u64().unwrap();
        async move {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
            drop(runs);
            Ok(fine())
        }
    };
    functions.register(id("app:f"), read(&json!({ "max_concurrent": LIMIT })), yields).unwrap();
    let mut callers = JoinSet::new();
    for seed in 0..8 {
        let functions = functions.clone();
        callers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..300 {
                let token = CancellationToken::new();
                let ctx = functions.root().with_cancellation(token.clone());
                let task = task("app:f").with_payload(json!(random.u64(..5)));
                let call = tokio::spawn(async move { ctx.call(task).await });
                for _ in 0..random.u8(..8) {
                    tokio::task::yield_now().await;
                }
                match random.u8(..3) {
                    0 => token.cancel(),
                    1 => call.abort(),
                    _ => {}
                }
                let _ = call.await;
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert!(running.most.load(Ordering::SeqCst) <= LIMIT);
    assert_eq!(running.now.load(Ordering::SeqCst), 0);
    // All places are free again: as many as may run at once do.
    let (enters, mut entered) = mpsc::unbounded_channel();
    let holds = move |_: CallContext, _: Payload| {
        enters.send(()).unwrap();
        std::future::pending::<Outcome>()
    };
    drop(functions.replace(id("app:f"), read(&json!({ "max_concurrent": LIMIT })), holds).unwrap());
    let mut held = JoinSet::new();
    for _ in 0..LIMIT {
        let functions = functions.clone();
        held.spawn(async move { functions.root().call(task("app:f")).await });
    }
    for _ in 0..LIMIT {
        timeout(Duration::from_mins(1), entered.recv()).await.unwrap().unwrap();
    }
}
