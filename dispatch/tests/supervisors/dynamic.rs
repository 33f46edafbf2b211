//! Supervisors whose children are started and stopped while they run.

use std::time::Duration;

use frame_dispatch::process::supervisor::{
    Backoff, ChildState, ControlError, DynamicChild, DynamicSpec, Restart, RestartPolicy, Shutdown,
    SpecError, StartedChild, Strategy, Supervisor, SupervisorHandle,
};
use frame_dispatch::process::{HostConfig, ProcessContext, SpawnError};
use frame_dispatch::{CallError, Pid};
use frame_registry::{FrameBuilder, Key, Options};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{BOUND, Field, Top, often, settle, spec, start, supervisor, within};

/// Children of `test:child` that are restarted at once, and often.
fn rooms() -> DynamicSpec {
    DynamicSpec::new(spec("room")).with_restart_policy(often())
}

async fn up(field: &Field, spec: DynamicSpec) -> Top {
    let supervisor = Supervisor::dynamic(spec).unwrap();
    let handle = supervisor.handle();
    field.processes.register("test:top".parse().unwrap(), Options::new(), supervisor).unwrap();
    let pid = field.processes.spawn(&field.root, start("test:top")).unwrap();
    let exit = field.processes.monitor(pid).unwrap();
    assert_eq!(within("the test for the supervisor", handle.ready()).await, pid);
    Top { pid, handle, exit }
}

fn child(id: &str) -> DynamicChild {
    DynamicChild::new().with_payload(json!({ "id": id }))
}

async fn start_child(field: &Field, top: &Top, child: DynamicChild) -> Result<StartedChild, ControlError> {
    within("the test for a child", top.handle.start_child(&field.root, child)).await
}

async fn started(field: &Field, top: &Top, id: &str) -> StartedChild {
    start_child(field, top, child(id)).await.unwrap()
}

async fn stop(top: &Top, pid: Pid) -> Result<(), ControlError> {
    within("the test for the end of a child", top.handle.stop_child(pid)).await
}

#[tokio::test(start_paused = true)]
async fn one_specification_starts_many_children_which_are_stopped_one_by_one() {
    let mut field = Field::new();
    let top = up(&field, rooms()).await;
    assert!(top.children().await.is_empty());
    let a = started(&field, &top, "a").await;
    let b = started(&field, &top, "b").await;
    let named = start_child(&field, &top, child("c").with_name("the third")).await.unwrap();
    assert_eq!((&*a.id, &*b.id, &*named.id), ("room#1", "room#2", "room#3"));
    assert_eq!(field.processes.whereis("the third"), Some(named.pid));
    assert_eq!(field.processes.owner(a.pid), Some(top.pid));
    stop(&top, b.pid).await.unwrap();
    within("the test for a removal", top.handle.remove(&named.id)).await.unwrap();
    assert_eq!(field.said().await, "+a +b +c -b -c");
    assert_eq!(top.shown().await, [("room#1".to_owned(), ChildState::Running, 0)]);
    let again = started(&field, &top, "d").await;
    assert_eq!(&*again.id, "room#4", "an id is never given twice");
    let error = stop(&top, b.pid).await.unwrap_err();
    assert!(matches!(error, ControlError::UnknownProcess { pid } if pid == b.pid), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_is_restarted_alone_as_what_it_was() {
    let mut field = Field::new();
    let top = up(&field, rooms()).await;
    let (a, _) = (started(&field, &top, "a").await, started(&field, &top, "b").await);
    field.tell(a.pid, "fail");
    assert_eq!(field.said().await, "+a +b !a +a");
    let now = top.child(&a.id).await;
    assert!(now.pid.is_some_and(|pid| pid != a.pid));
    assert_eq!((now.restarts, now.last.unwrap().to_string()), (1, "it failed: told to fail".to_owned()));
    let error = stop(&top, a.pid).await.unwrap_err();
    assert!(matches!(error, ControlError::UnknownProcess { .. }), "its process is another by now");
    within("the test for a removal", top.handle.remove(&a.id)).await.unwrap();
    assert_eq!(field.said().await, "-a");
}

#[tokio::test(start_paused = true)]
async fn each_child_may_be_restarted_in_its_own_way_and_one_that_is_done_is_forgotten() {
    let mut field = Field::new();
    let top = up(&field, rooms()).await;
    for (restart, how, is_left) in [
        (Restart::Permanent, "done", true),
        (Restart::Transient, "done", false),
        (Restart::Transient, "fail", true),
        (Restart::Temporary, "fail", false),
    ] {
        let child = start_child(&field, &top, child("a").with_restart(restart)).await.unwrap();
        field.tell(child.pid, how);
        let said = field.said().await;
        assert_eq!(said, if is_left { "+a !a +a" } else { "+a !a" }, "{restart} {how}");
        assert_eq!(top.children().await.len(), usize::from(is_left), "{restart} {how}");
        if is_left {
            within("the test for a removal", top.handle.remove(&child.id)).await.unwrap();
        }
        field.said().await;
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_children_as_it_says_and_no_more() {
    let field = Field::new();
    let slow = Backoff::new(Duration::from_secs(9), Duration::from_secs(9)).with_jitter(0.0);
    let top = up(&field, rooms().with_max_children(2).with_restart_policy(often().with_backoff(slow))).await;
    let (a, b) = (started(&field, &top, "a").await, started(&field, &top, "b").await);
    // One that waits for its restart has its place.
    field.tell(a.pid, "fail");
    settle().await;
    assert_eq!(top.child(&a.id).await.state, ChildState::Waiting);
    let error = start_child(&field, &top, child("c")).await.unwrap_err();
    assert!(matches!(error, ControlError::TooManyChildren { limit: 2 }), "{error:?}");
    let error = CallError::from(error);
    assert_eq!(error.message(), "the supervisor has reached its child limit of 2 (`max_children`)");
    assert!(error.is_retryable());
    stop(&top, b.pid).await.unwrap();
    started(&field, &top, "c").await;
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_all_children_count_together_but_starts_that_are_refused_do_not() {
    let mut field = Field::new();
    let top =
        up(&field, rooms().with_restart_policy(often().with_intensity(2, Duration::from_mins(1)))).await;
    for _ in 0..5 {
        let taken = child("x").with_name("{no name");
        let error = start_child(&field, &top, taken).await.unwrap_err();
        let ControlError::NotStarted { source, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**source, SpawnError::InvalidName { .. }), "{source:?}");
    }
    assert!(top.children().await.is_empty());
    let children = [started(&field, &top, "a").await, started(&field, &top, "b").await];
    for (child, id) in children.iter().zip(["a", "b"]) {
        field.tell(child.pid, "fail");
        assert!(field.said().await.ends_with(&format!("!{id} +{id}")));
    }
    let last = started(&field, &top, "c").await;
    field.tell(last.pid, "fail");
    let exit = top.exit().await;
    assert!(exit.reason.to_string().contains("restarted 3 times within 60s, where 2 times"), "{exit:?}");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn it_shuts_all_children_down_at_the_same_time() {
    let mut field = Field::new();
    let top = up(&field, DynamicSpec::new(spec("room").with_shutdown(Shutdown::Within(BOUND)))).await;
    for id in ["a", "b", "c"] {
        let slow = DynamicChild::new().with_payload(json!({ "id": id, "slow": 60 }));
        start_child(&field, &top, slow).await.unwrap();
    }
    field.said().await;
    let began = tokio::time::Instant::now();
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(field.said().await, "-a -b -c");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn children_that_do_not_end_are_killed_when_their_time_has_passed() {
    let mut field = Field::new();
    let top = up(&field, rooms()).await;
    for id in ["a", "b"] {
        let stubborn = DynamicChild::new().with_payload(json!({ "id": id, "stubborn": true }));
        start_child(&field, &top, stubborn).await.unwrap();
    }
    field.said().await;
    let began = tokio::time::Instant::now();
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(began.elapsed().as_secs(), 5);
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_takes_its_dynamic_children_along() {
    let field = Field::new();
    let top = up(&field, rooms()).await;
    for _ in 0..3 {
        started(&field, &top, "a").await;
    }
    field.processes.terminate(top.pid).unwrap();
    top.exit().await;
    assert!(field.processes.is_empty(), "{}", field.processes.processes());
}

#[tokio::test(start_paused = true)]
async fn another_specification_is_for_what_is_started_and_restarted_from_then_on() {
    let mut field = Field::new();
    let top = up(&field, rooms()).await;
    let a = started(&field, &top, "a").await;
    let own = start_child(&field, &top, DynamicChild::new()).await.unwrap();
    within("the test", top.handle.reconfigure(rooms().with_max_children(3))).await.unwrap();
    assert_eq!(field.said().await, "+a +room", "what runs goes on");
    let renamed = DynamicSpec::new(crate::support::spec_with("hall", json!({ "id": "hall" })))
        .with_restart_policy(RestartPolicy::default().with_backoff(Backoff::none()))
        .with_max_children(3);
    within("the test", top.handle.reconfigure(renamed)).await.unwrap();
    field.tell(own.pid, "fail");
    field.tell(a.pid, "fail");
    // What was said for one child goes over what is said for all.
    assert_eq!(field.said().await, "!room !a +a +hall");
    let new = start_child(&field, &top, DynamicChild::new()).await.unwrap();
    assert_eq!((&*new.id, &*field.said().await), ("hall#3", "+hall"));
    let error = start_child(&field, &top, DynamicChild::new()).await.unwrap_err();
    assert!(matches!(error, ControlError::TooManyChildren { limit: 3 }), "{error:?}");
    let invalid = within(
        "the test",
        top.handle.reconfigure(rooms().with_restart_policy(often().with_intensity(1, Duration::ZERO))),
    )
    .await;
    assert!(matches!(invalid, Err(ControlError::Spec { source: SpecError::ZeroWindow })), "{invalid:?}");
}

#[tokio::test(start_paused = true)]
async fn all_children_are_restarted_where_that_is_asked_but_temporary_ones() {
    let mut field = Field::new();
    let top =
        up(&field, rooms().with_restart_policy(often().with_intensity(0, Duration::from_secs(1)))).await;
    started(&field, &top, "a").await;
    start_child(&field, &top, child("b").with_restart(Restart::Transient)).await.unwrap();
    start_child(&field, &top, child("c").with_restart(Restart::Temporary)).await.unwrap();
    field.said().await;
    assert_eq!(within("the test", top.handle.restart_children()).await.unwrap(), 2);
    assert_eq!(field.said().await, "-a -b +a +b");
    let restarts: Vec<_> = top.children().await.iter().map(|child| child.restarts).collect();
    assert_eq!(restarts, [1, 1, 0], "that does not count as a failure");
}

#[tokio::test(start_paused = true)]
async fn what_is_for_one_kind_of_supervisor_is_refused_by_the_other() {
    let field = Field::new();
    let top = up(&field, rooms()).await;
    let error = within("the test", top.handle.add(&field.root, spec("a"))).await.unwrap_err();
    assert!(matches!(error, ControlError::Dynamic), "{error:?}");
    let error = within("the test", top.handle.insert(spec("a"))).await.unwrap_err();
    assert!(matches!(error, ControlError::Dynamic), "{error:?}");
    field.processes.unregister(&"test:top".parse().unwrap());
    let top = field.up(supervisor(Strategy::OneForOne, ["a"])).await;
    let error = start_child(&field, &top, child("b")).await.unwrap_err();
    assert!(matches!(error, ControlError::NotDynamic), "{error:?}");
    let error = within("the test", top.handle.restart_children()).await.unwrap_err();
    assert!(matches!(error, ControlError::NotDynamic), "{error:?}");
    let error = within("the test", top.handle.reconfigure(rooms())).await.unwrap_err();
    assert!(matches!(error, ControlError::NotDynamic), "{error:?}");
    stop(&top, top.pid_of("a").await).await.unwrap();
    assert!(top.children().await.is_empty());
    let invalid = Supervisor::dynamic(DynamicSpec::new(spec("")));
    assert!(matches!(invalid, Err(SpecError::EmptyId)), "{invalid:?}");
}

static TENANT: Key<u32> = Key::new("test.tenant").inherit();

#[tokio::test(start_paused = true)]
async fn a_child_has_the_frame_of_who_started_it_also_after_a_restart() {
    let field = Field::new();
    let (to, mut seen) = unbounded_channel();
    let run = move |mut ctx: ProcessContext| {
        let to = to.clone();
        async move {
            to.send((ctx.frame().get(&TENANT).copied(), ctx.processes().parent(ctx.pid()))).unwrap();
            ctx.receive().await;
            Err::<(), _>(CallError::invalid("told to fail"))
        }
    };
    field.processes.register("test:tenant".parse().unwrap(), Options::new(), run).unwrap();
    let spec = frame_dispatch::process::supervisor::ChildSpec::new("tenant", start("test:tenant"));
    let top = up(
        &field,
        DynamicSpec::new(spec).with_restart_policy(RestartPolicy::default().with_backoff(Backoff::none())),
    )
    .await;
    let mut frame = FrameBuilder::new();
    frame.set(&TENANT, 7);
    let ctx = field.processes.functions().root_in(frame.seal());
    let child = top.handle.start_child(&ctx, DynamicChild::new()).await.unwrap();
    assert_eq!(seen.recv().await, Some((Some(7), None)));
    field.processes.try_send(&field.root, child.pid, json!(1)).unwrap();
    assert_eq!(seen.recv().await, Some((Some(7), None)));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_runs_is_found_by_its_id_whichever_version_of_it_is_registered() {
    let field = Field::new();
    let id = "test:top".parse().unwrap();
    assert!(field.processes.supervisor(&id).is_none());
    assert!(field.processes.supervisor(&"test:child".parse().unwrap()).is_none());
    let top = up(&field, rooms()).await;
    let found = |id| -> SupervisorHandle { field.processes.supervisor(id).unwrap() };
    assert_eq!(found(&id).running(), [top.pid]);
    field.processes.replace(id.clone(), Options::new(), Supervisor::dynamic(rooms()).unwrap()).unwrap();
    let child = found(&id).start_child(&field.root, child("a")).await.unwrap();
    assert_eq!(top.pid_of("room#1").await, child.pid);
    let all: Vec<_> = field.processes.supervisors().into_iter().map(|(id, _)| id).collect();
    assert_eq!(all, std::slice::from_ref(&id));
    field.processes.terminate(top.pid).unwrap();
    top.exit().await;
    settle().await;
    assert!(field.processes.supervisors().is_empty() && found(&id).running().is_empty());
}

/// Each start and each stop costs the same, however many there are.
#[tokio::test(start_paused = true)]
async fn there_may_be_thousands_of_children() {
    let field = Field::on(HostConfig::default());
    let top = up(&field, DynamicSpec::new(spec("room"))).await;
    let mut last = None;
    for _ in 0..20_000 {
        last = Some(started(&field, &top, "a").await);
    }
    assert_eq!(top.children().await.len(), 20_000);
    stop(&top, last.unwrap().pid).await.unwrap();
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    field.gone().await;
}
