//! Sending and receiving.

use std::time::Duration;

use frame_dispatch::process::{
    Destination, HostConfig, ManagerConfig, Message, ProcessContext, SendErrorReason,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Host, Payload, Pid, Task};
use frame_registry::Options;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    BOUND, LONG, exit_of, manager, manager_with, register, register_saying, said, start, within,
};

#[tokio::test]
async fn a_destination_is_a_pid_or_a_name() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        while let Message::Sent { payload, .. } = ctx.receive().await {
            say.send(payload).unwrap();
        }
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:tell").with_name("teller")).unwrap();
    processes.send(&root, pid, json!(1)).await.unwrap();
    processes.send(&root, "teller", json!(2)).await.unwrap();
    let text = pid.to_string();
    let by_text = Destination::from_text(&text).unwrap();
    assert_eq!(by_text, Destination::Pid(pid));
    processes.send(&root, by_text, json!(3)).await.unwrap();
    let by_name = Destination::from_text("teller").unwrap();
    assert!(matches!(&by_name, Destination::Name(name) if name == "teller"));
    processes.send(&root, by_name, json!(4)).await.unwrap();
    for number in 1..=4 {
        assert_eq!(said(&mut said_by).await, json!(number).into());
    }
    let error = Destination::from_text("{teller").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"{teller\" is no PID; one is written such as `{local@app:workers|0x00001}`"
    );
}

#[tokio::test]
async fn a_text_is_the_pid_that_it_says_or_a_name_or_an_error() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:forever").with_name("named")).unwrap();
    let (text, name) = (pid.to_string(), "named".to_owned());
    processes.send(&root, text.as_str(), json!(1)).await.unwrap();
    processes.send(&root, &text, json!(2)).await.unwrap();
    processes.send(&root, text, json!(3)).await.unwrap();
    processes.try_send(&root, &name, json!(4)).unwrap();
    processes.try_send(&root, name, json!(5)).unwrap();
    assert_eq!(processes.info(pid).unwrap().mailbox, 5);

    for to in [Destination::from("{named"), "{named".to_owned().into(), Destination::Name("{named".into())] {
        let error = processes.send(&root, to, json!(1)).await.unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::InvalidPid(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the message to \"{named\" was not delivered: \"{named\" is no PID; one is written such as \
             `{local@app:workers|0x00001}`"
        );
        assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
    }
    let error = processes.send(&root, "{nowhere@test:host|0x1}", json!(1)).await.unwrap_err();
    assert!(matches!(error.reason, SendErrorReason::NotFound), "no such host, so no such process: {error:?}");
}

/// The time of a sender that waits is told by the clock, which stands still here.
#[tokio::test(start_paused = true)]
async fn a_process_does_not_wait_for_room_in_its_own_mailbox() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let mut said_by = register_saying(&processes, "test:own", async |ctx, _, say| {
        ctx.send(ctx.pid(), json!(1)).await?;
        let begin = tokio::time::Instant::now();
        let error = ctx.send(ctx.pid(), json!(2)).await.unwrap_err();
        say.send((error.reason, begin.elapsed())).unwrap();
        Ok(Payload::default())
    });
    processes.spawn(&root, start("test:own")).unwrap();
    let (reason, waited) = said(&mut said_by).await;
    assert!(matches!(reason, SendErrorReason::Full { capacity: 1 }), "{reason:?}");
    assert_eq!(waited, Duration::ZERO);
}

#[tokio::test]
async fn a_message_to_who_is_not_there_is_an_error_and_given_back() {
    let (processes, root) = manager(HostConfig::default());
    let never = Pid::next(Host::named("local@test:host"));
    let error = processes.send(&root, never, json!("back")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the message to {never} was not delivered: unknown process"));
    assert_eq!(*error.payload, json!("back").into());
    assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    let error = processes.try_send(&root, "nobody", json!("back")).unwrap_err();
    assert_eq!(error.to_string(), "the message to \"nobody\" was not delivered: unknown process");

    let ended = processes.spawn(&root, start("test:done").with_name("somebody")).unwrap();
    exit_of(&processes, ended).await;
    for error in [
        processes.send(&root, ended, vec![1, 2]).await.unwrap_err(),
        processes.try_send(&root, ended, vec![1, 2]).unwrap_err(),
    ] {
        assert!(matches!(error.reason, SendErrorReason::Ended), "{error:?}");
        assert_eq!((&*error.payload, &*error.to), (&Payload::from(vec![1, 2]), &*ended.to_string()));
        assert_eq!(CallError::from(error).kind(), ErrorKind::NotFound);
    }
    let error = processes.send(&root, "somebody", json!(1)).await.unwrap_err();
    assert!(matches!(error.reason, SendErrorReason::NotFound), "a name is no one's: {error:?}");
    let elsewhere: Pid = ended.to_string().replace("local@test:host", "test:none").parse().unwrap_or(never);
    assert!(processes.try_send(&root, elsewhere, json!(1)).is_err());
}

#[tokio::test]
async fn a_message_says_which_process_sent_it() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        while let Message::Sent { from, .. } = ctx.receive().await {
            say.send(from).unwrap();
        }
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:tell").with_name("teller")).unwrap();
    processes.try_send(&root, pid, json!(1)).unwrap();
    assert_eq!(said(&mut said_by).await, None);

    let inside = processes.clone();
    let function = move |ctx: CallContext, payload| {
        let processes = inside.clone();
        async move {
            processes.send(&ctx, "teller", json!(1)).await?;
            Ok::<Payload, CallError>(payload)
        }
    };
    processes.functions().register("test:sends".parse().unwrap(), Options::new(), function).unwrap();
    register(&processes, "test:sends", async |ctx, _| {
        ctx.send("teller", json!(1)).await?;
        ctx.try_send("teller", json!(1))?;
        ctx.ctx().call(Task::new("test:sends".parse().unwrap())).await?;
        ctx.spawn(start("test:tell").with_message(json!(1)))?;
        Ok(Payload::default())
    });
    let sender = processes.spawn(&root, start("test:sends")).unwrap();
    let mut from = Vec::new();
    for _ in 0..4 {
        from.push(said(&mut said_by).await);
    }
    // The third is of a function, which the process called.
    assert_eq!(from, [Some(sender); 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_one_sender_arrive_in_order_also_where_it_waits_for_room() {
    const SENDERS: usize = 8;
    const EACH: usize = 500;
    let (processes, root) = manager(HostConfig::default().with_mailbox(3));
    register(&processes, "test:collect", async |mut ctx, _| {
        let mut next = [0; SENDERS];
        for _ in 0..SENDERS * EACH {
            let message = ctx.receive().await.into_payload().unwrap();
            let [sender, number]: [usize; 2] =
                serde_json::from_value(message.as_json().unwrap().clone()).unwrap();
            let place = &mut next[sender];
            assert_eq!(*place, number, "of {sender}");
            *place += 1;
        }
        Ok(json!(next).into())
    });
    let pid = processes.spawn(&root, start("test:collect")).unwrap();
    let exit = processes.monitor(pid).unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (processes, root) = (processes.clone(), root.clone());
            tokio::spawn(async move {
                for number in 0..EACH {
                    processes.send(&root, pid, json!([sender, number])).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        within("a sender for room", sender).await.unwrap();
    }
    let exit = within("a test for all messages", exit).await;
    assert_eq!(exit.result.as_deref(), Some(&json!(vec![EACH; SENDERS]).into()), "{}", exit.reason);
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_room_no_longer_than_it_may() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_secs(5));
    let (processes, root) = manager_with(config, HostConfig::default().with_mailbox(1));
    let pid = processes.spawn(&root, start("test:forever").with_message(json!(0))).unwrap();
    let begin = tokio::time::Instant::now();
    let error = processes.try_send(&root, pid, json!(1)).unwrap_err();
    assert!(matches!(error.reason, SendErrorReason::Full { capacity: 1 }), "{error:?}");

    let error = within("a sender", processes.send(&root, pid, json!(1))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the message to {pid} was not delivered: its mailbox is full, with 1 messages")
    );
    assert_eq!(*error.payload, json!(1).into());
    assert_eq!(begin.elapsed(), Duration::from_secs(5), "as configured");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Exhausted);

    let ctx = root.with_timeout(Duration::from_secs(2));
    let error = within("a sender", processes.send(&ctx, pid, json!(1))).await.unwrap_err();
    assert!(matches!(&error.reason, SendErrorReason::ContextEnded(_)), "{error:?}");
    assert_eq!(*error.payload, json!(1).into());
    assert_eq!(begin.elapsed(), Duration::from_secs(7), "its own deadline is sooner");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Deadline);

    let token = CancellationToken::new();
    let ctx = root.with_cancellation(token.clone());
    let cancel = async {
        tokio::task::yield_now().await;
        token.cancel();
    };
    let (sent, ()) = tokio::join!(within("a sender", processes.send(&ctx, pid, json!(1))), cancel);
    assert_eq!(CallError::from(sent.unwrap_err()).kind(), ErrorKind::Cancelled);
    assert_eq!(processes.info(pid).unwrap().mailbox, 1);
}

#[tokio::test]
async fn a_sender_that_is_dropped_as_it_waits_has_sent_nothing() {
    let (processes, root) = manager(HostConfig::default().with_mailbox(1));
    let mut said_by = register_saying(&processes, "test:tell", async |mut ctx, _, say| {
        ctx.receive_where(|message| matches!(message, Message::Cancelled { .. })).await;
        while let Some(message) = ctx.receive_timeout(Duration::ZERO).await {
            say.send(message.into_payload()).unwrap();
        }
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:tell").with_message(json!(0))).unwrap();
    let mut dropped = Box::pin(processes.send(&root, pid, json!("dropped")));
    tokio::select! {
        biased;
        _ = &mut dropped => panic!("there is no room"),
        () = std::future::ready(()) => (),
    }
    drop(dropped);
    processes.cancel(pid, "now", LONG).unwrap();
    exit_of(&processes, pid).await;
    assert_eq!(said(&mut said_by).await, Some(json!(0).into()));
    assert!(said_by.try_recv().is_err());
}

#[tokio::test]
async fn selective_receive_takes_the_wanted_and_leaves_the_others_in_order() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:select", async |mut ctx, _, say| {
        let is = |wanted: u64| move |message: &Message| matches!(message, Message::Sent { payload, .. } if *payload == json!(wanted).into());
        say.send(ctx.receive_where(is(3)).await.into_payload()).unwrap();
        say.send(ctx.try_receive_where(is(7)).and_then(Message::into_payload)).unwrap();
        say.send(ctx.receive_where_timeout(Duration::ZERO, is(7)).await.and_then(Message::into_payload))
            .unwrap();
        say.send(ctx.try_receive_where(is(1)).and_then(Message::into_payload)).unwrap();
        // Waits for one that comes later.
        say.send(ctx.receive_where(is(9)).await.into_payload()).unwrap();
        while let Some(message) = ctx.try_receive() {
            say.send(message.into_payload()).unwrap();
        }
        Ok(Payload::default())
    });
    let start = (0..5).fold(start("test:select"), |start, number| start.with_message(json!(number)));
    let pid = processes.spawn(&root, start).unwrap();
    let number = |number: u64| Some(Payload::from(json!(number)));
    for expected in [number(3), None, None, number(1)] {
        assert_eq!(said(&mut said_by).await, expected);
    }
    for sent in [8, 9] {
        processes.send(&root, pid, json!(sent)).await.unwrap();
    }
    for expected in [number(9), number(0), number(2), number(4), number(8)] {
        assert_eq!(said(&mut said_by).await, expected);
    }
    exit_of(&processes, pid).await;
}

#[tokio::test(start_paused = true)]
async fn receiving_with_a_timeout_ends_at_it_or_with_a_message() {
    let (processes, root) = manager(HostConfig::default());
    let mut said_by = register_saying(&processes, "test:wait", async |mut ctx, _, say| {
        let begin = tokio::time::Instant::now();
        let none = ctx.receive_timeout(Duration::from_secs(3)).await;
        say.send((none.is_some(), begin.elapsed())).unwrap();
        let some = ctx.receive_timeout(Duration::from_secs(3)).await;
        say.send((some.is_some(), begin.elapsed())).unwrap();
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:wait")).unwrap();
    assert_eq!(said(&mut said_by).await, (false, Duration::from_secs(3)));
    processes.send(&root, pid, json!(1)).await.unwrap();
    assert_eq!(said(&mut said_by).await, (true, Duration::from_secs(3)));
}

#[tokio::test]
async fn a_sender_that_always_finds_room_lets_others_run() {
    const MESSAGES: usize = 10_000;
    let (processes, root) = manager(HostConfig::default().with_mailbox(MESSAGES));
    let idle = processes.spawn(&root, start("test:forever")).unwrap();
    register(&processes, "test:flood", move |ctx: ProcessContext, _| async move {
        for number in 0..MESSAGES {
            ctx.send(idle, json!(number)).await?;
        }
        Ok(Payload::default())
    });
    let mut seen_by =
        register_saying(&processes, "test:look", move |ctx: ProcessContext, _, say| async move {
            let seen = ctx.processes().info(idle).map(|info| info.mailbox);
            say.send(seen).unwrap();
            Ok(Payload::default())
        });
    // On one thread: the second runs when the first lets it.
    let flood = processes.spawn(&root, start("test:flood")).unwrap();
    processes.spawn(&root, start("test:look")).unwrap();
    let seen = said(&mut seen_by).await;
    assert!(matches!(seen, Some(1..MESSAGES)), "what was sent before anybody else had a turn: {seen:?}");
    assert!(exit_of(&processes, flood).await.reason.is_normal());
}

/// Receives one message after the other, in a task that blocks its thread for all of them.
async fn blocks_while_it_receives(how: &'static str, mailbox: usize) {
    const MESSAGES: u64 = 40;
    let (processes, root) = manager(HostConfig::default().with_mailbox(mailbox));
    let mut received = register_saying(&processes, "test:blocks", move |mut ctx, _, say| async move {
        let runtime = tokio::runtime::Handle::current();
        // A test that fails has to end.
        let until = std::time::Instant::now() + BOUND;
        tokio::task::block_in_place(|| {
            let mut count = 0;
            while count < MESSAGES && std::time::Instant::now() < until {
                let message = match how {
                    "receive" => runtime.block_on(ctx.receive_timeout(Duration::from_secs(5))),
                    "receive_where" => {
                        runtime.block_on(ctx.receive_where_timeout(Duration::from_secs(5), |_| true))
                    }
                    "try_receive" => ctx.try_receive(),
                    _ => ctx.try_receive_where(|_| true),
                };
                count += u64::from(message.is_some());
                std::thread::yield_now();
            }
            say.send(count).unwrap();
        });
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:blocks")).unwrap();
    let sends = (0..MESSAGES).map(|number| {
        let (processes, root) = (processes.clone(), root.clone());
        tokio::spawn(async move { processes.send(&root, pid, json!(number)).await })
    });
    let sends: Vec<_> = sends.collect();
    for send in sends {
        within("a sender", send).await.unwrap().unwrap();
    }
    assert_eq!(said(&mut received).await, MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_blocks_its_thread_while_it_receives_lets_senders_go_on() {
    for how in ["receive", "receive_where", "try_receive", "try_receive_where"] {
        // So few are received one by one, and so many are fetched at once.
        for mailbox in [2, 8] {
            blocks_while_it_receives(how, mailbox).await;
        }
    }
}
