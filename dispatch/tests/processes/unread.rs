//! What the runtime says to a process that receives nothing of it.

use std::sync::Arc;

use frame_dispatch::process::{ExitReason, HostConfig, ManagerConfig, Message, ProcessError};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;

use crate::support::{exit_of, manager, manager_with, register, register_saying, said, start, within};

#[tokio::test]
async fn a_process_that_monitors_who_has_ended_without_end_is_ended_itself() {
    let config = ManagerConfig::default().with_monitors(5);
    let (processes, root) = manager_with(config, HostConfig::default().with_processes(10).with_mailbox(4));
    register(&processes, "test:greedy", async |ctx, _| {
        let ended = ctx.spawn(start("test:done"))?;
        while ctx.processes().info(ended).is_some() {
            tokio::task::yield_now().await;
        }
        loop {
            ctx.monitor(ended)?;
            assert!(ctx.processes().info(ctx.pid()).is_none_or(|info| info.mailbox <= 4 + 2 * 10 + 5));
            tokio::task::yield_now().await;
        }
    });
    let greedy = processes.spawn(&root, start("test:greedy")).unwrap();
    let exit = exit_of(&processes, greedy).await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.to_string(), "it has 29 exits in its mailbox, and receives none");
}

#[tokio::test]
async fn a_process_that_traps_links_and_does_not_receive_that_is_ended() {
    let (processes, root) = manager(HostConfig::default().with_processes(10).with_mailbox(1));
    register(&processes, "test:fails", async |_, _| Err(CallError::invalid("it does not matter")));
    register(&processes, "test:trapping", async |ctx, _| {
        ctx.trap_links(true);
        loop {
            // The host has no place for more, until some have ended.
            let _ = ctx.spawn(start("test:fails").with_link());
            tokio::task::yield_now().await;
        }
    });
    let trapping = processes.spawn(&root, start("test:trapping")).unwrap();
    let exit = exit_of(&processes, trapping).await;
    assert!(
        matches!(&exit.reason, ExitReason::Failed(error) if error.kind() == ErrorKind::Exhausted),
        "{exit:?}"
    );
}

#[tokio::test]
async fn no_more_results_are_kept_than_the_mailbox_holds_messages_and_no_exit_is_left_out() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(2));
    register(&processes, "test:gives", async |_, _| Ok(json!("a result").into()));
    let mut results = register_saying(&processes, "test:watch", async |mut ctx, _, say| {
        for _ in 0..5 {
            ctx.spawn(start("test:gives").with_monitor())?;
        }
        while ctx.processes().len() > 1 {
            tokio::task::yield_now().await;
        }
        for _ in 0..5 {
            let Message::Exited { exit, .. } = ctx.receive().await else { panic!("it is sent nothing") };
            assert!(exit.reason.is_normal());
            let _ = say.send(exit.result.is_some());
        }
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:watch")).unwrap();
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(said(&mut results).await);
    }
    assert_eq!(kept, [true, true, false, false, false]);
}

#[tokio::test]
async fn a_context_that_outlives_its_process_monitors_nothing() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:waits", async |mut ctx, _| {
        ctx.receive().await;
        Ok(Payload::default())
    });
    let waits = processes.spawn(&root, start("test:waits")).unwrap();
    let (sender, mut outcome) = tokio::sync::mpsc::unbounded_channel();
    let sender = Arc::new(sender);
    register(&processes, "test:ends", move |ctx: frame_dispatch::process::ProcessContext, _| {
        let sender = Arc::clone(&sender);
        tokio::spawn(async move {
            ctx.ctx().cancelled().await;
            let _ = sender.send(ctx.monitor(waits));
        });
        async { Ok(Payload::default()) }
    });
    processes.spawn(&root, start("test:ends")).unwrap();
    let outcome = within("the outcome of a monitor", outcome.recv()).await.unwrap();
    assert!(matches!(outcome, Err(ProcessError::Ended { .. })), "{outcome:?}");
}
