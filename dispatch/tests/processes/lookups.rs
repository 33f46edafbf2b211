//! Looking for a name, and waiting for it.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, LookupError, ProcessContext};
use frame_dispatch::{CallError, ErrorKind};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{LONG, exit_of, manager, register, start, until, within};

#[tokio::test]
async fn a_name_that_is_bound_is_found_at_once() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey").with_name("db")).unwrap();
    assert_eq!(processes.lookup(&root, "db", Duration::ZERO).await.unwrap(), pid);
}

#[tokio::test]
async fn all_that_wait_for_a_name_are_told_of_the_process_that_has_it() {
    let (processes, root) = manager(HostConfig::default());
    let mut waiting = JoinSet::new();
    for name in ["db", "db", "cache", "db"] {
        let (processes, root) = (processes.clone(), root.clone());
        waiting.spawn(async move { (name, processes.lookup(&root, name, LONG).await.unwrap()) });
    }
    tokio::task::yield_now().await;
    let db = processes.spawn(&root, start("test:obey").with_name("db")).unwrap();
    for _ in 0..3 {
        assert_eq!(within("the name", waiting.join_next()).await.unwrap().unwrap(), ("db", db));
    }
    // A name can also be given later.
    let cache = processes.spawn(&root, start("test:obey")).unwrap();
    processes.register_name("cache", cache).unwrap();
    assert_eq!(within("the name", waiting.join_next()).await.unwrap().unwrap(), ("cache", cache));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_waited_for_no_longer_than_said_nor_than_the_caller_may() {
    let (processes, root) = manager(HostConfig::default());
    let begun = tokio::time::Instant::now();
    let error = processes.lookup(&root, "db", Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(&error, LookupError::NotFound { name, .. } if name == "db"), "{error}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    assert_eq!(begun.elapsed().as_secs(), 3);

    let narrowed = root.with_timeout(Duration::from_secs(2));
    let error = processes.lookup(&narrowed, "db", LONG).await.unwrap_err();
    assert!(matches!(error, LookupError::ContextEnded { .. }), "{error}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Deadline);
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_name_that_no_process_can_have_is_not_waited_for() {
    let (processes, root) = manager(HostConfig::default());
    for name in ["", "{local@test:host|0x1}", "\u{202e}"] {
        let error = within("an error", processes.lookup(&root, name, LONG)).await.unwrap_err();
        assert!(matches!(error, LookupError::InvalidName { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_away_again_is_waited_for_again() {
    let (processes, root) = manager(HostConfig::default());
    let first = processes.spawn(&root, start("test:obey").with_name("db")).unwrap();
    processes.terminate(first).unwrap();
    exit_of(&processes, first).await;
    register(&processes, "test:looks", async |ctx: ProcessContext, _| {
        Ok(json!(ctx.lookup("db", LONG).await?.to_string()).into())
    });
    let looks = processes.spawn(&root, start("test:looks")).unwrap();
    let exit = processes.monitor(looks).unwrap();
    tokio::task::yield_now().await;
    let second = processes.spawn(&root, start("test:obey").with_name("db")).unwrap();
    let found = within("the second", exit).await.result.unwrap();
    assert_eq!(*found, json!(second.to_string()).into());
}

/// Names that come and go on one thread while others wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost_between_a_look_and_a_wait() {
    let (processes, root) = manager(HostConfig::default());
    for round in 0..500 {
        let name = format!("name {round}");
        let lookup = tokio::spawn({
            let (processes, root, name) = (processes.clone(), root.clone(), name.clone());
            async move { processes.lookup(&root, &name, LONG).await.unwrap() }
        });
        let pid = processes.spawn(&root, start("test:obey").with_name(name)).unwrap();
        assert_eq!(within("a name", lookup).await.unwrap(), pid);
        processes.terminate(pid).unwrap();
    }
    until("the last", || processes.is_empty()).await;
}
