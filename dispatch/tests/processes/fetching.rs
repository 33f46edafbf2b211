//! Many messages at once, of which a process receives some in one poll.

use frame_dispatch::process::{HostConfig, Message, ProcessCallError, ProcessCtx, SendErrorReason};
use frame_dispatch::{CallError, Payload};
use serde_json::json;

use crate::support::{exit_of, manager, register, register_saying, said, start, within};

fn number(message: Message) -> u64 {
    let payload = message.into_payload().expect("it was sent");
    payload.as_json().and_then(serde_json::Value::as_u64).expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_that_another_task_goes_on_with_in_the_middle_of_a_poll_keeps_the_order() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(8));
    let mut said_by = register_saying(&processes, "test:moves", async |mut ctx: ProcessCtx, _, say| {
        let mut numbers = vec![number(ctx.receive().await)];
        while ctx.processes().info(ctx.pid()).expect("it lives").mailbox < 8 {
            tokio::task::yield_now().await;
        }
        numbers.extend((0..2).map(|_| number(ctx.try_receive().expect("it is full"))));
        let received = tokio::spawn(async move {
            while numbers.len() < 40 {
                numbers.push(number(ctx.receive().await));
            }
            numbers
        });
        say.send(received.await.expect("it does not panic")).unwrap();
        Ok(Payload::default())
    });
    let pid = processes.start(&root, start("test:moves")).unwrap();
    for sent in 0..40 {
        processes.send(&root, pid, json!(sent)).await.unwrap();
    }
    assert_eq!(said(&mut said_by).await, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn callers_are_told_of_the_end_of_a_process_that_panics_before_it_received_their_calls() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:panics", async |mut ctx: ProcessCtx, _| -> Result<Payload, CallError> {
        while ctx.processes().info(ctx.pid()).expect("it lives").mailbox < 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(number(ctx.receive().await), 0);
        assert_eq!(number(ctx.receive().await), 1);
        panic!("enough");
    });
    let pid = processes.start(&root, start("test:panics")).unwrap();
    for sent in 0..2 {
        processes.send(&root, pid, json!(sent)).await.unwrap();
    }
    let calls: Vec<_> = (2..6)
        .map(|sent| {
            let (processes, root) = (processes.clone(), root.clone());
            tokio::spawn(async move { processes.call(&root, pid, json!(sent)).await })
        })
        .collect();
    for call in calls {
        let error = within("the caller", call).await.unwrap().unwrap_err();
        assert!(matches!(error, ProcessCallError::Ended { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_process_that_sends_on_after_the_receiver_has_ended_is_told() {
    let (processes, root) = manager(HostConfig::default());
    processes.start(&root, start("test:forever").with_name("receiver")).unwrap();
    let mut said_by = register_saying(&processes, "test:sends", async |ctx: ProcessCtx, _, say| {
        let receiver = ctx.processes().whereis("receiver").expect("it lives");
        for sent in 0..4 {
            ctx.send(receiver, json!(sent)).await.expect("it lives");
        }
        say.send(None).unwrap();
        ctx.processes().terminate(receiver).expect("it lives");
        while ctx.processes().info(receiver).is_some() {
            tokio::task::yield_now().await;
        }
        say.send(Some(ctx.send(receiver, json!(9)).await.expect_err("it has ended").reason)).unwrap();
        Ok(Payload::default())
    });
    let sender = processes.start(&root, start("test:sends")).unwrap();
    assert!(said(&mut said_by).await.is_none());
    let reason = said(&mut said_by).await.expect("the second is an error");
    assert!(matches!(reason, SendErrorReason::Ended), "{reason:?}");
    exit_of(&processes, sender).await;
}
