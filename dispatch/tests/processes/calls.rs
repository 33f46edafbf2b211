//! Calls: a request, and the reply that the caller waits for.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use frame_dispatch::process::{
    HostConfig, ManagerConfig, Message, ProcessCallError, ProcessContext, ProcessManager, ReplyError,
    SendErrorReason,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Host, Payload, Pid, Task};
use frame_registry::Options;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::support::{
    BOUND, LONG, exit_of, manager, manager_with, register, register_saying, said, start, until, within,
};

/// Replies with its request, wrapped; does something else for some words.
async fn replier(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    let mut kept = Vec::new();
    loop {
        let message = ctx.receive().await;
        match message.payload().and_then(Payload::as_json).and_then(|json| json.as_str()) {
            Some("drop") => drop(message),
            Some("keep") => kept.push(message),
            Some("panic") => panic!("told to panic"),
            Some("fail") => return Err(CallError::invalid("told to fail")),
            _ => {
                let reply = json!([message.payload().and_then(Payload::as_json)]);
                message.reply(reply)?;
            }
        }
    }
}

fn with_replier(config: ManagerConfig, host: HostConfig) -> (ProcessManager, CallContext, Pid) {
    let (processes, root) = manager_with(config, host);
    register(&processes, "test:replier", replier);
    let pid = processes.spawn(&root, start("test:replier")).unwrap();
    (processes, root, pid)
}

async fn fails(processes: &ProcessManager, ctx: &CallContext, to: Pid, request: &str) -> ProcessCallError {
    within("a call", processes.call_timeout(ctx, to, json!(request), LONG)).await.unwrap_err()
}

fn pid_of(payload: &Payload) -> Pid {
    serde_json::from_value(payload.as_json().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn a_call_returns_the_reply_and_leaves_nothing_in_the_mailbox_of_the_caller() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    assert_eq!(processes.call(&root, replier, json!(1)).await.unwrap(), json!([1]).into());
    processes.register_name("replier", replier).unwrap();
    assert_eq!(processes.call(&root, "replier", json!(2)).await.unwrap(), json!([2]).into());

    let mut receiver = register_saying(&processes, "test:caller", async |mut ctx, payload, say| {
        let reply = ctx.call("replier", payload).await?;
        say.send((reply, ctx.try_receive().is_none())).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:caller").with_payload(json!(3))).unwrap();
    assert_eq!(said(&mut receiver).await, (json!([3]).into(), true));
}

#[tokio::test]
async fn a_request_says_which_process_calls_also_through_a_function() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:callee", async |mut ctx, _, say| {
        loop {
            let Message::Sent { from, reply, .. } = ctx.receive().await else { panic!("no message") };
            say.send((from, reply.is_some())).unwrap();
            reply.map(|reply| reply.send(json!(null))).transpose()?;
        }
    });
    let target = processes.spawn(&root, start("test:callee").with_name("callee")).unwrap();
    let manager = processes.clone();
    let function = move |ctx: CallContext, payload: Payload| {
        let manager = manager.clone();
        async move {
            manager.send(&ctx, "callee", payload.clone()).await?;
            Ok::<_, CallError>(manager.call(&ctx, "callee", payload).await?)
        }
    };
    processes.functions().register("test:through".parse().unwrap(), Options::new(), function).unwrap();
    register(&processes, "test:caller", async |ctx, _| {
        ctx.call("callee", json!(1)).await?;
        ctx.ctx().call(Task::new("test:through".parse()?)).await
    });
    let caller = processes.spawn(&root, start("test:caller")).unwrap();
    assert_eq!(said(&mut receiver).await, (Some(caller), true));
    assert_eq!(said(&mut receiver).await, (Some(caller), false));
    assert_eq!(said(&mut receiver).await, (Some(caller), true));
    root.call(Task::new("test:through".parse().unwrap())).await.unwrap();
    assert_eq!(said(&mut receiver).await, (None, false));
    assert_eq!(said(&mut receiver).await, (None, true));
    processes.call(&root, target, json!(null)).await.unwrap();
    assert_eq!(said(&mut receiver).await, (None, true));
}

#[tokio::test]
async fn a_callee_that_is_unknown_or_has_ended_is_not_sent_the_request() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    let never = Pid::next(Host::named("local@test:host"));
    let error = fails(&processes, &root, never, "x").await;
    assert!(
        matches!(&error, ProcessCallError::NotSent(error) if matches!(error.reason, SendErrorReason::NotFound))
    );
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    processes.terminate(replier).unwrap();
    exit_of(&processes, replier).await;
    let error = fails(&processes, &root, replier, "x").await;
    assert!(
        matches!(&error, ProcessCallError::NotSent(error) if matches!(error.reason, SendErrorReason::Ended))
    );
}

#[tokio::test]
async fn a_dropped_request_tells_the_caller_at_once() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    let error = fails(&processes, &root, replier, "drop").await;
    assert!(matches!(error, ProcessCallError::NoReply { pid } if pid == replier), "{error}");
    let error = CallError::from(error);
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
}

#[tokio::test]
async fn the_end_of_the_callee_ends_the_call_with_its_exit() {
    for request in ["fail", "panic", "kill", "unread"] {
        let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
        let target = if request == "unread" {
            processes.spawn(&root, start("test:forever")).unwrap()
        } else {
            replier
        };
        let word = if request == "kill" { "keep" } else { request };
        let call = processes.call_timeout(&root, target, json!(word), LONG);
        let end = async {
            if request == "kill" || request == "unread" {
                tokio::task::yield_now().await;
                processes.terminate(target).unwrap();
            }
        };
        let (error, ()) = within("the end of the callee", async { tokio::join!(call, end) }).await;
        let error = error.unwrap_err();
        let ProcessCallError::Ended { exit } = &error else { panic!("{request}: {error:?}") };
        let reason = match request {
            "fail" => "failed",
            "panic" => "panicked",
            _ => "killed",
        };
        assert_eq!((exit.pid, exit.reason.as_str()), (target, reason));
        assert_eq!(CallError::from(error).kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_late_reply_is_given_back_to_the_callee_and_reaches_no_mailbox() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:late", async |mut ctx, _, say| {
        let Message::Sent { reply: Some(mut reply), .. } = ctx.receive().await else { panic!("no call") };
        assert!(reply.is_awaited());
        reply.abandoned().await;
        assert!(!reply.is_awaited());
        say.send(reply.send(json!("late"))).unwrap();
        Ok(Payload::default())
    });
    let mut outcome =
        register_saying(&processes, "test:watching", async |mut ctx: ProcessContext, payload, say| {
            let late = pid_of(&payload);
            ctx.monitor(late)?;
            let error = ctx.call_timeout(late, json!(1), Duration::from_millis(5)).await.unwrap_err();
            // The reply is given back before the exit is delivered.
            let told = ctx.receive().await;
            say.send((error, matches!(told, Message::Exited { .. }), ctx.try_receive().is_none())).unwrap();
            Ok(Payload::default())
        });
    let late = processes.spawn(&root, start("test:late")).unwrap();
    processes.spawn(&root, start("test:watching").with_payload(json!(late))).unwrap();
    assert!(
        matches!(said(&mut receiver).await, Err(ReplyError::Late { payload }) if *payload == json!("late").into())
    );
    let (error, is_exit, is_empty) = said(&mut outcome).await;
    assert!(matches!(error, ProcessCallError::Deadline { pid } if pid == late), "{error}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Deadline);
    assert!(is_exit && is_empty);
}

#[tokio::test]
async fn the_deadline_of_the_context_and_the_configured_one_end_a_call() {
    let config = ManagerConfig::default().with_call_timeout(Duration::from_millis(5));
    let (processes, root, replier) = with_replier(config, HostConfig::default());
    let error = within("a call", processes.call(&root, replier, json!("keep"))).await.unwrap_err();
    assert!(matches!(error, ProcessCallError::Deadline { .. }), "{error}");
    let narrow = root.with_timeout(Duration::from_millis(5));
    let error = fails(&processes, &narrow, replier, "keep").await;
    assert!(matches!(error, ProcessCallError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn a_cancelled_caller_takes_nothing_back_and_the_callee_sees_that_it_waits_no_longer() {
    let (processes, root) = manager(HostConfig::default());
    let (release, gate) = oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let mut receiver = register_saying(&processes, "test:slow", move |mut ctx: ProcessContext, _, say| {
        let gate = gate.lock().unwrap().take();
        async move {
            gate.unwrap().await.unwrap();
            let Message::Sent { reply: Some(reply), payload, .. } = ctx.receive().await else {
                panic!("no call")
            };
            say.send((payload, reply.is_awaited())).unwrap();
            Ok(Payload::default())
        }
    });
    let slow = processes.spawn(&root, start("test:slow")).unwrap();
    let call = processes.call_timeout(&root, slow, json!(7), LONG);
    tokio::select! {
        biased;
        _ = call => panic!("there is no reply"),
        () = until("the request is there", || processes.info(slow).unwrap().mailbox == 1) => (),
    }
    assert_eq!(processes.info(slow).unwrap().mailbox, 1, "it is not taken back");
    release.send(()).unwrap();
    assert_eq!(said(&mut receiver).await, (json!(7).into(), false));
}

#[tokio::test]
async fn a_mailbox_that_stays_full_is_an_outcome_of_its_own() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_millis(5));
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(1));
    let full = processes.spawn(&root, start("test:forever").with_message(json!(1))).unwrap();
    for time in [Duration::from_millis(1), LONG] {
        let call = processes.call_timeout(&root, full, json!(2), time);
        let error = within("a call of a full mailbox", call).await.unwrap_err();
        let ProcessCallError::NotSent(error) = error else { panic!("{error}") };
        assert!(matches!(error.reason, SendErrorReason::Full { capacity: 1 }));
    }
}

#[tokio::test]
async fn a_process_cannot_call_itself_nor_fill_its_mailbox_through_a_function_or_a_process_that_it_waits_for()
{
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let manager = processes.clone();
    // Calls the process that its payload names, and sends it two messages, of which there is room for one.
    let disturb = move |ctx: CallContext, payload: Payload| {
        let manager = manager.clone();
        async move {
            let to: Pid = pid_of(&payload);
            let called = manager.call_timeout(&ctx, to, json!(0), LONG).await;
            let _ = manager.try_send(&ctx, to, json!(1));
            let sent = manager.send(&ctx, to, json!(2)).await;
            let is_refused = matches!(called, Err(ProcessCallError::OwnChain { pid }) if pid == to);
            let is_full = sent.is_err_and(|error| matches!(error.reason, SendErrorReason::Full { .. }));
            Ok::<Payload, CallError>(json!([is_refused, is_full]).into())
        }
    };
    processes.functions().register("test:disturb".parse().unwrap(), Options::new(), disturb.clone()).unwrap();
    register(&processes, "test:disturber", move |ctx, payload| {
        let disturb = disturb.clone();
        async move { disturb(ctx.ctx().clone(), payload).await }
    });
    // Through a process that waits for another.
    register(&processes, "test:between", async |ctx, payload| {
        Ok(ctx.processes().exec(ctx.ctx(), start("test:disturber").with_payload(payload)).await?)
    });
    let mut receiver = register_saying(&processes, "test:own", async |mut ctx: ProcessContext, _, say| {
        let own: Payload = json!(ctx.pid()).into();
        let call =
            async || ctx.ctx().call(Task::new("test:disturb".parse()?).with_payload(own.clone())).await;
        say.send(call().await).unwrap();
        let direct = ctx.call(ctx.pid(), json!(0)).await;
        say.send(Ok(json!(matches!(direct, Err(ProcessCallError::OwnChain { .. }))).into())).unwrap();
        for entry in ["test:disturber", "test:between"] {
            let exec = ctx.processes().exec(ctx.ctx(), start(entry).with_payload(own.clone()));
            say.send(exec.await.map_err(CallError::from)).unwrap();
        }
        // It is not waited for any more.
        ctx.try_receive();
        ctx.spawn(start("test:later").with_payload(own.clone()))?;
        let Message::Sent { reply: Some(reply), .. } = ctx.receive().await else { panic!("no call") };
        reply.send(json!("well"))?;

        Ok(Payload::default())
    });
    let mut replies =
        register_saying(&processes, "test:later", async |ctx: ProcessContext, payload: Payload, say| {
            let to: Pid = pid_of(&payload);
            say.send(ctx.call_timeout(to, json!(0), LONG).await).unwrap();
            Ok(Payload::default())
        });
    processes.spawn(&root, start("test:own")).unwrap();
    let refused: Payload = json!([true, true]).into();
    assert_eq!(said(&mut receiver).await.unwrap(), refused, "through a function");
    assert_eq!(said(&mut receiver).await.unwrap(), json!(true).into(), "itself");
    assert_eq!(said(&mut receiver).await.unwrap(), refused, "through a process");
    assert_eq!(said(&mut receiver).await.unwrap(), refused, "through two");
    assert_eq!(said(&mut replies).await.unwrap(), json!("well").into());
}

#[tokio::test]
async fn calls_of_a_process_that_wait_for_replies_are_limited() {
    let config = ManagerConfig::default().with_calls(2);
    let (processes, root, replier) = with_replier(config, HostConfig::default());
    let mut receiver = register_saying(
        &processes,
        "test:caller",
        async |ctx: ProcessContext, payload, say| {
            let replier = pid_of(&payload);
            let kept = [(); 2].map(|()| Box::pin(ctx.call_timeout(replier, json!("keep"), LONG)));
            let [mut first, mut second] = kept;
            tokio::select! {
                biased;
                _ = &mut first => panic!("it is kept"),
                _ = &mut second => panic!("it is kept"),
                refused = ctx.call_timeout(replier, json!(1), LONG) => {
                    say.send(refused.map_err(|error| matches!(error, ProcessCallError::TooManyCalls { limit: 2, .. }))).unwrap();
                }
            }
            drop(first);
            say.send(ctx.call_timeout(replier, json!(1), LONG).await.map_err(|_| false)).unwrap();
            pending().await
        },
    );
    processes.spawn(&root, start("test:caller").with_payload(json!(replier))).unwrap();
    assert_eq!(said(&mut receiver).await, Err(true));
    assert_eq!(said(&mut receiver).await, Ok(json!([1]).into()));
}

#[tokio::test]
async fn a_message_that_is_not_a_call_cannot_be_replied_to() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver =
        register_saying(&processes, "test:confused", async |mut ctx: ProcessContext, _, say| {
            say.send(ctx.receive().await.reply(json!(1))).unwrap();
            Ok(Payload::default())
        });
    processes.spawn(&root, start("test:confused").with_message(json!(0))).unwrap();
    assert!(matches!(said(&mut receiver).await, Err(ReplyError::NotCalled)));
}

#[tokio::test]
async fn the_end_of_the_caller_ends_its_calls_in_other_tasks() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    let (say, mut said) = mpsc::unbounded_channel();
    register(&processes, "test:caller", move |ctx: ProcessContext, _| {
        let say = say.clone();
        async move {
            let (processes, ctx) = (ctx.processes().clone(), ctx.ctx().clone());
            tokio::spawn(async move {
                say.send(processes.call_timeout(&ctx, replier, json!("keep"), LONG).await).unwrap();
            });
            pending().await
        }
    });
    let caller = processes.spawn(&root, start("test:caller")).unwrap();
    until("the request is received", || {
        processes.info(replier).unwrap().mailbox == 0 && processes.info(caller).is_some()
    })
    .await;
    tokio::task::yield_now().await;
    processes.terminate(caller).unwrap();
    let outcome = within("the task of the caller", said.recv()).await.unwrap();
    assert!(matches!(outcome, Err(ProcessCallError::ContextEnded { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_process_that_blocks_as_it_is_terminated_ends_at_its_deadline() {
    let (processes, root) = manager(HostConfig::default());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Arc::new(std::sync::Mutex::new(blocked));
    register(&processes, "test:blocks", move |mut ctx: ProcessContext, _| {
        let blocked = std::sync::Arc::clone(&blocked);
        async move {
            let request = ctx.receive().await;
            ctx.processes().terminate(ctx.pid())?;
            drop(request);
            // Until the test has seen what it wants, or has failed.
            let _ = blocked.lock().unwrap().recv_timeout(2 * BOUND);
            Ok(Payload::default())
        }
    });
    let callee = processes.spawn(&root, start("test:blocks")).unwrap();
    let call = processes.call_timeout(&root, callee, json!(1), Duration::from_millis(50));
    let error = within("a call", call).await.unwrap_err();
    assert!(matches!(error, ProcessCallError::Deadline { pid } if pid == callee), "{error:?}");
    drop(release);
    exit_of(&processes, callee).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_makes_calls_after_a_runtime_that_it_was_blocked_on_has_ended() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    register(&processes, "test:blocks", move |ctx: ProcessContext, _| async move {
        tokio::task::block_in_place(|| {
            let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            other.block_on(ctx.call(replier, json!(1)))
        })?;
        Ok(ctx.call(replier, json!(2)).await?)
    });
    let exec = processes.exec(&root, start("test:blocks"));
    assert_eq!(within("the process", exec).await.unwrap(), json!([2]).into());
}

/// Calls the replier in vain, for no longer than `time`, and returns how long that took.
async fn in_vain(ctx: &ProcessContext, replier: Pid, time: Duration) -> Duration {
    let begun = Instant::now();
    let error = ctx.call_timeout(replier, json!("keep"), time).await.unwrap_err();
    assert!(matches!(error, ProcessCallError::Deadline { .. }), "{error:?}");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn each_call_of_a_process_has_its_own_timeout() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    let mut took =
        register_saying(&processes, "test:caller", move |ctx: ProcessContext, _, say| async move {
            // Shorter and longer than the calls before, which had a reply, and some time after them.
            for (pause, time) in [(0, 2), (0, 20), (3, 20), (3, 4), (30, 7), (1, 1), (4, 2_000)] {
                ctx.call(replier, json!("now")).await?;
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let time = Duration::from_millis(time);
                say.send((time, in_vain(&ctx, replier, time).await)).unwrap();
            }
            Ok(Payload::default())
        });
    let caller = processes.spawn(&root, start("test:caller")).unwrap();
    assert!(exit_of(&processes, caller).await.reason.is_normal());
    while let Ok((time, took)) = took.try_recv() {
        assert!(took >= time && took <= time + Duration::from_millis(2), "{time:?} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_time_whatever_budget_its_task_has_left() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    register(&processes, "test:caller", move |ctx: ProcessContext, _| async move {
        for spent in 120..=136 {
            ctx.call(replier, json!("now")).await?;
            for _ in 0..spent {
                tokio::task::consume_budget().await;
            }
            in_vain(&ctx, replier, Duration::from_millis(10)).await;
        }
        Ok(Payload::default())
    });
    let caller = processes.spawn(&root, start("test:caller")).unwrap();
    assert!(exit_of(&processes, caller).await.reason.is_normal());
}

/// Polls what it was made for only if that was woken by its own waker.
struct OwnWaker {
    is_woken: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for OwnWaker {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.task.lock().unwrap().wake_by_ref();
    }
}

async fn with_own_waker<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let own = Arc::new(OwnWaker { is_woken: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) });
    poll_fn(|context| {
        own.task.lock().unwrap().clone_from(context.waker());
        if !own.is_woken.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        future.as_mut().poll(&mut Context::from_waker(&Arc::clone(&own).into()))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_polled_with_another_waker_than_the_one_before_ends_in_time() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    register(&processes, "test:caller", move |ctx: ProcessContext, _| async move {
        for _ in 0..3 {
            ctx.call(replier, json!("now")).await?;
            with_own_waker(in_vain(&ctx, replier, Duration::from_millis(10))).await;
            with_own_waker(ctx.call(replier, json!("now"))).await?;
            in_vain(&ctx, replier, Duration::from_millis(4)).await;
        }
        Ok(Payload::default())
    });
    let caller = processes.spawn(&root, start("test:caller")).unwrap();
    assert!(exit_of(&processes, caller).await.reason.is_normal());
}

/// A waker that wakes another, and panics when it is dropped.
struct PanicsAtDrop(Waker);

impl Wake for PanicsAtDrop {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl Drop for PanicsAtDrop {
    fn drop(&mut self) {
        panic!("at the drop");
    }
}

#[tokio::test]
async fn a_waker_that_panics_as_the_timer_of_calls_is_dropped_keeps_the_exit_from_no_one() {
    let (processes, root, replier) = with_replier(ManagerConfig::default(), HostConfig::default());
    register(&processes, "test:caller", move |ctx: ProcessContext, _| async move {
        let mut call = pin!(ctx.call(replier, json!("now")));
        let mut waker = None;
        poll_fn(|context| {
            let waker = waker.get_or_insert_with(|| Arc::new(PanicsAtDrop(context.waker().clone())).into());
            call.as_mut().poll(&mut Context::from_waker(waker))
        })
        .await?;
        Ok(Payload::default())
    });
    let caller = processes.spawn(&root, start("test:caller").with_name("caller")).unwrap();
    assert!(exit_of(&processes, caller).await.reason.is_normal());
    assert_eq!(processes.whereis("caller"), None);
}
