//! What ends a call: cancellation and deadlines, inherited and only ever narrowed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::{CallContext, CallError, ErrorKind, FunctionId, Functions, Payload, Task};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

fn task(function: &str) -> Task {
    Task::new(id(function))
}

/// Says when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

/// Functions among which `app:forever` never ends, `app:nest` calls it, and `app:seen` gives its deadline in
/// milliseconds from now.
fn functions() -> (Functions, mpsc::UnboundedReceiver<&'static str>) {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let functions = Functions::new(app.build());
    let (events, seen) = mpsc::unbounded_channel();
    functions
        .register(id("app:forever"), Options::new(), move |_: CallContext, _| {
            let dropped = Dropped(events.clone());
            async move {
                dropped.0.send("started").unwrap();
                pending::<()>().await;
                drop(dropped);
                Ok(Payload::default())
            }
        })
        .unwrap();
    functions
        .register(id("app:nest"), Options::new(), async |ctx: CallContext, _| {
            ctx.call(task("app:forever")).await
        })
        .unwrap();
    functions
        .register(id("app:seen"), Options::new(), async |ctx: CallContext, _| {
            let left = ctx.deadline().map(|deadline| (deadline - Instant::now()).as_millis().to_string());
            Ok(Payload::from(json!(left)))
        })
        .unwrap();
    (functions, seen)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_nested_call_and_drops_it() {
    let (functions, mut seen) = functions();
    let began = Instant::now();
    let ctx = functions.root().with_timeout(Duration::from_secs(5));
    let error = ctx.call(task("app:nest")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Deadline, false));
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!((seen.recv().await, seen.recv().await), (Some("started"), Some("dropped")));
}

#[tokio::test]
async fn cancelling_reaches_the_innermost_function() {
    let (functions, mut seen) = functions();
    let token = CancellationToken::new();
    let ctx = functions.root().with_cancellation(token.clone());
    let (outcome, ()) = tokio::join!(ctx.call(task("app:nest")), async {
        assert_eq!(seen.recv().await, Some("started"));
        token.cancel();
        assert_eq!(seen.recv().await, Some("dropped"));
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(ctx.is_cancelled() && !functions.root().is_cancelled());
}

#[tokio::test]
async fn what_a_function_spawned_is_told() {
    let (functions, _seen) = functions();
    let (told, mut was_told) = mpsc::unbounded_channel();
    functions
        .register(id("app:spawn"), Options::new(), move |ctx: CallContext, _| {
            let told = told.clone();
            async move {
                tokio::spawn(async move {
                    ctx.cancelled().await;
                    told.send(ctx.call(task("app:seen")).await.unwrap_err().kind()).unwrap();
                });
                Ok(Payload::default())
            }
        })
        .unwrap();
    let token = CancellationToken::new();
    functions.root().with_cancellation(token.clone()).call(task("app:spawn")).await.unwrap();
    token.cancel();
    assert_eq!(was_told.recv().await, Some(ErrorKind::Cancelled));
}

#[tokio::test]
async fn any_of_several_tokens_cancels() {
    let (functions, _seen) = functions();
    for cancelled in 0..3 {
        let tokens: [CancellationToken; 3] = Default::default();
        let ctx = tokens.iter().fold(functions.root(), |ctx, token| ctx.with_cancellation(token.clone()));
        assert!(!ctx.is_cancelled());
        let (outcome, ()) = tokio::join!(ctx.call(task("app:forever")), async { tokens[cancelled].cancel() });
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(ctx.is_cancelled());
    }
}

#[tokio::test]
async fn a_hundred_thousand_tokens_are_as_good_as_one() {
    let (functions, _seen) = functions();
    let first = CancellationToken::new();
    let narrow = |ctx: CallContext, _| ctx.with_cancellation(CancellationToken::new());
    let ctx = (0..100_000).fold(functions.root().with_cancellation(first.clone()), narrow);
    let (outcome, ()) = tokio::join!(ctx.call(task("app:forever")), async { first.cancel() });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_narrowed_and_never_widened() {
    let (functions, _seen) = functions();
    let left = async |ctx: &CallContext| ctx.call(task("app:seen")).await.unwrap();
    let root = functions.root();
    assert_eq!(left(&root).await, json!(null).into());
    let one = root.with_timeout(Duration::from_secs(1));
    assert_eq!(left(&one).await, json!("1000").into());
    assert_eq!(left(&one.with_timeout(Duration::from_secs(9))).await, json!("1000").into());
    assert_eq!(left(&one.with_timeout(Duration::from_millis(3))).await, json!("3").into());
    assert_eq!(left(&one.with_timeout(Duration::MAX)).await, json!("1000").into());
    assert_eq!(left(&root.with_timeout(Duration::MAX)).await, json!(null).into());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_bounds_are_reached_does_not_start() {
    let (functions, mut seen) = functions();
    let token = CancellationToken::new();
    token.cancel();
    let cancelled = functions.root().with_cancellation(token);
    let late = functions.root().with_deadline(Instant::now());
    assert_eq!(cancelled.call(task("app:forever")).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(late.call(task("app:forever")).await.unwrap_err().kind(), ErrorKind::Deadline);
    assert!(seen.try_recv().is_err(), "the function never ran");
    let never = async { panic!("polled") };
    assert_eq!(late.bound(never).await.unwrap_err().kind(), ErrorKind::Deadline);
}

#[tokio::test]
async fn a_result_that_is_there_wins_over_a_cancellation_that_came_with_it() {
    let (functions, _seen) = functions();
    let token = CancellationToken::new();
    let cancel = token.clone();
    functions
        .register(id("app:last_words"), Options::new(), move |_: CallContext, _| {
            cancel.cancel();
            async { Ok(Payload::from(json!("done"))) }
        })
        .unwrap();
    let ctx = functions.root().with_cancellation(token);
    assert_eq!(ctx.call(task("app:last_words")).await.unwrap(), json!("done").into());
}

#[tokio::test]
async fn errors_say_which_function_and_why() {
    let (functions, _seen) = functions();
    functions
        .register(id("app:fails"), Options::new(), async |_: CallContext, _| -> Result<Payload, CallError> {
            let cause = std::io::Error::other("the disk is gone");
            Err(CallError::new(ErrorKind::Unavailable, "no answer").with_source(cause).with_retryable(false))
        })
        .unwrap();
    functions
        .register(id("app:outer"), Options::new(), async |ctx: CallContext, _| {
            ctx.call(task("app:fails")).await
        })
        .unwrap();
    let error = functions.root().call(task("app:outer")).await.unwrap_err();
    assert_eq!(error.to_string(), "call of `app:fails`: no answer");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
    let error = functions.root().call(task("app:absent")).await.unwrap_err();
    assert_eq!(error.to_string(), "call of `app:absent`: no function is registered by this id");
}

/// Random trees of calls, dropped at random points: nothing that a call holds outlives it.
#[tokio::test]
async fn dropping_a_call_drops_everything_inside_it() {
    let (functions, _seen) = functions();
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    functions
        .register(id("app:tree"), Options::new(), move |ctx: CallContext, payload: Payload| {
            let holds = Arc::clone(&holds);
            async move {
                let depth = payload.as_json().and_then(serde_json::Value::as_u64).unwrap_or_default();
                for _ in 0..2 {
                    tokio::task::yield_now().await;
                    if depth > 0 {
                        ctx.call(task("app:tree").with_payload(json!(depth - 1))).await?;
                    }
                }
                drop(holds);
                Ok(Payload::default())
            }
        })
        .unwrap();
    let root = functions.root();
    for polls in 0..70 {
        let mut call = Box::pin(root.call(task("app:tree").with_payload(json!(4))));
        for _ in 0..polls {
            let done = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
            if done.is_ready() {
                break;
            }
        }
        drop(call);
        // The test and the closure hold one each.
        assert_eq!(Arc::strong_count(&held), 2, "after {polls} polls");
    }
}

/// Ready at every poll, so that it uses up the budget that tokio gives a task, and timers and tokens say nothing to it.
async fn busy(_: CallContext, _: Payload) -> Result<Payload, CallError> {
    loop {
        tokio::task::consume_budget().await;
    }
}

#[tokio::test]
async fn a_function_that_uses_up_its_budget_meets_its_deadline() {
    let (functions, _seen) = functions();
    functions.register(id("app:busy"), Options::new(), busy).unwrap();
    let ctx = functions.root().with_timeout(Duration::from_millis(30));
    let call = tokio::time::timeout(Duration::from_mins(1), ctx.call(task("app:busy")));
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Deadline);
}

#[tokio::test]
async fn a_function_that_uses_up_its_budget_is_cancelled() {
    let (functions, _seen) = functions();
    functions.register(id("app:busy"), Options::new(), busy).unwrap();
    let token = CancellationToken::new();
    let ctx = functions.root().with_cancellation(token.clone());
    let call = tokio::time::timeout(Duration::from_mins(1), ctx.call(task("app:busy")));
    let (outcome, ()) = tokio::join!(call, async { token.cancel() });
    assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_deadline_at_the_end_of_time_is_none() {
    let (functions, _seen) = functions();
    functions
        .register(id("app:yields"), Options::new(), async |_: CallContext, payload: Payload| {
            tokio::task::yield_now().await;
            Ok(payload)
        })
        .unwrap();
    // The last instant that there is: every step that still fits, from the largest to the smallest.
    let seconds = (0..63).rev().map(|bit| Duration::from_secs(1 << bit));
    let nanos = (0..30).rev().map(|bit| Duration::from_nanos(1 << bit));
    let last = seconds.chain(nanos).fold(Instant::now(), |last, step| last.checked_add(step).unwrap_or(last));
    functions.root().with_deadline(last).call(task("app:yields")).await.unwrap();
}

#[tokio::test]
async fn a_function_that_panics_as_it_is_dropped_fails_alone() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let (functions, _seen) = functions();
    functions
        .register(id("app:bomb"), Options::new(), async |_: CallContext, _| {
            let _bomb = Bomb;
            pending::<Result<Payload, CallError>>().await
        })
        .unwrap();
    let ctx = functions.root().with_timeout(Duration::from_millis(5));
    let error = ctx.call(task("app:bomb")).await.unwrap_err();
    assert_eq!(error.to_string(), "call of `app:bomb`: panicked: boom");
}
