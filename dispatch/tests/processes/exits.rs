//! Why a process ended, and what it gave back.

use std::time::Duration;

use frame_dispatch::process::{ExecError, ExitReason, HostConfig, ManagerConfig, ProcessError, SpawnError};
use frame_dispatch::{CallError, ErrorKind, Host, Payload, Pid};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{LONG, exit_of, manager, manager_with, register, start, within};

#[tokio::test]
async fn a_process_that_is_done_ends_normally_with_its_result() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey").with_payload(json!(1))).unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.send(&root, pid, json!("done")).await.unwrap();
    let exit = within("a monitor for the exit", exit).await;
    assert!(exit.reason.is_normal());
    assert_eq!(
        (exit.pid, exit.reason.as_str(), &*exit.reason.to_string()),
        (pid, "normal", "it ended normally")
    );
    assert_eq!(exit.result.as_deref(), Some(&Payload::from(json!("done"))));
    assert!(processes.is_empty());
    let later = exit_of(&processes, pid).await;
    assert!(later.reason.is_normal() && later.result.is_none(), "the result is not kept");
}

#[tokio::test]
async fn a_process_that_fails_says_why_with_every_cause() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:fails", async |_, _| {
        let cause = CallError::new(ErrorKind::Unavailable, "the queue").with_source("the cable");
        Err(CallError::invalid("no job").with_source(cause))
    });
    let exit = exit_of(&processes, processes.spawn(&root, start("test:fails")).unwrap()).await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!((exit.reason.as_str(), exit.result.is_none()), ("failed", true));
    assert_eq!(exit.reason.to_string(), "it failed: no job: the queue: the cable");
}

#[tokio::test]
async fn a_process_that_panics_says_with_what() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:panics", async |mut ctx, _| match ctx.receive().await.into_payload() {
        Some(payload) if payload == json!("text").into() => panic!("at the disco"),
        Some(payload) if payload == json!("format").into() => panic!("at {}", 7),
        _ => std::panic::panic_any(7),
    });
    for (how, text) in [("text", "at the disco"), ("format", "at 7"), ("other", "of no text")] {
        let pid = processes.spawn(&root, start("test:panics").with_message(json!(how))).unwrap();
        let exit = exit_of(&processes, pid).await;
        let ExitReason::Panicked(message) = &exit.reason else { panic!("{exit:?}") };
        assert_eq!(**message, format!("panicked: {text}"));
        assert_eq!(exit.reason.as_str(), "panicked");
        assert_eq!(exit.reason.to_string(), format!("it panicked: {text}"));
    }
}

#[tokio::test]
async fn a_process_that_is_terminated_was_killed() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:forever")).unwrap();
    processes.terminate(pid).unwrap();
    let exit = exit_of(&processes, pid).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    assert_eq!((exit.reason.as_str(), &*exit.reason.to_string()), ("killed", "it was terminated"));
}

#[tokio::test]
async fn an_error_of_the_kind_cancelled_is_a_failure_where_nobody_cancelled() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:cancelled", async |_, _| {
        Err(CallError::new(ErrorKind::Cancelled, "by itself"))
    });
    let exit = exit_of(&processes, processes.spawn(&root, start("test:cancelled")).unwrap()).await;
    assert!(matches!(&exit.reason, ExitReason::Failed(error) if error.message() == "by itself"), "{exit:?}");
}

#[tokio::test]
async fn exec_gives_what_the_process_gave_or_how_it_ended() {
    let (processes, root) = manager(HostConfig::default());
    let exec = |message: &str| processes.exec(&root, start("test:obey").with_message(json!(message)));
    assert_eq!(within("exec", exec("done")).await.unwrap(), json!("done").into());
    let bytes = start("test:done").with_payload(vec![1, 2, 3]);
    assert_eq!(within("exec", processes.exec(&root, bytes)).await.unwrap(), vec![1, 2, 3].into());

    let error = within("exec", exec("fail")).await.unwrap_err();
    let ExecError::Exit { exit } = &error else { panic!("{error:?}") };
    assert!(matches!(&exit.reason, ExitReason::Failed(error) if error.message() == "told to fail"));
    let pid = exit.pid;
    assert_eq!(error.to_string(), format!("{pid} ended without a result: it failed: told to fail"));
    assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid, "as that of the process");

    let error = within("exec", exec("panic")).await.unwrap_err();
    assert!(matches!(&error, ExecError::Exit { exit } if exit.reason.as_str() == "panicked"), "{error:?}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Internal);

    let error = within("exec", processes.exec(&root, start("test:nothing"))).await.unwrap_err();
    assert!(matches!(&error, ExecError::Spawn(SpawnError::UnknownEntry { .. })), "{error:?}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn exec_that_is_over_or_dropped_leaves_the_process() {
    let (processes, root) = manager(HostConfig::default());
    let token = CancellationToken::new();
    let ctx = root.with_cancellation(token.clone());
    let cancel = async {
        tokio::task::yield_now().await;
        token.cancel();
    };
    let exec = within("exec", processes.exec(&ctx, start("test:obey")));
    let (over, ()) = tokio::join!(exec, cancel);
    let error = over.unwrap_err();
    let ExecError::ContextEnded { pid, source } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::Cancelled);
    let pid = *pid;
    assert_eq!(CallError::from(error).kind(), ErrorKind::Cancelled);

    let late = root.with_timeout(Duration::from_millis(1));
    let error = within("exec", processes.exec(&late, start("test:obey"))).await.unwrap_err();
    let ExecError::ContextEnded { pid: second, .. } = &error else { panic!("{error:?}") };
    let second = *second;

    tokio::select! {
        biased;
        _ = processes.exec(&root, start("test:obey").with_name("third")) => panic!("it waits"),
        () = std::future::ready(()) => (),
    }
    let third = processes.whereis("third").unwrap();
    for pid in [pid, second, third] {
        processes.send(&root, pid, json!("done")).await.unwrap();
        assert!(exit_of(&processes, pid).await.reason.is_normal());
    }
}

#[tokio::test]
async fn so_many_exits_are_remembered_and_the_oldest_is_forgotten() {
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(2), HostConfig::default());
    let mut ended = Vec::new();
    for _ in 0..3 {
        let pid = processes.spawn(&root, start("test:done")).unwrap();
        exit_of(&processes, pid).await;
        ended.push(pid);
    }
    let error = processes.monitor(ended[0]).unwrap_err();
    assert!(matches!(&error, ProcessError::Unknown { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("unknown process {}; it never existed, or its exit has been forgotten", ended[0])
    );
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    for &pid in &ended[1..] {
        assert!(exit_of(&processes, pid).await.reason.is_normal());
    }
}

/// Else anybody who tries in vain, again and again, makes that be forgotten which did end.
#[tokio::test]
async fn a_start_that_was_refused_is_no_exit_to_remember() {
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(1), HostConfig::default());
    let pid = processes.spawn(&root, start("test:done")).unwrap();
    exit_of(&processes, pid).await;
    processes.register_lifecycle(crate::lifecycle::Refuses).unwrap();
    for _ in 0..3 {
        let error = processes.spawn(&root, start("test:done")).unwrap_err();
        assert!(matches!(error, SpawnError::Refused { .. }), "{error:?}");
    }
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

#[tokio::test]
async fn where_no_exit_is_remembered_only_who_asked_before_is_told() {
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(0), HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.send(&root, pid, json!("done")).await.unwrap();
    assert!(within("a monitor for the exit", exit).await.reason.is_normal());
    assert!(matches!(processes.monitor(pid), Err(ProcessError::Unknown { .. })));
    assert!(matches!(processes.terminate(pid), Err(ProcessError::Unknown { .. })));
}

#[tokio::test]
async fn what_is_done_to_who_has_ended_says_how_it_ended() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey").with_message(json!("fail"))).unwrap();
    exit_of(&processes, pid).await;
    let living = processes.spawn(&root, start("test:obey")).unwrap();
    for error in [
        processes.cancel(pid, "late", LONG).unwrap_err(),
        processes.terminate(pid).unwrap_err(),
        processes.link(pid, living).unwrap_err(),
        processes.link(living, pid).unwrap_err(),
        processes.register_name("name", pid).unwrap_err(),
    ] {
        assert!(matches!(&error, ProcessError::Ended { exit } if exit.pid == pid), "{error:?}");
        assert_eq!(error.to_string(), format!("{pid} has ended: it failed: told to fail"));
        assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    }
    assert!(processes.info(pid).is_none());
    processes.unlink(pid, living);
    let never = Pid::next(Host::named("local@test:host"));
    let error = processes.terminate(never).unwrap_err();
    assert!(
        matches!(&error, ProcessError::Unknown { process } if *process == never.to_string()),
        "{error:?}"
    );
}
