//! Messages that a process sends to itself later. The clock is paused in these tests: it goes on when nothing else is to do.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, Message, ProcessContext, Tick, TimerError};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{exit_of, manager, register, register_saying, said, start, within};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a process to its end, on a host with small mailboxes and few timers, and returns what it returns.
async fn run<F, R>(process: F) -> Value
where
    F: Fn(ProcessContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, CallError>> + Send + 'static,
{
    let (processes, root) = manager(HostConfig::default().with_mailbox(2).with_timers(4));
    register(&processes, "test:timers", move |ctx, _| {
        let run = process(ctx);
        async move { run.await.map(Payload::from) }
    });
    let result = processes.exec(&root, start("test:timers")).await.unwrap();
    assert!(processes.is_empty());
    result.as_json().unwrap().clone()
}

async fn tick(ctx: &mut ProcessContext) -> Tick {
    match ctx.receive().await {
        Message::Timer(tick) => *tick,
        other => panic!("{other:?}"),
    }
}

fn seconds(since: Instant) -> u64 {
    assert!(since.elapsed().subsec_millis() < 10, "{:?}", since.elapsed());
    since.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn messages_come_when_they_are_due_the_earliest_first_and_from_the_process_itself() {
    let said = run(async |mut ctx| {
        let begun = Instant::now();
        let late = ctx.send_after(5 * SECOND, json!("late"))?;
        let soon = ctx.send_after(2 * SECOND, json!("soon"))?;
        let mut said = vec![];
        for timer in [soon, late] {
            let tick = tick(&mut ctx).await;
            assert_eq!((tick.timer, tick.missed, timer.process()), (timer, 0, ctx.pid()));
            said.push(json!([seconds(begun), tick.payload.as_json()]));
        }
        Ok(json!(said))
    });
    assert_eq!(said.await, json!([[2, "soon"], [5, "late"]]));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_timer_keeps_its_pace_whatever_the_process_does_meanwhile() {
    let said = run(async |mut ctx| {
        let begun = Instant::now();
        ctx.send_every(2 * SECOND, json!("tick"))?;
        let mut said = vec![];
        for busy in [0, 1, 5, 0, 0] {
            let tick = tick(&mut ctx).await;
            said.push(json!([seconds(begun), tick.missed]));
            tokio::time::sleep(busy * SECOND).await;
        }
        Ok(json!(said))
    });
    // The third tick, at 8, is received at 11, and stands for that at 10.
    assert_eq!(said.await, json!([[2, 0], [4, 0], [6, 0], [11, 1], [12, 0]]));
}

#[tokio::test(start_paused = true)]
async fn an_unread_tick_is_the_only_one_in_the_mailbox() {
    let said = run(async |mut ctx| {
        ctx.send_every(SECOND, json!("tick"))?;
        tokio::time::sleep(1000 * SECOND).await;
        let waiting = ctx.processes().info(ctx.pid()).map(|info| info.mailbox);
        let tick = tick(&mut ctx).await;
        Ok(json!([waiting, tick.missed, ctx.try_receive().is_none()]))
    });
    assert_eq!(said.await, json!([1, 999, true]));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_one_tick_and_the_next_comes_in_step() {
    let (processes, root) = manager(HostConfig::default());
    let mut told = register_saying(&processes, "test:ticks", async |mut ctx: ProcessContext, _, says| {
        let begun = Instant::now();
        ctx.send_every(2 * SECOND, json!("tick"))?;
        says.send((0, 0)).unwrap();
        loop {
            let tick = tick(&mut ctx).await;
            says.send((seconds(begun), tick.missed)).unwrap();
        }
    });
    let pid = processes.spawn(&root, start("test:ticks")).unwrap();
    assert_eq!(said(&mut told).await, (0, 0));
    // As after a pause of the program: nothing ran meanwhile.
    tokio::time::advance(101 * SECOND).await;
    let said = [said(&mut told).await, said(&mut told).await, said(&mut told).await];
    assert_eq!(said, [(101, 49), (102, 0), (104, 0)]);
    processes.terminate(pid).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_keeps_no_timer_out() {
    let said = run(async |mut ctx| {
        ctx.send_after(SECOND, json!("once"))?;
        ctx.send_every(SECOND, json!("again"))?;
        for number in 0..2 {
            ctx.try_send(ctx.pid(), json!(number)).unwrap();
        }
        ctx.try_send(ctx.pid(), json!(2)).unwrap_err();
        tokio::time::sleep(3 * SECOND).await;
        let mut said = vec![];
        while let Some(message) = ctx.try_receive() {
            said.push(message.into_payload().unwrap().as_json().cloned());
        }
        Ok(json!(said))
    });
    assert_eq!(said.await, json!([0, 1, "once", "again"]));
}

#[tokio::test(start_paused = true)]
async fn a_selective_receiver_waits_for_a_timer() {
    let said = run(async |mut ctx| {
        let begun = Instant::now();
        ctx.try_send(ctx.pid(), json!("other")).unwrap();
        ctx.send_every(SECOND, json!("other tick"))?;
        let wanted = ctx.send_after(3 * SECOND, json!("wanted"))?;
        let is_wanted = |message: &Message| matches!(message, Message::Timer(tick) if tick.timer == wanted);
        let found = ctx.receive_where(is_wanted).await;
        let after = seconds(begun);
        let next = ctx.receive().await;
        let tick = tick(&mut ctx).await;
        Ok(json!([found.payload().unwrap().as_json(), after, next.payload().unwrap().as_json(), tick.missed]))
    });
    assert_eq!(said.await, json!(["wanted", 3, "other", 2]));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_timer_is_not_received_wherever_its_message_was() {
    let said = run(async |mut ctx| {
        let (armed, again) = (ctx.send_after(SECOND, json!(1))?, ctx.send_every(SECOND, json!(2))?);
        let (unread, read) = (ctx.send_after(SECOND, json!(3))?, ctx.send_after(Duration::ZERO, json!(4))?);
        let mut said = vec![tick(&mut ctx).await.timer == read, ctx.cancel_timer(read)];
        said.push(ctx.cancel_timer(armed));
        tokio::time::sleep(2 * SECOND).await;
        said.extend([ctx.cancel_timer(unread), ctx.cancel_timer(again), ctx.cancel_timer(again)]);
        tokio::time::sleep(5 * SECOND).await;
        said.push(ctx.try_receive().is_none());
        Ok(json!(said))
    });
    assert_eq!(said.await, json!([true, false, true, true, true, false, true]));
}

#[tokio::test(start_paused = true)]
async fn a_timer_counts_until_its_message_is_received() {
    let said = run(async |mut ctx| {
        ctx.send_after(SECOND, json!(0))?;
        let timers = [(); 3].map(|()| ctx.send_after(10 * SECOND, json!(1)).unwrap());
        let error = ctx.send_every(SECOND, json!(2)).unwrap_err();
        assert!(matches!(error, TimerError::TooMany { limit: 4, .. }), "{error}");
        let error = CallError::from(error);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
        assert!(
            error.message().contains("has reached its timer limit of 4 (`timers` of its host)"),
            "{error}"
        );
        // Its message is in the mailbox.
        tokio::time::sleep(2 * SECOND).await;
        ctx.send_after(SECOND, json!(3)).unwrap_err();
        tick(&mut ctx).await;
        ctx.send_after(SECOND, json!(4))?;
        assert!(ctx.cancel_timer(timers[0]));
        ctx.send_after(SECOND, json!(5))?;
        ctx.send_after(SECOND, json!(6)).unwrap_err();
        Ok(json!("done"))
    });
    assert_eq!(said.await, json!("done"));
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_refused_and_the_longest_time_is_not() {
    let said = run(async |mut ctx| {
        let error = ctx.send_every(Duration::ZERO, json!(1)).unwrap_err();
        assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
        let never = ctx.send_after(Duration::MAX, json!(1))?;
        let received = ctx.receive_timeout(1000 * SECOND).await.is_some();
        Ok(json!([received, ctx.cancel_timer(never)]))
    });
    assert_eq!(said.await, json!([false, true]));
}

#[tokio::test(start_paused = true)]
async fn timers_end_with_their_process_and_others_cannot_cancel_them() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:owner", async |mut ctx: ProcessContext, _| {
        let timer = ctx.send_every(SECOND, json!("tick"))?;
        ctx.processes().register_name("owner", ctx.pid()).unwrap();
        let message = ctx.receive_where(|message| matches!(message, Message::Sent { .. })).await;
        message.reply(json!(timer.to_string()))?;
        Ok(Payload::default())
    });
    register(&processes, "test:other", async |ctx: ProcessContext, _| {
        let timer = ctx.call("owner", json!("which")).await?;
        let timer = timer.as_json().unwrap().as_str().unwrap().parse().unwrap();
        Ok(json!(ctx.cancel_timer(timer)).into())
    });
    let owner = processes.spawn(&root, start("test:owner")).unwrap();
    let exit = processes.monitor(owner).unwrap();
    tokio::task::yield_now().await;
    assert_eq!(processes.exec(&root, start("test:other")).await.unwrap(), json!(false).into());
    assert!(within("a monitor for the owner", exit).await.reason.is_normal());

    let other = processes.spawn(&root, start("test:owner")).unwrap();
    processes.terminate(other).unwrap();
    exit_of(&processes, other).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "a task is left");
}

#[tokio::test(start_paused = true)]
async fn a_context_that_outlives_its_process_sets_no_timers() {
    let (processes, root) = manager(HostConfig::default());
    let (sender, mut kept) = tokio::sync::mpsc::unbounded_channel();
    register(&processes, "test:gone", move |ctx, _| {
        sender.send(ctx).unwrap();
        async { Ok(Payload::default()) }
    });
    let pid = processes.spawn(&root, start("test:gone")).unwrap();
    exit_of(&processes, pid).await;
    let ctx = kept.recv().await.unwrap();
    let error = ctx.send_after(SECOND, json!(1)).unwrap_err();
    assert!(matches!(&error, TimerError::Ended { exit } if exit.pid == pid), "{error}");
}
