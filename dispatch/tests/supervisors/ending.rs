//! How a supervisor ends, and its children with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::process::supervisor::{
    ChildSpec, ChildState, Restart, Shutdown, Strategy, Supervisor, SupervisorBuilder,
};
use frame_dispatch::process::{ExitReason, HostConfig, ProcessContext, Spawn};
use frame_dispatch::{CallError, ErrorKind, Payload};
use frame_registry::Options;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{BOUND, Field, settle, spec, spec_with, start, supervisor, within};

#[tokio::test(start_paused = true)]
async fn cancelled_it_shuts_down_in_reverse_and_ends_normally() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut field = Field::new();
        let slow = spec_with("c", json!({ "id": "c", "slow": 3 }));
        let top = field.up(supervisor(strategy, ["a", "b"]).child(slow).child(spec("d"))).await;
        field.processes.cancel(top.pid, "a test", BOUND).unwrap();
        assert_eq!(field.said().await, "+a +b +c +d -d -c", "the others are asked when c has ended");
        let exit = top.exit().await;
        assert!(exit.reason.is_normal(), "{exit:?}");
        assert_eq!(field.said().await, "-b -a");
        field.gone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ignores_that_it_is_cancelled_is_killed_when_its_time_is_over() {
    let mut field = Field::new();
    let stubborn = spec_with("b", json!({ "id": "b", "stubborn": true }))
        .with_shutdown(Shutdown::Within(Duration::from_secs(7)));
    let top = field.up(supervisor(Strategy::OneForOne, ["a"]).child(stubborn)).await;
    let (b, began) = (top.pid_of("b").await, Instant::now());
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(began.elapsed().as_secs(), 7);
    let exit = within("a monitor", field.processes.monitor(b).unwrap()).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    assert_eq!(field.said().await, "+a +b -b -a");
}

#[tokio::test(start_paused = true)]
async fn a_child_can_be_killed_without_being_asked() {
    let mut field = Field::new();
    let child = spec("b").with_shutdown(Shutdown::AtOnce);
    let top = field.up(supervisor(Strategy::OneForAll, ["a"]).child(child)).await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "+a +b !a !b +a +b");
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(field.said().await, "!b -a");
}

#[tokio::test(start_paused = true)]
async fn a_child_can_have_as_long_as_it_takes() {
    let field = Field::new();
    let slow = spec_with("a", json!({ "id": "a", "slow": 500 })).with_shutdown(Shutdown::Unlimited);
    let top = field.up(supervisor(Strategy::OneForOne, []).child(slow)).await;
    let (a, began) = (top.pid_of("a").await, Instant::now());
    field.processes.cancel(top.pid, "a test", Duration::MAX).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(began.elapsed().as_secs(), 500);
    assert!(within("a monitor", field.processes.monitor(a).unwrap()).await.reason.is_normal());
}

#[tokio::test(start_paused = true)]
async fn killed_it_takes_its_children_along() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a", "b"])).await;
    let a = top.pid_of("a").await;
    field.processes.terminate(top.pid).unwrap();
    let exit = top.exit().await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    let exit = within("a monitor", field.processes.monitor(a).unwrap()).await;
    let ExitReason::LinkDown(link) = &exit.reason else { panic!("{exit:?}") };
    assert!(matches!(*link.reason, ExitReason::Killed));
    assert_eq!(field.said().await, "+a +b !b !a");
    field.gone().await;
}

/// Traps the ends of linked processes, unlinks itself from its supervisor, and ignores that it is cancelled.
async fn trap(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    ctx.trap_links(true);
    if let Some(parent) = ctx.processes().parent(ctx.pid()) {
        ctx.unlink(parent);
    }
    loop {
        ctx.receive().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_can_neither_trap_nor_undo_that_it_ends_with_its_supervisor() {
    let field = Field::new();
    field.processes.register("test:trap".parse().unwrap(), Options::new(), trap).unwrap();
    let child =
        |id: &str| ChildSpec::new(id, start("test:trap").with_name(id)).with_shutdown(Shutdown::Unlimited);
    let all = supervisor(Strategy::OneForOne, []).child(child("a")).child(child("b"));
    let top = field.up(all).await;
    settle().await;
    // Killed at the end of its grace period, as where the app is reloaded.
    field.processes.cancel(top.pid, "a test", Duration::from_secs(2)).unwrap();
    assert!(matches!(top.exit().await.reason, ExitReason::Killed));
    assert!(field.processes.is_empty(), "{}", field.processes.processes());
    assert_eq!((field.processes.whereis("a"), field.processes.whereis("b")), (None, None));
}

/// A child that was restarted is younger than those behind it.
#[tokio::test(start_paused = true)]
async fn killed_it_takes_its_children_along_in_their_order_and_not_by_age() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a", "b", "c"])).await;
    within("the test for a restart", top.handle.restart("a")).await.unwrap();
    within("the test for an order", top.handle.arrange(["b", "a"])).await.unwrap();
    field.said().await;
    field.processes.terminate(top.pid).unwrap();
    top.exit().await;
    assert_eq!(field.said().await, "!c !a !b");
}

/// As after a pause of the whole program: all times have come at once.
#[tokio::test(start_paused = true)]
async fn a_pause_beyond_all_time_that_a_child_has_to_end_leaves_no_child_behind() {
    let mut field = Field::new();
    let stubborn = spec_with("b", json!({ "id": "b", "stubborn": true }));
    let top = field.up(supervisor(Strategy::OneForOne, ["a"]).child(stubborn)).await;
    let first = top.pid_of("b").await;
    let exit = field.processes.monitor(first).unwrap();
    let restart = top.handle.restart("b");
    let pause = async {
        settle().await;
        tokio::time::advance(Duration::from_mins(1)).await;
        exit.await
    };
    let (second, exit) = within("the test for a restart", async { tokio::join!(restart, pause) }).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    let child = top.child("b").await;
    assert_eq!(child.pid, Some(second.unwrap()));
    // Not that it was left behind: it has ended.
    assert_eq!(child.last.unwrap().to_string(), "it was terminated");
    assert_eq!(field.said().await, "+a +b -b +b");
}

#[tokio::test(start_paused = true)]
async fn its_children_end_with_it_when_its_own_time_is_over() {
    let field = Field::new();
    let stubborn = spec_with("b", json!({ "id": "b", "stubborn": true })).with_shutdown(Shutdown::Unlimited);
    let top = field.up(supervisor(Strategy::OneForOne, ["a"]).child(stubborn)).await;
    let began = Instant::now();
    field.processes.cancel(top.pid, "a test", Duration::from_secs(2)).unwrap();
    assert!(matches!(top.exit().await.reason, ExitReason::Killed));
    assert_eq!(began.elapsed().as_secs(), 2);
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_ends_it_and_those_before_in_reverse() {
    let mut field = Field::new();
    let never = ChildSpec::new("never", start("test:unknown"));
    let all = supervisor(Strategy::OneForOne, ["a", "b"]).child(never).child(spec("c"));
    let handle = field.register("test:top", all);
    let pid = field.processes.spawn(&field.root, start("test:top")).unwrap();
    let exit = within("a monitor", field.processes.monitor(pid).unwrap()).await;
    assert_eq!(
        exit.reason.to_string(),
        "it failed: the process was not spawned: unknown process `test:unknown`; register it (child `never` of the \
         supervisor)"
    );
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(field.said().await, "+a +b -b -a");
    assert!(handle.running().is_empty());
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_it_runs_it_starts_nothing_that_stays() {
    let mut field = Field::new();
    field.register("test:top", supervisor(Strategy::OneForOne, ["a", "b"]));
    let pid = field.processes.spawn(&field.root, start("test:top")).unwrap();
    field.processes.cancel(pid, "a test", BOUND).unwrap();
    let exit = within("a monitor", field.processes.monitor(pid).unwrap()).await;
    assert!(exit.reason.is_normal(), "{exit:?}");
    assert_eq!(field.said().await, "");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn without_children_it_waits_for_some_until_it_is_cancelled() {
    let field = Field::new();
    let top = field.up(Supervisor::builder(Strategy::OneForAll)).await;
    assert!(top.children().await.is_empty());
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_when_all_of_its_children_are_done() {
    let field = Field::new();
    let children = ["a", "b"].map(|id| spec(id).with_restart(Restart::Transient));
    let all = children.into_iter().fold(Supervisor::builder(Strategy::OneForAll), SupervisorBuilder::child);
    let top = field.up(all).await;
    for id in ["a", "b"] {
        field.tell(top.pid_of(id).await, "done");
    }
    tokio::time::sleep(BOUND).await;
    assert!(top.children().await.iter().all(|child| child.state == ChildState::Done));
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_refused() {
    let mut field = Field::new();
    field.register("test:top", supervisor(Strategy::OneForOne, ["a"]));
    let pid = field.processes.spawn(&field.root, start("test:top").with_payload(json!({ "a": 1 }))).unwrap();
    let exit = within("a monitor", field.processes.monitor(pid).unwrap()).await;
    assert_eq!(
        exit.reason.to_string(),
        "it failed: a supervisor takes no payload; set the payloads of its children where it is built"
    );
    assert_eq!(field.said().await, "");
}

/// The clock runs here until the child blocks, because it does so on a thread of its own.
#[tokio::test]
async fn a_child_that_blocks_its_thread_is_left_behind() {
    let mut field = Field::new();
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let host = HostConfig::default().with_runtime(other.handle().clone());
    field.processes.register_host("test:other".parse().unwrap(), host).unwrap();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (blocks, mut is_blocked) = tokio::sync::mpsc::unbounded_channel();
    let wait = Arc::new(Mutex::new(wait));
    let block = move |_: ProcessContext, _: Payload| {
        let (wait, blocks) = (Arc::clone(&wait), blocks.clone());
        async move {
            blocks.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
            Ok(Payload::default())
        }
    };
    field.processes.register("test:block".parse().unwrap(), Options::new(), block).unwrap();
    let blocking = Spawn::new("test:other".parse().unwrap(), "test:block".parse().unwrap());
    let blocking = ChildSpec::new("b", blocking).with_shutdown(Shutdown::AtOnce);
    let top = field.up(supervisor(Strategy::OneForOne, ["a"]).child(blocking)).await;
    within("the test for the child to block", is_blocked.recv()).await.unwrap();
    let b = top.pid_of("b").await;
    settle().await;
    tokio::time::pause();
    let began = Instant::now();
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(field.said().await, "+a -a");
    tokio::time::resume();
    go_on.send(()).unwrap();
    within("a monitor", field.processes.monitor(b).unwrap()).await;
    other.shutdown_background();
}
