//! The same from several threads at once. There is no model of that, but there is what always holds.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::process::{
    Exit, ExitReason, HostConfig, Lifecycle, Message, MonitorRef, ProcessContext, ProcessManager, ProcessRef,
    Spawn, SpawnError,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Pid};
use frame_registry::{App, BoxError, Options};
use serde_json::json;

/// Longer than anything here takes, also on a machine that is busy with something else.
const BOUND: Duration = Duration::from_mins(2);
const THREADS: u64 = 4;
const PROCESSES: usize = 32;

async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// Counts who lives on a host that has room for [`PROCESSES`], and collects what they panicked with.
#[derive(Clone, Default)]
struct Watch {
    living: Arc<AtomicUsize>,
    panics: Arc<Mutex<Vec<String>>>,
}

impl Lifecycle for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        let living = self.living.fetch_add(1, Ordering::SeqCst);
        if living >= PROCESSES {
            self.panics.lock().unwrap().push(format!("{living} live already"));
        }
        Ok(())
    }

    fn ended(&self, _: &ProcessRef<'_>, exit: Option<&Exit>) {
        self.living.fetch_sub(1, Ordering::SeqCst);
        if let Some(ExitReason::Panicked(message)) = exit.map(|exit| &exit.reason) {
            self.panics.lock().unwrap().push(message.to_string());
        }
    }
}

fn host() -> HostConfig {
    HostConfig::default().with_processes(PROCESSES)
}

fn manager() -> (ProcessManager, CallContext) {
    let functions = Functions::new(App::builder().build());
    let root = functions.root();
    let manager = ProcessManager::new(functions);
    manager.register_host("test:host".parse().unwrap(), host()).unwrap();
    manager.register("test:worker".parse().unwrap(), Options::new(), worker).unwrap();
    (manager, root)
}

fn start() -> Spawn {
    Spawn::new("test:host".parse().unwrap(), "test:worker".parse().unwrap())
}

/// Relates itself to those that it is sent the PIDs of, and ends when it is told how.
async fn worker(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    let mut monitored = HashMap::<MonitorRef, Pid>::new();
    loop {
        match ctx.receive().await {
            Message::Sent { payload, .. } => {
                let json = payload.as_json().expect("words");
                let (word, pid) = (json[0].as_str().unwrap(), json[1].as_str().unwrap_or_default());
                let pid: Result<Pid, _> = pid.parse();
                match (word, pid) {
                    ("done", _) => return Ok(Payload::default()),
                    ("fail", _) => return Err(CallError::new(ErrorKind::Internal, "as it was told")),
                    ("trap", _) => ctx.trap_links(true),
                    ("link", Ok(pid)) => drop(ctx.link(pid)),
                    ("unlink", Ok(pid)) => ctx.unlink(pid),
                    ("monitor", Ok(pid)) => {
                        let monitor = ctx.monitor(pid).ok();
                        monitored.extend(monitor.map(|monitor| (monitor, pid)));
                    }
                    ("demonitor", Ok(pid)) => {
                        let one = monitored.iter().find(|(_, other)| **other == pid);
                        if let Some(ended) = one.map(|(monitor, _)| *monitor) {
                            monitored.remove(&ended);
                            assert!(ctx.demonitor(ended) && !ctx.demonitor(ended));
                            let is_it = |it: &Message| matches!(it, Message::Exited { monitor, .. } if *monitor == ended);
                            assert!(ctx.try_receive_where(is_it).is_none(), "an exit after `demonitor`");
                        }
                    }
                    _ => (),
                }
            }
            Message::Exited { monitor, exit } => {
                assert_eq!(monitored.remove(&monitor), Some(exit.pid), "each monitor delivers one exit");
            }
            Message::Cancelled { .. } => return Err(CallError::new(ErrorKind::Cancelled, "as it was asked")),
            _ => (),
        }
    }
}

/// What one thread does, and the exits that it waits for.
async fn disturb(
    processes: ProcessManager,
    root: CallContext,
    seed: u64,
    exits: Arc<Mutex<HashMap<Pid, &'static str>>>,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut watches = tokio::task::JoinSet::new();
    for _ in 0..1_500 {
        let alive: Vec<Pid> = processes.processes().iter().map(|info| info.pid).collect();
        let (Some(one), Some(other)) = (random.choice(&alive).copied(), random.choice(&alive).copied())
        else {
            let _ = processes.spawn(&root, start());
            continue;
        };
        let say = |word: &str| {
            let _ = processes.try_send(&root, one, json!([word, other.to_string()]));
        };
        match random.u8(..20) {
            0..6 => match processes.spawn(&root, start()) {
                Ok(_) | Err(SpawnError::HostFull { .. }) => (),
                Err(error) => panic!("{error}"),
            },
            6 => drop(processes.link(one, other)),
            7 => processes.unlink(one, other),
            8 => say("link"),
            9 => say("unlink"),
            10 | 11 => say("monitor"),
            12 => say("demonitor"),
            13 => say("trap"),
            14 => say(if random.bool() { "done" } else { "fail" }),
            15 => drop(processes.terminate(one)),
            16 => drop(processes.cancel(one, "enough", Duration::from_millis(random.u64(..3)))),
            _ => {
                let monitor = processes.monitor(one).expect("it is remembered, if it ended");
                let exits = Arc::clone(&exits);
                watches.spawn(async move {
                    let exit = monitor.await;
                    let reason = exit.reason.as_str();
                    let before = exits.lock().unwrap().insert(exit.pid, reason);
                    assert!(before.is_none_or(|before| before == reason), "{before:?}, and {reason}");
                });
            }
        }
        if random.u8(..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
    while let Some(watched) = within("a thread for the exits it waits for", watches.join_next()).await {
        watched.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_several_threads_do_at_once_keeps_what_always_holds() {
    let (processes, root) = manager();
    let watch = Watch::default();
    processes.register_lifecycle(watch.clone()).unwrap();
    let exits = Arc::default();
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| tokio::spawn(disturb(processes.clone(), root.clone(), seed, Arc::clone(&exits))))
        .collect();
    // Whoever waits for the exit of a process that nobody ends waits until all are stopped.
    let resting = async {
        while threads.iter().any(|thread| !thread.is_finished()) {
            for info in &processes.processes() {
                let _ = processes.cancel(info.pid, "time to go", Duration::from_millis(50));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the test for the threads", resting).await;
    for thread in threads {
        thread.await.unwrap();
    }
    within("the test for links that are both ways", async {
        while !links_are_both_ways(&processes) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stopped = within("the test for the stop", processes.stop(Duration::ZERO)).await;
    assert_eq!((stopped.running, processes.len()), (vec![], 0));
    assert_eq!(*watch.panics.lock().unwrap(), [""; 0]);
    assert_eq!(watch.living.load(Ordering::SeqCst), 0);
}

fn links_are_both_ways(processes: &ProcessManager) -> bool {
    let links: HashMap<Pid, HashSet<Pid>> =
        processes.processes().into_iter().map(|info| (info.pid, info.links.into_iter().collect())).collect();
    links.iter().all(|(one, others)| {
        others.iter().all(|other| links.get(other).is_some_and(|links| links.contains(one)))
    })
}

/// Whoever finds a process as it is being started may end it before it is spawned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_terminated_as_it_starts_ends() {
    let (processes, root) = manager();
    for round in 0..2_000 {
        let name = format!("round {round}");
        let ending = tokio::task::spawn_blocking({
            let (processes, name) = (processes.clone(), name.clone());
            move || {
                loop {
                    if let Some(pid) = processes.whereis(&name)
                        && processes.terminate(pid).is_ok()
                    {
                        return;
                    }
                    std::hint::spin_loop();
                }
            }
        });
        let pid = processes.spawn(&root, start().with_name(&name)).unwrap();
        let exit = within("the test for what was terminated", processes.monitor(pid).unwrap()).await;
        assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
        within("the test for who terminates", ending).await.unwrap();
    }
}

/// Whoever is told of an exit finds the place of that process free, also where the host is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_of_an_exit_finds_its_place_free() {
    let (processes, root) = manager();
    processes.register_host("test:small".parse().unwrap(), HostConfig::default().with_processes(1)).unwrap();
    let small = || Spawn::new("test:small".parse().unwrap(), "test:worker".parse().unwrap());
    for _ in 0..5_000 {
        let pid = processes.spawn(&root, small()).unwrap();
        let exit = processes.monitor(pid).unwrap();
        processes.terminate(pid).unwrap();
        within("the test for an exit", exit).await;
    }
}

/// What a process is started with is there before whoever finds its name can send to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_is_started_with_comes_first() {
    let (processes, root) = manager();
    processes
        .register("test:first".parse().unwrap(), Options::new(), async |mut ctx: ProcessContext, _| {
            let Message::Sent { payload, .. } = ctx.receive().await else { panic!("nothing was sent") };
            Ok(payload)
        })
        .unwrap();
    for round in 0..2_000 {
        let name = format!("round {round}");
        let is_over = Arc::new(AtomicBool::new(false));
        let sending = tokio::task::spawn_blocking({
            let (processes, root, name, is_over) =
                (processes.clone(), root.clone(), name.clone(), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = processes.try_send(&root, name.as_str(), json!("second"));
                }
            }
        });
        let first = Spawn::new("test:host".parse().unwrap(), "test:first".parse().unwrap());
        let first = first.with_name(&name).with_message(json!("first"));
        let outcome = within("the test for a process", processes.exec(&root, first)).await.unwrap();
        is_over.store(true, Ordering::Relaxed);
        within("the test for who sends", sending).await.unwrap();
        assert_eq!(outcome, json!("first").into());
    }
}

/// A name is one process's at a time: all of the one before is dropped when the next has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_has_one_holder_at_a_time() {
    struct Held(Arc<AtomicUsize>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let (processes, root) = manager();
    let (holders, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (of_processes, times) = (Arc::clone(&holders), Arc::clone(&held));
    let process = move |mut ctx: ProcessContext, _| {
        let (holders, times) = (Arc::clone(&of_processes), Arc::clone(&times));
        async move {
            while ctx.processes().register_name("it", ctx.pid()).is_err() {
                tokio::task::yield_now().await;
            }
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the name");
            let _held = Held(holders);
            times.fetch_add(1, Ordering::SeqCst);
            // Until it is terminated, or done.
            ctx.receive_timeout(Duration::from_millis(1)).await;
            Ok(Payload::default())
        }
    };
    processes.register("test:holder".parse().unwrap(), Options::new(), process).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let exits: Vec<_> = (0..8)
            .map(|_| {
                let holder = Spawn::new("test:host".parse().unwrap(), "test:holder".parse().unwrap());
                processes.monitor(processes.spawn(&root, holder).unwrap()).unwrap()
            })
            .collect();
        if random.bool()
            && let Some(holder) = processes.whereis("it")
        {
            let _ = processes.terminate(holder);
        }
        for exit in exits {
            let reason = within("the test for a holder", exit).await.reason;
            assert!(matches!(reason, ExitReason::Normal | ExitReason::Killed), "{reason}");
        }
    }
    assert_eq!(holders.load(Ordering::SeqCst), 0);
    assert!(held.load(Ordering::SeqCst) > 800, "most of them had the name");
}
