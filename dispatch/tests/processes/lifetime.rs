//! Starting and ending.

use std::time::Duration;

use frame_dispatch::Payload;
use frame_dispatch::process::{ExitReason, HostConfig, Message};
use serde_json::json;

use crate::support::{manager, register, start, within};

#[tokio::test]
async fn a_process_that_is_done_is_known_by_its_exit_and_gone() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:echo", async |mut ctx, payload| {
        let Message::Sent { payload: second, .. } = ctx.receive().await else { panic!("nothing was sent") };
        Ok(json!([payload.as_json(), second.as_json()]).into())
    });
    let pid = processes.start(&root, start("test:echo").with_payload(json!(1))).unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.send(&root, pid, json!(2)).await.unwrap();
    let exit = within("a monitor for the exit", exit).await;
    assert!(exit.reason.is_normal());
    assert_eq!(exit.result.as_deref(), Some(&Payload::from(json!([1, 2]))));
    assert!(processes.list().is_empty());
    let again = within("a monitor for an exit that was", processes.monitor(pid).unwrap()).await;
    assert!(again.reason.is_normal() && again.result.is_none());
}

#[tokio::test]
async fn a_process_is_terminated_where_it_waits() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:wait", async |mut ctx, _| {
        ctx.receive().await;
        ctx.receive().await;
        Ok(Payload::default())
    });
    let pid = processes.start(&root, start("test:wait")).unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.cancel(pid, "enough", Duration::from_millis(5)).unwrap();
    let exit = within("a monitor for the exit", exit).await;
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    assert_eq!(within("stop", processes.stop(Duration::ZERO)).await.running, []);
    println!("{}", processes.list());
}
