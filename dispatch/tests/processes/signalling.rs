//! Starting by a name, or signalling who has it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig, Message, SendErrorReason, StartError, Started};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;

use crate::support::{
    exit_of, manager, manager_with, register, register_saying, said, start, tenant_option, within,
};

#[tokio::test]
async fn without_a_name_it_is_a_start() {
    let (processes, root) = manager(HostConfig::default());
    let first = processes.start_or_signal(&root, start("test:obey")).await.unwrap();
    let second = processes.start_or_signal(&root, start("test:obey")).await.unwrap();
    assert!(matches!((first, second), (Started::New(a), Started::New(b)) if a != b), "{first:?} {second:?}");
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
                tokio::spawn(async move { processes.start_or_signal(&root, start).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        let mut pids = Vec::new();
        for task in tasks {
            let started = within("one that starts by a name", task).await.unwrap();
            pids.push(started.pid());
            if let Started::New(pid) = started {
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
            tokio::spawn(async move { processes.start_or_signal(&root, start).await.unwrap() })
        })
        .collect();
    let (mut started, mut signalled) = (HashSet::new(), HashSet::new());
    for task in tasks {
        match within("one that starts by a name", task).await.unwrap() {
            Started::New(pid) => assert!(started.insert(pid), "{pid} was started twice"),
            Started::Signalled(pid) => _ = signalled.insert(pid),
        }
    }
    assert!(signalled.is_subset(&started), "nobody signals one that was not started");
    for pid in started {
        assert!(exit_of(&processes, pid).await.reason.is_normal());
    }
    assert_eq!((processes.len(), processes.whereis("holder")), (0, None));
}

#[tokio::test]
async fn who_waits_for_room_at_the_holder_starts_another_where_that_ends() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let holder =
        processes.start(&root, start("test:forever").with_name("name").with_message(json!(0))).unwrap();
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        say.send(ctx.receive().await.into_payload()).unwrap();
        Ok(Payload::default())
    });
    let signal = start("test:tell").with_name("name").with_message(json!(1));
    let mut waits = Box::pin(processes.start_or_signal(&root, signal));
    tokio::select! {
        biased;
        started = &mut waits => panic!("there is no room: {started:?}"),
        () = std::future::ready(()) => (),
    }
    processes.terminate(holder).unwrap();
    let started = within("who waits for room, for the end of the holder", waits).await.unwrap();
    assert!(matches!(started, Started::New(pid) if pid != holder), "{started:?}");
    assert_eq!(said(&mut said_by).await, Some(json!(1).into()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_mailbox_stays_full_is_named_in_the_error() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_secs(5));
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(1));
    let holder =
        processes.start(&root, start("test:forever").with_name("name").with_message(json!(0))).unwrap();
    let signal = start("test:done").with_name("name").with_message(json!(1));
    let error = within("a signal for room", processes.start_or_signal(&root, signal)).await.unwrap_err();
    let StartError::NotSignalled { holder: named, source } = &error else { panic!("{error:?}") };
    assert_eq!(*named, holder);
    assert!(matches!(source.reason, SendErrorReason::Full { capacity: 1 }), "{source:?}");
    assert_eq!(*source.payload, json!(1).into(), "it is given back");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Exhausted);
    assert_eq!(processes.len(), 1);
}

#[tokio::test]
async fn a_signal_without_messages_is_a_look_up() {
    let (processes, root) = manager(HostConfig::default());
    let holder = processes.start(&root, start("test:obey").with_name("name")).unwrap();
    let started = processes.start_or_signal(&root, start("test:obey").with_name("name")).await.unwrap();
    assert_eq!(started, Started::Signalled(holder));
}

#[tokio::test]
async fn what_refuses_a_start_refuses_it_here_too() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:other", async |_, payload| Ok(payload));
    let start = start("test:other").with_name("name");
    let denied = processes.start_or_signal(&root, start.clone().with_options(tenant_option("nobody"))).await;
    assert!(matches!(denied, Err(StartError::Denied { .. })), "{denied:?}");
    let invalid = processes.start_or_signal(&root, start.with_name("{")).await;
    assert!(matches!(invalid, Err(StartError::InvalidName { .. })), "{invalid:?}");
}
