//! Calls that are ended: by their deadline, by whoever cancels them, by dropping them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use frame_dispatch::wasm::{WasmConfig, WasmFunction};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_registry::Options;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::common::{AGES, GATE, add, add_guest, assert_works, call, functions, id, request, run, runs};

const SHORT: Duration = Duration::from_millis(50);

/// Guests that never end by themselves, each somewhere else.
fn endless(functions: &Functions, config: WasmConfig) -> Vec<(Task, WasmFunction)> {
    let spins = add(functions, "app:spins", &runs("(loop $l (br $l)) unreachable"), config);
    let starts = format!("(start $s) (func $s (loop $l (br $l))) {}", run("unreachable"));
    let starts = add(functions, "app:starts", &frame_guests::component(&starts), config);
    let waits = add(functions, "app:waits", &frame_guests::guest("remember"), config);
    let nests = add(functions, "app:call", &frame_guests::guest("call"), config);
    let never = Arc::new(Semaphore::new(0));
    vec![
        (Task::new(id("app:spins")), spins),
        (Task::new(id("app:starts")), starts),
        (Task::new(id("app:waits")).with_payload(vec![1]).with_pair(GATE.pair(never)), waits),
        (Task::new(id("app:call")).with_payload(request("app:spins", "", "1")), nests),
    ]
}

/// Has the guests running, and then `end`s their calls.
async fn assert_ends(config: WasmConfig, kind: ErrorKind, narrow: impl Fn(CallContext) -> CallContext) {
    let functions = functions();
    for (task, function) in endless(&functions, config) {
        for _ in 0..3 {
            let ctx = narrow(functions.root());
            let ended = timeout(AGES, ctx.call(task.clone())).await.expect("it ends");
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let statistics = function.statistics();
            assert_eq!((statistics.running, statistics.built), (0, statistics.discarded));
        }
        assert_works(&functions).await;
    }
}

#[tokio::test]
async fn its_time_ends_a_call_wherever_it_is() {
    assert_ends(WasmConfig::default().with_time(SHORT), ErrorKind::Deadline, |ctx| ctx).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_wherever_it_is() {
    assert_ends(WasmConfig::default().with_time(AGES * 2), ErrorKind::Deadline, |ctx| {
        ctx.with_timeout(SHORT)
    })
    .await;
}

#[tokio::test]
async fn a_deadline_is_only_ever_narrowed() {
    assert_ends(WasmConfig::default().with_time(SHORT), ErrorKind::Deadline, |ctx| {
        ctx.with_timeout(AGES * 2)
    })
    .await;
}

#[tokio::test]
async fn cancelling_ends_a_call_wherever_it_is() {
    assert_ends(WasmConfig::default().with_time(AGES * 2), ErrorKind::Cancelled, |ctx| {
        let token = CancellationToken::new();
        tokio::spawn({
            let token = token.clone();
            async move {
                tokio::time::sleep(SHORT).await;
                token.cancel();
            }
        });
        ctx.with_cancellation(token)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_call_releases_all_that_it_has() {
    let functions = functions();
    for (task, function) in endless(&functions, WasmConfig::default().with_time(AGES * 2)) {
        // More often than there are instances.
        for _ in 0..300 {
            let root = functions.root();
            let mut call = pin!(root.call(task.clone()));
            // Until it yields for the first time, somewhere in the guest.
            poll_fn(|waker| {
                assert!(call.as_mut().poll(waker).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(function.statistics().running, 1);
        }
        let statistics = function.statistics();
        assert_eq!((statistics.running, statistics.built, statistics.discarded), (0, 300, 300));
        assert_works(&functions).await;
    }
}

#[tokio::test]
async fn a_guest_that_spins_lets_others_run_on_its_thread() {
    let functions = functions();
    add(
        &functions,
        "app:spins",
        &runs("(loop $l (br $l)) unreachable"),
        WasmConfig::default().with_time(AGES),
    );
    add_guest(&functions, "echo");
    let token = CancellationToken::new();
    let ctx = functions.root().with_cancellation(token.clone());
    let spinning: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let ctx = ctx.clone();
                async move { ctx.call(Task::new(id("app:spins"))).await }
            })
        })
        .collect();
    for number in 0..20 {
        let payload = Payload::from(json!(number));
        assert_eq!(call(&functions, "app:echo", payload.clone()).await.unwrap(), payload);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    token.cancel();
    for spinning in spinning {
        assert_eq!(spinning.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    }
}

/// It polls as many timers that are due as a task may without letting others run, again and again.
#[tokio::test]
async fn a_guest_that_uses_up_its_budget_is_ended() {
    const TIMERS: u32 = 256;
    let functions = functions();
    let body = format!(
        "(local $timer i32)
         (loop $more
           (i32.store
             (i32.add (i32.const 4096) (i32.shl (local.get $timer) (i32.const 2)))
             (call $subscribe (i64.const 1)))
           (local.set $timer (i32.add (local.get $timer) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $timer) (i32.const {TIMERS}))))
         (loop $forever (call $poll (i32.const 4096) (i32.const {TIMERS}) (i32.const 64)) (br $forever))
         unreachable"
    );
    // What the host hands over may each time lie where the last did.
    let polls = frame_guests::of_module(&format!(
        r#"(module
             (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
               (func $subscribe (param i64) (result i32)))
             (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
             (memory (export "memory") 1)
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
             {})"#,
        run(&body)
    ));
    add(&functions, "app:polls", &polls, WasmConfig::default().with_time(SHORT * 2));
    for _ in 0..5 {
        let ended = timeout(AGES, call(&functions, "app:polls", json!(1))).await.expect("it ends");
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Deadline);
    }
    assert_works(&functions).await;
}

#[tokio::test]
async fn a_nested_call_is_dropped_with_the_guest_that_made_it() {
    let functions = functions();
    let (entered, alive) = (Arc::new(Notify::new()), Arc::new(()));
    functions
        .register(id("app:forever"), Options::new(), {
            let (entered, alive) = (Arc::clone(&entered), Arc::clone(&alive));
            move |ctx: CallContext, _: Payload| {
                let (entered, alive) = (Arc::clone(&entered), Arc::clone(&alive));
                async move {
                    assert!(ctx.deadline().unwrap() > Instant::now(), "the guest's own deadline");
                    entered.notify_one();
                    std::future::pending::<()>().await;
                    drop(alive);
                    Ok::<_, CallError>(Payload::default())
                }
            }
        })
        .unwrap();
    add_guest(&functions, "call");
    let root = functions.root();
    let mut call =
        Box::pin(root.call(Task::new(id("app:call")).with_payload(request("app:forever", "", "1"))));
    tokio::select! {
        ended = &mut call => panic!("it ended: {ended:?}"),
        () = entered.notified() => (),
    }
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&alive), 2);
}

#[tokio::test]
async fn further_calls_wait_for_their_turn_in_order_and_no_longer_than_they_may() {
    let functions = functions();
    let config = WasmConfig::default().with_calls(1);
    let function = add(&functions, "app:waits", &frame_guests::guest("remember"), config);
    let gate = Arc::new(Semaphore::new(0));
    let task = Task::new(id("app:waits")).with_payload(vec![1]).with_pair(GATE.pair(Arc::clone(&gate)));
    let spawn = |ctx: CallContext| {
        tokio::spawn({
            let task = task.clone();
            async move { ctx.call(task).await }
        })
    };
    let first = spawn(functions.root());
    while function.statistics().running == 0 {
        tokio::task::yield_now().await;
    }
    let late = spawn(functions.root().with_timeout(SHORT)).await.unwrap().unwrap_err();
    assert!(matches!(late.kind(), ErrorKind::Exhausted | ErrorKind::Deadline), "{late}");
    let second = spawn(functions.root());
    while function.statistics().waiting == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(function.statistics().running, 0);
}

#[tokio::test]
async fn a_function_that_is_replaced_finishes_its_calls_and_is_gone() {
    let functions = functions();
    let function = add_guest(&functions, "remember");
    let gate = Arc::new(Semaphore::new(0));
    let task = Task::new(id("app:remember")).with_payload(vec![1]).with_pair(GATE.pair(Arc::clone(&gate)));
    let running = tokio::spawn({
        let root = functions.root();
        async move { root.call(task).await }
    });
    while function.statistics().running == 0 {
        tokio::task::yield_now().await;
    }
    let echo = function_of("echo");
    let mut drained = pin!(functions.replace(id("app:remember"), Options::new(), echo).unwrap().drained());
    poll_fn(|waker| {
        assert!(drained.as_mut().poll(waker).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(call(&functions, "app:remember", json!(1)).await.unwrap(), json!(1).into(), "the new one");
    gate.add_permits(1);
    running.await.unwrap().unwrap();
    timeout(AGES, drained).await.expect("nothing runs");
    assert_eq!(function.statistics().running, 0);
}

fn function_of(name: &str) -> WasmFunction {
    crate::common::engine().function(&frame_guests::guest(name), WasmConfig::default()).unwrap()
}
