//! What the end of an owner is to the processes that it owns.

use frame_dispatch::process::{ExitReason, HostConfig, Message, ProcessContext, ProcessManager, SpawnError};
use frame_dispatch::{CallError, Payload, Pid};
use frame_registry::Options;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::support::{exit_of, manager, start, until, within};

/// Registers `test:owner`, which starts what it is told as its own, and ends as it is told.
fn register_owner(processes: &ProcessManager) {
    let run = async |mut ctx: ProcessContext, owned: Payload| {
        for entry in owned.as_json().and_then(|owned| owned.as_array()).into_iter().flatten() {
            let owned = start(entry.as_str().unwrap()).with_owner();
            ctx.spawn(owned).unwrap();
        }
        loop {
            if let Message::Sent { payload, .. } = ctx.receive().await {
                return match payload.as_json().and_then(|how| how.as_str()) {
                    Some("fail") => Err(CallError::invalid("told to fail")),
                    Some("panic") => panic!("told to panic"),
                    _ => Ok(Payload::default()),
                };
            }
        }
    };
    processes.register("test:owner".parse().unwrap(), Options::new(), run).unwrap();
}

/// Registers `test:trap`, which traps whatever it can, unlinks itself from its parent, and never ends by itself.
fn register_trap(processes: &ProcessManager) {
    processes.register("test:trap".parse().unwrap(), Options::new(), trap).unwrap();
}

async fn trap(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    ctx.trap_links(true);
    if let Some(parent) = ctx.processes().parent(ctx.pid()) {
        ctx.unlink(parent);
    }
    loop {
        ctx.receive().await;
    }
}

fn owned_by(processes: &ProcessManager, owner: Pid) -> Vec<Pid> {
    let list = processes.processes();
    list.iter().filter(|process| process.parent == Some(owner)).map(|process| process.pid).collect()
}

#[tokio::test]
async fn what_is_owned_ends_with_its_owner_however_that_ends_and_whatever_it_traps() {
    for how in ["done", "fail", "panic", "terminate"] {
        let (processes, root) = manager(HostConfig::default());
        register_owner(&processes);
        register_trap(&processes);
        let entries = json!(["test:trap", "test:trap"]);
        let owner = processes.spawn(&root, start("test:owner").with_payload(entries)).unwrap();
        until("the test for the owned", || owned_by(&processes, owner).len() == 2).await;
        let children = owned_by(&processes, owner);
        let exits: Vec<_> = children.iter().map(|&pid| processes.monitor(pid).unwrap()).collect();
        match how {
            "terminate" => processes.terminate(owner).unwrap(),
            how => processes.send(&root, owner, json!(how)).await.unwrap(),
        }
        for exit in exits {
            let exit = within("a monitor", exit).await;
            let ExitReason::LinkDown(down) = &exit.reason else { panic!("{how}: {exit:?}") };
            assert_eq!(down.origin, owner);
            assert_eq!(down.reason.is_normal(), how == "done", "{exit:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_of_an_end_finds_nothing_left_of_what_it_owned() {
    let (processes, root) = manager(HostConfig::default());
    register_owner(&processes);
    register_trap(&processes);
    for _ in 0..200 {
        let entries = json!(["test:trap", "test:trap", "test:trap"]);
        let owner = processes.spawn(&root, start("test:owner").with_payload(entries)).unwrap();
        until("the test for the owned", || owned_by(&processes, owner).len() == 3).await;
        let exit = processes.monitor(owner).unwrap();
        processes.terminate(owner).unwrap();
        within("a monitor", exit).await;
        assert!(processes.is_empty(), "{}", processes.processes());
    }
}

#[tokio::test]
async fn an_owned_process_that_ends_is_nothing_to_its_owner() {
    let (processes, root) = manager(HostConfig::default());
    register_owner(&processes);
    let owner = processes.spawn(&root, start("test:owner").with_payload(json!(["test:done"]))).unwrap();
    until("the test for the owned", || owned_by(&processes, owner).is_empty() && processes.len() == 1).await;
    let exit = processes.monitor(owner).unwrap();
    processes.send(&root, owner, json!("done")).await.unwrap();
    assert!(within("a monitor", exit).await.reason.is_normal());
}

#[tokio::test]
async fn only_a_process_can_own_another() {
    let (processes, root) = manager(HostConfig::default());
    let error = processes.spawn(&root, start("test:obey").with_owner()).unwrap_err();
    assert!(matches!(error, SpawnError::NoProcess), "{error:?}");
}

/// A process that starts another of its kind as its own, until there are enough.
async fn chain(
    mut ctx: ProcessContext,
    left: Payload,
    last: UnboundedSender<Pid>,
) -> Result<Payload, CallError> {
    match left.as_json().and_then(serde_json::Value::as_u64) {
        Some(0) => last.send(ctx.pid()).unwrap(),
        Some(left) => _ = ctx.spawn(start("test:chain").with_payload(json!(left - 1)).with_owner())?,
        None => panic!("no number"),
    }
    loop {
        ctx.receive().await;
    }
}

#[tokio::test]
async fn processes_may_own_each_other_to_any_depth() {
    let (processes, root) = manager(HostConfig::default());
    let (last, mut is_last) = unbounded_channel();
    let run = move |ctx: ProcessContext, left: Payload| chain(ctx, left, last.clone());
    processes.register("test:chain".parse().unwrap(), Options::new(), run).unwrap();
    let first = processes.spawn(&root, start("test:chain").with_payload(json!(100_000))).unwrap();
    within("the test for the last", is_last.recv()).await.unwrap();
    processes.terminate(first).unwrap();
    let exit = exit_of(&processes, first).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    until("the test for all to end", || processes.is_empty()).await;
}

/// What a process that is being terminated starts has no owner that ends.
#[tokio::test]
async fn a_process_that_is_terminated_owns_nothing_new() {
    let (processes, root) = manager(HostConfig::default());
    let (kept, mut got) = unbounded_channel::<ProcessContext>();
    let run = move |ctx: ProcessContext, _: Payload| {
        let kept = kept.clone();
        async move {
            kept.send(ctx).unwrap();
            std::future::pending::<Result<Payload, CallError>>().await
        }
    };
    processes.register("test:lend".parse().unwrap(), Options::new(), run).unwrap();
    let owner = processes.spawn(&root, start("test:lend")).unwrap();
    let ctx = within("the test for a context", got.recv()).await.unwrap();
    processes.terminate(owner).unwrap();
    assert!(ctx.spawn(start("test:obey").with_owner()).is_err());
    until("the test for the end", || processes.is_empty()).await;
}
