//! Scripts that are ended, whatever they do.

use std::time::Duration;

use frame_dispatch::process::{Exit, ExitReason, HostConfig, Message, ProcessContext};
use frame_dispatch::{ErrorKind, Pid};
use serde_json::json;

use super::world::{World, of, within};
use crate::limits::{ENDLESS, GREEDY, ends_by_itself};

/// Some end before they can be ended.
fn assert_ended(name: &str, exit: &Exit) {
    match &exit.reason {
        ExitReason::Killed => (),
        ExitReason::Failed(error) if ends_by_itself(name) && error.kind() == ErrorKind::Internal => (),
        _ => panic!("{name}: {exit:?}"),
    }
}

/// Lets the processes run for a while.
async fn some_turns() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whatever_a_script_does_it_is_terminated() {
    let world = World::new();
    for (name, source) in ENDLESS {
        let entry = "app:endless".parse().unwrap();
        let function = world.script("app:endless", source);
        let pid = world.start("app:endless");
        let exit = world.processes.monitor(pid).unwrap();
        some_turns().await;
        // It may have ended already.
        let _ = world.processes.terminate(pid);
        assert_ended(name, &within(name, exit).await);
        assert_eq!(function.statistics().running, 0, "{name}");
        world.processes.unregister(&entry);
    }
    assert!(world.processes.is_empty());
}

#[tokio::test]
async fn whatever_a_script_does_it_is_terminated_from_another_thread_and_behind_its_grace_period() {
    // The scripts have a thread of their own, on which nothing else comes to run unless they let it.
    let scripts = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = World::with_host(HostConfig::default().with_runtime(scripts.handle().clone()));
    for (name, source) in ENDLESS {
        world.script("app:endless", source);
        let pid = world.start("app:endless");
        let exit = world.processes.monitor(pid).unwrap();
        let _ = world.processes.cancel(pid, "enough", Duration::from_millis(5));
        assert_ended(name, &within(name, exit).await);
        world.processes.unregister(&"app:endless".parse().unwrap());
    }
    scripts.shutdown_background();
}

#[tokio::test]
async fn a_script_that_waits_for_a_message_is_terminated_at_once() {
    for source in [
        "process.receive()",
        "pcall(process.receive)",
        "coroutine.wrap(function() pcall(process.receive, 600) end)()",
    ] {
        let world = World::new();
        world.script("app:waits", source);
        let pid = world.start("app:waits");
        let exit = world.processes.monitor(pid).unwrap();
        some_turns().await;
        world.processes.terminate(pid).unwrap();
        assert!(matches!(within(source, exit).await.reason, ExitReason::Killed), "{source}");
    }
}

#[tokio::test]
async fn a_script_ends_another_and_itself() {
    let world = World::new();
    world.script("app:endless", "while true do pcall(error) end");
    let source = "local function exit_of(ends)
                    local pid = process.spawn { host = 'app:host', entry = 'app:endless', monitor = true }
                    ends(pid)
                    return process.receive().reason
                  end
                  return {
                    exit_of(process.terminate),
                    exit_of(function(pid) process.cancel(pid, 'because', 0.005) end),
                    exit_of(function(pid) process.cancel(pid, 'because', 0) end),
                  }";
    assert_eq!(world.ran(source).await, json!(["killed", "killed", "killed"]));

    world.script(
        "app:itself",
        "pcall(process.terminate, process.self()) while true do pcall(process.receive) end",
    );
    let pid = world.start("app:itself");
    assert!(matches!(world.exit(pid).await.reason, ExitReason::Killed));
}

/// On a clock that stands still as long as there is something to do.
#[tokio::test(start_paused = true)]
async fn whoever_is_cancelled_has_five_seconds_unless_it_is_said_and_a_long_reason_is_cut() {
    let world = World::new();
    world.script("app:asked", "local m = process.receive() return { #m.reason, m.grace }");
    let source = "local function asked(...)
                    process.cancel(process.spawn { host = 'app:host', entry = 'app:asked', monitor = true }, ...)
                    return process.receive().result
                  end
                  return { asked(('x'):rep(1000000)), asked('because', 60), asked('because', math.huge) }";
    let cut = 4096 + '…'.len_utf8();
    assert_eq!(world.ran(source).await, json!([[cut, 5.0], [7, 60.0], [7]]));
}

#[tokio::test]
async fn a_script_that_eats_memory_fails_and_others_live() {
    let world = World::new();
    world.script("app:echo", "while true do local m = process.receive() process.send(m.from, m.payload) end");
    world.native("app:asks", async |mut ctx: ProcessContext, payload| {
        let echo: Pid = payload.as_json().and_then(|it| it.as_str()).unwrap().parse().unwrap();
        ctx.send(echo, json!(1)).await?;
        let Message::Sent { payload, .. } = ctx.receive().await else { panic!("no answer") };
        Ok(payload)
    });
    let echo = world.start("app:echo");
    for source in GREEDY {
        world.script("app:greedy", source);
        let exit = world.exit(world.start("app:greedy")).await;
        let is_exhausted =
            matches!(&exit.reason, ExitReason::Failed(error) if error.kind() == ErrorKind::Exhausted);
        assert!(is_exhausted, "{source}: {exit:?}");
        world.processes.unregister(&"app:greedy".parse().unwrap());
    }
    let asks = of("app:asks").with_payload(json!(echo.to_string()));
    assert_eq!(within("the echo", world.processes.exec(&world.root, asks)).await.unwrap(), json!(1).into());
}

#[test]
fn a_script_that_spins_does_not_starve_a_thousand_quiet_ones() {
    const QUIET: usize = 1000;
    // On one thread, with the settings that a runtime has by itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        world.script("app:spins", "while true do end");
        world.script("app:quiet", "while true do process.send('collector', process.receive().payload) end");
        world.native("app:collector", async |mut ctx: ProcessContext, _| {
            let mut answers: Vec<_> = Vec::new();
            while answers.len() < QUIET {
                answers.extend(ctx.receive().await.into_payload().unwrap().as_json().unwrap().as_u64());
            }
            answers.sort_unstable();
            Ok(json!(answers).into())
        });
        let spins = world.start("app:spins");
        let collector =
            world.processes.spawn(&world.root, of("app:collector").with_name("collector")).unwrap();
        let exit = world.processes.monitor(collector).unwrap();
        let quiet: Vec<_> = (0..QUIET).map(|_| world.start("app:quiet")).collect();
        // Among those that wait, not among those that are being made.
        within("all to wait for a message", async {
            for pid in &quiet {
                while world.processes.info(*pid).unwrap().state.as_str() != "receiving" {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        for (number, pid) in quiet.iter().enumerate() {
            world.processes.try_send(&world.root, *pid, json!(number)).unwrap();
        }
        let answers = within("an answer of each", exit).await.result.unwrap();
        assert_eq!(*answers, json!((0..QUIET).collect::<Vec<_>>()).into());
        // The timers are heard, too, while it spins.
        within("a timer", tokio::time::sleep(Duration::from_millis(1))).await;
        assert!(world.processes.info(spins).is_some());
        let exit = world.processes.monitor(spins).unwrap();
        world.processes.terminate(spins).unwrap();
        assert!(matches!(within("the spinning one", exit).await.reason, ExitReason::Killed));
    });
}
