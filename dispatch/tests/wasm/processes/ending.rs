//! How processes that are components end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::process::{ExitReason, HostConfig, Message, ProcessContext, ProcessState, SpawnError};
use frame_dispatch::wasm::{ProcessModule, WasmConfig, WasmEngine};
use frame_dispatch::{CallError, ErrorKind, Payload, Pid};
use frame_registry::Options;
use serde_json::json;

use super::{Surroundings, configured, lines, start, steps, surroundings, until_named, within};

/// Waits until a process does this.
async fn until(all: &Surroundings, pid: Pid, state: ProcessState) {
    let reached = async {
        while all.processes.info(pid).expect("it lives").state != state {
            tokio::task::yield_now().await;
        }
    };
    within("a test for the state of a process", reached).await;
}

#[tokio::test]
async fn one_that_is_terminated_ends_wherever_it_is() {
    let all = surroundings();
    for (script, state) in [("z", ProcessState::Running), ("r\n", ProcessState::Receiving)] {
        let pid = all.start(steps(&["n\nbusy", script]));
        until_named(&all, "busy").await;
        until(&all, pid, state).await;
        all.processes.terminate(pid).unwrap();
        let exit = all.exit(pid).await;
        assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
    }
    assert!(all.processes.is_empty());
}

#[tokio::test]
async fn one_that_is_cancelled_and_does_not_listen_is_terminated_after_the_grace_period() {
    let all = surroundings();
    for script in ["z", "r\n\nr\n", "r\n\nz"] {
        let pid = all.start(steps(&["n\nbusy", script]));
        until_named(&all, "busy").await;
        all.processes.cancel(pid, "enough", Duration::from_millis(20)).unwrap();
        let exit = all.exit(pid).await;
        assert!(matches!(exit.reason, ExitReason::Killed), "{script}: {exit:?}");
    }
}

#[tokio::test]
async fn one_that_is_cancelled_may_finish() {
    let all = surroundings();
    let pid = all.start(steps(&["r\n", "r\n"]));
    let exit = all.processes.monitor(pid).unwrap();
    all.processes.cancel(pid, "enough", Duration::from_hours(1)).unwrap();
    all.processes.send(&all.root, pid, json!("last")).await.unwrap();
    let exit = within("a test for one that finishes", exit).await;
    assert!(exit.reason.is_normal(), "{exit:?}");
    assert_eq!(lines(exit.result.as_deref().unwrap()), ["cenough", "s- \"last\""]);
}

/// On one thread, which the spinning one would not give back by itself.
#[tokio::test]
async fn one_that_spins_does_not_starve_a_thousand_others() {
    let all = surroundings();
    let answered = Arc::new(AtomicUsize::new(0));
    let entry = {
        let answered = Arc::clone(&answered);
        move |mut ctx: ProcessContext, _: Payload| {
            let answered = Arc::clone(&answered);
            async move {
                while let Message::Sent { .. } = ctx.receive().await {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, CallError>(Payload::default())
            }
        }
    };
    all.processes.register("app:quiet".parse().unwrap(), Options::new(), entry).unwrap();
    let quiet: Vec<_> = (0..1000).map(|_| all.start(start("app:quiet", Payload::default()))).collect();
    let spinning = all.start(steps(&["n\nbusy", "z"]));
    until_named(&all, "busy").await;
    for round in 1..=5 {
        for pid in &quiet {
            all.processes.send(&all.root, *pid, json!(round)).await.unwrap();
        }
        let all_have = async {
            while answered.load(Ordering::Relaxed) < round * quiet.len() {
                tokio::task::yield_now().await;
            }
        };
        within("a test for a thousand quiet processes", all_have).await;
    }
    assert_eq!(all.processes.info(spinning).unwrap().state, ProcessState::Running);
    let stopped = within("a test for the end of all", all.processes.stop(Duration::from_millis(50))).await;
    assert_eq!((stopped.cancelled, stopped.running.len()), (1001, 0));
    assert!(stopped.killed >= 1, "{stopped:?}");
}

#[tokio::test]
async fn how_it_failed_is_told_to_whoever_monitors_it() {
    let all = surroundings();
    let failure = async |start| {
        let pid = all.start(start);
        match all.exit(pid).await.reason {
            ExitReason::Failed(error) => error,
            other => panic!("it ended otherwise: {other}"),
        }
    };
    let trap = failure(steps(&["!"])).await;
    assert_eq!((trap.kind(), trap.is_retryable()), (ErrorKind::Internal, false), "{trap}");
    assert!(trap.message().contains("`unreachable`"), "{trap}");

    all.register("app:small", &frame_guests::guest("steps"), WasmConfig::process().with_memory(2 << 16));
    let grows = failure(start("app:small", b"g\n9\n!".to_vec())).await;
    assert_eq!(grows.kind(), ErrorKind::Exhausted, "{grows}");
    assert!(grows.message().contains("131072 bytes of memory"), "{grows}");

    all.register(
        "app:short",
        &frame_guests::guest("steps"),
        WasmConfig::process().with_time(Duration::from_millis(20)),
    );
    for script in ["z", "r\n"] {
        let late = failure(start("app:short", script.as_bytes().to_vec())).await;
        assert_eq!(late.kind(), ErrorKind::Deadline, "{late}");
    }

    // An error of its own.
    let fails = crate::common::runs(
        "(memory.copy (i32.const 64) (local.get $at) (local.get $length))
         (i32.store (i32.const 16) (i32.const 1))
         (i32.store (i32.const 20) (i32.const 2))
         (i32.store (i32.const 24) (i32.const 64))
         (i32.store (i32.const 28) (local.get $length))
         (i32.store (i32.const 32) (i32.const 0))
         (i32.const 16)",
    );
    all.register("app:fails", &fails, WasmConfig::process());
    let own = failure(start("app:fails", b"not you".to_vec())).await;
    assert_eq!((own.kind(), own.message()), (ErrorKind::Denied, "not you"));
}

#[tokio::test]
async fn one_that_finds_no_instance_in_time_fails_as_exhausted() {
    let all = surroundings();
    let engine =
        WasmEngine::builder().instances(1).module(ProcessModule::new(&all.processes)).build().unwrap();
    let config = WasmConfig::process().with_max_wait(Duration::from_millis(20));
    let function = engine.function(&frame_guests::guest("steps"), config).unwrap();
    all.processes.register("app:few".parse().unwrap(), Options::new(), function).unwrap();
    let first = all.start(start("app:few", b"r\n".to_vec()));
    until(&all, first, ProcessState::Receiving).await;
    let second = all.start(start("app:few", b"r\n".to_vec()));
    let exit = all.exit(second).await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.message().contains("the only one of the engine's instances was busy"), "{error}");

    // One that waits for an instance is terminated as any other is.
    let third = all.start(start("app:few", b"r\n".to_vec()));
    all.processes.terminate(third).unwrap();
    all.exit(third).await;
    all.processes.terminate(first).unwrap();
    all.exit(first).await;
    let fourth = all.start(start("app:few", b"r\n0".to_vec()));
    assert!(all.exit(fourth).await.reason.is_normal());
}

#[tokio::test]
async fn a_host_says_whether_it_runs_components() {
    let all = configured(
        frame_dispatch::process::ManagerConfig::default(),
        HostConfig::default().with_engines(["lua"]),
        ProcessModule::new,
    );
    let error = all.processes.spawn(&all.root, steps(&[])).unwrap_err();
    assert!(matches!(error, SpawnError::NotRunnable { engine: "wasm", .. }), "{error}");
}

/// The manager has the functions, those what the engine made, and the engine the module.
#[tokio::test]
async fn the_module_does_not_keep_the_processes_and_a_process_goes_on_without_their_owner() {
    let all = surroundings();
    let alive = Arc::new(());
    let kept = Arc::clone(&alive);
    all.processes
        .register("app:keeps".parse().unwrap(), Options::new(), move |_: ProcessContext, _: Payload| {
            let _ = &kept;
            async { Ok::<_, CallError>(Payload::default()) }
        })
        .unwrap();
    let pid = all.start(steps(&["r\n", "w\nnobody"]));
    let exit = all.processes.monitor(pid).unwrap();
    all.processes.send(&all.root, pid, json!(1)).await.unwrap();
    let Surroundings { functions, processes, engine, root } = all;
    drop((processes, root));
    let exit = within("a test for one whose owner is gone", exit).await;
    assert_eq!(lines(exit.result.as_deref().unwrap()), ["s- 1", "-"]);
    let gone = async {
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    };
    within("a test for the end of the manager", gone).await;

    // What is called now finds no processes.
    let function = engine.function(&frame_guests::guest("steps"), WasmConfig::default()).unwrap();
    functions.register(crate::common::id("app:function"), Options::new(), function).unwrap();
    let said = crate::common::call(&functions, "app:function", b"w\nnobody".to_vec()).await.unwrap();
    assert_eq!(lines(&said), ["e5:the process manager has been dropped"]);
}
