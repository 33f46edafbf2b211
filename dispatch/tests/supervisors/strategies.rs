//! Who is restarted, and in which order.

use std::time::Duration;

use frame_dispatch::process::supervisor::{ChildState, Restart, Strategy};
use serde_json::json;

use crate::support::{Field, often, spec, spec_with, supervisor};

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_the_child_that_failed_and_no_other() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a", "b", "c"])).await;
    assert_eq!(field.said().await, "+a +b +c");
    let before = top.children().await;
    field.tell(top.pid_of("b").await, "fail");
    assert_eq!(field.said().await, "!b +b");
    let after = top.children().await;
    assert_eq!((before[0].pid, before[2].pid), (after[0].pid, after[2].pid));
    assert_ne!(before[1].pid, after[1].pid);
    assert_eq!(after.iter().map(|child| child.restarts).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(after[1].last.as_ref().unwrap().to_string(), "it failed: told to fail");
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForAll, ["a", "b", "c", "d"])).await;
    assert_eq!(field.said().await, "+a +b +c +d");
    field.tell(top.pid_of("b").await, "panic");
    assert_eq!(field.said().await, "!b -d -c -a +a +b +c +d");
    let restarts: Vec<_> = top.children().await.iter().map(|child| child.restarts).collect();
    assert_eq!(restarts, [1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_stops_those_behind_in_reverse_and_starts_them_in_order() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::RestForOne, ["a", "b", "c", "d"])).await;
    assert_eq!(field.said().await, "+a +b +c +d");
    field.tell(top.pid_of("b").await, "fail");
    assert_eq!(field.said().await, "!b -d -c +b +c +d");
    field.tell(top.pid_of("d").await, "fail");
    assert_eq!(field.said().await, "!d +d");
    let restarts: Vec<_> = top.children().await.iter().map(|child| child.restarts).collect();
    assert_eq!(restarts, [0, 1, 1, 2]);
}

/// The next is stopped only when the one behind it has ended.
#[tokio::test(start_paused = true)]
async fn siblings_are_stopped_one_after_another() {
    let mut field = Field::new();
    let slow = spec_with("c", json!({ "id": "c", "slow": 3 }));
    let top = field.up(supervisor(Strategy::OneForAll, ["a", "b"]).child(slow)).await;
    assert_eq!(field.said().await, "+a +b +c");
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a -c");
    let states: Vec<_> = top.children().await.iter().map(|child| child.state).collect();
    assert_eq!(states, [ChildState::Waiting, ChildState::Running, ChildState::Stopping]);
    assert_eq!([field.next().await, field.next().await, field.next().await], ["-b", "+a", "+b"]);
    assert_eq!(field.said().await, "+c");
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_those_that_are_being_restarted_takes_them_in() {
    let mut field = Field::new();
    let slow = spec_with("d", json!({ "id": "d", "slow": 3 }));
    let top = field.up(supervisor(Strategy::RestForOne, ["a", "b", "c"]).child(slow)).await;
    assert_eq!(field.said().await, "+a +b +c +d");
    field.tell(top.pid_of("c").await, "fail");
    assert_eq!(field.said().await, "!c -d");
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a", "d has its time");
    assert_eq!([field.next().await, field.next().await], ["-b", "+a"]);
    assert_eq!(field.said().await, "+b +c +d");
}

/// One that is about to be stopped for another needs no restart of its own.
#[tokio::test(start_paused = true)]
async fn a_sibling_that_fails_while_it_waits_to_be_stopped_counts_once() {
    let mut field = Field::new();
    let slow = spec_with("c", json!({ "id": "c", "slow": 3 }));
    let all = supervisor(Strategy::OneForAll, ["a", "b"]).child(slow);
    let top = field.up(all.restart_policy(often().with_intensity(1, Duration::from_mins(1)))).await;
    assert_eq!(field.said().await, "+a +b +c");
    let b = top.pid_of("b").await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a -c");
    field.tell(b, "fail");
    assert_eq!(field.said().await, "!b");
    assert_eq!(field.next().await, "+a");
    assert_eq!(field.said().await, "+b +c");
}

#[tokio::test(start_paused = true)]
async fn a_transient_that_was_done_is_started_with_the_others() {
    let mut field = Field::new();
    let once = spec("b").with_restart(Restart::Transient);
    let top = field.up(supervisor(Strategy::OneForAll, ["a"]).child(once)).await;
    assert_eq!(field.said().await, "+a +b");
    field.tell(top.pid_of("b").await, "done");
    assert_eq!(field.said().await, "!b");
    let b = top.child("b").await;
    assert_eq!((b.pid, b.state, b.restarts), (None, ChildState::Done, 0));
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a +a +b");
    assert_eq!(top.child("b").await.state, ChildState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_is_stopped_with_the_others_and_gone() {
    let mut field = Field::new();
    let once = spec("b").with_restart(Restart::Temporary);
    let top = field.up(supervisor(Strategy::OneForAll, ["a"]).child(once).child(spec("c"))).await;
    assert_eq!(field.said().await, "+a +b +c");
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a -c -b +a +c");
    assert_eq!(top.children().await.iter().map(|child| &*child.id).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_needs_no_restart_leaves_the_others_alone() {
    let mut field = Field::new();
    let all = supervisor(Strategy::OneForAll, ["a"])
        .child(spec("b").with_restart(Restart::Transient))
        .child(spec("c").with_restart(Restart::Temporary));
    let top = field.up(all).await;
    assert_eq!(field.said().await, "+a +b +c");
    field.tell(top.pid_of("b").await, "done");
    field.tell(top.pid_of("c").await, "fail");
    assert_eq!(field.said().await, "!b !c");
    assert_eq!(
        top.shown().await,
        [("a".to_owned(), ChildState::Running, 0), ("b".to_owned(), ChildState::Done, 0)]
    );
}
