//! What the frames of children inherit from.

use std::time::Duration;

use frame_dispatch::process::supervisor::{ChildSpec, ControlError, Strategy};
use frame_dispatch::process::{ProcessContext, SpawnError};
use frame_dispatch::{CallContext, CallError, Payload, Pid, Task};
use frame_registry::{Key, Options};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{Field, settle, start, supervisor, within};

static TENANT: Key<u32> = Key::new("supervisors.frames.tenant").inherit();

/// What each process of `test:show` has of the tenant, and who is its parent.
fn shows(field: &Field) -> UnboundedReceiver<(Option<u32>, Option<Pid>)> {
    let (to, shown) = unbounded_channel();
    let show = move |mut ctx: ProcessContext, _: Payload| {
        to.send((ctx.frame().get(&TENANT).copied(), ctx.processes().parent(ctx.pid()))).unwrap();
        async move {
            ctx.receive().await;
            Err::<Payload, _>(CallError::invalid("told to fail"))
        }
    };
    field.processes.register("test:show".parse().unwrap(), Options::new(), show).unwrap();
    shown
}

#[tokio::test(start_paused = true)]
async fn a_child_inherits_from_the_frame_of_whoever_adds_it_at_each_start() {
    let field = Field::new();
    let mut shown = shows(&field);
    let handle = field.register("test:top", supervisor(Strategy::OneForOne, []));
    field.processes.spawn(&field.root, start("test:top").with_pair(TENANT.pair(1))).unwrap();
    let top = within("the test for the supervisor", handle.ready()).await;
    let (adder, mut adders) = unbounded_channel();
    let adds = handle.clone();
    let add = move |ctx: CallContext, _: Payload| {
        let (adds, adder) = (adds.clone(), adder.clone());
        async move {
            adder.send(ctx.frame().get(&frame_dispatch::PID).copied()).unwrap();
            adds.add(&ctx, ChildSpec::new("added", start("test:show"))).await.unwrap();
            Ok::<_, CallError>(Payload::default())
        }
    };
    field.processes.functions().register("test:add".parse().unwrap(), Options::new(), add).unwrap();
    let task = Task::new("test:add".parse().unwrap()).with_pair(TENANT.pair(7));
    within("the test for a call", field.root.call(task)).await.unwrap();

    let expected = (Some(7), within("the test", adders.recv()).await.unwrap());
    assert!(expected.1.is_some());
    assert_eq!(within("the test for a child", shown.recv()).await, Some(expected));
    // Restarted by somebody else, and by itself, it is the same.
    let pid = within("the test", handle.restart("added")).await.unwrap();
    assert_eq!(within("the test for a child", shown.recv()).await, Some(expected));
    let info = field.processes.info(pid).unwrap();
    assert_eq!(info.links, [top]);
    field.processes.try_send(&field.root, pid, Payload::default()).unwrap();
    assert_eq!(within("the test for a child", shown.recv()).await, Some(expected));
    settle().await;
    let child = within("the test", handle.children()).await.unwrap().remove(0);
    assert_eq!(child.restarts, 2, "its exits are told to the supervisor");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_do_nothing_more_adds_no_child() {
    let field = Field::new();
    let top = field.up(supervisor(Strategy::OneForOne, [])).await;
    let over = field.root.with_timeout(Duration::ZERO);
    let error = top.handle.add(&over, ChildSpec::new("a", start("test:child"))).await.unwrap_err();
    let ControlError::NotStarted { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, SpawnError::ContextEnded { .. }), "{error:?}");
    assert!(top.children().await.is_empty());
}
