//! Who is told of an exit.

use std::collections::HashMap;

use frame_dispatch::process::{
    Exit, HostConfig, ManagerConfig, Message, MonitorRef, ProcessContext, ProcessError, ProcessManager,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Host, Payload, Pid};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{exit_of, manager, manager_with, register_saying, said, start, within};

/// What a process is told, or answers.
#[derive(Debug)]
enum Said {
    Exited(Exit),
    Did(Result<bool, ProcessError>),
}

/// A process that monitors, and ends the last monitor, as it is told, and says what it is told of.
fn watcher(processes: &ProcessManager, root: &CallContext) -> (Pid, UnboundedReceiver<Said>) {
    let receiver = register_saying(processes, "test:watch", async |mut ctx: ProcessContext, _, say| {
        let mut last = HashMap::new();
        loop {
            let message = ctx.receive().await;
            let said = match message {
                Message::Exited { exit, .. } => Said::Exited(*exit),
                Message::Sent { ref payload, .. } => {
                    let [what, whom]: [String; 2] =
                        serde_json::from_value(payload.as_json().unwrap().clone()).unwrap();
                    let whom: Pid = whom.parse().unwrap();
                    Said::Did(match &*what {
                        "monitor" => ctx.monitor(whom).map(|monitor| {
                            last.insert(whom, monitor);
                            true
                        }),
                        "demonitor" => {
                            Ok(ctx.demonitor(last.get(&whom).copied().unwrap_or_else(|| whom.into())))
                        }
                        _ => unreachable!("{what}"),
                    })
                }
                other => panic!("{other:?}"),
            };
            if say.send(said).is_err() {
                return Ok(Payload::default());
            }
        }
    });
    (processes.spawn(root, start("test:watch")).unwrap(), receiver)
}

async fn tell(processes: &ProcessManager, root: &CallContext, watcher: Pid, what: &str, whom: Pid) {
    processes.send(root, watcher, json!([what, whom.to_string()])).await.unwrap();
}

async fn did(receiver: &mut UnboundedReceiver<Said>) -> Result<bool, ProcessError> {
    match said(receiver).await {
        Said::Did(did) => did,
        other @ Said::Exited(_) => panic!("{other:?}"),
    }
}

async fn exited(receiver: &mut UnboundedReceiver<Said>) -> Exit {
    match said(receiver).await {
        Said::Exited(exit) => exit,
        other @ Said::Did(_) => panic!("{other:?}"),
    }
}

/// What it answers next shows that it was told nothing in between.
async fn is_told_nothing(
    processes: &ProcessManager,
    root: &CallContext,
    it: Pid,
    said: &mut UnboundedReceiver<Said>,
) {
    tell(processes, root, it, "demonitor", it).await;
    assert!(!did(said).await.unwrap());
}

#[tokio::test]
async fn a_process_is_told_of_an_exit_once() {
    let (processes, root) = manager(HostConfig::default());
    let (watcher, mut receiver) = watcher(&processes, &root);
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    tell(&processes, &root, watcher, "monitor", pid).await;
    assert!(did(&mut receiver).await.unwrap());
    assert_eq!(processes.info(watcher).unwrap().monitors, [pid]);
    processes.send(&root, pid, json!("done")).await.unwrap();
    let exit = exited(&mut receiver).await;
    assert_eq!((exit.pid, exit.reason.as_str()), (pid, "normal"));
    assert_eq!(exit.result.as_deref(), Some(&json!("done").into()));
    assert!(processes.info(watcher).unwrap().monitors.is_empty());
    is_told_nothing(&processes, &root, watcher, &mut receiver).await;
}

#[tokio::test]
async fn monitoring_oneself_or_an_unknown_process_is_an_error() {
    let (processes, root) = manager(HostConfig::default());
    let (watcher, mut receiver) = watcher(&processes, &root);
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    tell(&processes, &root, watcher, "monitor", pid).await;
    did(&mut receiver).await.unwrap();
    let never = Pid::next(Host::named("local@test:host"));
    for (whom, text, kind) in [
        (watcher, format!("{watcher} cannot monitor itself"), ErrorKind::Invalid),
        (
            never,
            format!("unknown process {never}; it never existed, or its exit has been forgotten"),
            ErrorKind::NotFound,
        ),
    ] {
        tell(&processes, &root, watcher, "monitor", whom).await;
        let error = did(&mut receiver).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(CallError::from(error).kind(), kind);
    }
    assert_eq!(processes.info(watcher).unwrap().monitors, [pid], "as it was");
    assert!(matches!(processes.monitor(never), Err(ProcessError::Unknown { .. })));
    processes.terminate(pid).unwrap();
    assert_eq!(exited(&mut receiver).await.pid, pid);
    is_told_nothing(&processes, &root, watcher, &mut receiver).await;
}

#[tokio::test]
async fn each_of_several_monitors_of_one_process_delivers_its_exit_and_ends_alone() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:watch", async |mut ctx, _, say| {
        let pid = ctx.spawn(start("test:obey").with_monitor())?;
        let [first, helper, second] = [(); 3].map(|()| ctx.monitor(pid).unwrap());
        assert!(ctx.demonitor(helper) && !ctx.demonitor(helper));
        assert_eq!(
            ctx.processes().info(ctx.pid()).unwrap().monitors,
            [pid],
            "one line, however many there are"
        );
        ctx.send(pid, json!("done")).await?;
        let mut told = Vec::new();
        for _ in 0..3 {
            let Message::Exited { monitor, exit } = ctx.receive().await else { panic!("something else") };
            assert_eq!((monitor.pid(), exit.pid), (pid, pid));
            told.push(monitor);
        }
        told.sort_unstable();
        assert_eq!(told, [MonitorRef::from(pid), first, second]);

        // Of two exits in the mailbox `demonitor` takes its own.
        let [one, other] = [(); 2].map(|()| ctx.monitor(pid).unwrap());
        assert!(ctx.demonitor(one));
        let Some(Message::Exited { monitor, .. }) = ctx.try_receive() else { panic!("nothing is left") };
        assert_eq!(monitor, other);
        say.send(ctx.try_receive().is_none()).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:watch")).unwrap();
    assert!(said(&mut receiver).await);
}

#[tokio::test]
async fn a_process_has_no_more_monitors_than_configured() {
    let (processes, root) = manager_with(ManagerConfig::default().with_monitors(2), HostConfig::default());
    let mut receiver = register_saying(&processes, "test:watch", async |ctx, _, say| {
        let pid = ctx.spawn(start("test:obey"))?;
        let first = ctx.monitor(pid)?;
        ctx.monitor(pid)?;
        let refused = ctx.monitor(pid).unwrap_err();
        ctx.demonitor(first);
        say.send((refused, ctx.monitor(pid).is_ok())).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:watch")).unwrap();
    let (refused, is_monitored) = said(&mut receiver).await;
    assert!(matches!(refused, ProcessError::TooManyMonitors { limit: 2, .. }) && is_monitored);
    assert_eq!(CallError::from(refused).kind(), ErrorKind::Exhausted);
}

#[test]
fn a_reference_is_read_from_its_text() {
    let pid = Pid::next(Host::named("local@test:}#0x1"));
    for text in [pid.to_string(), format!("{pid}#0x7")] {
        let monitor: MonitorRef = text.parse().unwrap();
        assert_eq!((monitor.pid(), monitor.to_string()), (pid, text));
    }
    for text in ["", "#0x1", "{local@test:none|0x00001}", &format!("{pid}#0x"), &format!("{pid}#7")] {
        assert!(text.parse::<MonitorRef>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn the_exit_of_one_that_has_ended_is_given_at_once() {
    let (processes, root) = manager(HostConfig::default());
    let (watcher, mut receiver) = watcher(&processes, &root);
    let pid = processes.spawn(&root, start("test:obey").with_message(json!("panic"))).unwrap();
    assert_eq!(exit_of(&processes, pid).await.reason.to_string(), "it panicked: told to panic");
    for _ in 0..2 {
        tell(&processes, &root, watcher, "monitor", pid).await;
        assert!(did(&mut receiver).await.unwrap());
        let exit = exited(&mut receiver).await;
        assert_eq!((exit.pid, exit.reason.to_string()), (pid, "it panicked: told to panic".to_owned()));
        assert!(exit.result.is_none());
    }
    let now = processes.monitor(pid).unwrap();
    assert_eq!(now.pid(), pid);
    tokio::select! {
        biased;
        exit = now => assert_eq!(exit.pid, pid),
        () = std::future::ready(()) => panic!("it is not ready at once"),
    }
}

#[tokio::test]
async fn all_who_monitor_are_told_each_once() {
    const EACH: usize = 50;
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:watch", async |mut ctx, payload, say| {
        ctx.monitor(payload.as_json().unwrap().as_str().unwrap().parse().unwrap())?;
        say.send(None).unwrap();
        loop {
            if let Message::Exited { exit, .. } = ctx.receive().await {
                say.send(Some((ctx.pid(), exit.pid))).unwrap();
            }
        }
    });
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    let outside: Vec<_> = (0..EACH).map(|_| processes.monitor(pid).unwrap()).collect();
    for _ in 0..EACH {
        processes.spawn(&root, start("test:watch").with_payload(json!(pid.to_string()))).unwrap();
        assert_eq!(said(&mut receiver).await, None);
    }
    processes.send(&root, pid, json!("done")).await.unwrap();
    for monitor in outside {
        let exit = within("each of many monitors", monitor).await;
        assert!(exit.reason.is_normal() && exit.result.is_some());
    }
    let mut told = Vec::new();
    for _ in 0..EACH {
        let (watcher, exited) = said(&mut receiver).await.unwrap();
        assert_eq!(exited, pid);
        told.push(watcher);
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), EACH);
    assert!(receiver.try_recv().is_err());
}

#[tokio::test]
async fn who_monitors_no_more_is_told_nothing() {
    let (processes, root) = manager(HostConfig::default());
    let (watcher, mut receiver) = watcher(&processes, &root);
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    tell(&processes, &root, watcher, "monitor", pid).await;
    did(&mut receiver).await.unwrap();
    tell(&processes, &root, watcher, "demonitor", pid).await;
    assert!(did(&mut receiver).await.unwrap());
    tell(&processes, &root, watcher, "demonitor", pid).await;
    assert!(!did(&mut receiver).await.unwrap(), "it was not any more");
    assert!(processes.info(watcher).unwrap().monitors.is_empty());
    processes.terminate(pid).unwrap();
    exit_of(&processes, pid).await;
    is_told_nothing(&processes, &root, watcher, &mut receiver).await;
}

#[tokio::test]
async fn an_exit_in_the_mailbox_is_gone_with_the_monitor() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:watch", async |mut ctx, _, say| {
        let pids = [(); 2].map(|()| ctx.spawn(start("test:obey").with_monitor()).unwrap());
        for pid in pids {
            ctx.processes().terminate(pid)?;
            // Told at the same time as the mailbox.
            ctx.processes().monitor(pid)?.await;
        }
        while ctx.processes().info(ctx.pid()).unwrap().mailbox < 2 {
            tokio::task::yield_now().await;
        }
        say.send((ctx.demonitor(pids[0]), ctx.demonitor(pids[0]))).unwrap();
        let Some(Message::Exited { exit, .. }) = ctx.try_receive() else { panic!("the other") };
        assert_eq!(exit.pid, pids[1]);
        assert!(ctx.try_receive().is_none());
        say.send((ctx.demonitor(pids[1]), false)).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:watch")).unwrap();
    assert_eq!(said(&mut receiver).await, (true, false));
    assert_eq!(said(&mut receiver).await, (false, false), "it was received");
}

#[tokio::test]
async fn a_start_with_a_monitor_tells_of_however_short_a_life() {
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(0), HostConfig::default());
    let mut receiver = register_saying(&processes, "test:parent", async |mut ctx, _, say| {
        for number in 0..100 {
            let pid = ctx.spawn(start("test:done").with_payload(json!(number)).with_monitor())?;
            let Message::Exited { exit, .. } = ctx.receive().await else { panic!("something else") };
            assert_eq!((exit.pid, exit.result.as_deref()), (pid, Some(&json!(number).into())));
        }
        say.send(ctx.try_receive().is_none()).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:parent")).unwrap();
    assert!(said(&mut receiver).await);
}

#[tokio::test]
async fn a_monitor_that_is_dropped_changes_nothing() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    let kept = processes.monitor(pid).unwrap();
    drop(processes.monitor(pid).unwrap());
    let mut polled = processes.monitor(pid).unwrap();
    tokio::select! {
        biased;
        _ = &mut polled => panic!("it lives"),
        () = std::future::ready(()) => (),
    }
    drop(polled);
    processes.send(&root, pid, json!("done")).await.unwrap();
    assert!(within("a monitor for the exit", kept).await.reason.is_normal());
}

#[tokio::test]
async fn a_full_mailbox_has_room_for_an_exit() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let mut receiver = register_saying(&processes, "test:watch", async |mut ctx, payload, say| {
        ctx.monitor(payload.as_json().unwrap().as_str().unwrap().parse().unwrap())?;
        say.send(0).unwrap();
        ctx.receive_where(|message| matches!(message, Message::Exited { .. })).await;
        say.send(1).unwrap();
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    let start = start("test:watch").with_payload(json!(pid.to_string())).with_message(json!("fills it"));
    let watcher = processes.spawn(&root, start).unwrap();
    assert_eq!(said(&mut receiver).await, 0);
    assert!(processes.try_send(&root, watcher, json!("full")).is_err());
    processes.terminate(pid).unwrap();
    assert_eq!(said(&mut receiver).await, 1);
}
