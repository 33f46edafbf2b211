//! Children whose code is quarantined: they are left alone, and so are their siblings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frame_dispatch::process::supervisor::{
    ChildSpec, ChildState, ControlError, DynamicChild, DynamicSpec, Restart, Strategy, Supervisor,
};
use frame_dispatch::process::{Process, ProcessContext};
use frame_dispatch::{BoxFuture, CallError, ErrorKind, Payload};
use frame_registry::Options;
use serde_json::json;

use crate::support::{BOUND, Field, Top, often, settle, spec, start, supervisor, within};

/// Runs until it is sent something, and then fails. While it is quarantined each process of it fails at once.
struct Code {
    is_quarantined: Arc<AtomicBool>,
}

impl Process for Code {
    fn is_quarantined(&self) -> bool {
        self.is_quarantined.load(Ordering::SeqCst)
    }

    fn run(&self, mut ctx: ProcessContext, _: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async move {
            if self.is_quarantined() {
                return Err(CallError::new(ErrorKind::Exhausted, "it is quarantined"));
            }
            match ctx.receive().await {
                frame_dispatch::process::Message::Sent { .. } => Err(CallError::invalid("told to fail")),
                _ => Ok(Payload::default()),
            }
        })
    }
}

fn code(field: &Field) -> Arc<AtomicBool> {
    let is_quarantined = Arc::new(AtomicBool::new(false));
    let code = Code { is_quarantined: Arc::clone(&is_quarantined) };
    field.processes.register("test:code".parse().unwrap(), Options::new(), code).unwrap();
    is_quarantined
}

/// A reload: the code is replaced by one that is not quarantined.
fn replace(field: &Field) {
    let code = Code { is_quarantined: Arc::default() };
    field.processes.replace("test:code".parse().unwrap(), Options::new(), code).unwrap();
}

fn bad() -> ChildSpec {
    ChildSpec::new("bad", start("test:code"))
}

async fn restart(top: &Top, id: &str) -> Result<frame_dispatch::Pid, ControlError> {
    within("the test for a restart", top.handle.restart(id)).await
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_child_is_left_alone_with_every_strategy_and_its_siblings_go_on() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut field = Field::new();
        let is_quarantined = code(&field);
        let all = supervisor(strategy, ["a"]).child(bad()).child(spec("b"));
        let top = field.up(all.restart_policy(often().with_intensity(1, Duration::from_hours(1)))).await;
        is_quarantined.store(true, Ordering::SeqCst);
        field.tell(top.pid_of("bad").await, "fail");
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(field.said().await, "+a +b", "{strategy:?}");
        let child = top.child("bad").await;
        assert_eq!((child.state, child.restarts, child.pid), (ChildState::Quarantined, 0, None));
        let last = child.last.unwrap();
        assert_eq!((last.to_string().as_str(), last.ago.as_secs()), ("it failed: told to fail", 600));

        // Those that are restarted with it do not wait for it.
        field.tell(top.pid_of("a").await, "fail");
        let expected = match strategy {
            Strategy::OneForOne => "!a +a",
            _ => "!a -b +a +b",
        };
        assert_eq!(field.said().await, expected, "{strategy:?}");
        let error = restart(&top, "bad").await.unwrap_err();
        assert!(matches!(error, ControlError::Quarantined { .. }), "{error:?}");
        assert_eq!(top.child("bad").await.state, ChildState::Quarantined);

        replace(&field);
        let pid = restart(&top, "bad").await.unwrap();
        let child = top.child("bad").await;
        assert_eq!((child.state, child.pid), (ChildState::Running, Some(pid)), "{strategy:?}");
        assert_eq!(field.said().await, "", "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_child_that_still_runs_is_not_ended_by_a_restart_that_is_refused() {
    let field = Field::new();
    let is_quarantined = code(&field);
    let top = field.up(supervisor(Strategy::OneForOne, []).child(bad())).await;
    let pid = top.pid_of("bad").await;
    is_quarantined.store(true, Ordering::SeqCst);
    assert!(matches!(restart(&top, "bad").await, Err(ControlError::Quarantined { .. })));
    let child = top.child("bad").await;
    assert_eq!((child.state, child.pid), (ChildState::Running, Some(pid)));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_started_again_has_its_quarantined_child_still() {
    let mut field = Field::new();
    let is_quarantined = code(&field);
    field.register("test:inner", supervisor(Strategy::OneForOne, ["a"]).child(bad()).child(spec("b")));
    let all = supervisor(Strategy::OneForOne, []).child(ChildSpec::new("inner", start("test:inner")));
    let top = field.up(all).await;
    is_quarantined.store(true, Ordering::SeqCst);
    field.processes.terminate(top.pid_of("inner").await).unwrap();
    settle().await;
    let inner = field.processes.supervisor(&"test:inner".parse().unwrap()).unwrap();
    let children = within("the test for children", inner.children()).await.unwrap();
    let states: Vec<_> = children.iter().map(|child| child.state).collect();
    assert_eq!(states, [ChildState::Running, ChildState::Quarantined, ChildState::Running]);
    assert_eq!(field.said().await, "+a +b !b !a +a +b");
    replace(&field);
    within("the test for a restart", inner.restart("bad")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_forgotten_and_one_that_is_added_is_refused() {
    let field = Field::new();
    let is_quarantined = code(&field);
    let all = supervisor(Strategy::OneForOne, ["a"]).child(bad().with_restart(Restart::Temporary));
    let top = field.up(all).await;
    is_quarantined.store(true, Ordering::SeqCst);
    field.tell(top.pid_of("bad").await, "fail");
    settle().await;
    assert_eq!(top.children().await.len(), 1);
    let error = within("the test for a child", top.handle.add(&field.root, bad())).await.unwrap_err();
    assert_eq!(error.to_string(), "the child `bad` was not started: its code is quarantined; reload it");
    assert_eq!(top.children().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_dynamic_child_waits_for_its_code_and_no_other_is_started() {
    let field = Field::new();
    let is_quarantined = code(&field);
    let spec = DynamicSpec::new(bad());
    let supervisor =
        Supervisor::dynamic(spec.with_restart_policy(often().with_intensity(0, Duration::from_secs(1))))
            .unwrap();
    let handle = supervisor.handle();
    field.processes.register("test:top".parse().unwrap(), Options::new(), supervisor).unwrap();
    let pid = field.processes.spawn(&field.root, start("test:top")).unwrap();
    handle.ready().await;
    let child = handle.start_child(&field.root, DynamicChild::new()).await.unwrap();
    is_quarantined.store(true, Ordering::SeqCst);
    field.processes.try_send(&field.root, child.pid, json!("fail")).unwrap();
    settle().await;
    assert_eq!(handle.children().await.unwrap()[0].state, ChildState::Quarantined);
    let error = handle.start_child(&field.root, DynamicChild::new()).await.unwrap_err();
    assert!(matches!(error, ControlError::Quarantined { .. }), "{error:?}");
    replace(&field);
    assert_eq!(handle.restart_children().await.unwrap(), 1);
    settle().await;
    assert_eq!(handle.children().await.unwrap()[0].state, ChildState::Running);
    field.processes.cancel(pid, "a test", BOUND).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_quarantined_child() {
    let field = Field::new();
    let is_quarantined = code(&field);
    let top = field.up(supervisor(Strategy::OneForAll, ["a"]).child(bad())).await;
    is_quarantined.store(true, Ordering::SeqCst);
    field.tell(top.pid_of("bad").await, "fail");
    settle().await;
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    field.gone().await;
}
