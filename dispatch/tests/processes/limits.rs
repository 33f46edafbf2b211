//! How many processes live at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use frame_dispatch::process::{ExecError, HostConfig, SpawnError};
use frame_dispatch::{CallError, ErrorKind};
use serde_json::json;

use crate::support::{exit_of, manager, register, start, within};

#[tokio::test]
async fn a_host_that_is_full_says_so() {
    let (processes, root) = manager(HostConfig::default().with_processes(2));
    let first = processes.spawn(&root, start("test:obey")).unwrap();
    processes.spawn(&root, start("test:obey")).unwrap();
    let error = processes.spawn(&root, start("test:obey")).unwrap_err();
    assert!(matches!(&error, SpawnError::HostFull { limit: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "host `test:host` has reached its process limit of 2");
    let error = CallError::from(error);
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
    processes.terminate(first).unwrap();
    exit_of(&processes, first).await;
    processes.spawn(&root, start("test:obey")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_takes_exactly_as_many_as_it_may_however_many_ask_at_once() {
    const LIMIT: usize = 50;
    const THREADS: usize = 8;
    let (processes, root) = manager(HostConfig::default().with_processes(LIMIT));
    for _ in 0..10 {
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (processes, root, barrier) = (processes.clone(), root.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    let starts = (0..LIMIT).map(|_| processes.spawn(&root, start("test:obey")));
                    starts
                        .filter_map(|started| match started {
                            Ok(pid) => Some(pid),
                            Err(SpawnError::HostFull { limit: LIMIT, .. }) => None,
                            Err(error) => panic!("{error}"),
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let started: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!((started.len(), processes.len()), (LIMIT, LIMIT));
        for &pid in &started {
            processes.terminate(pid).unwrap();
        }
        for pid in started {
            exit_of(&processes, pid).await;
        }
        // An exit is known a moment before the place is free.
        while !processes.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// Many come and go at once: those that run are counted from inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_are_never_more_than_may_be_also_as_they_come_and_go() {
    const LIMIT: usize = 3;
    let (processes, root) = manager(HostConfig::default().with_processes(LIMIT));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&running), Arc::clone(&most));
    register(&processes, "test:counted", move |_, payload| {
        let (running, most) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(payload)
        }
    });
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (processes, root) = (processes.clone(), root.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while done < 200 {
                    match processes.exec(&root, start("test:counted")).await {
                        Ok(_) => done += 1,
                        Err(ExecError::Spawn(SpawnError::HostFull { .. })) => {
                            tokio::task::yield_now().await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within("one of many that start", task).await.unwrap();
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=LIMIT).contains(&most), "{most}");
}

/// Whoever is told of the end of one can start the next in its place: a supervisor on a full host does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_process_is_free_when_its_end_is_told() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    for number in 0..2000 {
        let given =
            within("exec", processes.exec(&root, start("test:done").with_payload(json!(number)))).await;
        assert_eq!(given.unwrap_or_else(|error| panic!("{number}: {error}")), json!(number).into());
    }
}
