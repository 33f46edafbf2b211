//! Supervisors of supervisors.

use std::time::Duration;

use frame_dispatch::process::ExitReason;
use frame_dispatch::process::supervisor::{
    ChildSpec, Shutdown, Strategy, SupervisorBuilder, SupervisorHandle,
};

use crate::support::{BOUND, Field, often, settle, spec, start, supervisor, within};

/// `top` has `a`, the supervisor `test:inner` with `x` and `y`, and `b`.
fn nested(field: &Field, inner: SupervisorBuilder) -> (SupervisorBuilder, SupervisorHandle) {
    let handle = field.register("test:inner", inner);
    let child = ChildSpec::new("inner", start("test:inner")).with_shutdown(Shutdown::Unlimited);
    let top = supervisor(Strategy::RestForOne, ["a"]).child(child).child(spec("b"));
    (top, handle)
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_shut_down_from_its_last_leaf_to_its_first() {
    let mut field = Field::new();
    let (top, _) = nested(&field, supervisor(Strategy::OneForOne, ["x", "y"]));
    let top = field.up(top).await;
    // What the inner one starts it starts as it first runs.
    assert_eq!(field.said().await, "+a +b +x +y");
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert_eq!(field.said().await, "-b -y -x -a");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gives_up_is_restarted_by_its_own_and_known_to_its_handle() {
    let mut field = Field::new();
    let inner = supervisor(Strategy::OneForOne, ["x", "y"])
        .restart_policy(often().with_intensity(1, Duration::from_mins(1)));
    let (top, handle) = nested(&field, inner);
    let top = field.up(top).await;
    field.said().await;
    let first = within("the test for the inner supervisor", handle.ready()).await;
    assert_eq!(top.pid_of("inner").await, first);
    for _ in 0..2 {
        let children = within("the test for the children", handle.children()).await.unwrap();
        field.tell(children[0].pid.unwrap(), "fail");
        settle().await;
    }
    assert_eq!(field.said().await, "!x +x !x -y -b +b +x +y");
    let second = within("the test for the inner supervisor", handle.ready()).await;
    assert_eq!(top.pid_of("inner").await, second);
    assert_ne!(first, second);
    let last = top.child("inner").await.last.unwrap().to_string();
    assert!(last.starts_with("it failed: the supervisor gave up: "), "{last}");
    let children = within("the test for the children", handle.children()).await.unwrap();
    assert_eq!(children.iter().map(|child| child.restarts).collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn killed_a_tree_ends_at_once_from_its_last_leaf_to_its_first() {
    let mut field = Field::new();
    let (top, handle) = nested(&field, supervisor(Strategy::OneForOne, ["x", "y"]));
    let top = field.up(top).await;
    field.said().await;
    let inner = within("the test for the inner supervisor", handle.ready()).await;
    let inner = field.processes.monitor(inner).unwrap();
    field.processes.terminate(top.pid).unwrap();
    let exit = within("a monitor", inner).await;
    let ExitReason::LinkDown(down) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!((down.origin, down.reason.as_str()), (top.pid, "killed"));
    assert!(matches!(top.exit().await.reason, ExitReason::Killed));
    assert!(field.processes.is_empty(), "the exit is told when all have ended");
    assert_eq!(field.said().await, "!b !y !x !a");
}

/// Whoever links itself to it does that for its own sake.
#[tokio::test(start_paused = true)]
async fn the_failure_of_a_process_that_is_linked_to_it_and_no_child_is_nothing_to_it() {
    let mut field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, ["a"])).await;
    let other = field.processes.spawn(&field.root, start("test:child")).unwrap();
    field.processes.link(other, top.pid).unwrap();
    field.tell(other, "fail");
    assert_eq!(field.said().await, "+a +? !?");
    assert_eq!(top.child("a").await.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_frame_of_a_supervisor_carries_its_children_inherit() {
    use frame_registry::Key;
    static TENANT: Key<u32> = Key::new("supervisors.tenant").inherit().public();

    let field = Field::new();
    field.register("test:top", supervisor(Strategy::OneForOne, ["a"]));
    let top = field.processes.spawn(&field.root, start("test:top").with_pair(TENANT.pair(7))).unwrap();
    settle().await;
    let list = field.processes.processes();
    let child = list.iter().find(|process| process.parent == Some(top)).unwrap();
    assert!(child.frame.contains(&"supervisors.tenant"), "{list}");
    assert_eq!((&child.links[..], child.parent), (&[top][..], Some(top)));
    let supervisor = field.processes.info(top).unwrap();
    assert_eq!((supervisor.engine, supervisor.monitors), ("native", vec![child.pid]));
}
