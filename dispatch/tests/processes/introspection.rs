//! What is said of the processes there are.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig, ProcessState};
use frame_dispatch::{Payload, Pid};
use serde_json::json;

use crate::support::{
    LONG, exit_of, manager, manager_with, register, register_saying, said, start, tenant_option, until,
};

#[tokio::test(start_paused = true)]
async fn a_process_is_described_in_full_as_data_and_as_text() {
    let config = ManagerConfig::default().with_node("edge-7");
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(8));
    let mut receiver = register_saying(&processes, "test:parent", async |mut ctx, _, say| {
        let child =
            start("test:forever").with_name("b").with_options(tenant_option("acme")).with_message(json!(1));
        let child = ctx.spawn(child.with_link().with_monitor())?;
        ctx.processes().register_name("a", child)?;
        say.send(child).unwrap();
        ctx.receive().await;
        Ok(Payload::default())
    });
    let parent = processes.spawn(&root, start("test:parent")).unwrap();
    let child = said(&mut receiver).await;
    tokio::time::advance(Duration::from_millis(61_500)).await;
    until("the parent for a message", || processes.info(parent).unwrap().state == ProcessState::Receiving)
        .await;

    let info = processes.info(child).unwrap();
    assert_eq!((info.pid, &*info.names, info.mailbox), (child, &["a".to_owned(), "b".to_owned()][..], 1));
    assert_eq!(
        (info.entry.as_str(), info.host.as_str(), info.engine),
        ("test:forever", "test:host", "native")
    );
    assert_eq!((info.parent, &*info.links, &*info.monitors), (Some(parent), &[parent][..], &[][..]));
    assert_eq!((info.state, info.uptime), (ProcessState::Running, Duration::from_millis(61_500)));
    assert_eq!(info.frame, ["process", "pid", "tenant"]);
    let of_parent = processes.info(parent).unwrap();
    assert_eq!((&*of_parent.links, &*of_parent.monitors), (&[child][..], &[child][..]));
    assert_eq!((of_parent.parent, of_parent.state), (None, ProcessState::Receiving));

    let list = processes.processes();
    assert_eq!(list.iter().map(|info| info.pid).collect::<Vec<_>>(), [parent, child], "the oldest first");
    assert_eq!(
        serde_json::to_value(&list).unwrap()[1],
        json!({
            "pid": child.to_string(),
            "names": ["a", "b"],
            "entry": "test:forever",
            "host": "test:host",
            "engine": "native",
            "state": "running",
            "mailbox": 1,
            "frame": ["process", "pid", "tenant"],
            "parent": parent.to_string(),
            "owner": null,
            "links": [parent.to_string()],
            "monitors": [],
            "uptime": 61.5,
        })
    );
    let (parent, child) = (parent.to_string(), child.to_string());
    let text = list.to_string();
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        [
            "PID", "NAME", "ENTRY", "HOST", "ENGINE", "STATE", "MAILBOX", "PARENT", "LINKS", "MONITORS",
            "UPTIME", "FRAME"
        ]
    );
    assert_eq!(
        rows[1],
        [
            &*parent,
            "test:parent",
            "test:host",
            "native",
            "receiving",
            "0",
            &*child,
            &*child,
            "1m",
            "1s",
            "process",
            "pid"
        ]
    );
    assert_eq!(
        rows[2],
        [
            &*child,
            "a",
            "b",
            "test:forever",
            "test:host",
            "native",
            "running",
            "1",
            &*parent,
            &*parent,
            "1m",
            "1s",
            "process",
            "pid",
            "tenant"
        ]
    );
    assert_eq!(rows.len(), 3);
    assert!(parent.starts_with("{edge-7@test:host|0x"), "{parent}");
    assert!(text.lines().all(|line| line == line.trim_end()));
}

#[tokio::test]
async fn a_process_says_what_it_does() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:stays", async |mut ctx, _| {
        loop {
            ctx.receive().await;
        }
    });
    let pid = processes.spawn(&root, start("test:stays")).unwrap();
    let state = || processes.info(pid).unwrap().state;
    assert_eq!(state(), ProcessState::Running, "spawned, and not yet run");
    until("a process for a message", || state() == ProcessState::Receiving).await;
    processes.cancel(pid, "enough", LONG).unwrap();
    assert_eq!(state(), ProcessState::Cancelled);
    processes.terminate(pid).unwrap();
    assert_eq!(state(), ProcessState::Ending);
    exit_of(&processes, pid).await;
    assert!(processes.info(pid).is_none());
    let states = [
        (ProcessState::Starting, "starting"),
        (ProcessState::Running, "running"),
        (ProcessState::Receiving, "receiving"),
        (ProcessState::Cancelled, "cancelled"),
        (ProcessState::Ending, "ending"),
    ];
    for (state, text) in states {
        assert_eq!((state.as_str(), format!("{state:>9}")), (text, format!("{text:>9}")));
        assert_eq!(serde_json::to_value(state).unwrap(), json!(text));
    }
}

#[tokio::test]
async fn a_table_of_none_is_its_head() {
    let (processes, root) = manager(HostConfig::default());
    assert_eq!(serde_json::to_value(processes.processes()).unwrap(), json!([]));
    assert_eq!(processes.processes().to_string().lines().count(), 1);
    assert!(processes.is_empty() && processes.processes().is_empty());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    assert_eq!((processes.len(), processes.is_empty(), processes.processes().len()), (1, false, 1));
    let of_list: Vec<Pid> = processes.processes().into_iter().map(|info| info.pid).collect();
    assert_eq!(of_list, [pid]);
    assert_eq!((&processes.processes()).into_iter().count(), 1);
}

#[tokio::test]
async fn what_is_registered_is_listed_sorted() {
    let (processes, _root) = manager(HostConfig::default());
    processes.register_host("app:a".parse().unwrap(), HostConfig::default()).unwrap();
    let texts = |ids: Vec<String>| ids.join(" ");
    assert_eq!(texts(processes.host_ids().iter().map(ToString::to_string).collect()), "app:a test:host");
    let entries = || texts(processes.ids().iter().map(ToString::to_string).collect());
    assert_eq!(entries(), "test:done test:forever test:obey");
    assert!(processes.unregister(&"test:forever".parse().unwrap()));
    assert!(!processes.unregister(&"test:forever".parse().unwrap()));
    assert_eq!(entries(), "test:done test:obey");
}
