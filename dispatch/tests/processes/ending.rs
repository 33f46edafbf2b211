//! Cancelling and terminating.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::process::{ExitReason, HostConfig, Message, ProcessState};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{LONG, exit_of, manager, register, register_saying, said, start, within};

#[tokio::test(start_paused = true)]
async fn a_cancelled_process_may_finish_its_work() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:finishes", async |mut ctx, _, say| {
        let Message::Cancelled { reason, deadline } = ctx.receive().await else { panic!("something else") };
        assert_eq!(ctx.cancel_reason(), Some(Arc::clone(&reason)));
        assert!(!ctx.ctx().is_cancelled(), "what it calls is not cancelled by that");
        say.send((reason, deadline.unwrap() - Instant::now())).unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
        Ok(json!("finished").into())
    });
    let pid = processes.spawn(&root, start("test:finishes")).unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.cancel(pid, "enough", Duration::from_secs(10)).unwrap();
    assert_eq!(said(&mut receiver).await, ("enough".into(), Duration::from_secs(10)));
    assert_eq!(processes.info(pid).unwrap().state, ProcessState::Cancelled);
    let exit = within("a monitor for the end of the work", exit).await;
    assert!(exit.reason.is_normal(), "{exit:?}");
    assert_eq!(exit.result.as_deref(), Some(&json!("finished").into()));
}

#[tokio::test]
async fn a_process_that_ends_as_it_was_told_was_cancelled_for_that_reason() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    processes.cancel(pid, "enough", LONG).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(matches!(&exit.reason, ExitReason::Cancelled(why) if **why == *"enough"), "{exit:?}");
    assert_eq!((exit.reason.as_str(), &*exit.reason.to_string()), ("cancelled", "it was cancelled: enough"));
}

#[tokio::test]
async fn a_process_that_fails_otherwise_as_it_is_cancelled_failed() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:fails", async |mut ctx, _| {
        ctx.receive().await;
        Err(CallError::new(ErrorKind::Unavailable, "could not save"))
    });
    let pid = processes.spawn(&root, start("test:fails")).unwrap();
    processes.cancel(pid, "enough", LONG).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(
        matches!(&exit.reason, ExitReason::Failed(error) if error.message() == "could not save"),
        "{exit:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_end_is_killed_when_the_grace_period_is_over() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:forever")).unwrap();
    let begin = Instant::now();
    processes.cancel(pid, "enough", Duration::from_secs(10)).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&begin.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn of_several_grace_periods_the_shortest_counts_and_the_message_comes_once() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:counts", async |mut ctx, _, say| {
        loop {
            say.send(ctx.receive().await).unwrap();
        }
    });
    for graces in [[10, 3], [3, 10]] {
        let pid = processes.spawn(&root, start("test:counts")).unwrap();
        let begin = Instant::now();
        for (reason, grace) in ["first", "second"].into_iter().zip(graces) {
            processes.cancel(pid, reason, Duration::from_secs(grace)).unwrap();
        }
        let exit = exit_of(&processes, pid).await;
        assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
        assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&begin.elapsed()));
        let message = said(&mut receiver).await;
        assert!(matches!(&message, Message::Cancelled { reason, .. } if **reason == *"first"), "{message:?}");
        assert!(receiver.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_period_without_end_is_ended_by_another() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:told", async |mut ctx, _, say| {
        say.send(ctx.receive().await).unwrap();
        std::future::pending().await
    });
    let pid = processes.spawn(&root, start("test:told")).unwrap();
    processes.cancel(pid, "enough", Duration::MAX).unwrap();
    let message = said(&mut receiver).await;
    assert!(matches!(message, Message::Cancelled { deadline: None, .. }), "{message:?}");
    tokio::time::advance(LONG).await;
    assert_eq!(processes.info(pid).unwrap().state, ProcessState::Cancelled);
    processes.cancel(pid, "now", Duration::from_secs(1)).unwrap();
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
}

#[tokio::test]
async fn without_a_grace_period_to_cancel_is_to_terminate() {
    let (processes, root) = manager(HostConfig::default());
    for is_asked_before in [false, true] {
        let pid = processes.spawn(&root, start("test:forever")).unwrap();
        if is_asked_before {
            processes.cancel(pid, "soon", LONG).unwrap();
        }
        processes.cancel(pid, "now", Duration::ZERO).unwrap();
        assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
    }
}

/// It is asked before anything of it has run.
#[tokio::test]
async fn a_process_can_be_ended_before_it_has_run() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:runs", async |_, _, say| {
        say.send(()).unwrap();
        Ok(Payload::default())
    });
    // One thread, so that nothing runs before something is awaited.
    let pid = processes.spawn(&root, start("test:runs")).unwrap();
    processes.terminate(pid).unwrap();
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
    assert!(receiver.try_recv().is_err());
}

#[tokio::test]
async fn a_full_mailbox_has_room_for_being_cancelled() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let pid = processes.spawn(&root, start("test:obey").with_message(json!("no command"))).unwrap();
    processes.cancel(pid, "enough", LONG).unwrap();
    assert_eq!(exit_of(&processes, pid).await.reason.as_str(), "cancelled");
}

#[tokio::test]
async fn a_process_can_end_itself() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:ends", async |ctx, _| {
        ctx.processes().terminate(ctx.pid())?;
        assert!(ctx.ctx().is_cancelled());
        std::future::pending().await
    });
    let pid = processes.spawn(&root, start("test:ends")).unwrap();
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
}

/// Each of these finds what it awaits, and is held up by nothing but the budget that tokio gives a task.
#[tokio::test]
async fn a_process_that_is_always_ready_is_terminated() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:talks", async |mut ctx, _| {
        loop {
            ctx.try_send(ctx.pid(), Payload::default())?;
            ctx.receive().await;
        }
    });
    register(&processes, "test:selects", async |mut ctx, _| {
        loop {
            ctx.try_send(ctx.pid(), Payload::default())?;
            ctx.receive_where(|_| true).await;
        }
    });
    register(&processes, "test:yields", async |_, _| {
        loop {
            tokio::task::yield_now().await;
        }
    });
    for entry in ["test:talks", "test:selects", "test:yields"] {
        let pid = processes.spawn(&root, start(entry)).unwrap();
        let quiet = processes.spawn(&root, start("test:obey").with_message(json!("done"))).unwrap();
        assert!(exit_of(&processes, quiet).await.reason.is_normal(), "others run meanwhile");
        processes.terminate(pid).unwrap();
        assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::Killed));
    }
}

#[tokio::test]
async fn being_cancelled_shows_before_it_is_received() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:looks", async |mut ctx, _, say| {
        say.send(ctx.cancel_reason()).unwrap();
        ctx.receive_where(|message| matches!(message, Message::Sent { .. })).await;
        say.send(ctx.cancel_reason()).unwrap();
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:looks")).unwrap();
    assert_eq!(said(&mut receiver).await, None);
    processes.cancel(pid, "enough", LONG).unwrap();
    processes.send(&root, pid, json!(1)).await.unwrap();
    assert_eq!(said(&mut receiver).await.as_deref(), Some("enough"));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_cancelled_again_knows_that_it_is_to_be_sooner() {
    let (processes, root) = manager(HostConfig::default());
    let mut deadlines = register_saying(&processes, "test:asks", async |mut ctx, _, say| {
        loop {
            ctx.receive().await;
            let left = ctx.cancel_deadline().map(|deadline| deadline - Instant::now());
            if say.send(left).is_err() {
                return Ok(Payload::default());
            }
        }
    });
    let pid = processes.spawn(&root, start("test:asks")).unwrap();
    processes.send(&root, pid, Payload::default()).await.unwrap();
    assert_eq!(said(&mut deadlines).await, None);
    processes.cancel(pid, "take your time", Duration::MAX).unwrap();
    assert_eq!(said(&mut deadlines).await, None);
    for (grace, left) in [(60, 60), (3_600, 60), (5, 5)] {
        processes.cancel(pid, "hurry", Duration::from_secs(grace)).unwrap();
        processes.send(&root, pid, Payload::default()).await.unwrap();
        assert_eq!(said(&mut deadlines).await, Some(Duration::from_secs(left)));
    }
}
