//! Asking a supervisor that runs, and changing what it supervises.

use std::time::Duration;

use frame_dispatch::Payload;
use frame_dispatch::process::supervisor::{
    Backoff, ChildSpec, ChildState, ControlError, Restart, SpecError, Strategy,
};
use frame_dispatch::process::{HostConfig, ProcessContext};
use frame_registry::Options;
use serde_json::json;

use crate::support::{BOUND, Field, Top, often, settle, spec, spec_with, start, supervisor, within};

async fn ids(top: &Top) -> Vec<String> {
    top.children().await.into_iter().map(|child| child.id).collect()
}

#[tokio::test(start_paused = true)]
async fn children_are_told_in_order_also_as_data() {
    let field = Field::new();
    let all = supervisor(Strategy::OneForOne, ["b"]).child(spec("a").with_restart(Restart::Transient));
    let top = field.up(all).await;
    field.tell(top.pid_of("a").await, "done");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let b = top.pid_of("b").await;
    let data = serde_json::to_value(top.children().await).unwrap();
    assert_eq!(
        data,
        json!([
            { "id": "b", "pid": b, "restart": "permanent", "state": "running", "restarts": 0, "last": null },
            { "id": "a", "pid": null, "restart": "transient", "state": "done", "restarts": 0,
              "last": { "reason": "normal", "message": "it ended normally", "ago": 1.5 } },
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_added_is_the_last_and_supervised_as_the_others() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForAll, ["a"])).await;
    let b = within("the test for the child", top.handle.add(&field.root, spec("b"))).await.unwrap();
    assert_eq!((ids(&top).await, top.pid_of("b").await), (vec!["a".to_owned(), "b".to_owned()], b));
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a +b !a -b +a +b");
    field.tell(top.pid_of("b").await, "fail");
    assert_eq!(field.said().await, "!b -a +a +b");
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(field.said().await, "-b -a");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_added_changes_nothing() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForAll, ["a"])).await;
    let refused = |child| async {
        within("the test for the child", top.handle.add(&field.root, child)).await.unwrap_err()
    };
    let error = refused(spec("a")).await;
    assert!(matches!(&error, ControlError::Spec { source: SpecError::DuplicateId { .. } }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the child was not added: two children have the id `a`; give each its own id"
    );
    let error = refused(spec("")).await;
    assert!(matches!(error, ControlError::Spec { source: SpecError::EmptyId }), "{error:?}");
    let error = refused(ChildSpec::new("b", start("test:unknown"))).await;
    assert!(matches!(error, ControlError::NotStarted { .. }), "{error:?}");
    assert_eq!((ids(&top).await, &*field.said().await), (vec!["a".to_owned()], "+a"));
    assert_eq!(top.child("a").await.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_added_during_a_restart_is_started_behind_the_others() {
    let mut field = Field::new();
    let slow = Backoff::new(Duration::from_secs(3), Duration::from_secs(3)).with_jitter(0.0);
    let top = field
        .up(supervisor(Strategy::OneForAll, ["a", "b"]).restart_policy(often().with_backoff(slow)))
        .await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a +b !a -b");
    let added = within("the test for the child", top.handle.add(&field.root, spec("c"))).await.unwrap();
    assert_eq!(field.said().await, "+a +b +c");
    let child = top.child("c").await;
    assert_eq!((child.pid, child.restarts), (Some(added), 0));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_removed_is_shut_down_and_no_other_is_touched() {
    let mut field = Field::new();
    let slow = spec_with("b", json!({ "id": "b", "slow": 2 }));
    let top = field.up(supervisor(Strategy::OneForAll, ["a"]).child(slow).child(spec("c"))).await;
    field.said().await;
    let (one, two) = tokio::join!(top.handle.remove("b"), top.handle.remove("b"));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!((ids(&top).await, &*field.said().await), (vec!["a".to_owned(), "c".to_owned()], "-b"));
    let error = within("the test", top.handle.remove("b")).await.unwrap_err();
    assert_eq!(error.to_string(), "the supervisor has no child `b`");
    // Its id is free.
    within("the test", top.handle.add(&field.root, spec("b"))).await.unwrap();
    assert_eq!(ids(&top).await, ["a", "c", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_for_its_restart_can_be_removed() {
    let mut field = Field::new();
    let slow = Backoff::new(Duration::from_mins(1), Duration::from_mins(1));
    let top = field
        .up(supervisor(Strategy::OneForOne, ["a", "b"]).restart_policy(often().with_backoff(slow)))
        .await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a +b !a");
    within("the test", top.handle.remove("a")).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!((ids(&top).await, &*field.said().await), (vec!["b".to_owned()], ""));
}

#[tokio::test(start_paused = true)]
async fn a_child_is_restarted_by_hand_without_the_others_and_without_counting() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut field = Field::new();
        let all = supervisor(strategy, ["a", "b", "c"])
            .restart_policy(often().with_intensity(0, Duration::from_mins(1)));
        let top = field.up(all).await;
        field.said().await;
        for restarts in 1..4 {
            let before = top.pid_of("b").await;
            let after = within("the test", top.handle.restart("b")).await.unwrap();
            assert_ne!(before, after);
            assert_eq!((top.pid_of("b").await, top.child("b").await.restarts), (after, restarts));
            assert_eq!(field.said().await, "-b +b");
        }
        let error = within("the test", top.handle.restart("d")).await.unwrap_err();
        assert!(matches!(error, ControlError::UnknownChild { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_down_is_started_by_hand_at_once() {
    let mut field = Field::new();
    let slow = Backoff::new(Duration::from_mins(1), Duration::from_mins(1));
    let all = supervisor(Strategy::OneForOne, ["a"]).restart_policy(often().with_backoff(slow));
    let top = field.up(all.child(spec("b").with_restart(Restart::Transient))).await;
    field.tell(top.pid_of("a").await, "fail");
    field.tell(top.pid_of("b").await, "done");
    assert_eq!(field.said().await, "+a +b !a !b");
    let began = tokio::time::Instant::now();
    within("the test", top.handle.restart("a")).await.unwrap();
    within("the test", top.handle.restart("b")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(field.said().await, "+a +b");
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_can_be_restarted_by_hand() {
    let mut field = Field::new();
    let once = spec("a").with_restart(Restart::Temporary);
    let top = field.up(supervisor(Strategy::OneForOne, []).child(once)).await;
    within("the test", top.handle.restart("a")).await.unwrap();
    assert_eq!(field.said().await, "+a -a +a");
    field.tell(top.pid_of("a").await, "fail");
    settle().await;
    assert!(top.children().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_restarted_by_hand_and_does_not_start_is_tried_again() {
    let mut field = Field::new();
    let slow = Backoff::new(Duration::from_secs(3), Duration::from_secs(3)).with_jitter(0.0);
    let named = ChildSpec::new(
        "a",
        start("test:child").with_payload(json!({ "id": "a", "slow": 1 })).with_name("it"),
    );
    let top = field
        .up(supervisor(Strategy::OneForOne, []).restart_policy(often().with_backoff(slow)).child(named))
        .await;
    // While it takes its time to end, its name becomes another's.
    let restart = async {
        let error = within("the test", top.handle.restart("a")).await.unwrap_err();
        assert!(matches!(&error, ControlError::NotStarted { id, .. } if &**id == "a"), "{error:?}");
    };
    let take = async {
        settle().await;
        field.processes.unregister_name("it");
        field.processes.spawn(&field.root, start("test:child").with_name("it")).unwrap()
    };
    let ((), other) = tokio::join!(restart, take);
    assert_eq!(field.said().await, "+a -a +?");
    field.tell(other, "done");
    assert_eq!([field.next().await, field.next().await], ["!?", "+a"]);
    assert_eq!(top.child("a").await.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_a_start_is_told_when_the_child_is_removed() {
    let field = Field::new();
    let slow = Backoff::new(Duration::from_mins(1), Duration::from_mins(1));
    let top =
        field.up(supervisor(Strategy::OneForAll, ["a"]).restart_policy(often().with_backoff(slow))).await;
    field.tell(top.pid_of("a").await, "fail");
    settle().await;
    let remove = async {
        settle().await;
        top.handle.remove("b").await
    };
    let (added, removed) = tokio::join!(top.handle.add(&field.root, spec("b")), remove);
    assert!(matches!(added, Err(ControlError::Removed { .. })), "{added:?}");
    assert!(removed.is_ok(), "{removed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_shuts_down_does_nothing_else_any_more() {
    let field = Field::new();
    let slow = spec_with("a", json!({ "id": "a", "slow": 3 }));
    let top = field.up(supervisor(Strategy::OneForAll, []).child(slow)).await;
    let restart = top.handle.restart("a");
    let cancel = async {
        settle().await;
        field.processes.cancel(top.pid, "a test", BOUND).unwrap();
        settle().await;
        let error = top.handle.children().await.unwrap_err();
        assert!(matches!(error, ControlError::ShuttingDown), "{error:?}");
        let error = top.handle.add(&field.root, spec("b")).await.unwrap_err();
        assert!(matches!(error, ControlError::ShuttingDown), "{error:?}");
        assert!(matches!(top.handle.remove("a").await, Err(ControlError::ShuttingDown)));
    };
    let (restarted, ()) = tokio::join!(restart, cancel);
    assert!(matches!(restarted, Err(ControlError::ShuttingDown)), "{restarted:?}");
    let handle = top.handle.clone();
    assert!(top.exit().await.reason.is_normal());
    settle().await;
    let error = handle.children().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "this supervisor is not running with its children started; wait for `ready`"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_is_started_several_times_is_asked_by_its_process() {
    let field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a"])).await;
    let other = field.processes.spawn(&field.root, start("test:top")).unwrap();
    let chosen = top.handle.of(other);
    assert_eq!(within("the test for the second", chosen.ready()).await, other);
    assert_eq!(top.handle.running(), [top.pid, other]);
    let error = top.handle.children().await.unwrap_err();
    assert!(matches!(&error, ControlError::Several { running } if running.len() == 2), "{error:?}");
    assert_eq!(error.to_string(), "2 processes of this supervisor are running; select one with `of`");
    within("the test", chosen.add(&field.root, spec("b"))).await.unwrap();
    let first = top.handle.of(top.pid);
    assert_eq!(within("the test", first.children()).await.unwrap().len(), 1);
    assert_eq!(within("the test", chosen.children()).await.unwrap().len(), 2);
    field.processes.terminate(other).unwrap();
    settle().await;
    assert_eq!(top.children().await.len(), 1, "one is left, so there is nothing to choose");
    assert!(matches!(chosen.children().await, Err(ControlError::NotRunning)));
}

#[tokio::test(start_paused = true)]
async fn a_child_can_change_what_its_own_supervisor_supervises() {
    let mut field = Field::new();
    let top = supervisor(Strategy::OneForOne, []);
    let built = top.build().unwrap();
    let handle = built.handle();
    let asks = handle.clone();
    let ask = move |ctx: ProcessContext, _: Payload| {
        let asks = asks.clone();
        async move {
            asks.ready().await;
            asks.add(ctx.ctx(), spec("b")).await.unwrap();
            // It waits for its own end, which comes when its time is over.
            let _ = asks.remove("asks").await;
            Ok(Payload::default())
        }
    };
    field.processes.register("test:ask".parse().unwrap(), Options::new(), ask).unwrap();
    field.processes.register("test:asked".parse().unwrap(), Options::new(), built).unwrap();
    field.processes.spawn(&field.root, start("test:asked")).unwrap();
    within("the test for the supervisor", handle.ready()).await;
    let asks =
        within("the test", handle.add(&field.root, ChildSpec::new("asks", start("test:ask")))).await.unwrap();
    within("a monitor", field.processes.monitor(asks).unwrap()).await;
    assert_eq!(field.said().await, "+b");
    let left = within("the test", handle.children()).await.unwrap();
    assert_eq!(left.iter().map(|child| &*child.id).collect::<Vec<_>>(), ["b"]);
}

/// Thousands, added and ended one by one.
#[tokio::test(start_paused = true)]
async fn many_children_come_and_go() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, [])).await;
    for number in 0..5_000 {
        let child = spec(&number.to_string()).with_restart(Restart::Temporary);
        let pid = within("the test for a child", top.handle.add(&field.root, child)).await.unwrap();
        if number % 2 == 0 {
            field.tell(pid, "done");
        }
    }
    settle().await;
    assert_eq!(top.children().await.len(), 2_500);
    assert!(top.children().await.iter().all(|child| child.state == ChildState::Running));
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    let said = field.said().await;
    let stopped: Vec<_> = said.split(' ').filter(|said| said.starts_with('-')).collect();
    assert_eq!((stopped.len(), stopped[0], stopped[2_499]), (2_500, "-4999", "-1"));
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn children_can_be_put_in_another_order_and_nothing_is_restarted_for_that() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut field = Field::new();
        let top = field.up(supervisor(strategy, ["a", "b", "c", "d"])).await;
        assert_eq!(field.said().await, "+a +b +c +d");
        // One that there is not, and one that is said twice, change nothing.
        within("the test", top.handle.arrange(["d", "none", "b", "d"])).await.unwrap();
        let ids: Vec<_> = top.children().await.into_iter().map(|child| child.id).collect();
        assert_eq!(ids, ["d", "b", "a", "c"]);
        assert_eq!(field.said().await, "");
        field.tell(top.pid_of("b").await, "fail");
        let expected = match strategy {
            Strategy::OneForOne => "!b +b",
            Strategy::OneForAll => "!b -c -a -d +d +b +a +c",
            _ => "!b -c -a +b +a +c",
        };
        assert_eq!(field.said().await, expected);
        field.processes.cancel(top.pid, "a test", BOUND).unwrap();
        assert!(top.exit().await.reason.is_normal());
        assert_eq!(field.said().await, "-c -a -b -d");
    }
}

/// Children that wait, end and start keep what was decided of them.
#[tokio::test(start_paused = true)]
async fn children_can_be_put_in_another_order_while_they_are_restarted() {
    let mut field = Field::new();
    let slow = spec_with("c", json!({ "id": "c", "slow": 3 }));
    let top = field.up(supervisor(Strategy::RestForOne, ["a", "b"]).child(slow)).await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a +b +c !a -c");
    within("the test", top.handle.arrange(["c", "b", "a"])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(field.said().await, "-b +c +b +a");
}

#[tokio::test(start_paused = true)]
async fn an_error_says_why_a_child_was_not_started() {
    let field = Field::on(HostConfig::default().with_processes(1));
    let top = field.up(supervisor(Strategy::OneForOne, [])).await;
    let error = within("the test", top.handle.add(&field.root, spec("a"))).await.unwrap_err();
    let expected = "the child `a` was not started: host `test:host` has reached its process limit of 1";
    assert_eq!(error.to_string(), expected);
}
