//! The process that starts a supervisor, and what its end is to that.

use frame_dispatch::process::supervisor::Strategy;
use frame_dispatch::process::{ExitReason, ProcessContext, Spawn};
use frame_dispatch::{CallError, Host, PID, Payload, Pid};
use frame_registry::Options;
use serde_json::json;

use crate::support::{BOUND, Field, settle, start, supervisor, within};

/// Registers `test:starter`, which starts the supervisor `test:top`, and ends as it is told; at once if with `null`.
fn starter(field: &Field, top: Spawn) {
    let run = move |mut ctx: ProcessContext, payload: Payload| {
        let top = top.clone();
        async move {
            let top = ctx.spawn(top).unwrap();
            match payload.as_json().and_then(serde_json::Value::as_str) {
                None => return Ok(Payload::default()),
                Some("unlink") => ctx.unlink(top),
                Some(_) => (),
            }
            match ctx.receive().await.into_payload() {
                Some(told) if told.as_json() == Some(&"fail".into()) => {
                    Err(CallError::invalid("told to fail"))
                }
                _ => Ok(Payload::default()),
            }
        }
    };
    field.processes.register("test:starter".parse().unwrap(), Options::new(), run).unwrap();
    field.register("test:top", supervisor(Strategy::OneForOne, ["a", "b"]));
}

fn linked() -> Spawn {
    start("test:top").with_link().with_name("top")
}

async fn ends(field: &Field, starter: Spawn, told: &str) -> ExitReason {
    let starter = field.processes.spawn(&field.root, starter).unwrap();
    settle().await;
    let top = field.processes.monitor(field.processes.whereis("top").unwrap()).unwrap();
    field.tell(starter, told);
    within("the test for the supervisor", top).await.reason
}

#[tokio::test(start_paused = true)]
async fn it_ends_normally_where_the_process_does_that_started_it_linked() {
    let mut field = Field::new();
    starter(&field, linked());
    let reason = ends(&field, start("test:starter").with_payload(json!("wait")), "done").await;
    assert!(reason.is_normal(), "{reason:?}");
    assert_eq!(field.said().await, "+a +b -b -a");
    field.gone().await;
}

/// The parent that it has is the unit on the frame that it inherits from, which is for whoever starts that to say.
#[tokio::test(start_paused = true)]
async fn it_ends_with_the_process_that_started_it_whatever_pid_that_has_on_its_frame() {
    for told in ["done", "fail"] {
        let mut field = Field::new();
        starter(&field, linked());
        let other = PID.pair(Pid::next(Host::named("other")));
        let reason =
            ends(&field, start("test:starter").with_payload(json!("wait")).with_pair(other), told).await;
        match &reason {
            ExitReason::Normal => assert_eq!(told, "done"),
            reason => assert!(reason.to_string().contains("which started this supervisor, ended: it failed")),
        }
        assert_eq!(field.said().await, "+a +b -b -a");
        field.gone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_starts_nothing_where_the_process_that_started_it_is_done_before_it_runs() {
    let mut field = Field::new();
    starter(&field, linked());
    let starter = field.processes.spawn(&field.root, start("test:starter")).unwrap();
    within("a monitor", field.processes.monitor(starter).unwrap()).await;
    assert_eq!(field.said().await, "");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn not_linked_or_no_more_it_outlives_the_process_that_started_it() {
    let unlinked = start("test:starter").with_payload(json!("unlink"));
    let not_linked = start("test:starter").with_payload(json!("wait"));
    for (top, how) in [(linked(), unlinked), (start("test:top").with_name("top"), not_linked)] {
        let mut field = Field::new();
        starter(&field, top);
        let starter = field.processes.spawn(&field.root, how).unwrap();
        settle().await;
        field.tell(starter, "done");
        assert_eq!(field.said().await, "+a +b");
        let top = field.processes.whereis("top").unwrap();
        let exit = field.processes.monitor(top).unwrap();
        field.processes.cancel(top, "a test", BOUND).unwrap();
        assert!(within("a monitor", exit).await.reason.is_normal());
        assert_eq!(field.said().await, "-b -a");
    }
}
