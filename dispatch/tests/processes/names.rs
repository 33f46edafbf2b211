//! Names: claimed, looked up, given up, and free again at the end.

use frame_dispatch::process::{HostConfig, ProcessError, SpawnError};
use frame_dispatch::{CallError, ErrorKind};
use serde_json::json;

use crate::support::{Counts, exit_of, manager, start, tenant_option, within};

#[tokio::test]
async fn a_name_that_is_taken_is_refused_and_says_by_whom() {
    let (processes, root) = manager(HostConfig::default());
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    let holder = processes.spawn(&root, start("test:obey").with_name("first")).unwrap();
    let error = processes.spawn(&root, start("test:obey").with_name("first")).unwrap_err();
    assert_eq!(error.to_string(), format!("the name \"first\" is taken by {holder}"));
    assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
    let other = processes.spawn(&root, start("test:obey")).unwrap();
    let error = processes.register_name("first", other).unwrap_err();
    assert!(matches!(&error, ProcessError::NameTaken { holder: it, .. } if *it == holder), "{error:?}");
    assert_eq!((processes.whereis("first"), processes.len(), counts.get()), (Some(holder), 2, (2, 0)));
}

#[tokio::test]
async fn what_can_be_no_name_is_refused() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    let (longest, too_long) = ("n".repeat(255), "é".repeat(128));
    for name in ["", "{local@test:host|0x1}", "{", "a\nb", "a\0", "\u{85}", &too_long] {
        let error = processes.spawn(&root, start("test:done").with_name(name)).unwrap_err();
        assert!(matches!(&error, SpawnError::InvalidName { .. }), "{name:?}: {error:?}");
        let same = processes.register_name(name, pid).unwrap_err();
        assert!(matches!(&same, ProcessError::InvalidName { .. }), "{name:?}: {same:?}");
        assert_eq!(error.to_string(), same.to_string());
        assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
    }
    for name in [&*longest, "a b", "}", "née", "a{b}"] {
        processes.register_name(name, pid).unwrap();
        assert_eq!(processes.whereis(name), Some(pid));
    }
}

#[tokio::test]
async fn a_process_has_as_many_names_as_it_is_given_each_once() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:obey").with_name("b")).unwrap();
    for name in ["a", "b", "a"] {
        processes.register_name(name, pid).unwrap();
    }
    assert_eq!(processes.info(pid).unwrap().names, ["a", "b"]);
    assert!(processes.unregister_name("a"));
    assert!(!processes.unregister_name("a"));
    assert_eq!((processes.whereis("a"), processes.whereis("b")), (None, Some(pid)));
    assert_eq!(processes.info(pid).unwrap().names, ["b"]);
}

#[tokio::test]
async fn a_name_is_free_when_its_holder_has_ended() {
    let (processes, root) = manager(HostConfig::default());
    for _ in 0..3 {
        let pid = processes.spawn(&root, start("test:obey").with_name("first")).unwrap();
        processes.register_name("second", pid).unwrap();
        processes.send(&root, "second", json!("fail")).await.unwrap();
        exit_of(&processes, pid).await;
        assert_eq!((processes.whereis("first"), processes.whereis("second")), (None, None));
        let error = processes.register_name("third", pid).unwrap_err();
        assert!(matches!(&error, ProcessError::Ended { exit } if exit.pid == pid), "{error:?}");
        assert_eq!(processes.whereis("third"), None);
    }
}

/// What it had been called is another's by then.
#[tokio::test]
async fn the_end_of_who_had_a_name_takes_it_from_nobody_else() {
    let (processes, root) = manager(HostConfig::default());
    let first = processes.spawn(&root, start("test:obey").with_name("name")).unwrap();
    assert!(processes.unregister_name("name"));
    let second = processes.spawn(&root, start("test:obey").with_name("name")).unwrap();
    processes.terminate(first).unwrap();
    exit_of(&processes, first).await;
    assert_eq!(processes.whereis("name"), Some(second));
    assert_eq!(processes.info(second).unwrap().names, ["name"]);
}

#[tokio::test]
async fn a_start_that_is_refused_behind_its_name_gives_it_up() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    let holder = processes.spawn(&root, start("test:obey")).unwrap();
    let named = || start("test:obey").with_name("name");
    assert!(matches!(processes.spawn(&root, named()), Err(SpawnError::HostFull { .. })));
    assert!(processes.spawn(&root, named().with_options(tenant_option("nobody"))).is_err());
    assert_eq!(processes.whereis("name"), None);
    processes.register_name("name", holder).unwrap();
}

/// Whoever is told who has a name can use that at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_name_is_found_by_its_pid() {
    let (processes, root) = manager(HostConfig::default());
    for _ in 0..1000 {
        let starters: Vec<_> = (0..2)
            .map(|_| {
                let (processes, root) = (processes.clone(), root.clone());
                tokio::spawn(async move {
                    match processes.spawn(&root, start("test:obey").with_name("name")) {
                        Ok(pid) => pid,
                        Err(SpawnError::NameTaken { holder, .. }) => {
                            processes.monitor(holder).unwrap_or_else(|error| panic!("{error}")).pid()
                        }
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        let mut pids = Vec::new();
        for starter in starters {
            pids.push(within("who starts by a name", starter).await.unwrap());
        }
        assert_eq!(pids[0], pids[1]);
        processes.terminate(pids[0]).unwrap();
        exit_of(&processes, pids[0]).await;
    }
}

#[tokio::test]
async fn a_process_has_a_bounded_number_of_names() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:forever")).unwrap();
    for number in 0..64 {
        processes.register_name(&format!("name-{number}"), pid).unwrap();
    }
    let error = processes.register_name("one-more", pid).unwrap_err();
    assert!(matches!(error, ProcessError::TooManyNames { limit: 64, .. }), "{error}");
    assert_eq!(processes.whereis("one-more"), None);
    assert!(processes.unregister_name("name-0"));
    processes.register_name("one-more", pid).unwrap();
}
