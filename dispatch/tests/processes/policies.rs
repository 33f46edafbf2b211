//! Starts that a policy of the program allows or refuses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::process::supervisor::{ChildSpec, Restart, Strategy, Supervisor};
use frame_dispatch::process::{
    ExecError, ExitReason, HostConfig, Message, ProcessContext, ProcessError, SpawnError, SpawnRequest,
};
use frame_dispatch::{CallError, ErrorKind, Payload};
use frame_registry::Options;
use serde_json::json;

use crate::support::{Counts, exit_of, host_id, manager, register, start, tenant_option, until};

fn full(_: &SpawnRequest<'_>) -> Result<(), CallError> {
    Err(CallError::new(ErrorKind::Exhausted, "come back tomorrow"))
}

#[tokio::test]
async fn what_a_policy_refuses_is_an_error_with_its_reason_and_nothing_is_done_for_it() {
    let host = HostConfig::default().with_processes(1).with_spawn_policy(full);
    let (processes, root) = manager(host);
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    // The resolver of this option panics, and is not asked.
    let start = start("test:obey").with_name("name").with_options(tenant_option("anarchy"));
    let error = processes.spawn(&root, start).unwrap_err();
    assert!(matches!(&error, SpawnError::NotAllowed { reason, .. } if reason.kind() == ErrorKind::Exhausted));
    assert_eq!(error.to_string(), "`test:obey` may not be spawned on `test:host`: come back tomorrow");
    let error = CallError::from(error);
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
    assert_eq!((counts.get(), processes.len(), processes.whereis("name")), ((0, 0), 0, None));
}

#[tokio::test]
async fn a_policy_is_told_what_is_started_where_and_by_which_process() {
    let (processes, root) = manager(HostConfig::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    processes.set_spawn_policy(move |request: &SpawnRequest<'_>| {
        let process = request.process().map(|process| (process.entry().to_string(), process.pid()));
        assert_eq!(request.parent(), process.as_ref().map(|process| process.1));
        assert_eq!((request.engine(), request.host()), ("native", &host_id()));
        let asked = (request.entry().to_string(), request.name().map(str::to_owned), process.map(|it| it.0));
        telling.lock().unwrap().push(asked);
        Ok(())
    });
    register(&processes, "test:starter", async |ctx: ProcessContext, _| {
        ctx.spawn(start("test:done").with_name("own"))?;
        Ok(Payload::default())
    });
    processes.exec(&root, start("test:starter")).await.unwrap();
    let expected = [
        ("test:starter".to_owned(), None, None),
        ("test:done".to_owned(), Some("own".to_owned()), Some("test:starter".to_owned())),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_policies_of_the_manager_and_of_the_host_both_have_to_agree() {
    let only_done = |request: &SpawnRequest<'_>| match request.entry().as_str() {
        "test:done" => Ok(()),
        _ => Err(CallError::new(ErrorKind::Denied, "not on this host")),
    };
    let (processes, root) = manager(HostConfig::default().with_spawn_policy(only_done));
    processes.exec(&root, start("test:done")).await.unwrap();
    processes.spawn(&root, start("test:obey")).unwrap_err();
    processes.set_spawn_policy(|_: &SpawnRequest<'_>| Err(CallError::new(ErrorKind::Denied, "not at all")));
    let error = processes.exec(&root, start("test:done")).await.unwrap_err();
    assert!(error.to_string().ends_with("not at all"), "{error}");
    processes.set_spawn_policy(|_: &SpawnRequest<'_>| Ok(()));
    processes.exec(&root, start("test:done")).await.unwrap();
}

#[tokio::test]
async fn a_policy_that_panics_refuses() {
    let panics = |_: &SpawnRequest<'_>| -> Result<(), CallError> { panic!("out of order") };
    let (processes, root) = manager(HostConfig::default().with_spawn_policy(panics));
    let error = processes.exec(&root, start("test:done")).await.unwrap_err();
    let ExecError::Spawn(error) = error else { panic!("{error}") };
    assert!(error.to_string().contains("the spawn policy panicked: out of order"), "{error}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Internal);
    assert!(processes.is_empty());
}

#[tokio::test]
async fn the_holder_of_a_name_is_signalled_without_a_policy_and_a_new_one_is_not_started() {
    let (processes, root) = manager(HostConfig::default());
    let holder = processes.spawn(&root, start("test:obey").with_name("one")).unwrap();
    processes.set_spawn_policy(full);
    let signal = start("test:obey").with_name("one").with_message(json!("done"));
    let started = processes.spawn_or_signal(&root, signal.clone()).await.unwrap();
    assert_eq!(started.pid(), holder);
    exit_of(&processes, holder).await;
    let error = processes.spawn_or_signal(&root, signal).await.unwrap_err();
    assert!(matches!(error, SpawnError::NotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn a_policy_holds_for_the_children_of_a_supervisor_and_their_restarts() {
    let (processes, root) = manager(HostConfig::default());
    let allowed = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&allowed);
    processes.set_spawn_policy(move |request: &SpawnRequest<'_>| {
        let is_child = request.process().is_some_and(|process| process.entry().as_str() == "test:main");
        let is_left =
            || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !is_child || is_left() { Ok(()) } else { Err(CallError::new(ErrorKind::Denied, "that is enough")) }
    });
    let child =
        ChildSpec::new("child", start("test:obey").with_name("child")).with_restart(Restart::Permanent);
    let supervisor = Supervisor::builder(Strategy::OneForOne).child(child).build().unwrap();
    let handle = supervisor.handle();
    processes.register("test:main".parse().unwrap(), Options::new(), supervisor).unwrap();
    let main = processes.spawn(&root, start("test:main")).unwrap();
    assert_eq!(handle.ready().await, main);
    let exit = processes.monitor(main).unwrap();
    for _ in 0..2 {
        let child = processes.lookup(&root, "child", Duration::from_mins(1)).await.unwrap();
        processes.terminate(child).unwrap();
        exit_of(&processes, child).await;
    }
    // What is refused is tried again, and counts as a failed restart.
    let exit = exit.await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert!(ExitReason::Failed(Arc::clone(error)).to_string().contains("that is enough"), "{exit:?}");
    until("the last", || processes.is_empty()).await;
}

#[tokio::test]
async fn a_policy_that_keeps_the_manager_is_dropped_when_that_has_stopped() {
    let (processes, root) = manager(HostConfig::default());
    let (kept, asked) = (processes.clone(), Arc::new(AtomicUsize::new(0)));
    let weak = Arc::downgrade(&asked);
    processes.set_spawn_policy(move |request: &SpawnRequest<'_>| {
        asked.fetch_add(1, Ordering::SeqCst);
        match request.parent().map(|parent| kept.monitor(parent)) {
            Some(Err(ProcessError::Unknown { .. })) => Err(CallError::invalid("there is no such parent")),
            _ => Ok(()),
        }
    });
    register(&processes, "test:waits", async |mut ctx: ProcessContext, _| {
        while !matches!(ctx.receive().await, Message::Cancelled { .. }) {}
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:waits")).unwrap();
    processes.stop(Duration::from_mins(1)).await;
    assert!(weak.upgrade().is_none());
}
