//! A hundred thousand processes, started, linked, monitored, sent to and ended at random: each exit is told exactly once to
//! everyone who wants to know, and nothing is left, neither a process nor memory.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::future::Future;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_dispatch::process::{
    HostConfig, Lifecycle, Message, ProcessContext, ProcessError, ProcessManager, ProcessRef, Spawn,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Pid};
use frame_registry::{App, BoxError, Options};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const SEED: u64 = 5;
const PROCESSES: usize = 100_000;
/// A round before, of the same shape, after which all that is kept for good is there.
const WARM_UP: usize = 20_000;
/// How many live at once, besides those that only monitor others.
const ALIVE: usize = 2_000;
/// Longer than anything here takes, also on a machine that is busy with something else.
const BOUND: Duration = Duration::from_mins(5);

/// Each test looks at the memory of all.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// A size as what is added up; nothing is larger than `isize::MAX`.
fn signed(size: usize) -> isize {
    size.cast_signed()
}

// SAFETY: every call is handed to `System` as it is. Counting is one atomic addition, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(signed(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(signed(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Waits for `future`, but not for ever; `who` says who waited for what.
async fn within<T>(who: &str, processes: &ProcessManager, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| {
        let mut living = String::new();
        for info in processes.processes().iter().take(20) {
            let _ = writeln!(living, "{info:?}");
        }
        panic!("in vain: {who}; {} live, the first of them:\n{living}", processes.len())
    })
}

/// How many processes there were, and how many ended.
#[derive(Default)]
struct Counts {
    started: AtomicUsize,
    ended: AtomicUsize,
    /// Told to a process that monitors another.
    told: AtomicUsize,
    /// Those that only monitor others.
    watchers: AtomicUsize,
}

struct Counter(Arc<Counts>);

impl Lifecycle for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        self.0.started.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn ended(&self, _: &ProcessRef<'_>, _: Option<&frame_dispatch::process::Exit>) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes on until it is told how to end.
async fn worker(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    loop {
        match ctx.receive().await {
            Message::Sent { payload, .. } => match payload.as_json().and_then(|json| json.as_str()) {
                Some("done") => return Ok(json!("done").into()),
                Some("fail") => return Err(CallError::new(ErrorKind::Internal, "it was told to fail")),
                _ => (),
            },
            Message::Cancelled { .. } => return Err(CallError::new(ErrorKind::Cancelled, "as it was asked")),
            message => panic!("it monitors nothing and traps nothing, but received {message:?}"),
        }
    }
}

/// Monitors the process that its payload names.
async fn watcher(mut ctx: ProcessContext, payload: Payload, counts: &Counts) -> Result<Payload, CallError> {
    let text = payload.as_json().and_then(|json| json.as_str()).expect("a PID");
    let pid: Pid = text.parse().expect("a PID");
    match ctx.monitor(pid) {
        Ok(monitor) => {
            let Message::Exited { exit, .. } = ctx.receive().await else {
                panic!("it was told something else")
            };
            assert_eq!(exit.pid, pid);
            counts.told.fetch_add(1, Ordering::Relaxed);
            assert!(!ctx.demonitor(monitor), "it was told twice");
        }
        // It ended while thousands of others did.
        Err(ProcessError::Unknown { .. }) => (),
        Err(error) => panic!("{error}"),
    }
    assert!(ctx.try_receive().is_none(), "it was told twice");
    Ok(Payload::default())
}

fn start(entry: &str) -> Spawn {
    Spawn::new("test:host".parse().unwrap(), entry.parse().unwrap())
}

struct Soak {
    processes: ProcessManager,
    root: CallContext,
    counts: Arc<Counts>,
    random: fastrand::Rng,
    /// Those that were not told to end yet. Some may have.
    alive: Vec<Pid>,
    /// Each waits for one exit, and gives whose it was.
    exits: JoinSet<Pid>,
}

impl Soak {
    fn new() -> Self {
        let functions = Functions::new(App::builder().build());
        let root = functions.root();
        let processes = ProcessManager::new(functions);
        processes.register_host("test:host".parse().unwrap(), HostConfig::default()).unwrap();
        let counts = Arc::new(Counts::default());
        processes.register_lifecycle(Counter(Arc::clone(&counts))).unwrap();
        processes.register("test:worker".parse().unwrap(), Options::new(), worker).unwrap();
        let counted = Arc::clone(&counts);
        let watch = move |ctx, payload| {
            let counts = Arc::clone(&counted);
            async move { watcher(ctx, payload, &counts).await }
        };
        processes.register("test:watcher".parse().unwrap(), Options::new(), watch).unwrap();
        let random = fastrand::Rng::with_seed(SEED);
        Self { processes, root, counts, random, alive: Vec::new(), exits: JoinSet::new() }
    }

    fn new_on(runtime: &Runtime) -> Self {
        let _entered = runtime.enter();
        Self::new()
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(0..many) == 0
    }

    fn watch_exit(&mut self, pid: Pid) {
        if let Ok(monitor) = self.processes.monitor(pid) {
            let told = async move {
                let exit = monitor.await;
                assert_eq!(exit.pid, pid);
                pid
            };
            self.exits.spawn(told);
        } else {
            panic!("{pid} was started just now, and is forgotten");
        }
    }

    /// One process more, which is linked, monitored and sent to; and one that is ended if there are too many.
    fn step(&mut self) {
        let named = self.one_in(10).then(|| format!("name {}", self.random.u8(..)));
        let with_name = |start: Spawn| match &named {
            Some(name) if self.processes.whereis(name).is_none() => start.with_name(name),
            _ => start,
        };
        let pid = self.processes.spawn(&self.root, with_name(start("test:worker"))).unwrap();
        self.watch_exit(pid);
        if self.one_in(8) {
            let text = json!(pid.to_string());
            let watcher = self.processes.spawn(&self.root, start("test:watcher").with_payload(text)).unwrap();
            self.counts.watchers.fetch_add(1, Ordering::Relaxed);
            self.watch_exit(watcher);
        }
        if let Some(other) = self.random.choice(&self.alive).copied() {
            if self.one_in(4) {
                let _ = self.processes.link(pid, other);
            }
            if self.one_in(8) {
                self.processes.unlink(pid, other);
            }
            let _ = self.processes.try_send(&self.root, other, json!("something"));
        }
        self.alive.push(pid);
        if self.alive.len() > ALIVE {
            self.end_one();
        }
    }

    fn end_one(&mut self) {
        let index = self.random.usize(..self.alive.len());
        let pid = self.alive.swap_remove(index);
        // It may have ended with another.
        match self.random.u8(..6) {
            0 => drop(self.processes.terminate(pid)),
            1 => drop(self.processes.cancel(pid, "enough", Duration::from_mins(1))),
            2 => drop(self.processes.cancel(pid, "enough", Duration::ZERO)),
            3 => drop(self.processes.try_send(&self.root, pid, json!("fail"))),
            _ => drop(self.processes.try_send(&self.root, pid, json!("done"))),
        }
    }

    /// As many at once as ever come together in a round, so that tables are as large as they become.
    async fn burst(&mut self) {
        for _ in 0..4 * ALIVE {
            let pid = self.processes.spawn(&self.root, start("test:worker")).unwrap();
            self.watch_exit(pid);
            self.alive.push(pid);
        }
        while !self.alive.is_empty() {
            self.end_one();
        }
        while !self.exits.is_empty() {
            let next = within("the soak for the first exits", &self.processes, self.exits.join_next());
            next.await.expect("there are some").unwrap();
        }
    }

    /// A round of so many processes; at its end none is left.
    async fn round(&mut self, many: usize) {
        let before = self.counts.started.load(Ordering::Relaxed);
        let (mut started, mut told) = (0, 0);
        while started < many {
            self.step();
            started = self.counts.started.load(Ordering::Relaxed) - before;
            // No faster than they end.
            while self.exits.len() > 2 * ALIVE {
                let next = within("the soak for the next exit", &self.processes, self.exits.join_next());
                next.await.expect("there are some").unwrap();
                told += 1;
            }
            while let Some(exit) = self.exits.try_join_next() {
                exit.unwrap();
                told += 1;
            }
            if self.one_in(16) {
                tokio::task::yield_now().await;
            }
        }
        while !self.alive.is_empty() {
            self.end_one();
        }
        while !self.exits.is_empty() {
            let next = within("the soak for the last exits", &self.processes, self.exits.join_next());
            next.await.expect("there are some").unwrap();
            told += 1;
        }
        assert_eq!(told, started, "each has one exit");
        assert_eq!(self.processes.len(), 0);
    }
}

/// Waits until every task is gone, and gives how many bytes there are.
fn bytes_at_rest(runtime: &Runtime, processes: &ProcessManager) -> isize {
    // A task is counted for a moment after it was joined.
    let gone = async {
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(within("the test for the tasks to be gone", processes, gone));
    LIVE_BYTES.load(Ordering::Relaxed)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

#[test]
fn nothing_is_left_of_a_hundred_thousand_processes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    println!("seed {SEED}");
    let runtime = runtime();
    let mut soak = Soak::new_on(&runtime);
    runtime.block_on(soak.burst());
    runtime.block_on(soak.round(WARM_UP));
    let processes = soak.processes.clone();
    let before = bytes_at_rest(&runtime, &processes);
    runtime.block_on(soak.round(PROCESSES));
    let after = bytes_at_rest(&runtime, &processes);
    let counts = &soak.counts;
    let [started, ended, told, watchers] =
        [&counts.started, &counts.ended, &counts.told, &counts.watchers].map(|it| it.load(Ordering::Relaxed));
    println!("{started} processes, {told} of {watchers} watchers told; {before} bytes before, {after} after");
    assert_eq!(started, ended);
    assert!(told <= watchers && told > watchers / 2);
    assert!(after - before <= before / 10, "{before} bytes before, {after} after");
}

/// Those that monitor it come and go; it stays.
#[test]
fn a_process_that_lives_long_keeps_nothing_of_those_that_monitored_it() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let soak = Soak::new_on(&runtime);
    let (processes, root) = (&soak.processes, &soak.root);
    let monitor_and_end = async |mut ctx: ProcessContext, payload: Payload| {
        let text = payload.as_json().and_then(|json| json.as_str()).expect("a PID");
        ctx.monitor(text.parse().expect("a PID")).unwrap();
        assert!(ctx.try_receive().is_none());
        Ok(Payload::default())
    };
    processes.register("test:visitor".parse().unwrap(), Options::new(), monitor_and_end).unwrap();
    let pid = processes.spawn(root, start("test:worker")).unwrap();
    let visits = async |many| {
        for _ in 0..many {
            let visitor = start("test:visitor").with_payload(json!(pid.to_string()));
            within("the test for a visitor", processes, processes.exec(root, visitor)).await.unwrap();
        }
        LIVE_BYTES.load(Ordering::Relaxed)
    };
    let before = runtime.block_on(visits(8_000));
    let after = runtime.block_on(visits(16_000));
    // As many numbers would be more than that.
    assert!(after - before < 100_000, "{before} bytes before, {after} after");
}
