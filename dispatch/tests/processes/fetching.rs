//! Many messages at once, of which a process receives some in one poll.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use frame_dispatch::process::{
    HostConfig, ManagerConfig, Message, ProcessCallError, ProcessContext, SendErrorReason,
};
use frame_dispatch::{CallError, Payload};
use frame_registry::Key;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{exit_of, manager, manager_with, register, register_saying, said, start, until, within};

fn number(message: Message) -> u64 {
    let payload = message.into_payload().expect("it was sent");
    payload.as_json().and_then(serde_json::Value::as_u64).expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_that_another_task_goes_on_with_in_the_middle_of_a_poll_keeps_the_order() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(8));
    let mut said_by = register_saying(&processes, "test:moves", async |mut ctx: ProcessContext, _, say| {
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
    let pid = processes.spawn(&root, start("test:moves")).unwrap();
    for sent in 0..40 {
        processes.send(&root, pid, json!(sent)).await.unwrap();
    }
    assert_eq!(said(&mut said_by).await, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn callers_are_told_of_the_end_of_a_process_that_panics_before_it_received_their_calls() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:panics", async |mut ctx: ProcessContext, _| -> Result<Payload, CallError> {
        while ctx.processes().info(ctx.pid()).expect("it lives").mailbox < 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(number(ctx.receive().await), 0);
        assert_eq!(number(ctx.receive().await), 1);
        panic!("enough");
    });
    let pid = processes.spawn(&root, start("test:panics")).unwrap();
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
    processes.spawn(&root, start("test:forever").with_name("receiver")).unwrap();
    let mut said_by = register_saying(&processes, "test:sends", async |ctx: ProcessContext, _, say| {
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
    let sender = processes.spawn(&root, start("test:sends")).unwrap();
    assert!(said(&mut said_by).await.is_none());
    let reason = said(&mut said_by).await.expect("the second is an error");
    assert!(matches!(reason, SendErrorReason::Ended), "{reason:?}");
    exit_of(&processes, sender).await;
}

/// A value of a frame that panics when it is dropped.
#[derive(Debug)]
struct PanicsAtDrop(Arc<AtomicBool>);

impl Drop for PanicsAtDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        panic!("at the drop");
    }
}

static PANICS: Key<PanicsAtDrop> = Key::new("panics");

/// Sends to a process, which then ends, and to `next`, all in one poll. Returns what became of the last.
async fn sends_on_in_the_poll(ends: &str, next: &str) -> Result<(), SendErrorReason> {
    let (processes, root) = manager_with(ManagerConfig::default().with_exits(0), HostConfig::default());
    let is_dropped = Arc::new(AtomicBool::new(false));
    register(&processes, "test:ends", async |mut ctx: ProcessContext, _| {
        ctx.receive().await;
        ctx.receive().await;
        Ok(Payload::default())
    });
    let value = PANICS.pair(PanicsAtDrop(Arc::clone(&is_dropped)));
    let ends = processes.spawn(&root, start("test:ends").with_name(ends).with_pair(value)).unwrap();
    processes.spawn(&root, start("test:forever").with_name("forever")).unwrap();
    let next = processes.whereis(next).expect("it lives");
    let mut said_by =
        register_saying(&processes, "test:sends", move |ctx: ProcessContext, _, say| async move {
            for sent in 0..2 {
                ctx.try_send(ends, json!(sent)).expect("it lives");
            }
            // Another thread goes on with the others.
            tokio::task::block_in_place(|| {
                while ctx.processes().info(ends).is_some() || ctx.processes().monitor(ends).is_ok() {
                    std::thread::yield_now();
                }
            });
            say.send(ctx.try_send(next, json!(2)).map_err(|error| error.reason)).unwrap();
            Ok(Payload::default())
        });
    within("the sender", processes.exec(&root, start("test:sends"))).await.expect("it does not fail");
    let sent = said(&mut said_by).await;
    until("a value of the frame", || is_dropped.load(Ordering::SeqCst)).await;
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_that_has_ended_leaves_behind_is_no_failure_of_the_sender() {
    let sent = sends_on_in_the_poll("ends", "forever").await;
    assert!(sent.is_ok(), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_has_ended_in_the_poll_and_is_not_remembered_is_not_found() {
    let sent = sends_on_in_the_poll("ends", "ends").await;
    assert!(matches!(sent, Err(SendErrorReason::NotFound)), "{sent:?}");
}

#[tokio::test]
async fn senders_to_a_large_mailbox_go_on_before_half_of_it_is_free() {
    const MAILBOX: u64 = 1 << 14;
    let (processes, root) = manager(HostConfig::default().with_mailbox(1 << 14));
    let (begins, received) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let (begun, counted) = (Arc::clone(&begins), Arc::clone(&received));
    register(&processes, "test:receives", move |mut ctx: ProcessContext, _| {
        let (begun, counted) = (Arc::clone(&begun), Arc::clone(&counted));
        async move {
            begun.notified().await;
            loop {
                ctx.receive().await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let pid = processes.spawn(&root, start("test:receives")).unwrap();
    for sent in 0..MAILBOX {
        processes.try_send(&root, pid, json!(sent)).unwrap();
    }
    let mut send = Box::pin(processes.send(&root, pid, json!(MAILBOX)));
    let is_pending = poll_fn(|context| Poll::Ready(send.as_mut().poll(context).is_pending())).await;
    assert!(is_pending, "the mailbox is full");
    begins.notify_one();
    within("the sender", send).await.unwrap();
    let received = received.load(Ordering::SeqCst);
    assert!(received < 1024, "after {received} messages");
    processes.terminate(pid).unwrap();
}

/// A process receives some messages of its full mailbox, and then awaits something else for ever.
async fn receives_no_more_after(count: u64) {
    const MAILBOX: u64 = 1024;
    let (processes, root) = manager(HostConfig::default().with_mailbox(1024));
    let begins = Arc::new(Notify::new());
    let begun = Arc::clone(&begins);
    register(&processes, "test:stops", move |mut ctx: ProcessContext, _| {
        let begun = Arc::clone(&begun);
        async move {
            begun.notified().await;
            for expected in 0..count {
                assert_eq!(number(ctx.receive().await), expected);
            }
            pending::<Result<Payload, CallError>>().await
        }
    });
    let pid = processes.spawn(&root, start("test:stops")).unwrap();
    for sent in 0..MAILBOX {
        processes.try_send(&root, pid, json!(sent)).unwrap();
    }
    let waiting = count.min(4);
    let mut sends: Vec<_> =
        (0..waiting).map(|number| Box::pin(processes.send(&root, pid, json!(number)))).collect();
    for send in &mut sends {
        let is_pending = poll_fn(|context| Poll::Ready(send.as_mut().poll(context).is_pending())).await;
        assert!(is_pending, "the mailbox is full");
    }
    begins.notify_one();
    for send in sends {
        within("a sender", send).await.unwrap_or_else(|error| panic!("after {count} messages: {error}"));
    }
    let left = usize::try_from(MAILBOX - count + waiting).unwrap();
    until("a process that receives on", || processes.info(pid).expect("it lives").mailbox == left).await;
    processes.terminate(pid).unwrap();
}

#[tokio::test]
async fn senders_go_on_when_a_process_that_received_many_messages_awaits_something_else() {
    // One poll receives up to 128, and the batches of some polls are one.
    for count in [1, 63, 64, 65].into_iter().chain(120..=136).chain([256, 300, 511, 512, 640, 1024]) {
        receives_no_more_after(count).await;
    }
}
