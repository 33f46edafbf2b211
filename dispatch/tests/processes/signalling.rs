//! Starting by a name, or signalling who has it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use frame_dispatch::process::{
    Exit, HostConfig, Lifecycle, ManagerConfig, Message, ProcessContext, ProcessManager, ProcessRef,
    SendErrorReason, SpawnError, Spawned,
};
use frame_dispatch::{CallError, ErrorKind, Payload};
use frame_registry::BoxError;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{
    BOUND, all_gone, exit_of, manager, manager_with, register, register_saying, said, start, tenant_option,
    within,
};

#[tokio::test]
async fn without_a_name_it_is_a_start() {
    let (processes, root) = manager(HostConfig::default());
    let first = processes.spawn_or_signal(&root, start("test:obey")).await.unwrap();
    let second = processes.spawn_or_signal(&root, start("test:obey")).await.unwrap();
    assert!(matches!((first, second), (Spawned::New(a), Spawned::New(b)) if a != b), "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_start_by_a_name_one_does_and_the_others_signal_it() {
    const TASKS: usize = 64;
    const EACH: usize = 3;
    let (processes, root) = manager(HostConfig::default().with_mailbox(8));
    let mut all = register_saying(&processes, "test:collect", async |mut ctx, _, say| {
        let mut seen = HashMap::<_, usize>::new();
        for _ in 0..TASKS * EACH {
            let Message::Sent { payload, .. } = ctx.receive().await else { panic!("something else") };
            *seen.entry(payload.as_json().unwrap().to_string()).or_default() += 1;
        }
        say.send((ctx.pid(), seen)).unwrap();
        std::future::pending().await
    });
    for _ in 0..20 {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (processes, root) = (processes.clone(), root.clone());
                let start = (0..EACH).fold(start("test:collect").with_name("winner"), |start, message| {
                    start.with_message(json!([task, message]))
                });
                tokio::spawn(async move { processes.spawn_or_signal(&root, start).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        let mut pids = Vec::new();
        for task in tasks {
            let started = within("one that starts by a name", task).await.unwrap();
            pids.push(started.pid());
            if let Spawned::New(pid) = started {
                winners.push(pid);
            }
        }
        let (holder, seen) = said(&mut all).await;
        assert_eq!(winners, [holder], "exactly one");
        assert!(pids.iter().all(|&pid| pid == holder));
        assert_eq!(seen.len(), TASKS * EACH);
        assert!(seen.values().all(|&times| times == 1), "{seen:?}");
        processes.terminate(holder).unwrap();
        exit_of(&processes, holder).await;
    }
}

/// The holder takes one message and ends, with what else is in its mailbox; whoever finds it gone starts the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_holders_end_meanwhile_all_come_to_one_that_lived() {
    const TASKS: usize = 200;
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    register(&processes, "test:once", async |mut ctx, _| Ok(ctx.receive().await.into_payload().unwrap()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (processes, root) = (processes.clone(), root.clone());
            let start = start("test:once").with_name("holder").with_message(json!(task));
            tokio::spawn(async move { processes.spawn_or_signal(&root, start).await.unwrap() })
        })
        .collect();
    let (mut started, mut signalled) = (HashSet::new(), HashSet::new());
    for task in tasks {
        match within("one that starts by a name", task).await.unwrap() {
            Spawned::New(pid) => assert!(started.insert(pid), "{pid} was started twice"),
            Spawned::Signalled(pid) => _ = signalled.insert(pid),
            other => panic!("{other:?}"),
        }
    }
    assert!(signalled.is_subset(&started), "nobody signals one that was not started");
    for pid in started {
        assert!(exit_of(&processes, pid).await.reason.is_normal());
    }
    all_gone(&processes).await;
    assert_eq!(processes.whereis("holder"), None);
}

#[tokio::test]
async fn who_waits_for_room_at_the_holder_starts_another_where_that_ends() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let holder =
        processes.spawn(&root, start("test:forever").with_name("name").with_message(json!(0))).unwrap();
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        say.send(ctx.receive().await.into_payload()).unwrap();
        Ok(Payload::default())
    });
    let signal = start("test:tell").with_name("name").with_message(json!(1));
    let mut waits = Box::pin(processes.spawn_or_signal(&root, signal));
    tokio::select! {
        biased;
        started = &mut waits => panic!("there is no room: {started:?}"),
        () = std::future::ready(()) => (),
    }
    processes.terminate(holder).unwrap();
    let started = within("who waits for room, for the end of the holder", waits).await.unwrap();
    assert!(matches!(started, Spawned::New(pid) if pid != holder), "{started:?}");
    assert_eq!(said(&mut said_by).await, Some(json!(1).into()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_mailbox_stays_full_is_named_in_the_error() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_secs(5));
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(1));
    let holder =
        processes.spawn(&root, start("test:forever").with_name("name").with_message(json!(0))).unwrap();
    let signal = start("test:done").with_name("name").with_message(json!(1));
    let error = within("a signal for room", processes.spawn_or_signal(&root, signal)).await.unwrap_err();
    let SpawnError::NotSignalled { holder: named, source } = &error else { panic!("{error:?}") };
    assert_eq!(*named, holder);
    assert!(matches!(source.reason, SendErrorReason::Full { capacity: 1 }), "{source:?}");
    assert_eq!(*source.payload, json!(1).into(), "it is given back");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Exhausted);
    assert_eq!(processes.len(), 1);
}

#[tokio::test]
async fn a_signal_without_messages_is_a_look_up() {
    let (processes, root) = manager(HostConfig::default());
    let holder = processes.spawn(&root, start("test:obey").with_name("name")).unwrap();
    let started = processes.spawn_or_signal(&root, start("test:obey").with_name("name")).await.unwrap();
    assert_eq!(started, Spawned::Signalled(holder));
}

#[tokio::test]
async fn what_refuses_a_start_refuses_it_here_too() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:other", async |_, payload| Ok(payload));
    let start = start("test:other").with_name("name");
    let denied = processes.spawn_or_signal(&root, start.clone().with_options(tenant_option("nobody"))).await;
    assert!(matches!(denied, Err(SpawnError::Denied { .. })), "{denied:?}");
    let invalid = processes.spawn_or_signal(&root, start.with_name("{")).await;
    assert!(matches!(invalid, Err(SpawnError::InvalidName { .. })), "{invalid:?}");
}

/// The first has received one message of two, and ends as the other waits for room.
#[tokio::test]
async fn where_the_holder_ends_meanwhile_the_next_is_given_the_messages_that_are_left() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(2));
    let go_on = Arc::new(Notify::new());
    let waits = Arc::clone(&go_on);
    let mut said_by = register_saying(&processes, "test:two", move |mut ctx: ProcessContext, _, say| {
        let waits = Arc::clone(&waits);
        async move {
            waits.notified().await;
            while let Some(message) = ctx.try_receive() {
                say.send((ctx.pid(), message.into_payload().unwrap())).unwrap();
            }
            Ok(Payload::default())
        }
    });
    let holder =
        processes.spawn(&root, start("test:two").with_name("name").with_message(json!("before"))).unwrap();
    let signal = start("test:two").with_name("name").with_message(json!("one")).with_message(json!("two"));
    let mut waiting = Box::pin(processes.spawn_or_signal(&root, signal));
    tokio::select! {
        biased;
        started = &mut waiting => panic!("there is room for one only: {started:?}"),
        () = std::future::ready(()) => (),
    }
    assert_eq!(processes.info(holder).unwrap().mailbox, 2);
    processes.terminate(holder).unwrap();
    let started = within("who waits for room, for the end of the holder", waiting).await.unwrap();
    let Spawned::New(next) = started else { panic!("{started:?}") };
    go_on.notify_one();
    assert_eq!(said(&mut said_by).await, (next, json!("two").into()), "the other was the first's");
    exit_of(&processes, next).await;
    assert!(said_by.try_recv().is_err());
}

/// Says that a process starts, and holds it up there.
struct HoldsUp(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl Lifecycle for HoldsUp {
    fn name(&self) -> &'static str {
        "holds_up"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        let first = self.0.lock().unwrap().take();
        if let Some((is_asked, may_go_on)) = first {
            is_asked.send(()).unwrap();
            may_go_on.recv_timeout(BOUND).unwrap();
        }
        Ok(())
    }

    fn ended(&self, _: &ProcessRef<'_>, _: Option<&Exit>) {}
}

fn holding_up(processes: &ProcessManager) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (is_asked, asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    processes.register_lifecycle(HoldsUp(Mutex::new(Some((is_asked, may_go_on))))).unwrap();
    (asked, go_on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_second_to_the_last_place_of_a_host_finds_the_first() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    let (asked, go_on) = holding_up(&processes);
    let named = || start("test:forever").with_name("name");
    let first = tokio::spawn({
        let (processes, root) = (processes.clone(), root.clone());
        async move { processes.spawn_or_signal(&root, named()).await }
    });
    tokio::task::spawn_blocking(move || asked.recv_timeout(BOUND).unwrap()).await.unwrap();
    let mut second = Box::pin(processes.spawn_or_signal(&root, named().with_message(json!(1))));
    tokio::select! {
        biased;
        started = &mut second => panic!("the first is not there yet: {started:?}"),
        () = std::future::ready(()) => (),
    }
    // One that gives up is in nobody's way.
    let ctx = root.with_timeout(Duration::ZERO);
    let over = processes.spawn_or_signal(&ctx, named()).await;
    assert!(matches!(over, Err(SpawnError::ContextEnded { .. })), "{over:?}");
    go_on.send(()).unwrap();
    let holder = within("the first", first).await.unwrap().unwrap().pid();
    let second = within("the second for its turn", second).await.unwrap();
    assert_eq!(second, Spawned::Signalled(holder));
    assert_eq!(processes.info(holder).unwrap().mailbox, 1);
}

#[tokio::test]
async fn who_has_the_name_is_monitored_and_linked_to_as_is_wanted() {
    let (processes, root) = manager(HostConfig::default());
    let holder = processes.spawn(&root, start("test:obey").with_name("name")).unwrap();
    let wanted = || start("test:obey").with_name("name").with_monitor().with_link();
    let mut said_by =
        register_saying(&processes, "test:signals", move |mut ctx: ProcessContext, _, say| async move {
            ctx.trap_links(true);
            for _ in 0..2 {
                let started = ctx.processes().spawn_or_signal(ctx.ctx(), wanted()).await.unwrap();
                assert!(matches!(started, Spawned::Signalled(_)), "{started:?}");
            }
            let info = ctx.processes().info(ctx.pid()).unwrap();
            assert_eq!((info.monitors.len(), info.links.len()), (1, 1));
            let last = wanted().with_message(json!("fail"));
            ctx.processes().spawn_or_signal(ctx.ctx(), last).await.unwrap();
            for _ in 0..2 {
                say.send(ctx.receive().await).unwrap();
            }
            Ok(Payload::default())
        });
    processes.spawn(&root, start("test:signals")).unwrap();
    for _ in 0..2 {
        match said(&mut said_by).await {
            Message::Exited { exit, .. } | Message::LinkDown(exit) => assert_eq!(exit.pid, holder),
            other => panic!("{other:?}"),
        }
    }
    processes.spawn(&root, start("test:obey").with_name("name")).unwrap();
    let refused = processes.spawn_or_signal(&root, wanted()).await;
    assert!(matches!(refused, Err(SpawnError::NoProcess)), "{refused:?}");
}

#[tokio::test]
async fn who_has_the_name_itself_is_not_monitored_by_itself() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:own", async |ctx, _, say| {
        let own = || start("test:own").with_name("name");
        let linked = ctx.processes().spawn_or_signal(ctx.ctx(), own().with_link()).await;
        let monitored = ctx.processes().spawn_or_signal(ctx.ctx(), own().with_monitor()).await;
        say.send((ctx.pid(), linked, monitored)).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:own").with_name("name")).unwrap();
    let (pid, linked, monitored) = said(&mut said_by).await;
    assert_eq!(linked.unwrap(), Spawned::Signalled(pid), "nothing happens");
    assert!(matches!(monitored, Err(SpawnError::NotMonitored { holder, .. }) if holder == pid));
}

/// It was there when it was asked for its child, and had ended when that was to be linked to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starter_that_ends_meanwhile_is_named_in_the_error() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:parent", async |mut ctx, _, say| {
        say.send(ctx.ctx().clone()).unwrap();
        ctx.receive().await;
        Ok(Payload::default())
    });
    let parent = processes.spawn(&root, start("test:parent")).unwrap();
    let ctx = said(&mut said_by).await;
    let (asked, go_on) = holding_up(&processes);
    let starter = std::thread::spawn({
        let processes = processes.clone();
        move || processes.spawn(&ctx, start("test:forever").with_link())
    });
    tokio::task::spawn_blocking(move || asked.recv_timeout(BOUND).unwrap()).await.unwrap();
    processes.terminate(parent).unwrap();
    exit_of(&processes, parent).await;
    go_on.send(()).unwrap();
    let error = starter.join().unwrap().unwrap_err();
    assert!(matches!(error, SpawnError::StarterEnded { starter } if starter == parent), "{error:?}");
    assert!(processes.is_empty());
}
