//! What goes wrong in a process, and to whom.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use frame_dispatch::process::{
    ExitReason, HostConfig, ManagerConfig, Message, Process, ProcessContext, ProcessManager, SendErrorReason,
    SpawnError,
};
use frame_dispatch::{BoxFuture, CallContext, CallError, Payload, Pid};
use frame_registry::Options;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{exit_of, manager, manager_with, register, register_saying, said, start, until, within};

/// Panics before there is a future.
struct PanicsAtOnce;

impl Process for PanicsAtOnce {
    fn run(&self, _: ProcessContext, _: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        panic!("no future")
    }
}

#[tokio::test]
async fn a_panic_before_there_is_a_future_is_that_of_the_process() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    processes.register("test:panics".parse().unwrap(), Options::new(), PanicsAtOnce).unwrap();
    for _ in 0..2 {
        let pid = processes.spawn(&root, start("test:panics")).unwrap();
        assert_eq!(exit_of(&processes, pid).await.reason.to_string(), "it panicked: no future");
    }
}

/// A future that panics when it is dropped, be it done or not.
struct PanicsAtDrop {
    is_done: bool,
}

impl Future for PanicsAtDrop {
    type Output = Result<Payload, CallError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_done { Poll::Ready(Ok(Payload::default())) } else { Poll::Pending }
    }
}

impl Drop for PanicsAtDrop {
    fn drop(&mut self) {
        panic!("at the drop");
    }
}

struct Drops;

impl Process for Drops {
    fn run(&self, _: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(PanicsAtDrop { is_done: payload == json!("done").into() })
    }
}

#[tokio::test]
async fn a_future_that_panics_when_it_is_dropped_changes_nothing_for_others() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    processes.register("test:drops".parse().unwrap(), Options::new(), Drops).unwrap();
    let pid = processes.spawn(&root, start("test:drops").with_name("name")).unwrap();
    processes.terminate(pid).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");

    let pid =
        processes.spawn(&root, start("test:drops").with_name("name").with_payload(json!("done"))).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert_eq!(exit.reason.to_string(), "it panicked: at the drop");
    let pid = processes.spawn(&root, start("test:obey").with_message(json!("done"))).unwrap();
    assert!(exit_of(&processes, pid).await.reason.is_normal());
    assert!(processes.is_empty());
}

#[tokio::test]
async fn a_panic_as_something_is_terminated_keeps_that_reason() {
    struct Local;
    impl Drop for Local {
        fn drop(&mut self) {
            panic!("at the drop");
        }
    }
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:local", async |mut ctx, _, say| {
        let _local = Local;
        say.send(()).unwrap();
        ctx.receive().await;
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:local")).unwrap();
    said(&mut receiver).await;
    processes.terminate(pid).unwrap();
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
    let pid = processes.spawn(&root, start("test:local").with_message(json!(1))).unwrap();
    assert_eq!(exit_of(&processes, pid).await.reason.to_string(), "it panicked: at the drop");
}

/// Sends to whom it is told until that fails, and then says why; receives nothing else.
fn register_stubborn(processes: &ProcessManager) -> UnboundedReceiver<(Pid, SendErrorReason, Duration)> {
    register_saying(processes, "test:stubborn", async |mut ctx, _, say| {
        let is_pid = |message: &Message| matches!(message, Message::Sent { from: None, .. });
        let payload = ctx.receive_where(is_pid).await.into_payload().unwrap();
        let to: Pid = payload.as_json().unwrap().as_str().unwrap().parse().unwrap();
        let begin = Instant::now();
        loop {
            if let Err(error) = ctx.send(to, json!("more")).await {
                say.send((ctx.pid(), error.reason, begin.elapsed())).unwrap();
                return Ok(Payload::default());
            }
        }
    })
}

/// Two whose mailboxes are full of what they sent each other.
async fn stuck(processes: &ProcessManager, root: &CallContext) -> [Pid; 2] {
    let [one, other] = [(); 2].map(|()| processes.spawn(root, start("test:stubborn")).unwrap());
    for (pid, to) in [(one, other), (other, one)] {
        processes.send(root, pid, json!(to.to_string())).await.unwrap();
    }
    let is_full = |pid| processes.info(pid).is_some_and(|info| info.mailbox == 4);
    until("a test for two full mailboxes", || is_full(one) && is_full(other)).await;
    [one, other]
}

#[tokio::test]
async fn of_two_that_wait_for_room_at_each_other_the_end_of_one_frees_the_other() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(4));
    let mut receiver = register_stubborn(&processes);
    let [one, other] = stuck(&processes, &root).await;
    processes.terminate(other).unwrap();
    let (freed, why, _) = said(&mut receiver).await;
    assert_eq!(freed, one);
    assert!(matches!(why, SendErrorReason::Ended), "{why:?}");
    assert!(exit_of(&processes, one).await.reason.is_normal());
}

#[tokio::test(start_paused = true)]
async fn two_that_wait_for_room_at_each_other_do_so_no_longer_than_is_configured() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_secs(5));
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(4));
    let mut receiver = register_stubborn(&processes);
    stuck(&processes, &root).await;
    let (_, why, waited) = said(&mut receiver).await;
    assert!(matches!(why, SendErrorReason::Full { capacity: 4 }), "{why:?}");
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_predicate_that_panics_leaves_the_messages_as_they_were() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:selects", async |mut ctx, _, say| {
        let mut looked = 0;
        let panics = |_: &Message| {
            looked += 1;
            assert!(looked < 3, "at the third");
            false
        };
        let caught = catch_unwind(AssertUnwindSafe(|| ctx.try_receive_where(panics)));
        assert!(caught.is_err());
        assert_eq!(ctx.processes().info(ctx.pid()).unwrap().mailbox, 5);
        while let Some(message) = ctx.try_receive() {
            say.send(message.into_payload().unwrap()).unwrap();
        }
        ctx.try_send(ctx.pid(), json!(9))?;
        ctx.receive_where(|_| panic!("for good")).await;
        Ok(Payload::default())
    });
    let start = (0..5).fold(start("test:selects"), |start, number| start.with_message(json!(number)));
    let pid = processes.spawn(&root, start).unwrap();
    for number in 0..5 {
        assert_eq!(said(&mut receiver).await, json!(number).into());
    }
    assert_eq!(exit_of(&processes, pid).await.reason.to_string(), "it panicked: for good");
}

/// What it sends it looks at as well, until there is no more room.
#[tokio::test]
async fn a_predicate_may_send_to_the_mailbox_that_it_looks_through() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(4));
    let mut receiver = register_saying(&processes, "test:selects", async |mut ctx, _, say| {
        let (processes, own, pid) = (ctx.processes().clone(), ctx.ctx().clone(), ctx.pid());
        let mut sent = 0;
        let none = ctx.try_receive_where(|_| {
            sent += usize::from(processes.try_send(&own, pid, json!("more")).is_ok());
            false
        });
        assert!(none.is_none());
        say.send((sent, processes.info(pid).unwrap().mailbox)).unwrap();
        let Some(Message::Sent { from: None, .. }) = ctx.try_receive() else { panic!("the first is first") };
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:selects").with_message(json!(0))).unwrap();
    assert_eq!(said(&mut receiver).await, (3, 4));
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

#[tokio::test]
async fn whoever_waits_for_room_at_a_process_that_ends_is_told_so() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let pid = processes.spawn(&root, start("test:forever").with_message(json!(0))).unwrap();
    let senders: Vec<_> = (0..20)
        .map(|number| {
            let (processes, root) = (processes.clone(), root.clone());
            tokio::spawn(async move { processes.send(&root, pid, json!(number)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    processes.terminate(pid).unwrap();
    for (number, sender) in senders.into_iter().enumerate() {
        let error = within("a sender for the end", sender).await.unwrap().unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Ended), "{error:?}");
        assert_eq!(*error.payload, json!(number).into());
    }
}

/// Many do everything to the same few processes at once; what is left is nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_does_everything_at_once_comes_to_an_end() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(2));
    register(&processes, "test:victim", async |mut ctx, _| {
        ctx.trap_links(ctx.pid().number() % 2 == 0);
        loop {
            if let Message::Cancelled { .. } = ctx.receive().await {
                return Ok(Payload::default());
            }
        }
    });
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let (processes, root) = (processes.clone(), root.clone());
            tokio::spawn(async move {
                let mut last = None;
                for number in 0..300_u64 {
                    let name = format!("name-{}", (number + task) % 5);
                    let start = start("test:victim").with_name(&*name).with_message(json!(number));
                    let pid = match processes.spawn_or_signal(&root, start).await {
                        Ok(started) => started.pid(),
                        Err(SpawnError::NotSignalled { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    let _ = last.replace(pid).map(|last| processes.link(pid, last));
                    let monitor = processes.monitor(pid);
                    match number % 6 {
                        0 => _ = processes.terminate(pid),
                        1 => _ = processes.cancel(pid, "enough", Duration::from_millis(number % 3)),
                        2 => _ = processes.register_name(&format!("name-{}", number % 7), pid),
                        3 => _ = processes.unregister_name(&name),
                        4 => _ = processes.try_send(&root, &*name, json!(1)),
                        _ => drop(processes.processes()),
                    }
                    if number % 6 == 0
                        && let Ok(monitor) = monitor
                    {
                        assert_eq!(within("a monitor for the end", monitor).await.pid, pid);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within("one of a crowd", task).await.unwrap();
    }
    let stopped = within("stop", processes.stop(Duration::from_millis(100))).await;
    assert_eq!(stopped.running, []);
    assert!(processes.is_empty(), "{}", processes.processes());
    for number in 0..7 {
        assert_eq!(processes.whereis(&format!("name-{number}")), None);
    }
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unshowable;

impl std::fmt::Display for Unshowable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it cannot be shown")
    }
}

impl std::error::Error for Unshowable {}

#[tokio::test]
async fn an_error_that_panics_when_it_is_shown_keeps_no_exit_back() {
    let subscriber = tracing_subscriber::registry().with(ShowsAll);
    let _shown = tracing::subscriber::set_default(subscriber);
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:fails", async |_, _| {
        Err(CallError::invalid("its cause cannot be shown").with_source(Unshowable))
    });
    let pid = processes.spawn(&root, start("test:fails").with_name("name")).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(matches!(exit.reason, ExitReason::Failed(_)));
    assert_eq!(processes.whereis("name"), None);
    assert!(processes.is_empty());
}

/// A subscriber that shows every field of every event, as those that write a log do.
struct ShowsAll;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for ShowsAll {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            let _ = format!("{value:?}");
        });
    }
}

#[tokio::test]
async fn an_error_that_looks_at_processes_when_it_is_dropped_holds_nothing_up() {
    struct Looks(frame_dispatch::process::ProcessManager);

    impl std::fmt::Debug for Looks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Looks")
        }
    }

    impl std::fmt::Display for Looks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("it looks")
        }
    }

    impl std::error::Error for Looks {}

    impl Drop for Looks {
        fn drop(&mut self) {
            let _ = self.0.processes();
        }
    }

    // No exit is remembered, so the one in the mailbox is the last.
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(0), HostConfig::default());
    register(&processes, "test:fails", async |ctx, _| {
        Err(CallError::invalid("it fails").with_source(Looks(ctx.processes().clone())))
    });
    register(&processes, "test:watch", async |ctx, _| {
        let watched = ctx.spawn(start("test:fails").with_monitor())?;
        while ctx.processes().info(ctx.pid()).is_some_and(|info| info.mailbox == 0) {
            tokio::task::yield_now().await;
        }
        assert!(ctx.demonitor(watched));
        Ok(Payload::default())
    });
    let watch = processes.spawn(&root, start("test:watch")).unwrap();
    assert!(exit_of(&processes, watch).await.reason.is_normal());
}
