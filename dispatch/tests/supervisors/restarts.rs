//! After which ends a child is restarted.

use frame_dispatch::Payload;
use frame_dispatch::process::supervisor::{ChildSpec, ChildState, Restart, Strategy};
use frame_dispatch::process::{Message, ProcessContext};
use frame_registry::Options;
use serde_json::json;

use crate::support::{Field, settle, spec, start, supervisor};

/// What becomes of a child of this kind that ends so: what it does then, and none if there is no such child any more.
async fn outcome(restart: Restart, how: &str) -> Option<ChildState> {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, []).child(spec("a").with_restart(restart))).await;
    assert_eq!(field.said().await, "+a");
    let pid = top.pid_of("a").await;
    match how {
        "killed" => field.processes.terminate(pid).unwrap(),
        // A process that fails takes it along, or one that was cancelled.
        "linked to a failure" | "linked to an obedient" => {
            let other = field.processes.spawn(&field.root, start("test:child")).unwrap();
            field.processes.link(pid, other).unwrap();
            field.tell(other, if how == "linked to a failure" { "fail" } else { "obey" });
        }
        how => field.tell(pid, how),
    }
    field.said().await;
    let child = top.children().await.into_iter().next();
    assert!(child.as_ref().is_none_or(|child| child.pid != Some(pid)), "{how}: it did not end");
    child.map(|child| child.state)
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_child_is_restarted_after_the_ends_it_says() {
    const ENDS: [&str; 7] =
        ["done", "obey", "fail", "panic", "killed", "linked to a failure", "linked to an obedient"];
    for how in ENDS {
        let is_failure = !matches!(how, "done" | "obey" | "linked to an obedient");
        assert_eq!(outcome(Restart::Permanent, how).await, Some(ChildState::Running), "permanent, {how}");
        let transient = if is_failure { ChildState::Running } else { ChildState::Done };
        assert_eq!(outcome(Restart::Transient, how).await, Some(transient), "transient, {how}");
        assert_eq!(outcome(Restart::Temporary, how).await, None, "temporary, {how}");
    }
}

/// What its spec says holds for each start.
#[tokio::test(start_paused = true)]
async fn a_restarted_child_has_its_name_and_its_messages_again() {
    let field = Field::new();
    let greeted = async |mut ctx: ProcessContext, _: Payload| {
        let Message::Sent { payload, .. } = ctx.receive().await else { panic!("it was not greeted") };
        assert_eq!(payload.as_json().unwrap(), "hello");
        ctx.receive().await;
        Ok(Payload::default())
    };
    field.processes.register("test:greeted".parse().unwrap(), Options::new(), greeted).unwrap();
    let named = start("test:greeted").with_name("it").with_message(json!("hello"));
    let child = ChildSpec::new("a", named);
    let top = field.up(supervisor(Strategy::OneForOne, []).child(child)).await;
    for restarts in 1..4 {
        let pid = field.processes.whereis("it").unwrap();
        assert_eq!(top.pid_of("a").await, pid);
        // Where it was not greeted it panics, before this.
        field.tell(pid, "end");
        settle().await;
        let child = top.child("a").await;
        assert_eq!(
            (child.restarts, child.last.unwrap().to_string()),
            (restarts, "it ended normally".to_owned())
        );
    }
}

/// As a mailbox says of any process: what is sent to a supervisor itself is nothing to it.
#[tokio::test(start_paused = true)]
async fn messages_that_are_sent_to_a_supervisor_change_nothing() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForAll, ["a"])).await;
    for _ in 0..5_000 {
        field.processes.send(&field.root, top.pid, json!("are you there?")).await.unwrap();
    }
    assert_eq!(field.said().await, "+a");
    assert_eq!(top.child("a").await.restarts, 0);
}
