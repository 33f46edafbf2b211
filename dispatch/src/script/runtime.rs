//! Threads of their own for scripts and components.
//!
//! All tasks wait in one queue, so that none is stranded on a stalled thread: there is no queue for each
//! thread, and no slot for the task that was woken last, as tokio's workers have it. A thread that the clock
//! finds to be blocked does not count, and another is started in its place. A thread that was given the lowest
//! priority ends with its current task, because an unprivileged process cannot raise its priority again.

use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{mem, thread};

use async_task::{FallibleTask, Runnable, ScheduleInfo, WithInfo};
use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
#[cfg(feature = "lua")]
use tokio::task::yield_now;
use tracing::Span;

use super::clock::{self, Observer};
use super::unit::Unit;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;

/// How long a thread beyond the usual number waits for a task before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A pool of threads for the calls and processes of [scripts](crate::lua) and [components](crate::wasm), so
/// that a script which holds its thread takes nothing from the rest of the program. Cloning it is one
/// reference count. The threads end with the last clone, and with the last engine that uses it.
///
/// Nearly everything that a script or a component does can be interrupted after a millisecond. Some operations
/// cannot: an assignment that makes a table grow whose keys all collide, a phase of Lua's garbage collector, a
/// host function that computes. A few such operations at once would stop a whole tokio runtime, but not this
/// one:
///
/// - A thread that is held for 10 ms of processor time, or waits for the system for 100 ms, does not count,
///   and another is started in its place, up to a [limit](ScriptRuntimeBuilder::max_threads).
/// - A thread that is held for longer than the [limit](ScriptRuntimeBuilder::stall_limit), 200 ms of
///   processor time, gets the lowest priority (`SCHED_IDLE`). The script or component is
///   [quarantined](crate::Quarantine): further calls of it fail with [`Exhausted`](ErrorKind::Exhausted). Its
///   calls and processes that are already running continue. This is done on Linux only.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_dispatch::{Functions, ScriptRuntime, Task};
/// use frame_registry::{App, Options};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let scripts = ScriptRuntime::new();
/// let engine = LuaEngine::builder().runtime(scripts).build()?;
/// let add = engine.function("add.lua", "local a, b = table.unpack(...) return a + b", LuaConfig::default())?;
///
/// let functions = Functions::new(App::builder().build());
/// functions.register("app:add".parse()?, Options::new(), add.clone())?;
/// let sum = functions.root().call(Task::new("app:add".parse()?).with_payload(json!([40, 2]))).await?;
/// assert_eq!(sum, json!(42).into());
/// assert!(add.quarantine().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What runs where
///
/// Each call of a script or a component runs as a task on this runtime, and its caller awaits it. If the caller
/// runs on this runtime too, its thread runs the call next, and after the call the caller, so a chain of calls
/// mostly stays on one thread. Native functions that scripts call are part of the script's task, in the
/// context of the tokio runtime that the chain came from: its timers and sockets work, and tasks are spawned
/// there.
///
/// The caller's tracing span is entered for the call. Its task-locals and thread-locals are not visible there.
/// If the call panics, it fails. If the caller's future is dropped, that of the call is dropped soon after, on
/// a thread of this runtime, and the caller does not wait for that. The call keeps its place in the
/// [pool](crate::PoolConfig::size) of its function until it has left the thread, so no function holds more
/// threads than that.
///
/// Deadlines are kept by callers. A call that holds its thread ends on time for its caller, whether that is a
/// native function or another script.
///
/// # Priority
///
/// A thread of the lowest priority runs while a processor has nothing else to do, and gets about 0.3 % of a
/// busy one. So it finishes only the operation that holds it, and another thread does the rest of the call. If
/// it is preempted while it holds a lock, others wait for that lock. The allocator of the C library has such
/// locks, each shared by a group of threads. On a machine without an idle processor, a thread that allocated
/// all the time has made another wait there for seconds. An operation of Lua that holds a thread allocates
/// once or not at all.
#[derive(Clone)]
pub struct ScriptRuntime {
    handle: Arc<RuntimeHandles>,
}

/// Builds a [`ScriptRuntime`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is built"]
pub struct ScriptRuntimeBuilder {
    threads: usize,
    max_threads: usize,
    stack_size: usize,
    stall_limit: Duration,
}

/// The numbers of threads and tasks of a [`ScriptRuntime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptRuntimeStatistics {
    /// How many threads there are.
    pub threads: usize,
    /// How many of them wait for a task.
    pub idle: usize,
    /// How many are blocked, and do not count.
    pub blocked: usize,
    /// How many are stalled: they have the lowest priority, and end with their current task.
    pub stalled: usize,
    /// How many tasks wait for a thread.
    pub queued: usize,
}

impl ScriptRuntime {
    /// Creates a runtime with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> ScriptRuntimeBuilder {
        ScriptRuntimeBuilder {
            threads: thread::available_parallelism().map_or(2, usize::from).max(2),
            max_threads: 256,
            stack_size: 4 << 20,
            stall_limit: Duration::from_millis(200),
        }
    }

    /// Starts the threads that usually run tasks, and the clock of scripts. A program that does this as it starts runs
    /// scripts also where the system later refuses further threads.
    ///
    /// Otherwise threads are started when they are needed. A call for which there is none fails with
    /// [`Unavailable`](ErrorKind::Unavailable).
    ///
    /// # Errors
    ///
    /// If the system refuses a thread. Those that were started before stay.
    pub fn start_threads(&self) -> io::Result<()> {
        clock::start_thread()?;
        let shared = self.shared();
        loop {
            let mut state = shared.state();
            if state.threads >= shared.config.threads {
                return Ok(());
            }
            state.threads += 1;
            state.started += 1;
            let number = state.started;
            drop(state);
            if let Err(error) = shared.start(number) {
                shared.state().threads -= 1;
                return Err(error);
            }
        }
    }

    /// Returns how many threads and tasks there are.
    pub fn statistics(&self) -> ScriptRuntimeStatistics {
        let shared = self.shared();
        let state = shared.state();
        ScriptRuntimeStatistics {
            threads: state.threads,
            idle: state.idle,
            blocked: shared.blocked.load(Ordering::Relaxed),
            stalled: shared.stalled.load(Ordering::Relaxed),
            queued: state.queue.len(),
        }
    }

    fn shared(&self) -> &Arc<RuntimeShared> {
        &self.handle.0
    }

    /// Runs a call as a task on this runtime.
    pub(crate) const fn run(self, future: Call) -> OnRuntime {
        OnRuntime { runtime: self, task: CallTask::New(Some(future)) }
    }

    fn spawn(&self, future: Call) -> FallibleTask<Outcome> {
        let future =
            SpawnedCall { tokio: Handle::try_current().ok(), span: Span::current(), future: Some(future) };
        let shared = Arc::clone(self.shared());
        let schedule = move |runnable, info: ScheduleInfo| shared.push(runnable, info.woken_while_running);
        // A panic goes to the caller, as if the future had been polled there.
        let builder = async_task::Builder::new().propagate_panic(true);
        let (runnable, task) = builder.spawn(|()| future, WithInfo(schedule));
        // Whatever makes the call waits for it now.
        handing_over(|| runnable.schedule());
        task.fallible()
    }
}

impl Default for ScriptRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ScriptRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptRuntime")
            .field("config", &self.shared().config)
            .field("statistics", &self.statistics())
            .finish()
    }
}

impl ScriptRuntimeBuilder {
    /// Sets how many threads run tasks, at least one. Blocked threads are not counted. Threads are started
    /// when they are needed. Default: as many as there are processors, and at least two.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the maximum number of threads, blocked ones included. If all of them are blocked, tasks wait.
    /// Default: 256.
    pub const fn max_threads(mut self, max_threads: usize) -> Self {
        self.max_threads = max_threads;
        self
    }

    /// Sets the stack size of the threads, in bytes. Default: 4 MiB, of which a thread takes only what it uses.
    pub const fn stack_size(mut self, stack_size: usize) -> Self {
        self.stack_size = stack_size;
        self
    }

    /// Sets the processor time for which a script or a component may hold a thread without reaching a point
    /// where it can be interrupted. [`Duration::MAX`] disables the limit. Default: 200 ms.
    ///
    /// The time that a function of a host module takes until it returns or awaits counts as the script's. That of a native
    /// function that it calls does not. So does the time
    /// to compile the script for a new VM, and to collect its garbage. Converting a payload does not.
    pub const fn stall_limit(mut self, stall_limit: Duration) -> Self {
        self.stall_limit = stall_limit;
        self
    }

    /// Builds the runtime. The first thread is started with the first task, or by
    /// [`start_threads`](ScriptRuntime::start_threads).
    #[must_use]
    pub fn build(self) -> ScriptRuntime {
        let threads = self.threads.max(1);
        let max_threads = self.max_threads.max(threads);
        let shared = RuntimeShared {
            config: Self { threads, max_threads, ..self },
            state: Mutex::default(),
            wake: Condvar::new(),
            blocked: AtomicUsize::new(0),
            stalled: AtomicUsize::new(0),
        };
        ScriptRuntime { handle: Arc::new(RuntimeHandles(Arc::new(shared))) }
    }
}

/// The clones of a runtime. Its drop lets the threads end.
struct RuntimeHandles(Arc<RuntimeShared>);

impl Drop for RuntimeHandles {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.wake.notify_all();
    }
}

/// What the threads share.
struct RuntimeShared {
    config: ScriptRuntimeBuilder,
    state: Mutex<RunQueue>,
    /// Idle threads wait for it.
    wake: Condvar,
    blocked: AtomicUsize,
    stalled: AtomicUsize,
}

#[derive(Default)]
struct RunQueue {
    queue: VecDeque<Runnable>,
    /// How many tasks at the front of the queue were handed over.
    handed_over: usize,
    threads: usize,
    /// The number of threads that wait and have not been woken.
    idle: usize,
    /// The number of threads that have been woken and still wait.
    woken: usize,
    /// The number of threads that were ever started.
    started: u64,
    is_closed: bool,
}

thread_local! {
    /// The current thread, if it is one of a runtime.
    static CURRENT: OnceCell<Arc<Worker>> = const { OnceCell::new() };
    static HAND_OVER: HandOver = const { HandOver::new() };
}

/// How the tasks of a thread hand it over to each other: a call is run next by the thread that made it, and after that its
/// caller. No other thread has to be woken for either, unless the current task goes on for more than a slice.
struct HandOver {
    /// Whether the current task has come to its end, or waits for what it queues.
    is_handing_over: Cell<bool>,
    /// When the first of the tasks that follow each other handed the thread over.
    began: Cell<Option<Instant>>,
}

impl HandOver {
    const fn new() -> Self {
        Self { is_handing_over: Cell::new(false), began: Cell::new(None) }
    }

    /// Returns whether what is handed over comes next. Together such tasks keep the thread no longer than one that uses up
    /// its slice.
    fn is_left(&self) -> bool {
        let now = Instant::now();
        let began = self.began.get().unwrap_or(now);
        self.began.set(Some(began));
        now - began < clock::TICK
    }
}

/// Hands the current thread over to whatever `queue` queues.
fn handing_over<T>(queue: impl FnOnce() -> T) -> T {
    let was_handing_over = HAND_OVER.with(|hand_over| hand_over.is_handing_over.replace(true));
    let queued = queue();
    HAND_OVER.with(|hand_over| hand_over.is_handing_over.set(was_handing_over));
    queued
}

fn current<T>(look: impl FnOnce(&Arc<Worker>) -> T) -> Option<T> {
    CURRENT.try_with(|current| current.get().map(look)).ok().flatten()
}

/// Leaves the current thread if it is stalled: another goes on with the task. What is left to do would take
/// long on a thread of the lowest priority, and others may wait for its locks.
#[cfg(feature = "lua")]
pub(crate) async fn leave_stalled_thread() {
    if current(|worker| worker.is_stalled()) == Some(true) {
        yield_now().await;
    }
}

impl RuntimeShared {
    fn state(&self) -> MutexGuard<'_, RunQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_current(self: &Arc<Self>) -> bool {
        current(|worker| Arc::ptr_eq(&worker.shared, self)) == Some(true)
    }

    /// Queues a task. `is_rerun` says that the current thread has just run it, and takes the next from the
    /// queue.
    fn push(self: &Arc<Self>, runnable: Runnable, is_rerun: bool) {
        let is_handed_over = HAND_OVER.with(|hand_over| hand_over.is_handing_over.get()) && self.is_current();
        let mut state = self.state();
        if state.is_closed && state.threads == 0 {
            // Its caller has given it up. Dropping it drops its future.
            drop(state);
            drop(runnable);
            return;
        }
        if is_handed_over {
            current(|worker| worker.keeps_tasks.store(true, Ordering::Relaxed));
            if HAND_OVER.with(HandOver::is_left) {
                let last = state.handed_over;
                state.queue.insert(last, runnable);
                state.handed_over += 1;
            } else {
                state.queue.push_back(runnable);
            }
            return;
        }
        state.queue.push_back(runnable);
        if !is_rerun {
            self.provide(state);
        }
    }

    /// Queues something that is done at once.
    fn run_once(self: &Arc<Self>, action: impl FnOnce() + Send + 'static) {
        let shared = Arc::clone(self);
        let (runnable, task) =
            async_task::spawn(async { action() }, move |runnable| shared.push(runnable, false));
        task.detach();
        runnable.schedule();
    }

    /// Sees to it that a thread takes what is queued.
    fn provide(self: &Arc<Self>, mut state: MutexGuard<'_, RunQueue>) {
        if state.queue.is_empty() {
            return;
        }
        if state.idle > 0 {
            state.idle -= 1;
            state.woken += 1;
            drop(state);
            self.wake.notify_one();
            return;
        }
        let running = state.threads.saturating_sub(self.blocked.load(Ordering::Relaxed));
        if running >= self.config.threads || state.threads >= self.config.max_threads {
            return;
        }
        state.threads += 1;
        state.started += 1;
        let number = state.started;
        drop(state);
        let Err(error) = self.start(number) else { return };
        tracing::error!(%error, "a thread for scripts was not started");
        let mut state = self.state();
        state.threads -= 1;
        // Nothing else would run them. Their callers are told.
        let abandoned = if state.threads == 0 { mem::take(&mut state.queue) } else { VecDeque::new() };
        state.handed_over = state.handed_over.min(state.queue.len());
        drop(state);
        drop(abandoned);
    }

    fn start(self: &Arc<Self>, number: u64) -> io::Result<()> {
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name(format!("frame-script-{number}"));
        builder.stack_size(self.config.stack_size).spawn(move || shared.work())?;
        Ok(())
    }

    /// Runs tasks, on a thread of its own.
    fn work(self: Arc<Self>) {
        let worker = Arc::new(Worker {
            shared: Arc::clone(&self),
            is_stalled: AtomicBool::new(false),
            keeps_tasks: AtomicBool::new(false),
        });
        CURRENT.with(|current| _ = current.set(Arc::clone(&worker)));
        clock::observe(worker.clone());
        while let Some(runnable) = self.next() {
            {
                let _slice = clock::enter_host();
                // That a future panics is told to its caller.
                let _ = catch_unwind(AssertUnwindSafe(|| runnable.run()));
            }
            HAND_OVER.with(|hand_over| hand_over.is_handing_over.set(false));
            worker.keeps_tasks.store(false, Ordering::Relaxed);
            if worker.is_stalled() {
                self.stalled.fetch_sub(1, Ordering::Relaxed);
                self.thread_ended();
                return;
            }
        }
    }

    /// Waits for a task. `None` if the thread has to end, and is not counted any more.
    fn next(self: &Arc<Self>) -> Option<Runnable> {
        let mut state = self.state();
        loop {
            if let Some(runnable) = state.queue.pop_front() {
                match state.handed_over.checked_sub(1) {
                    Some(left) => state.handed_over = left,
                    None => HAND_OVER.with(|hand_over| hand_over.began.set(None)),
                }
                // A task may hand over to more than one.
                if state.queue.len() > state.woken {
                    self.provide(state);
                }
                return Some(runnable);
            }
            if state.is_closed {
                break;
            }
            state.idle += 1;
            let until = Instant::now() + KEEP_ALIVE;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                state = if left.is_zero() {
                    self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
                } else {
                    self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                };
                if state.woken > 0 {
                    // Whatever woke it does not count it as idle any more.
                    state.woken -= 1;
                    break;
                }
                let is_surplus = state.threads > self.config.threads && Instant::now() >= until;
                if state.is_closed || is_surplus {
                    state.idle -= 1;
                    state.threads -= 1;
                    return None;
                }
            }
        }
        state.threads -= 1;
        None
    }

    fn thread_ended(self: &Arc<Self>) {
        let mut state = self.state();
        state.threads -= 1;
        self.provide(state);
    }
}

/// A thread of a runtime, as the clock sees it.
struct Worker {
    shared: Arc<RuntimeShared>,
    is_stalled: AtomicBool,
    /// Whether the current task has handed the thread over, and still runs.
    keeps_tasks: AtomicBool,
}

impl Worker {
    fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }
}

impl Observer for Worker {
    fn stall_limit(&self) -> Duration {
        self.shared.config.stall_limit
    }

    fn blocked(&self) {
        self.shared.blocked.fetch_add(1, Ordering::Relaxed);
    }

    fn unblocked(&self) {
        self.shared.blocked.fetch_sub(1, Ordering::Relaxed);
    }

    fn keeps_tasks(&self) -> bool {
        self.keeps_tasks.load(Ordering::Relaxed)
    }

    fn stalled(&self, unit: &Arc<Unit>, pid: Option<Pid>, is_first: bool) {
        if !self.is_stalled.swap(true, Ordering::Relaxed) {
            self.shared.stalled.fetch_add(1, Ordering::Relaxed);
        }
        let Some(quarantine) = unit.quarantine().filter(|_| is_first).cloned() else { return };
        // Not on the thread of the clock, which must not wait for whatever the log is written to.
        self.shared.run_once(move || {
            let pid = pid.map(tracing::field::display);
            tracing::warn!(pid, "{quarantine}");
        });
    }

    fn relieve(&self) {
        self.shared.provide(self.shared.state());
    }
}

/// What a call of a script or a component comes to.
type Outcome = Result<Payload, CallError>;

type Call = BoxFuture<'static, Outcome>;

/// A call that is run on a [`ScriptRuntime`]. Dropping it drops what it runs, on a thread of the runtime.
///
/// Fails if no thread can be started.
pub(crate) struct OnRuntime {
    runtime: ScriptRuntime,
    task: CallTask,
}

enum CallTask {
    /// It has not left the thread that polls it. `None` while it does.
    New(Option<Call>),
    Spawned(FallibleTask<Outcome>),
}

impl Future for OnRuntime {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.task {
                CallTask::New(future) => {
                    let Some(future) = future.take() else { return Poll::Pending };
                    this.task = CallTask::Spawned(this.runtime.spawn(future));
                }
                CallTask::Spawned(task) => {
                    let abandoned =
                        || CallError::new(ErrorKind::Unavailable, "no thread for it could be started");
                    let outcome = Pin::new(task).poll(context);
                    return outcome.map(|outcome| outcome.unwrap_or_else(|| Err(abandoned())));
                }
            }
        }
    }
}

impl Drop for OnRuntime {
    fn drop(&mut self) {
        // What is dropped comes before what waits: it has places in pools, and may have callees to drop.
        handing_over(|| self.task = CallTask::New(None));
    }
}

/// A future with the surroundings of the caller that it was spawned by.
struct SpawnedCall {
    tokio: Option<Handle>,
    span: Span,
    future: Option<Call>,
}

impl Future for SpawnedCall {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Self { tokio, span, future } = &mut *self;
        let _tokio = tokio.as_ref().map(Handle::enter);
        let _span = span.enter();
        let polled = future.as_mut().map_or(Poll::Pending, |future| future.as_mut().poll(context));
        // What is woken by the end of this is its caller.
        HAND_OVER.with(|hand_over| hand_over.is_handing_over.set(polled.is_ready()));
        polled
    }
}

/// What a future drops as it is cancelled may spawn tasks. It may be much, so it is not dropped on a thread
/// that is stalled.
impl Drop for SpawnedCall {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        let stalled = current(|worker| worker.is_stalled().then(|| Arc::clone(&worker.shared))).flatten();
        let (tokio, span) = (self.tokio.take(), mem::replace(&mut self.span, Span::none()));
        let drop = move || {
            let _tokio = tokio.as_ref().map(Handle::enter);
            let _span = span.enter();
            drop(future);
        };
        match stalled {
            Some(shared) => shared.run_once(drop),
            // A panic out of here would abort the program.
            None => _ = catch_unwind(AssertUnwindSafe(drop)),
        }
    }
}
