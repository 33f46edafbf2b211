//! Children that cannot be started, and hosts that stop.

use std::time::Duration;

use frame_dispatch::process::supervisor::{
    Backoff, ChildSpec, ChildState, DownReason, Strategy, SupervisorBuilder,
};
use frame_dispatch::process::{HostConfig, HostStopped, Spawn, SpawnError};
use serde_json::json;
use tokio::time::{Instant, advance};

use crate::support::{BOUND, Field, often, settle, spec, spec_with, start, supervisor, within};

fn each_second() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).with_jitter(0.0)
}

/// A field whose children live on `test:other`.
fn elsewhere(host: HostConfig, ids: &[&str]) -> (Field, Vec<ChildSpec>) {
    let field = Field::new();
    field.processes.register_host("test:other".parse().unwrap(), host).unwrap();
    let start = Spawn::new("test:other".parse().unwrap(), "test:child".parse().unwrap());
    let child = |id: &&str| ChildSpec::new(*id, start.clone().with_payload(json!({ "id": id })));
    (field, ids.iter().map(child).collect())
}

async fn stop_host(field: &Field, id: &str) -> HostStopped {
    let id = id.parse().unwrap();
    let stop = field.processes.stop_host(&id, Duration::from_secs(30));
    within("the test for a host to stop", stop).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_child_that_finds_its_host_full_is_started_when_there_is_room() {
    let (mut field, children) = elsewhere(HostConfig::default().with_processes(1), &["a"]);
    let all = supervisor(Strategy::OneForOne, []).restart_policy(often().with_backoff(each_second()));
    let top = field.up(children.into_iter().fold(all, SupervisorBuilder::child)).await;
    let a = top.pid_of("a").await;
    let exit = field.processes.monitor(a).unwrap();
    field.tell(a, "fail");
    within("a monitor", exit).await;
    settle().await;
    // The place is somebody else's now.
    let start = Spawn::new("test:other".parse().unwrap(), "test:child".parse().unwrap());
    let other = field.processes.spawn(&field.root, start).unwrap();
    advance(Duration::from_secs(5)).await;
    settle().await;
    let child = top.child("a").await;
    assert_eq!((child.state, child.restarts), (ChildState::Waiting, 0));
    let Some(DownReason::NotStarted(error)) = child.last.clone().map(|last| last.reason) else {
        panic!("{child:?}")
    };
    assert!(matches!(*error, SpawnError::HostFull { .. }), "{error:?}");
    field.tell(other, "done");
    assert_eq!(field.said().await, "+a !a +? !?");
    assert_eq!(field.next().await, "+a");
    assert_eq!(top.child("a").await.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_name_is_taken_is_started_when_it_is_free() {
    let mut field = Field::new();
    let named = ChildSpec::new("a", start("test:child").with_payload(json!({ "id": "a" })).with_name("it"));
    let top = field
        .up(supervisor(Strategy::OneForAll, [])
            .restart_policy(often().with_backoff(each_second()))
            .child(named))
        .await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a !a");
    let other = field.processes.spawn(&field.root, start("test:child").with_name("it")).unwrap();
    advance(Duration::from_secs(3)).await;
    settle().await;
    assert_eq!(top.child("a").await.state, ChildState::Waiting);
    field.tell(other, "done");
    assert_eq!(field.said().await, "+? !?");
    assert_eq!(field.next().await, "+a");
}

/// With one-for-all, those that were started before it are stopped again, with rest-for-one they stay.
#[tokio::test(start_paused = true)]
async fn a_restart_that_does_not_start_is_a_failure_of_that_child() {
    for (strategy, expected) in [(Strategy::OneForAll, "+a -a"), (Strategy::RestForOne, "+a")] {
        let mut field = Field::new();
        let named =
            ChildSpec::new("b", start("test:child").with_payload(json!({ "id": "b" })).with_name("it"));
        let all =
            supervisor(strategy, ["a"]).restart_policy(often().with_backoff(each_second())).child(named);
        let top = field.up(all).await;
        field.tell(top.pid_of("a").await, "fail");
        assert_eq!(field.said().await, "+a +b !a -b");
        let other = field.processes.spawn(&field.root, start("test:child").with_name("it")).unwrap();
        assert_eq!([field.next().await, field.next().await].join(" "), "+? +a");
        assert_eq!(format!("+a {}", field.said().await).trim(), expected);
        field.tell(other, "done");
        assert_eq!(field.said().await, "!?");
        let up = if strategy == Strategy::OneForAll { "+a +b" } else { "+b" };
        let first = field.next().await;
        assert_eq!(format!("{first} {}", field.said().await).trim(), up);
    }
}

#[tokio::test(start_paused = true)]
async fn with_its_host_it_ends_normally_whatever_its_children_do() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let field = Field::new();
        let all = supervisor(strategy, ["a", "b", "c", "d", "e"])
            .restart_policy(often().with_intensity(1, Duration::from_mins(1)));
        let top = field.up(all).await;
        let stopped = stop_host(&field, "test:host").await;
        assert_eq!((stopped.cancelled, stopped.killed), (6, 0));
        let exit = top.exit().await;
        assert!(exit.reason.is_normal(), "{exit:?}");
        field.gone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_shuts_its_children_on_another_host_down_when_its_own_stops() {
    let (mut field, children) = elsewhere(HostConfig::default(), &["a", "b"]);
    let all = supervisor(Strategy::OneForAll, []);
    let top = field.up(children.into_iter().fold(all, SupervisorBuilder::child)).await;
    stop_host(&field, "test:host").await;
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(field.said().await, "+a +b -b -a");
    field.gone().await;
}

/// It does not spin: it tries as the backoff says, and gives up as the intensity says.
#[tokio::test(start_paused = true)]
async fn where_the_host_of_its_children_stops_it_gives_up() {
    let (field, children) = elsewhere(HostConfig::default(), &["a", "b"]);
    let all = supervisor(Strategy::OneForAll, [])
        .restart_policy(often().with_backoff(each_second()).with_intensity(5, Duration::from_mins(1)));
    let top = field.up(children.into_iter().fold(all, SupervisorBuilder::child)).await;
    let began = Instant::now();
    stop_host(&field, "test:other").await;
    let exit = top.exit().await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(exit.reason.to_string().contains("unknown host `test:other`"), "{exit:?}");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn everything_stops_with_the_manager_also_while_a_child_takes_its_time_to_be_restarted() {
    let field = Field::new();
    let stubborn = spec_with("b", json!({ "id": "b", "stubborn": true }));
    let all = supervisor(Strategy::OneForAll, ["a"]).child(stubborn).child(spec("c"));
    let top = field.up(all).await;
    field.tell(top.pid_of("a").await, "fail");
    settle().await;
    let stopped = within("stop", field.processes.stop(BOUND)).await;
    assert!(stopped.running.is_empty(), "{stopped:?}");
    assert!(top.exit().await.reason.is_normal());
    field.gone().await;
}

/// Its children would not be started, either.
#[tokio::test(start_paused = true)]
async fn where_the_functions_were_stopped_it_ends_with_the_first_failure() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a", "b"])).await;
    assert_eq!(field.said().await, "+a +b");
    let a = top.pid_of("a").await;
    within("stop", field.processes.functions().stop(Instant::now())).await;
    field.tell(a, "fail");
    let exit = top.exit().await;
    assert!(exit.reason.to_string().contains("can no longer start children"), "{exit:?}");
    assert_eq!(field.said().await, "!a -b");
    field.gone().await;
}
