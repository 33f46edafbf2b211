//! Stopping a host, and all of them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use frame_dispatch::process::{
    Exit, ExitReason, HostConfig, HostId, Lifecycle, Message, ProcessManager, ProcessRef, RegisterError,
    Spawn, SpawnError,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Payload, Pid};
use frame_registry::{BoxError, Options};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    BOUND, Counts, LONG, all_gone, exit_of, host_id, manager, register, register_saying, said, start, until,
    within,
};

#[tokio::test(start_paused = true)]
async fn a_host_is_stopped_by_asking_then_by_killing() {
    let (processes, root) = manager(HostConfig::default());
    processes.register_host("test:other".parse().unwrap(), HostConfig::default()).unwrap();
    let other = Spawn::new("test:other".parse().unwrap(), "test:obey".parse().unwrap());
    let other = processes.spawn(&root, other).unwrap();
    let obeys = processes.spawn(&root, start("test:obey")).unwrap();
    let stays = processes.spawn(&root, start("test:forever")).unwrap();
    let exits = [obeys, stays].map(|pid| processes.monitor(pid).unwrap());
    let begin = tokio::time::Instant::now();
    let stopped = within("stop", processes.stop_host(&host_id(), Duration::from_secs(10))).await.unwrap();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&begin.elapsed()));
    assert_eq!((stopped.cancelled, stopped.killed, &*stopped.running), (2, 1, &[][..]));
    let [obeyed, stayed] = exits;
    let (obeyed, stayed) = (obeyed.await, stayed.await);
    assert!(
        matches!(&obeyed.reason, ExitReason::Cancelled(why) if **why == *"its host is stopping"),
        "{obeyed:?}"
    );
    assert!(matches!(stayed.reason, ExitReason::HostStopped), "{stayed:?}");
    assert_eq!(stayed.reason.to_string(), "its host stopped");
    assert_eq!(processes.processes().iter().map(|process| process.pid).collect::<Vec<_>>(), [other]);

    let error = processes.spawn(&root, start("test:obey")).unwrap_err();
    assert!(matches!(error, SpawnError::UnknownHost { .. }), "{error:?}");
    assert!(processes.stop_host(&host_id(), Duration::ZERO).await.is_none());
    processes.register_host(host_id(), HostConfig::default()).unwrap();
    let pid = processes.spawn(&root, start("test:obey").with_message(json!("done"))).unwrap();
    assert!(exit_of(&processes, pid).await.reason.is_normal(), "the id is free again");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_over_as_soon_as_all_have_ended() {
    let (processes, root) = manager(HostConfig::default());
    for _ in 0..100 {
        processes.spawn(&root, start("test:obey")).unwrap();
    }
    let begin = tokio::time::Instant::now();
    let stopped = within("stop", processes.stop(LONG)).await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!((stopped.cancelled, stopped.killed, &*stopped.running), (100, 0, &[][..]));
    assert!(processes.is_empty());
    let again = within("a stop that has nothing to do", processes.stop(LONG)).await;
    assert_eq!((again.cancelled, again.killed), (0, 0));
}

#[tokio::test]
async fn while_a_host_stops_nothing_is_started_on_it() {
    let (processes, root) = manager(HostConfig::default());
    let mut receiver = register_saying(&processes, "test:last", async |mut ctx, _, say| {
        ctx.receive().await;
        let error = ctx.spawn(start("test:done")).unwrap_err();
        assert!(matches!(&error, SpawnError::HostStopping { .. }), "{error:?}");
        say.send((error.to_string(), CallError::from(error).kind())).unwrap();
        Ok(Payload::default())
    });
    let pid = processes.spawn(&root, start("test:last")).unwrap();
    let exit = processes.monitor(pid).unwrap();
    let stopped = within("stop", processes.stop_host(&host_id(), LONG)).await.unwrap();
    assert_eq!((stopped.cancelled, stopped.killed), (1, 0));
    let refused =
        ("host `test:host` is stopping, or all hosts have stopped".to_owned(), ErrorKind::Unavailable);
    assert_eq!(said(&mut receiver).await, refused);
    assert!(exit.await.reason.is_normal());
}

#[tokio::test]
async fn once_the_manager_stops_nothing_can_be_registered() {
    let (processes, root) = manager(HostConfig::default());
    within("stop", processes.stop(LONG)).await;
    let error = processes.register_host("test:new".parse().unwrap(), HostConfig::default()).unwrap_err();
    assert_eq!(error, RegisterError::Stopping { id: "test:new".to_owned() });
    assert_eq!(error.to_string(), "`test:new` was not registered, because the process manager is stopping");
    let process = async |_: _, payload: Payload| Ok(payload);
    let error = processes.register("test:late".parse().unwrap(), Options::new(), process).unwrap_err();
    assert_eq!(error, RegisterError::Stopping { id: "test:late".to_owned() });
    let error = processes.register_lifecycle(Counts::default()).unwrap_err();
    assert_eq!(error, RegisterError::Stopping { id: "counts".to_owned() });
    let error = processes.spawn(&root, start("test:done")).unwrap_err();
    assert!(matches!(error, SpawnError::HostStopping { .. }), "it was there: {error:?}");
    assert!(processes.host_ids().is_empty() && processes.ids().is_empty());
}

#[tokio::test]
async fn where_the_stop_is_dropped_the_host_stays_closed_and_can_be_stopped_again() {
    let (processes, root) = manager(HostConfig::default());
    let pid = processes.spawn(&root, start("test:forever")).unwrap();
    let id = host_id();
    tokio::select! {
        biased;
        _ = processes.stop_host(&id, LONG) => panic!("a process is left"),
        () = std::future::ready(()) => (),
    }
    let error = processes.spawn(&root, start("test:done")).unwrap_err();
    assert!(matches!(error, SpawnError::HostStopping { .. }), "{error:?}");
    let error = processes.register_host(host_id(), HostConfig::default()).unwrap_err();
    assert_eq!(error, RegisterError::HostTaken { id: host_id() });
    let stopped = within("stop", processes.stop_host(&host_id(), Duration::ZERO)).await.unwrap();
    assert_eq!((stopped.killed, &*stopped.running), (1, &[][..]));
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::HostStopped));
}

/// What a thread waits for, and another opens.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self, who: &str) {
        let is_shut = |is_open: &mut bool| !*is_open;
        let (open, _) = self.1.wait_timeout_while(self.0.lock().unwrap(), BOUND, is_shut).unwrap();
        assert!(*open, "in vain: {who}");
    }
}

/// A process that blocks its thread until the gate is open.
fn register_blocking(processes: &ProcessManager) -> (tokio::sync::mpsc::UnboundedReceiver<()>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let at = Arc::clone(&gate);
    let receiver = register_saying(processes, "test:blocks", move |_, _, say| {
        let gate = Arc::clone(&at);
        async move {
            say.send(()).unwrap();
            gate.pass("a process that blocks its thread");
            Ok(Payload::default())
        }
    });
    (receiver, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_blocks_its_thread_is_said_to_run_on() {
    let (processes, root) = manager(HostConfig::default());
    let (mut blocks, gate) = register_blocking(&processes);
    let pid = processes.spawn(&root, start("test:blocks")).unwrap();
    let obeys = processes.spawn(&root, start("test:obey")).unwrap();
    said(&mut blocks).await;
    let exit = processes.monitor(pid).unwrap();
    let stopped = within("stop", processes.stop(Duration::from_millis(10))).await;
    assert_eq!((stopped.cancelled, &*stopped.running), (2, &[pid][..]));
    assert!(stopped.killed >= 1);
    assert_eq!(processes.processes().iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    gate.open();
    let exit = within("a monitor for what blocked", exit).await;
    assert!(exit.reason.is_normal(), "it was done before it could be ended: {exit:?}");
    exit_of(&processes, obeys).await;
    assert!(processes.is_empty());
}

/// Says that it has been asked, and blocks there until the gate is open.
struct Holds {
    is_asked: Gate,
    may_go_on: Gate,
    counts: Counts,
}

struct Handler(Arc<Holds>);

impl Lifecycle for Handler {
    fn name(&self) -> &'static str {
        "holds"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, process: &ProcessRef<'_>) -> Result<(), BoxError> {
        self.0.counts.starting(process)?;
        self.0.is_asked.open();
        self.0.may_go_on.pass("a lifecycle handler");
        Ok(())
    }

    fn ended(&self, process: &ProcessRef<'_>, exit: Option<&Exit>) {
        self.0.counts.ended(process, exit);
    }
}

fn holding(processes: &ProcessManager) -> Arc<Holds> {
    let counts = Counts::default();
    let holds = Arc::new(Holds { is_asked: Gate::default(), may_go_on: Gate::default(), counts });
    processes.register_lifecycle(Handler(Arc::clone(&holds))).unwrap();
    holds
}

fn start_on_a_thread(
    processes: &ProcessManager,
    root: &CallContext,
) -> std::thread::JoinHandle<Result<Pid, SpawnError>> {
    let (processes, root) = (processes.clone(), root.clone());
    std::thread::spawn(move || processes.spawn(&root, start("test:never").with_name("name")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_in_the_middle_of_which_its_host_is_closed_is_undone() {
    let (processes, root) = manager(HostConfig::default().with_processes(1));
    register(&processes, "test:never", async |_, _| panic!("it runs"));
    let holds = holding(&processes);
    let starter = start_on_a_thread(&processes, &root);
    holds.is_asked.pass("a test for the handler");
    let stop = {
        let processes = processes.clone();
        tokio::spawn(async move { processes.stop_host(&host_id(), LONG).await })
    };
    until("a test for the host to be closed", || {
        // The one that is held up has the only place, so this comes to no handler.
        match processes.spawn(&root, start("test:never")) {
            Err(SpawnError::HostFull { .. }) => false,
            Err(SpawnError::HostStopping { .. }) => true,
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert!(!stop.is_finished(), "it waits for the one that is being started");
    holds.may_go_on.open();
    let error = starter.join().unwrap().unwrap_err();
    assert!(matches!(error, SpawnError::HostStopping { .. }), "{error:?}");
    let stopped = within("stop for the start", stop).await.unwrap().unwrap();
    assert_eq!((stopped.killed, &*stopped.running), (0, &[][..]));
    assert_eq!(holds.counts.get(), (1, 1));
    assert_eq!((processes.len(), processes.whereis("name")), (0, None));
}

/// A handler may keep the manager, which keeps the handler.
#[tokio::test]
async fn a_manager_that_has_stopped_keeps_no_handler() {
    let (processes, _) = manager(HostConfig::default());
    let holds = holding(&processes);
    assert_eq!(Arc::strong_count(&holds), 2);
    within("stop", processes.stop(LONG)).await;
    assert_eq!(Arc::strong_count(&holds), 1);
}

/// The text of an exit as it goes into a log, or out of an API.
#[tokio::test]
async fn what_ended_and_what_stopped_is_written_as_json() {
    let (processes, root) = manager(HostConfig::default());
    let obeys = processes.spawn(&root, start("test:obey")).unwrap();
    let exit = processes.monitor(obeys).unwrap();
    processes.send(&root, obeys, json!("done")).await.unwrap();
    let written = json!(within("an exit", exit).await);
    assert_eq!(
        written,
        json!({ "pid": obeys.to_string(), "reason": "normal", "message": "it ended normally", "result": "done" })
    );
    let bytes = processes.spawn(&root, start("test:done").with_payload(vec![1, 2])).unwrap();
    let written = json!(within("an exit", processes.monitor(bytes).unwrap()).await);
    assert_eq!((&written["result_bytes"], written.get("result")), (&json!(2), None));

    let (fails, linked) = (
        processes.spawn(&root, start("test:obey")).unwrap(),
        processes.spawn(&root, start("test:forever")).unwrap(),
    );
    processes.link(fails, linked).unwrap();
    let exit = processes.monitor(linked).unwrap();
    processes.send(&root, fails, json!("fail")).await.unwrap();
    let exit = within("an exit", exit).await;
    let written = json!(exit);
    assert_eq!((&written["reason"], &written["origin"]), (&json!("link_down"), &json!(fails.to_string())));
    let ExitReason::LinkDown(down) = &exit.reason else { panic!("{exit:?}") };
    let failed = json!({ "origin": fails, "reason": "failed", "message": "it failed: told to fail" });
    assert_eq!(json!(down), failed);

    let stays = processes.spawn(&root, start("test:forever")).unwrap();
    let stopped = within("stop", processes.stop(Duration::ZERO)).await;
    assert_eq!(json!(stopped), json!({ "cancelled": 1, "killed": 1, "running": [] }), "{stays}");
}

/// The stop is over before the start goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_goes_on_when_its_host_has_stopped_is_undone() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:never", async |_, _| panic!("it runs"));
    let holds = holding(&processes);
    let starter = start_on_a_thread(&processes, &root);
    holds.is_asked.pass("a test for the handler");
    let stopped = within("stop", processes.stop(Duration::ZERO)).await;
    assert_eq!((stopped.cancelled, stopped.killed, &*stopped.running), (0, 0, &[][..]));
    holds.may_go_on.open();
    let error = starter.join().unwrap().unwrap_err();
    assert!(matches!(error, SpawnError::HostStopping { .. }), "{error:?}");
    assert_eq!(holds.counts.get(), (1, 1));
    assert_eq!((processes.len(), processes.whereis("name")), (0, None));
}

/// Whichever is first, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_starts_and_a_stop_at_once_nothing_is_left() {
    for _ in 0..100 {
        let (processes, root) = manager(HostConfig::default());
        let counts = Counts::default();
        processes.register_lifecycle(counts.clone()).unwrap();
        let starters: Vec<_> = (0..3)
            .map(|_| {
                let (processes, root) = (processes.clone(), root.clone());
                tokio::spawn(async move {
                    let mut started = Vec::new();
                    loop {
                        match processes.spawn(&root, start("test:obey")) {
                            Ok(pid) => started.push(pid),
                            Err(SpawnError::HostStopping { .. } | SpawnError::UnknownHost { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                        tokio::task::yield_now().await;
                    }
                    started
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let stopped = within("stop", processes.stop_host(&host_id(), LONG)).await.unwrap();
        assert_eq!((stopped.killed, &*stopped.running), (0, &[][..]));
        assert!(processes.is_empty(), "{}", processes.processes());
        let mut started = 0;
        for starter in starters {
            started += within("a starter for the stop", starter).await.unwrap().len();
        }
        let (starting, ended) = counts.get();
        assert_eq!(starting, ended);
        assert!(starting >= started);
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[tokio::test]
async fn a_runtime_that_is_shut_down_under_a_host_ends_its_processes() {
    let (processes, root) = manager(HostConfig::default());
    let (under, id) = (runtime(), "test:under".parse::<HostId>().unwrap());
    let config = HostConfig::default().with_runtime(under.handle().clone());
    processes.register_host(id.clone(), config).unwrap();
    let start = || Spawn::new(id.clone(), "test:forever".parse().unwrap());
    let pid = processes.spawn(&root, start()).unwrap();
    let exit = processes.monitor(pid).unwrap();
    under.shutdown_background();
    let exit = within("a monitor for the runtime's end", exit).await;
    assert!(matches!(exit.reason, ExitReason::HostStopped), "{exit:?}");
    all_gone(&processes).await;
    // It is spawned, and ended with that.
    let pid = processes.spawn(&root, start()).unwrap();
    assert!(matches!(exit_of(&processes, pid).await.reason, ExitReason::HostStopped));
    let stopped = within("stop", processes.stop_host(&id, LONG)).await.unwrap();
    assert_eq!((stopped.cancelled, stopped.killed), (0, 0));
}

#[test]
fn a_host_wants_a_runtime_with_a_timer() {
    let app = frame_registry::App::builder().build();
    let processes = ProcessManager::new(frame_dispatch::Functions::new(app));
    let error = processes.register_host(host_id(), HostConfig::default()).unwrap_err();
    assert_eq!(error, RegisterError::NoRuntime { id: host_id() });
    let timeless = Builder::new_current_thread().build().unwrap();
    let config = HostConfig::default().with_runtime(timeless.handle().clone());
    let error = processes.register_host(host_id(), config).unwrap_err();
    assert_eq!(error, RegisterError::NoTimer { id: host_id() });
    assert!(processes.host_ids().is_empty());
}

#[tokio::test]
async fn a_process_may_stop_its_own_host() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:stops", async |mut ctx, _| {
        let id = host_id();
        let processes = ctx.processes().clone();
        // It is asked to end as well, and ends when it has heard so.
        tokio::spawn(async move { processes.stop_host(&id, LONG).await });
        let Message::Cancelled { reason, .. } = ctx.receive().await else { panic!("something else") };
        Ok(json!(reason.to_string()).into())
    });
    let told = within("exec", processes.exec(&root, start("test:stops"))).await.unwrap();
    assert_eq!(told, json!("its host is stopping").into());
}
