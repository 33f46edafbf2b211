//! What the failure of a process is to those it is linked to.

use frame_dispatch::process::{
    Exit, ExitReason, HostConfig, LinkDown, Message, ProcessContext, ProcessManager,
};
use frame_dispatch::{CallContext, Payload, Pid};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{LONG, exit_of, manager, register_saying, said, start, until, within};

fn start_obeying<const N: usize>(processes: &ProcessManager, root: &CallContext) -> [Pid; N] {
    [(); N].map(|()| processes.spawn(root, start("test:obey")).unwrap())
}

async fn tell(processes: &ProcessManager, root: &CallContext, pid: Pid, what: &str) {
    processes.send(root, pid, json!(what)).await.unwrap();
}

fn link_down(exit: &Exit) -> &LinkDown {
    let ExitReason::LinkDown(down) = &exit.reason else { panic!("{exit:?}") };
    down
}

#[tokio::test]
async fn a_failure_ends_the_linked_process_either_way_round() {
    let (processes, root) = manager(HostConfig::default());
    for first_fails in [true, false] {
        for how in ["fail", "panic"] {
            let [one, other] = start_obeying(&processes, &root);
            processes.link(one, other).unwrap();
            assert_eq!(processes.info(one).unwrap().links, [other]);
            assert_eq!(processes.info(other).unwrap().links, [one]);
            let (fails, ends) = if first_fails { (one, other) } else { (other, one) };
            tell(&processes, &root, fails, how).await;
            let exit = exit_of(&processes, ends).await;
            let down = link_down(&exit);
            assert_eq!((down.origin, exit.reason.as_str()), (fails, "link_down"));
            let cause = exit_of(&processes, fails).await.reason.to_string();
            assert_eq!(down.reason.to_string(), cause);
            assert_eq!(
                exit.reason.to_string(),
                format!("a process that it was linked to or owned by, {fails}, ended before: {cause}")
            );
        }
    }
}

#[tokio::test]
async fn to_be_terminated_or_cancelled_is_a_failure_to_those_linked() {
    let (processes, root) = manager(HostConfig::default());
    let [one, other] = start_obeying(&processes, &root);
    processes.link(one, other).unwrap();
    processes.terminate(one).unwrap();
    let exit = exit_of(&processes, other).await;
    assert!(matches!(*link_down(&exit).reason, ExitReason::Killed), "{exit:?}");

    let [one, other] = start_obeying(&processes, &root);
    processes.link(one, other).unwrap();
    processes.cancel(one, "enough", LONG).unwrap();
    let exit = exit_of(&processes, other).await;
    assert!(
        matches!(&*link_down(&exit).reason, ExitReason::Cancelled(why) if **why == *"enough"),
        "{exit:?}"
    );
}

#[tokio::test]
async fn a_normal_end_leaves_the_other() {
    let (processes, root) = manager(HostConfig::default());
    let [one, other] = start_obeying(&processes, &root);
    processes.link(one, other).unwrap();
    tell(&processes, &root, one, "done").await;
    exit_of(&processes, one).await;
    tell(&processes, &root, other, "done").await;
    assert!(exit_of(&processes, other).await.reason.is_normal());
}

#[tokio::test]
async fn linking_again_is_no_second_link() {
    let (processes, root) = manager(HostConfig::default());
    let [one, other] = start_obeying(&processes, &root);
    for (a, b) in [(one, other), (one, other), (other, one)] {
        processes.link(a, b).unwrap();
        assert_eq!(processes.info(one).unwrap().links, [other]);
        assert_eq!(processes.info(other).unwrap().links, [one]);
    }
    processes.unlink(other, one);
    assert!(processes.info(one).unwrap().links.is_empty() && processes.info(other).unwrap().links.is_empty());
    processes.unlink(other, one);
    tell(&processes, &root, one, "fail").await;
    exit_of(&processes, one).await;
    tell(&processes, &root, other, "done").await;
    assert!(exit_of(&processes, other).await.reason.is_normal());
}

#[tokio::test]
async fn a_link_to_oneself_is_none() {
    let (processes, root) = manager(HostConfig::default());
    let [pid] = start_obeying(&processes, &root);
    processes.link(pid, pid).unwrap();
    assert!(processes.info(pid).unwrap().links.is_empty());
    processes.unlink(pid, pid);
    tell(&processes, &root, pid, "fail").await;
    assert_eq!(exit_of(&processes, pid).await.reason.as_str(), "failed");
}

/// Traps, links to whom it is told of, and says what it receives.
fn trapper(processes: &ProcessManager, root: &CallContext) -> (Pid, UnboundedReceiver<Message>) {
    let receiver = register_saying(processes, "test:traps", async |mut ctx: ProcessContext, _, say| {
        ctx.trap_links(true);
        loop {
            let message = ctx.receive().await;
            if let Message::Sent { payload, .. } = &message {
                match payload.as_json().and_then(|it| it.as_str()) {
                    Some("trap no more") => ctx.trap_links(false),
                    Some(pid) => ctx.link(pid.parse().unwrap())?,
                    None => return Ok(Payload::default()),
                }
            }
            say.send(message).unwrap();
        }
    });
    (processes.spawn(root, start("test:traps")).unwrap(), receiver)
}

#[tokio::test]
async fn who_traps_is_told_and_goes_on() {
    let (processes, root) = manager(HostConfig::default());
    let (trapper, mut receiver) = trapper(&processes, &root);
    for how in ["fail", "panic", "done"] {
        let [pid] = start_obeying(&processes, &root);
        processes.send(&root, trapper, json!(pid.to_string())).await.unwrap();
        said(&mut receiver).await;
        assert_eq!(processes.info(trapper).unwrap().links, [pid]);
        tell(&processes, &root, pid, how).await;
        let cause = exit_of(&processes, pid).await.reason;
        if !cause.is_normal() {
            let message = said(&mut receiver).await;
            let Message::LinkDown(exit) = message else { panic!("{message:?}") };
            assert_eq!((exit.pid, exit.reason.to_string()), (pid, cause.to_string()));
        }
        until("the link for its end", || processes.info(trapper).unwrap().links.is_empty()).await;
    }
    // Its own failure is that of those linked as before.
    let [pid, second] = start_obeying(&processes, &root);
    for linked in [pid, second] {
        processes.send(&root, trapper, json!(linked.to_string())).await.unwrap();
        said(&mut receiver).await;
    }
    processes.send(&root, trapper, json!("trap no more")).await.unwrap();
    said(&mut receiver).await;
    tell(&processes, &root, pid, "fail").await;
    for ends in [trapper, second] {
        let exit = exit_of(&processes, ends).await;
        assert_eq!(link_down(&exit).origin, pid);
    }
}

#[tokio::test]
async fn a_process_is_not_ended_by_linking_to_one_that_has_ended() {
    let (processes, root) = manager(HostConfig::default());
    let ended = processes.spawn(&root, start("test:obey").with_message(json!("fail"))).unwrap();
    exit_of(&processes, ended).await;
    let mut receiver = register_saying(&processes, "test:links", async |ctx, payload, say| {
        let pid = payload.as_json().unwrap().as_str().unwrap().parse().unwrap();
        say.send(ctx.link(pid).unwrap_err().to_string()).unwrap();
        ctx.unlink(pid);
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:links").with_payload(json!(ended.to_string()))).unwrap();
    assert_eq!(said(&mut receiver).await, format!("{ended} has ended: it failed: told to fail"));
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

#[tokio::test]
async fn a_start_with_a_link_is_linked_however_soon_it_fails() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:parent", async |mut ctx, _, say| {
        ctx.trap_links(true);
        for _ in 0..100 {
            let pid = ctx.spawn(start("test:obey").with_message(json!("fail")).with_link())?;
            let Message::LinkDown(exit) = ctx.receive().await else { panic!("something else") };
            assert_eq!(exit.pid, pid);
        }
        say.send(()).unwrap();
        Ok(Payload::default())
    });
    let parent = processes.spawn(&root, start("test:parent")).unwrap();
    said(&mut receiver).await;
    assert!(exit_of(&processes, parent).await.reason.is_normal());
}

#[tokio::test]
async fn in_a_long_chain_all_end_and_say_who_was_first_and_why() {
    const LINKED: usize = 10_000;
    let (processes, root) = manager(HostConfig::default());
    let pids: Vec<_> = (0..LINKED).map(|_| processes.spawn(&root, start("test:obey")).unwrap()).collect();
    for pair in pids.windows(2) {
        processes.link(pair[0], pair[1]).unwrap();
    }
    let exits: Vec<_> = pids.iter().map(|&pid| processes.monitor(pid).unwrap()).collect();
    let first = pids[LINKED / 2];
    tell(&processes, &root, first, "fail").await;
    for (&pid, exit) in pids.iter().zip(exits) {
        let exit = within("each of a chain for its end", exit).await;
        assert_eq!(exit.pid, pid);
        if pid == first {
            assert_eq!(exit.reason.as_str(), "failed");
        } else {
            let down = link_down(&exit);
            assert_eq!((down.origin, down.reason.as_str()), (first, "failed"));
        }
    }
    assert!(processes.is_empty());
}

#[tokio::test]
async fn in_a_cycle_each_ends_once() {
    const LINKED: usize = 100;
    let (processes, root) = manager(HostConfig::default());
    let pids: Vec<_> = (0..LINKED).map(|_| processes.spawn(&root, start("test:obey")).unwrap()).collect();
    for index in 0..LINKED {
        for far in [1, 7, 50] {
            processes.link(pids[index], pids[(index + far) % LINKED]).unwrap();
        }
    }
    tell(&processes, &root, pids[3], "panic").await;
    for &pid in &pids {
        let exit = exit_of(&processes, pid).await;
        if pid != pids[3] {
            assert_eq!(link_down(&exit).origin, pids[3]);
        }
    }
    assert!(processes.is_empty());
}
