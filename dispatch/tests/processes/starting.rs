//! Starting, and what refuses it.

use std::collections::HashSet;
use std::time::Duration;

use frame_dispatch::process::{HostConfig, Message, Process, ProcessContext, Spawn, SpawnError};
use frame_dispatch::{BoxFuture, CallContext, CallError, ErrorKind, PID, Payload, Pid, Task};
use frame_registry::Options;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Counts, LONG, exit_of, manager, register, register_saying, said, start, tenant_option, within,
};

#[tokio::test]
async fn an_unknown_host_and_an_unknown_entry_are_errors() {
    let (processes, root) = manager(HostConfig::default());
    let elsewhere = Spawn::new("test:other".parse().unwrap(), "test:done".parse().unwrap());
    let error = processes.spawn(&root, elsewhere).unwrap_err();
    assert!(
        matches!(&error, SpawnError::UnknownHost { host, .. } if host.as_str() == "test:other"),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "unknown host `test:other`; register it");
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    let error = processes.spawn(&root, start("test:nothing")).unwrap_err();
    assert!(matches!(&error, SpawnError::UnknownEntry { entry, .. } if entry.as_str() == "test:nothing"));
    assert_eq!(error.to_string(), "unknown process `test:nothing`; register it");
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);

    let misspelt = Spawn::new("test:hots".parse().unwrap(), "test:done".parse().unwrap());
    let error = processes.spawn(&root, misspelt).unwrap_err();
    assert_eq!(error.to_string(), "unknown host `test:hots`; did you mean `test:host`?");
    let error = processes.spawn(&root, start("test:forevr")).unwrap_err();
    assert_eq!(error.to_string(), "unknown process `test:forevr`; did you mean `test:forever`?");
}

/// Something that runs in an engine of its own.
struct Odd;

impl Process for Odd {
    fn engine(&self) -> &'static str {
        "odd"
    }

    fn run(&self, _: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async { Ok(payload) })
    }
}

#[tokio::test]
async fn a_host_runs_only_the_engines_that_it_is_for() {
    let (processes, root) = manager(HostConfig::default().with_engines(["odd".to_owned(), "lua".to_owned()]));
    processes.register("test:odd".parse().unwrap(), Options::new(), Odd).unwrap();
    let error = processes.spawn(&root, start("test:done")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "host `test:host` does not run `test:done`, which is native; it runs odd, lua"
    );
    assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
    let pid = processes.spawn(&root, start("test:odd")).unwrap();
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

/// The host has no place at all, so it was asked if that is the error.
#[tokio::test]
async fn where_a_resolver_refuses_nothing_is_run_and_the_host_is_not_asked() {
    let (processes, root) = manager(HostConfig::default().with_processes(0));
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    let start = || start("test:done").with_name("first");
    assert!(matches!(processes.spawn(&root, start()), Err(SpawnError::HostFull { .. })));
    let error = processes.spawn(&root, start().with_options(tenant_option("nobody"))).unwrap_err();
    assert!(matches!(&error, SpawnError::Denied { .. }), "{error:?}");
    let chain = std::error::Error::source(&error).unwrap().to_string();
    assert!(chain.contains("tenant"), "{chain}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Denied);
    assert_eq!((counts.get(), processes.whereis("first"), processes.len()), ((0, 0), None, 0));
}

#[tokio::test]
async fn where_a_resolver_panics_nothing_is_run_and_the_starter_goes_on() {
    let (processes, root) = manager(HostConfig::default().with_processes(0));
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    let start = start("test:done").with_name("first").with_options(tenant_option("anarchy"));
    let error = processes.spawn(&root, start).unwrap_err();
    assert!(matches!(&error, SpawnError::ResolverPanicked { .. }), "{error:?}");
    assert_eq!(error.to_string(), "a resolver of its frame panicked: out of order");
    assert_eq!((counts.get(), processes.whereis("first"), processes.len()), ((0, 0), None, 0));
}

#[tokio::test]
async fn a_refused_start_leaves_the_place_and_the_name_to_the_next() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    for tenant in ["nobody", "anarchy"] {
        let start = start("test:obey").with_name("first").with_options(tenant_option(tenant));
        processes.spawn(&root, start).unwrap_err();
    }
    let pid = processes.spawn(&root, start("test:obey").with_name("first")).unwrap();
    assert_eq!(processes.whereis("first"), Some(pid));
}

#[tokio::test]
async fn no_pid_is_given_twice_and_each_reads_back_from_its_text() {
    let (processes, root) = manager(HostConfig::default());
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let pid = processes.spawn(&root, start("test:done")).unwrap();
        assert!(seen.insert(pid), "{pid} was given twice");
        assert_eq!(pid.to_string().parse::<Pid>().unwrap(), pid);
        assert!(pid.to_string().starts_with("{local@test:host|0x"), "{pid}");
        assert!(exit_of(&processes, pid).await.reason.is_normal());
    }
}

#[tokio::test]
async fn messages_of_the_start_are_there_first_and_in_order() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        while let Some(Message::Sent { payload, from: None, .. }) = ctx.try_receive() {
            say.send(payload).unwrap();
        }
        Ok(Payload::default())
    });
    let start = (0..10).fold(start("test:tell"), |start, number| start.with_message(json!(number)));
    let pid = processes.spawn(&root, start).unwrap();
    for number in 0..10 {
        assert_eq!(said(&mut said_by).await, json!(number).into());
    }
    exit_of(&processes, pid).await;
}

/// Others know its name before it is spawned, and send to it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobodys_message_comes_before_those_of_the_start_or_takes_their_room() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(2));
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        say.send(ctx.try_receive().and_then(Message::into_payload)).unwrap();
        say.send(ctx.try_receive().and_then(Message::into_payload)).unwrap();
        Ok(Payload::default())
    });
    let over = CancellationToken::new();
    let other = std::thread::spawn({
        let (processes, root, over) = (processes.clone(), root.clone(), over.clone());
        move || {
            while !over.is_cancelled() {
                let _ = processes.try_send(&root, "named", json!("other"));
            }
        }
    });
    for _ in 0..1000 {
        let start =
            start("test:tell").with_name("named").with_message(json!("one")).with_message(json!("two"));
        let pid = processes.spawn(&root, start).unwrap();
        assert_eq!(said(&mut said_by).await, Some(json!("one").into()));
        assert_eq!(said(&mut said_by).await, Some(json!("two").into()));
        exit_of(&processes, pid).await;
    }
    over.cancel();
    other.join().unwrap();
}

#[tokio::test]
async fn more_messages_than_the_mailbox_holds_are_refused() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(2));
    let start = |messages| (0..messages).fold(start("test:forever"), |start, _| start.with_message(json!(1)));
    let error = processes.spawn(&root, start(3)).unwrap_err();
    assert_eq!(error.to_string(), "3 initial messages do not fit into its mailbox, which holds 2");
    assert!(processes.is_empty());
    let pid = processes.spawn(&root, start(2)).unwrap();
    assert_eq!(processes.info(pid).unwrap().mailbox, 2);
}

#[tokio::test]
async fn what_is_no_process_cannot_link_or_monitor_as_it_starts() {
    let (processes, root) = manager(HostConfig::default());
    let refused = |ctx: &CallContext| {
        for start in [start("test:done").with_link(), start("test:done").with_monitor()] {
            let error = processes.spawn(ctx, start).unwrap_err();
            assert!(matches!(error, SpawnError::NoProcess), "{error:?}");
        }
        assert!(processes.processes().iter().all(|process| process.entry.as_str() == "test:calls"));
    };
    refused(&root);
    // Nor can a function that a process calls: a link of that would be gone with the next line.
    let functions = processes.functions();
    let inside = processes.clone();
    let function = move |ctx: CallContext, _| {
        let error = inside.spawn(&ctx, start("test:done").with_link()).unwrap_err();
        async move { Ok::<Payload, CallError>(json!(error.to_string()).into()) }
    };
    functions.register("test:starts".parse().unwrap(), Options::new(), function).unwrap();
    register(&processes, "test:calls", async |ctx, _| {
        ctx.ctx().call(Task::new("test:starts".parse().unwrap())).await
    });
    let call = || Task::new("test:starts".parse().unwrap());
    let from_function = within("a call", root.call(call())).await.unwrap();
    let from_process = within("exec", processes.exec(&root, start("test:calls"))).await.unwrap();
    assert_eq!(from_function, from_process);
    assert_eq!(from_process, json!(SpawnError::NoProcess.to_string()).into());
}

/// What a frame says in the place of its PID is of no account for who its children are of.
#[tokio::test]
async fn the_parent_is_the_process_that_starts_whatever_its_frame_says() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:parent", async |ctx, _, say| {
        let child = ctx.spawn(start("test:forever")).unwrap();
        say.send((ctx.pid(), ctx.processes().parent(child))).unwrap();
        Ok(Payload::default())
    });
    let another = processes.spawn(&root, start("test:forever")).unwrap();
    processes.spawn(&root, start("test:parent").with_pair(PID.pair(another))).unwrap();
    let (parent, of_child) = said(&mut said_by).await;
    assert_eq!(of_child, Some(parent), "and not {another}");
}

#[tokio::test]
async fn who_is_over_starts_nothing() {
    let (processes, root) = manager(HostConfig::default());
    let token = CancellationToken::new();
    token.cancel();
    let cancelled = root.with_cancellation(token);
    let late = root.with_timeout(Duration::ZERO);
    for (ctx, kind) in [(cancelled, ErrorKind::Cancelled), (late, ErrorKind::Deadline)] {
        let error = processes.spawn(&ctx, start("test:forever")).unwrap_err();
        assert!(matches!(&error, SpawnError::ContextEnded { source } if source.kind() == kind), "{error:?}");
        assert_eq!(CallError::from(error).kind(), kind);
    }
    assert!(processes.is_empty());
}

#[tokio::test]
async fn a_process_outlives_the_call_that_started_it() {
    let (processes, root) = manager(HostConfig::default());
    let token = CancellationToken::new();
    let ctx = root.with_cancellation(token.clone()).with_timeout(LONG);
    let mut said_by = register_saying(&processes, "test:bounds", async |mut ctx, _, say| {
        ctx.receive().await;
        say.send((ctx.ctx().deadline(), ctx.ctx().is_cancelled())).unwrap();
        ctx.receive().await;
        Ok(json!("done").into())
    });
    let pid = processes.spawn(&ctx, start("test:bounds")).unwrap();
    token.cancel();
    processes.send(&root, pid, json!(1)).await.unwrap();
    assert_eq!(
        said(&mut said_by).await,
        (None, false),
        "neither the token nor the deadline is the process's"
    );
    processes.send(&root, pid, json!(2)).await.unwrap();
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

#[tokio::test(start_paused = true)]
async fn a_process_outlives_the_deadline_of_its_starter() {
    let (processes, root) = manager(HostConfig::default());
    let ctx = root.with_timeout(Duration::from_secs(1));
    let pid = processes.spawn(&ctx, start("test:obey")).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(ctx.check().unwrap_err().kind(), ErrorKind::Deadline);
    processes.send(&root, pid, json!("done")).await.unwrap();
    assert!(exit_of(&processes, pid).await.reason.is_normal());
}

#[tokio::test]
async fn a_process_outlives_the_process_that_started_it() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:parent", async |ctx, _| {
        let child = ctx.spawn(start("test:obey"))?;
        Ok(json!(child.to_string()).into())
    });
    let child = within("exec", processes.exec(&root, start("test:parent"))).await.unwrap();
    let child: Pid = child.as_json().unwrap().as_str().unwrap().parse().unwrap();
    processes.send(&root, child, json!("done")).await.unwrap();
    assert!(exit_of(&processes, child).await.reason.is_normal());
}

#[tokio::test]
async fn what_a_process_spawned_is_cancelled_when_it_ends() {
    let (processes, root) = manager(HostConfig::default());
    let function = async |_: CallContext, payload| Ok::<Payload, CallError>(payload);
    processes.functions().register("test:any".parse().unwrap(), Options::new(), function).unwrap();
    let mut said_by = register_saying(&processes, "test:spawns", async |mut ctx, _, say| {
        say.send(ctx.ctx().clone()).unwrap();
        ctx.receive().await;
        Ok(Payload::default())
    });
    for is_terminated in [false, true] {
        let pid = processes.spawn(&root, start("test:spawns")).unwrap();
        let ctx = said(&mut said_by).await;
        let task = tokio::spawn({
            let ctx = ctx.clone();
            async move { ctx.cancelled().await }
        });
        assert!(!ctx.is_cancelled());
        if is_terminated {
            processes.terminate(pid).unwrap();
        } else {
            processes.send(&root, pid, json!(1)).await.unwrap();
        }
        within("what it spawned for its end", task).await.unwrap();
        assert!(ctx.is_cancelled());
        let error = ctx.call(Task::new("test:any".parse().unwrap())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        exit_of(&processes, pid).await;
        let error = processes.spawn(&ctx, start("test:done")).unwrap_err();
        assert!(matches!(error, SpawnError::ContextEnded { .. }), "{error:?}");
    }
}
