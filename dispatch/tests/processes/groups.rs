//! Groups, their members, and what is published to them.

use std::time::Duration;

use frame_dispatch::process::{GroupError, GroupId, HostConfig, Message, ProcessContext, ProcessError};
use frame_dispatch::{CallError, ErrorKind, Payload, Pid};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{LONG, all_gone, exit_of, host_id, manager, register, register_saying, said, start};

fn group(name: &str) -> GroupId {
    GroupId::new(host_id(), name).unwrap()
}

#[tokio::test]
async fn a_message_reaches_every_member_once_and_says_who_published_it() {
    let (processes, root) = manager(HostConfig::default());
    let news = group("news");
    let mut told = register_saying(&processes, "test:reader", async |mut ctx: ProcessContext, _, says| {
        assert!(ctx.join(&ctx.group("news").unwrap())?);
        says.send((ctx.pid(), None)).unwrap();
        let Message::Sent { from, payload, reply: None } = ctx.receive().await else { panic!("it is sent") };
        assert!(ctx.try_receive().is_none(), "it comes once");
        says.send((ctx.pid(), from)).unwrap();
        Ok(payload)
    });
    let readers: Vec<_> = (0..3).map(|_| processes.spawn(&root, start("test:reader")).unwrap()).collect();
    for _ in 0..3 {
        said(&mut told).await;
    }
    assert_eq!(processes.members(&news), readers);
    register(&processes, "test:writer", async |ctx: ProcessContext, _| {
        let published = ctx.publish(&ctx.group("news").unwrap(), json!("rain")).await;
        Ok(json!([published.delivered, published.full, ctx.pid().to_string()]).into())
    });
    let published = processes.exec(&root, start("test:writer")).await.unwrap();
    let published = published.as_json().unwrap().as_array().unwrap().clone();
    assert_eq!(published[..2], [3, 0]);
    let mut readers_told = Vec::new();
    for _ in 0..3 {
        let (reader, from) = said(&mut told).await;
        assert_eq!(from.unwrap().to_string(), published[2].as_str().unwrap());
        readers_told.push(reader);
    }
    readers_told.sort_unstable();
    assert_eq!(readers_told, readers);
}

#[tokio::test]
async fn a_member_with_a_full_mailbox_is_counted_and_holds_up_no_other() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let news = group("news");
    let [full, _] = [(); 2].map(|()| {
        let pid = processes.spawn(&root, start("test:forever")).unwrap();
        processes.join(&news, pid).unwrap();
        pid
    });
    processes.send(&root, full, json!("one")).await.unwrap();
    let published = processes.publish(&root, &news, json!("two")).await;
    assert_eq!((published.delivered, published.full), (1, 1));
    let published = processes.publish(&root, &group("none"), json!("three")).await;
    assert_eq!((published.delivered, published.full), (0, 0));
}

#[tokio::test]
async fn a_member_leaves_when_it_says_so_or_ends_before_its_end_is_told() {
    let (processes, root) = manager(HostConfig::default());
    let news = group("news");
    let [first, second] = [(); 2].map(|()| processes.spawn(&root, start("test:obey")).unwrap());
    assert!(processes.join(&news, first).unwrap() && processes.join(&news, second).unwrap());
    assert!(!processes.join(&news, first).unwrap(), "it is a member");
    assert!(processes.leave(&news, first) && !processes.leave(&news, first));
    assert_eq!(processes.members(&news), [second]);
    assert!(processes.join(&news, first).unwrap());
    let exit = processes.monitor(second).unwrap();
    processes.terminate(second).unwrap();
    exit.await;
    assert_eq!(processes.members(&news), [first]);
    let error = processes.join(&news, second).unwrap_err();
    assert!(matches!(error, GroupError::Process(ProcessError::Ended { .. })), "{error}");
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn groups_of_one_name_on_two_hosts_are_two() {
    let (processes, root) = manager(HostConfig::default());
    processes.register_host("test:other".parse().unwrap(), HostConfig::default()).unwrap();
    let [own, other] =
        ["test:host", "test:other"].map(|host| GroupId::new(host.parse().unwrap(), "news").unwrap());
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    processes.join(&other, pid).unwrap();
    assert_eq!((processes.members(&own), processes.members(&other)), (vec![], vec![pid]));
    let nowhere = GroupId::new("test:nowhere".parse().unwrap(), "news").unwrap();
    let error = processes.join(&nowhere, pid).unwrap_err();
    assert!(matches!(error, GroupError::UnknownHost { .. }), "{error}");
}

#[tokio::test]
async fn groups_and_members_are_limited_by_the_hosts() {
    let (processes, root) = manager(HostConfig::default().with_groups(2).with_group_members(1));
    let [first, second] = [(); 2].map(|()| processes.spawn(&root, start("test:obey")).unwrap());
    processes.join(&group("a"), first).unwrap();
    processes.join(&group("b"), first).unwrap();
    let error = processes.join(&group("c"), first).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{first} has reached its group limit of 2 (`groups` of its host); leave one first")
    );
    assert_eq!(CallError::from(error).kind(), ErrorKind::Exhausted);
    let error = processes.join(&group("a"), second).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the group a of test:host has reached its member limit of 1 (`group_members` of the host)"
    );
    processes.leave(&group("a"), first);
    processes.join(&group("a"), second).unwrap();
    processes.join(&group("c"), first).unwrap();
    for name in ["", "{", "\n"] {
        GroupId::new(host_id(), name).unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_end_on_two_workers_are_all_gone_afterwards() {
    let (processes, root) = manager(HostConfig::default());
    let news = group("news");
    register(&processes, "test:comes", async |ctx: ProcessContext, _| {
        ctx.watch_group(&group("news"))?;
        ctx.join(&group("news"))?;
        Ok(Payload::default())
    });
    register(&processes, "test:watches", async |mut ctx: ProcessContext, _| {
        ctx.watch_group(&group("news"))?;
        loop {
            match ctx.receive().await {
                Message::Cancelled { .. } => return Ok(Payload::default()),
                _ => _ = ctx.publish(&group("news"), json!("read all about it")).await,
            }
        }
    });
    let watcher = processes.spawn(&root, start("test:watches")).unwrap();
    for _ in 0..1000 {
        let pid = processes.spawn(&root, start("test:comes")).unwrap();
        // From outside, as it ends by itself.
        let _ = processes.leave(&news, pid);
        let _ = processes.join(&news, pid);
    }
    processes.cancel(watcher, "that is all", LONG).unwrap();
    all_gone(&processes).await;
    assert_eq!(processes.members(&news), []);
}

/// The group of a change that is in the mailbox.
fn changed(ctx: &mut ProcessContext) -> Option<String> {
    match ctx.try_receive()? {
        Message::GroupChanged(group) => Some(group.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_process_that_watches_a_group_is_told_once_until_it_has_read_that() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:watches", async |mut ctx: ProcessContext, _| {
        let news = group("news");
        assert!(ctx.watch_group(&news)? && !ctx.watch_group(&news)?);
        assert_eq!(changed(&mut ctx), None);
        let member = ctx.spawn(start("test:obey"))?;
        ctx.processes().join(&news, member)?;
        ctx.processes().join(&news, member)?;
        ctx.processes().leave(&news, member);
        ctx.processes().join(&news, member)?;
        assert_eq!(changed(&mut ctx).as_deref(), Some("news of test:host"));
        assert_eq!(changed(&mut ctx), None, "there is one unread");
        ctx.processes().terminate(member).unwrap();
        ctx.receive_where(|message| matches!(message, Message::GroupChanged(_))).await;
        assert!(ctx.processes().members(&news).is_empty());

        ctx.join(&news)?;
        assert!(ctx.unwatch_group(&news) && !ctx.unwatch_group(&news));
        assert_eq!(changed(&mut ctx), None, "what was unread is discarded");
        ctx.leave(&news);
        assert_eq!(changed(&mut ctx), None);
        Ok(Payload::default())
    });
    processes.exec(&root, start("test:watches")).await.unwrap();
}

#[tokio::test]
async fn a_group_that_is_watched_counts_as_one_that_the_process_is_in() {
    let (processes, root) = manager(HostConfig::default().with_groups(2).with_group_members(1));
    register(&processes, "test:watches", async |ctx: ProcessContext, _| {
        ctx.watch_group(&group("a"))?;
        ctx.join(&group("a"))?;
        ctx.watch_group(&group("b"))?;
        let error = ctx.watch_group(&group("c")).unwrap_err();
        assert!(matches!(error, GroupError::TooManyGroups { limit: 2, .. }), "{error}");
        ctx.leave(&group("a"));
        ctx.unwatch_group(&group("a"));
        ctx.watch_group(&group("c"))?;
        Ok(Payload::default())
    });
    processes.exec(&root, start("test:watches")).await.unwrap();
}

#[tokio::test]
async fn a_group_has_so_many_watchers_and_no_more() {
    let (processes, root) = manager(HostConfig::default());
    let mut told = register_saying(&processes, "test:watches", async |mut ctx: ProcessContext, _, says| {
        says.send(ctx.watch_group(&group("news")).map_err(|error| error.to_string())).unwrap();
        ctx.receive().await;
        Ok(Payload::default())
    });
    let pids = [(); 65].map(|()| processes.spawn(&root, start("test:watches")).unwrap());
    for _ in 0..64 {
        assert_eq!(said(&mut told).await, Ok(true));
    }
    let full = "the group news of test:host has reached its watcher limit of 64";
    assert_eq!(said(&mut told).await, Err(full.to_owned()));
    processes.terminate(pids[0]).unwrap();
    exit_of(&processes, pids[0]).await;
    processes.spawn(&root, start("test:watches")).unwrap();
    assert_eq!(said(&mut told).await, Ok(true));
    // A change ends those that watch.
    processes.join(&group("news"), pids[64]).unwrap();
    processes.send(&root, pids[64], json!("end")).await.unwrap();
    all_gone(&processes).await;
}

#[tokio::test]
async fn what_publishes_without_end_lets_others_run() {
    let (processes, root) = manager(HostConfig::default());
    let news = group("news");
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    processes.join(&news, pid).unwrap();
    let publishes = async {
        loop {
            processes.publish(&root, &news, json!("again")).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(1), publishes).await.unwrap_err();
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize),
    Leave(usize, usize),
    End(usize),
    Publish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_usize, 0..3_usize).prop_map(|(process, group)| Step::Join(process, group)),
        2 => (0..6_usize, 0..3_usize).prop_map(|(process, group)| Step::Leave(process, group)),
        1 => (0..6_usize).prop_map(Step::End),
        2 => (0..3_usize).prop_map(Step::Publish),
    ]
}

/// Groups against sets.
async fn check(steps: Vec<Step>) {
    const GROUPS: usize = 2;
    const MEMBERS: usize = 4;
    let host = HostConfig::default().with_groups(GROUPS).with_group_members(MEMBERS);
    let (processes, root) = manager(host);
    let groups = ["a", "b", "c"].map(group);
    let pids = [(); 6].map(|()| processes.spawn(&root, start("test:forever")).unwrap());
    let mut members: [Vec<Pid>; 3] = Default::default();
    let mut ended = Vec::new();
    for step in steps {
        match step {
            Step::Join(process, group) => {
                let pid = pids[process];
                let is_in = members.iter().filter(|members| members.contains(&pid)).count();
                let expected = match () {
                    () if ended.contains(&pid) => None,
                    () if members[group].contains(&pid) => Some(false),
                    () => (is_in < GROUPS && members[group].len() < MEMBERS).then_some(true),
                };
                assert_eq!(processes.join(&groups[group], pid).ok(), expected);
                if expected == Some(true) {
                    members[group].push(pid);
                    members[group].sort_unstable();
                }
            }
            Step::Leave(process, group) => {
                let place = members[group].iter().position(|pid| *pid == pids[process]);
                assert_eq!(processes.leave(&groups[group], pids[process]), place.is_some());
                place.map(|place| members[group].remove(place));
            }
            Step::End(process) if !ended.contains(&pids[process]) => {
                processes.terminate(pids[process]).unwrap();
                exit_of(&processes, pids[process]).await;
                ended.push(pids[process]);
                for members in &mut members {
                    members.retain(|pid| *pid != pids[process]);
                }
            }
            Step::End(_) => (),
            Step::Publish(group) => {
                let published = processes.publish(&root, &groups[group], Payload::default()).await;
                assert_eq!(published.delivered, members[group].len());
            }
        }
        for (group, members) in groups.iter().zip(&members) {
            assert_eq!(processes.members(group), *members);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn groups_are_what_sets_would_be(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(steps));
    }
}
