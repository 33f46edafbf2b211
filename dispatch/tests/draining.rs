//! Functions that are replaced, removed or stopped finish what they have begun.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, Function, FunctionId, Functions, FunctionsError,
    Interceptor, Next, Payload, Stopped, Task,
};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::json;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Says `version` once it may go on, and says when it is dropped.
struct Versioned {
    version: u32,
    entered: Arc<Notify>,
    may_go_on: Arc<Semaphore>,
    is_dropped: Arc<AtomicBool>,
}

impl Versioned {
    fn new(version: u32) -> Self {
        Self {
            version,
            entered: Arc::default(),
            may_go_on: Arc::new(Semaphore::new(0)),
            is_dropped: Arc::default(),
        }
    }
}

impl Function for Versioned {
    fn call(&self, _: CallContext, _: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async {
            self.entered.notify_one();
            drop(self.may_go_on.acquire().await);
            Ok(Payload::from(json!(self.version)))
        })
    }
}

impl Drop for Versioned {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_replaced_function_finishes_its_calls_and_is_then_dropped() {
    let functions = functions();
    let old = Versioned::new(1);
    let (entered, may_go_on, is_dropped) =
        (Arc::clone(&old.entered), Arc::clone(&old.may_go_on), Arc::clone(&old.is_dropped));
    functions.register(id("app:f"), Options::new(), old).unwrap();
    let root = functions.root();
    let (first, retired) = tokio::join!(root.call(Task::new(id("app:f"))), async {
        entered.notified().await;
        let new = Versioned::new(2);
        new.may_go_on.add_permits(1);
        let retired = functions.replace(id("app:f"), Options::new(), new).unwrap();
        assert_eq!(root.call(Task::new(id("app:f"))).await.unwrap(), json!(2).into());
        assert!(!is_dropped.load(Ordering::SeqCst));
        may_go_on.add_permits(1);
        retired
    });
    assert_eq!(first.unwrap(), json!(1).into());
    retired.drained().await;
    assert!(is_dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_removed_function_that_is_idle_is_dropped_at_once() {
    let functions = functions();
    let function = Versioned::new(1);
    let is_dropped = Arc::clone(&function.is_dropped);
    functions.register(id("app:f"), Options::new(), function).unwrap();
    let retired = functions.unregister(&id("app:f")).unwrap();
    assert!(is_dropped.load(Ordering::SeqCst));
    retired.drained().await;
    assert!(functions.unregister(&id("app:f")).is_none());
}

#[tokio::test]
async fn a_refused_replacement_leaves_the_function_and_its_options() {
    let functions = functions();
    let error = functions.replace(id("app:f"), Options::new(), Versioned::new(2)).unwrap_err();
    assert_eq!(error, FunctionsError::NotRegistered { id: id("app:f") });
    assert!(functions.ids().is_empty());
}

#[tokio::test]
async fn stopping_waits_for_what_was_admitted_and_what_that_calls() {
    let functions = functions();
    let may_go_on = Arc::new(Notify::new());
    let entered = Arc::new(Notify::new());
    functions
        .register(id("app:inner"), Options::new(), async |_: CallContext, _: Payload| {
            Ok(json!("inner").into())
        })
        .unwrap();
    let (go_on, enter) = (Arc::clone(&may_go_on), Arc::clone(&entered));
    functions
        .register(id("app:outer"), Options::new(), move |ctx: CallContext, _| {
            let (go_on, enter) = (Arc::clone(&go_on), Arc::clone(&enter));
            async move {
                enter.notify_one();
                go_on.notified().await;
                ctx.call(Task::new(id("app:inner"))).await
            }
        })
        .unwrap();
    let root = functions.root();
    let (outcome, stopped, ()) = tokio::join!(biased; root.call(Task::new(id("app:outer"))), functions.stop(soon()), async {
        entered.notified().await;
        let refused = root.call(Task::new(id("app:inner"))).await.unwrap_err();
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Unavailable, false));
        let refused = functions.register(id("app:new"), Options::new(), Versioned::new(1)).unwrap_err();
        assert_eq!(refused, FunctionsError::Stopping { id: id("app:new") });
        may_go_on.notify_one();
    });
    assert_eq!(outcome.unwrap(), json!("inner").into());
    assert_eq!(stopped, Stopped { cancelled: 0, running: 0 });
    assert!(functions.ids().is_empty(), "what is stopped holds nothing");
}

#[tokio::test(start_paused = true)]
async fn stopping_cancels_what_is_left_at_the_deadline() {
    let functions = functions();
    functions
        .register(id("app:forever"), Options::new(), async |_: CallContext, _| {
            pending::<Result<Payload, CallError>>().await
        })
        .unwrap();
    let root = functions.root();
    let began = Instant::now();
    let deadline = began + Duration::from_secs(7);
    let (first, second, stopped) = tokio::join!(
        biased;
        root.call(Task::new(id("app:forever"))),
        root.call(Task::new(id("app:forever"))),
        functions.stop(deadline),
    );
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(
        second.unwrap_err().to_string(),
        "call of `app:forever`: cancelled, because the functions were stopped"
    );
    assert_eq!(stopped, Stopped { cancelled: 2, running: 0 });
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    assert_eq!(functions.stop(deadline).await, Stopped { cancelled: 0, running: 0 }, "again is no harm");
}

#[test]
fn a_call_that_blocks_its_thread_is_reported() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let functions = functions();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let entered = Arc::new(Notify::new());
    let enter = Arc::clone(&entered);
    functions
        .register(id("app:blocks"), Options::new(), move |_: CallContext, _| {
            enter.notify_one();
            let _ = left.lock().unwrap().recv();
            async { Ok(Payload::default()) }
        })
        .unwrap();
    let root = functions.root();
    let call = runtime.spawn(async move { root.call(Task::new(id("app:blocks"))).await.map(drop) });
    let stopped = runtime.block_on(async {
        entered.notified().await;
        functions.stop(Instant::now()).await
    });
    assert_eq!(stopped, Stopped { cancelled: 1, running: 1 });
    drop(leave);
    // It was done at its first poll, so it has a result.
    runtime.block_on(call).unwrap().unwrap();
}

/// Hands its `CallContext` to whoever wants it, and ends.
fn leaks(functions: &Functions) -> mpsc::UnboundedReceiver<CallContext> {
    let (leaked, leak) = mpsc::unbounded_channel();
    functions
        .register(id("app:leaks"), Options::new(), move |ctx: CallContext, payload: Payload| {
            leaked.send(ctx).unwrap();
            async { Ok(payload) }
        })
        .unwrap();
    leak
}

#[tokio::test]
async fn stopping_waits_for_a_call_whose_outer_call_has_ended() {
    let functions = functions();
    let mut leak = leaks(&functions);
    let slow = Versioned::new(1);
    let (entered, may_go_on) = (Arc::clone(&slow.entered), Arc::clone(&slow.may_go_on));
    functions.register(id("app:slow"), Options::new(), slow).unwrap();
    functions.root().call(Task::new(id("app:leaks"))).await.unwrap();
    let ctx = leak.recv().await.unwrap();
    let (outcome, stopped, ()) = tokio::join!(biased; ctx.call(Task::new(id("app:slow"))), functions.stop(soon()), async {
        entered.notified().await;
        may_go_on.add_permits(1);
    });
    assert_eq!(outcome.unwrap(), json!(1).into());
    assert_eq!(stopped, Stopped { cancelled: 0, running: 0 });
}

#[tokio::test]
async fn a_call_whose_outer_call_has_ended_is_refused_once_stopped() {
    let functions = functions();
    let mut leak = leaks(&functions);
    functions.root().call(Task::new(id("app:leaks"))).await.unwrap();
    let ctx = leak.recv().await.unwrap();
    functions.stop(Instant::now()).await;
    assert_eq!(ctx.call(Task::new(id("app:leaks"))).await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_function_that_stops_the_functions_is_cancelled_and_they_are_dropped() {
    let functions = functions();
    let of_itself = functions.clone();
    functions
        .register(id("app:stops"), Options::new(), move |_: CallContext, payload: Payload| {
            let functions = of_itself.clone();
            async move {
                functions.stop(Instant::now()).await;
                Ok(payload)
            }
        })
        .unwrap();
    let error = functions.root().call(Task::new(id("app:stops"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(functions.ids().is_empty());
}

/// An interceptor that makes a call of its own, as one that asks for permission does.
struct Asks(Arc<Notify>);

impl Interceptor for Asks {
    fn name(&self) -> &'static str {
        "asks"
    }

    fn order(&self) -> i32 {
        50
    }

    fn applies(&self, task: &Task) -> bool {
        task.function().as_str() == "app:f"
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            self.0.notified().await;
            ctx.call(Task::new(id("app:asked"))).await?;
            next.call(ctx, task).await
        })
    }
}

#[tokio::test]
async fn what_an_interceptor_calls_is_part_of_the_call_that_was_admitted() {
    let functions = functions();
    let may_ask = Arc::new(Notify::new());
    functions.interceptors().register(Asks(Arc::clone(&may_ask))).unwrap();
    for name in ["app:asked", "app:f"] {
        functions
            .register(id(name), Options::new(), async |_: CallContext, payload: Payload| Ok(payload))
            .unwrap();
    }
    let root = functions.root();
    let (outcome, stopped, ()) = tokio::join!(
        biased;
        root.call(Task::new(id("app:f"))),
        functions.stop(soon()),
        async { may_ask.notify_one() },
    );
    outcome.unwrap();
    assert_eq!(stopped, Stopped { cancelled: 0, running: 0 });
}

/// Calls on several threads while the functions stop: each is either refused or done before `stop` returns.
#[test]
fn no_call_runs_once_stopping_has_returned() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    for _ in 0..200 {
        let functions = functions();
        let running = Arc::new(AtomicUsize::new(0));
        let inside = Arc::clone(&running);
        functions
            .register(id("app:f"), Options::new(), move |_: CallContext, _| {
                let inside = Arc::clone(&inside);
                async move {
                    inside.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Ok(Payload::default())
                }
            })
            .unwrap();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let root = functions.root();
                runtime.spawn(async move {
                    loop {
                        if let Err(error) = root.call(Task::new(id("app:f"))).await {
                            return error.kind();
                        }
                    }
                })
            })
            .collect();
        let stopped = runtime.block_on(functions.stop(soon()));
        assert_eq!(stopped, Stopped { cancelled: 0, running: 0 });
        assert_eq!(running.load(Ordering::SeqCst), 0);
        for caller in callers {
            assert_eq!(runtime.block_on(caller).unwrap(), ErrorKind::Unavailable);
        }
    }
}

/// A resolver puts the entry's option on the frame; the function says what it was registered with.
mod churn {
    use std::convert::Infallible;

    use frame_registry::{FrameOption, Key, Pair, ResolveContext, frame_option, frame_resolver};

    use super::*;

    #[frame_option(name = "version")]
    static VERSION: FrameOption<u64>;
    static VERSION_OF: Key<u64> = Key::new("version");

    #[frame_resolver(order = 1, covers(VERSION))]
    #[allow(clippy::unnecessary_wraps, reason = "a resolver may fail")]
    fn version(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(options.pair(&VERSION, &VERSION_OF))
    }

    /// While several threads replace and remove it, a call finds a function with its own options, or none.
    #[test]
    fn a_function_and_its_options_are_replaced_as_one() {
        let functions = functions();
        let versions = AtomicUsize::new(0);
        let alive = Arc::new(());
        let next = || {
            let version = versions.fetch_add(1, Ordering::Relaxed) as u64;
            let alive = Arc::clone(&alive);
            let function = move |ctx: CallContext, _: Payload| {
                let is_alive = Arc::strong_count(&alive) > 1;
                let on_frame = ctx.frame().get(&VERSION_OF).copied();
                async move { Ok(Payload::from(json!(is_alive && on_frame == Some(version)))) }
            };
            (Options::new().with(&VERSION, version), function)
        };
        let is_done = AtomicBool::new(false);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Relaxed) {
                        let (options, function) = next();
                        let _ = functions.register(id("app:f"), options, function);
                        let (options, function) = next();
                        let _ = functions.replace(id("app:f"), options, function);
                        functions.unregister(&id("app:f"));
                    }
                });
            }
            let mut found = 0;
            let root = functions.root();
            while found < 2000 {
                match runtime.block_on(root.call(Task::new(id("app:f")))) {
                    Ok(matches) => assert_eq!(matches, json!(true).into()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                }
                found += usize::from(functions.options(&id("app:f")).is_some());
            }
            is_done.store(true, Ordering::Relaxed);
        });
        functions.unregister(&id("app:f"));
        assert_eq!(Arc::strong_count(&alive), 1, "no function is left");
    }
}
