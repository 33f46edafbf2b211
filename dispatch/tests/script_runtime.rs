//! Scripts and components on threads of their own.

use std::future::{pending, poll_fn};
use std::hint::spin_loop;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use std::{cell::Cell, thread};

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaFunction, LuaModule, ModuleBuilder, ProcessModule, mlua};
use frame_dispatch::process::{ExitReason, HostConfig, ProcessManager, Spawn};
use frame_dispatch::wasm::wasmtime::component::Linker;
use frame_dispatch::wasm::{GuestState, HostModule, WasmConfig, WasmEngine, wasmtime};
use frame_dispatch::{
    CallContext, CallError, ErrorKind, FunctionId, Functions, Payload, PoolConfig, ScriptRuntime, Task,
};
use frame_registry::{App, Options};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

/// Far more than anything takes here, on a machine that has better things to do.
const GENEROUS: Duration = Duration::from_mins(2);

fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

/// Holds threads of scripts, in a host function that computes until it is told to stop.
#[derive(Clone, Default)]
struct Staller(Arc<Stalls>);

#[derive(Default)]
struct Stalls {
    is_released: AtomicBool,
    begun: AtomicUsize,
}

impl Staller {
    fn stall(&self) {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        while !self.0.is_released.load(Ordering::SeqCst) {
            spin_loop();
        }
    }

    fn release(&self) {
        self.0.is_released.store(true, Ordering::SeqCst);
    }

    fn begun(&self) -> usize {
        self.0.begun.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, count: usize) {
        until(|| self.begun() >= count).await;
    }
}

/// A test that fails must end all the same.
struct ReleaseOnDrop(Staller);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl LuaModule for Staller {
    fn name(&self) -> &'static str {
        "host"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let staller = self.clone();
        module.function("stall", move |_, _: CallContext, ()| {
            staller.stall();
            Ok(())
        })
    }
}

impl HostModule for Staller {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        let (mut host, staller) = (linker.instance("frame:guests/host")?, self.clone());
        host.func_wrap_async("wait", move |_, (): ()| {
            staller.stall();
            Box::new(async { Ok(()) })
        })
    }
}

/// Waits for a condition that nothing tells of.
async fn until(mut is_met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_met() {
        assert!(began.elapsed() < GENEROUS, "it does not come true");
        sleep(Duration::from_millis(1)).await;
    }
}

/// An app whose scripts run on a runtime.
struct Scripts {
    runtime: ScriptRuntime,
    engine: LuaEngine,
    functions: Functions,
    processes: ProcessManager,
    staller: Staller,
    _release: ReleaseOnDrop,
}

impl Scripts {
    fn new(runtime: ScriptRuntime) -> Self {
        let (functions, staller) = (Functions::new(App::builder().build()), Staller::default());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
        let engine = LuaEngine::builder()
            .runtime(runtime.clone())
            .module(staller.clone())
            .module(ProcessModule::new(&processes))
            .build()
            .unwrap();
        let release = ReleaseOnDrop(staller.clone());
        Self { runtime, engine, functions, processes, staller, _release: release }
    }

    fn register(&self, name: &str, source: &str) -> LuaFunction {
        let function = self.engine.function(&format!("{name}.lua"), source, LuaConfig::default()).unwrap();
        self.functions.register(id(&format!("app:{name}")), Options::new(), function.clone()).unwrap();
        function
    }

    async fn call(&self, name: &str) -> Result<Payload, CallError> {
        let root = self.functions.root();
        timeout(GENEROUS, root.call(Task::new(id(&format!("app:{name}"))))).await.expect("it ends in time")
    }

    fn spawn(&self, name: &str) -> tokio::task::JoinHandle<Result<Payload, CallError>> {
        let (root, task) = (self.functions.root(), Task::new(id(&format!("app:{name}"))));
        tokio::spawn(async move { root.call(task).await })
    }
}

#[tokio::test]
async fn scripts_go_on_while_as_many_threads_as_there_should_be_are_stalled() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(2).build());
    let stalled = ["one", "two", "three"].map(|name| scripts.register(name, "host.stall() return 'done'"));
    scripts.register("other", "local sum = 0 for i = 1, 1e5 do sum = sum + i end return sum");
    let calls = ["one", "two", "three"].map(|name| scripts.spawn(name));
    scripts.staller.wait_for(3).await;
    assert_eq!(scripts.call("other").await.unwrap(), json!(5_000_050_000_u64).into());
    if cfg!(target_os = "linux") {
        until(|| stalled.iter().all(|function| function.quarantine().is_some())).await;
        until(|| scripts.runtime.statistics().stalled == 3).await;
    }
    assert_eq!(scripts.call("other").await.unwrap(), json!(5_000_050_000_u64).into());

    scripts.staller.release();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), json!("done").into(), "it was done, if late");
    }
    // Threads that were stalled have ended, and no other is missing.
    until(|| {
        let statistics = scripts.runtime.statistics();
        (statistics.blocked, statistics.stalled, statistics.queued) == (0, 0, 0) && statistics.threads <= 3
    })
    .await;
    let calls: Vec<_> = (0..100).map(|_| scripts.spawn("other")).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_script_that_stalls_is_quarantined_and_others_are_not() {
    let scripts = Scripts::new(ScriptRuntime::new());
    let bad = scripts.register("bad", "if ... then host.stall() end return 'done'");
    let good = scripts.register("good", "return 'done'");
    let root = scripts.functions.root();
    let call =
        tokio::spawn(async move { root.call(Task::new(id("app:bad")).with_payload(json!(true))).await });
    until(|| bad.quarantine().is_some()).await;
    let quarantine = bad.quarantine().unwrap();
    assert!(quarantine.processor_time() >= Duration::from_millis(200), "{quarantine:?}");

    let error = scripts.call("bad").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
    assert!(error.message().starts_with("`bad.lua` is quarantined: it held a thread for 2"), "{error}");
    assert!(error.message().ends_with("can be interrupted; reload it"), "{error}");
    assert_eq!(scripts.call("good").await.unwrap(), json!("done").into());
    assert!(good.quarantine().is_none());

    let entry = "app:bad".parse().unwrap();
    scripts.processes.register(entry, Options::new(), bad.clone()).unwrap();
    let start = Spawn::new("app:workers".parse().unwrap(), "app:bad".parse().unwrap());
    let pid = scripts.processes.spawn(&scripts.functions.root(), start).unwrap();
    let exit = scripts.processes.monitor(pid).unwrap().await;
    let ExitReason::Failed(error) = exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Exhausted);

    scripts.staller.release();
    assert_eq!(call.await.unwrap().unwrap(), json!("done").into());
    assert!(bad.quarantine().is_some(), "it stays until the script is compiled anew");
    let anew = scripts.engine.function("bad.lua", "return 'anew'", LuaConfig::default()).unwrap();
    let _retired = scripts.functions.replace(id("app:bad"), Options::new(), anew).unwrap();
    assert_eq!(scripts.call("bad").await.unwrap(), json!("anew").into());
}

#[tokio::test]
async fn a_deadline_is_on_time_and_the_turn_is_kept_until_the_thread_is_left() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let stalling = scripts.register("stalling", "host.stall()");
    // Until one has begun: a deadline may come before that.
    while scripts.staller.begun() == 0 {
        let ctx = scripts.functions.root().with_timeout(Duration::from_millis(50));
        let error = timeout(GENEROUS, ctx.call(Task::new(id("app:stalling")))).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
    }
    assert_eq!(stalling.statistics().running, 1, "its script still runs");
    scripts.staller.release();
    until(|| stalling.statistics().running == 0).await;
}

#[tokio::test]
async fn the_time_of_a_script_is_kept_by_its_caller() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let config = LuaConfig::default().with_time(Duration::from_millis(50));
    let function = scripts.engine.function("brief.lua", "host.stall()", config).unwrap();
    scripts.functions.register(id("app:brief"), Options::new(), function).unwrap();
    while scripts.staller.begun() == 0 {
        assert_eq!(scripts.call("brief").await.unwrap_err().kind(), ErrorKind::Deadline);
    }
}

#[tokio::test]
async fn a_call_that_is_done_after_its_deadline_is_not_done_in_time() {
    let engine = LuaEngine::builder().module(Blocking).build().unwrap();
    let function = engine.function("late.lua", "host.block() return 'done'", LuaConfig::default()).unwrap();
    let functions = Functions::new(App::builder().build());
    functions.register(id("app:late"), Options::new(), function).unwrap();
    let ctx = functions.root().with_timeout(Duration::from_millis(10));
    assert_eq!(ctx.call(Task::new(id("app:late"))).await.unwrap_err().kind(), ErrorKind::Deadline);
}

/// Blocks its thread for a while.
struct Blocking;

impl LuaModule for Blocking {
    fn name(&self) -> &'static str {
        "host"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.function("block", |_, _: CallContext, ()| {
            thread::sleep(Duration::from_millis(20));
            Ok(())
        })
    }
}

#[tokio::test]
async fn there_are_no_more_threads_than_allowed_and_tasks_wait_for_them() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(2).max_threads(3).build());
    scripts.register("stalling", "host.stall()");
    scripts.register("other", "return 'done'");
    let calls: Vec<_> = (0..3).map(|_| scripts.spawn("stalling")).collect();
    scripts.staller.wait_for(3).await;
    until(|| scripts.runtime.statistics().blocked == 3).await;
    let ctx = scripts.functions.root().with_timeout(Duration::from_millis(50));
    let error = timeout(GENEROUS, ctx.call(Task::new(id("app:other")))).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let waiting = scripts.spawn("other");
    until(|| scripts.runtime.statistics().queued >= 1).await;
    assert_eq!(scripts.runtime.statistics().threads, 3);
    scripts.staller.release();
    assert_eq!(waiting.await.unwrap().unwrap(), json!("done").into());
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_function_holds_no_more_threads_than_its_pool_has_places() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let config = LuaConfig::default().with_pool(PoolConfig::default().with_size(2));
    let function = scripts.engine.function("two.lua", "host.stall()", config).unwrap();
    scripts.functions.register(id("app:two"), Options::new(), function.clone()).unwrap();
    scripts.register("other", "return 'done'");
    let calls = [(); 2].map(|()| scripts.spawn("two"));
    scripts.staller.wait_for(2).await;
    for call in calls {
        call.abort();
        assert!(call.await.is_err());
    }
    let ctx = scripts.functions.root().with_timeout(Duration::from_millis(20));
    assert!(ctx.call(Task::new(id("app:two"))).await.is_err());
    assert_eq!(scripts.call("other").await.unwrap(), json!("done").into());
    assert_eq!((scripts.staller.begun(), function.statistics().running), (2, 2));
    scripts.staller.release();
}

/// A function that never ends by itself, and says when it has begun and when it is dropped.
#[allow(clippy::type_complexity, reason = "it has three parts")]
fn endless() -> (
    impl Fn(CallContext, Payload) -> frame_dispatch::BoxFuture<'static, Result<Payload, CallError>>,
    Arc<Notify>,
    mpsc::UnboundedReceiver<String>,
) {
    struct Dropped(mpsc::UnboundedSender<String>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let name = thread::current().name().unwrap_or_default().to_owned();
            // As a socket or a task that is spawned needs it.
            let _ = tokio::runtime::Handle::current();
            let _ = self.0.send(name);
        }
    }
    let (begun, (sender, dropped)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let has_begun = Arc::clone(&begun);
    let function = move |_: CallContext, _: Payload| {
        let (guard, has_begun) = (Dropped(sender.clone()), Arc::clone(&has_begun));
        Box::pin(async move {
            let _guard = guard;
            has_begun.notify_one();
            pending().await
        }) as frame_dispatch::BoxFuture<'static, _>
    };
    (function, begun, dropped)
}

#[tokio::test]
async fn a_call_that_is_given_up_is_dropped_on_a_thread_of_the_runtime() {
    let scripts = Scripts::new(ScriptRuntime::new());
    let (function, begun, mut dropped) = endless();
    scripts.functions.register(id("app:endless"), Options::new(), function).unwrap();
    let waiting = scripts.register("waiting", "return call('app:endless')");
    let call = scripts.spawn("waiting");
    begun.notified().await;
    call.abort();
    let name = timeout(GENEROUS, dropped.recv()).await.unwrap().unwrap();
    assert!(name.starts_with("frame-script-"), "{name}");
    until(|| waiting.statistics().running == 0).await;
}

#[tokio::test]
async fn a_runtime_that_nothing_uses_any_more_has_no_threads() {
    let scripts = Scripts::new(ScriptRuntime::new());
    scripts.register("wait", "return call('app:endless')");
    let (function, begun, mut dropped) = endless();
    scripts.functions.register(id("app:endless"), Options::new(), function).unwrap();
    let call = scripts.spawn("wait");
    begun.notified().await;
    drop(scripts);
    assert!(dropped.try_recv().is_err(), "a call keeps the runtime");
    call.abort();
    timeout(GENEROUS, dropped.recv()).await.unwrap().unwrap();
    // It held the sender, and is dropped with the functions.
    assert!(timeout(GENEROUS, dropped.recv()).await.unwrap().is_none());
}

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

#[tokio::test]
async fn a_script_is_not_held_by_what_it_calls() {
    let scripts = Scripts::new(ScriptRuntime::new());
    scripts.register("stall", "host.stall()");
    scripts
        .register("hasty", "local ok, e = pcall(call, 'app:stall', nil, { timeout = '20ms' }) return e.kind");
    scripts.register("outer", "return call('app:hasty')");
    assert_eq!(scripts.call("outer").await.unwrap(), json!("deadline").into());
    assert_eq!(scripts.staller.begun(), 1);
}

/// Two scripts that call each other do not keep the only thread for themselves.
#[tokio::test]
async fn calls_come_before_other_tasks_for_a_slice_only() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    scripts.register("echo", "return 1");
    scripts.register("calls", "while true do call('app:echo') end");
    scripts.register("quick", "return 'done'");
    let calls = [scripts.spawn("calls"), scripts.spawn("calls")];
    for _ in 0..20 {
        assert_eq!(scripts.call("quick").await.unwrap(), json!("done").into());
    }
    for call in calls {
        assert!(!call.is_finished());
        call.abort();
    }
}

/// A native function that blocks its thread waits for a call that another thread runs.
#[tokio::test]
async fn a_call_is_not_kept_by_a_thread_that_does_not_return_to_it() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(2).build());
    scripts.register("echo", "return 1");
    let blocking = async |ctx: CallContext, payload: Payload| {
        if payload != Payload::default() {
            thread::sleep(Duration::from_millis(150));
        }
        for _ in 0..3 {
            Handle::current().block_on(ctx.call(Task::new(id("app:echo"))))?;
        }
        Ok::<_, CallError>(Payload::default())
    };
    scripts.functions.register(id("app:blocking"), Options::new(), blocking).unwrap();
    scripts.register("at_once", "return call('app:blocking')");
    scripts.register("blocked_before", "return call('app:blocking', true)");
    for name in ["at_once", "blocked_before"] {
        assert_eq!(scripts.call(name).await.unwrap(), Payload::default(), "{name}");
    }
}

/// Panics as it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "dropped");
    }
}

#[tokio::test]
async fn what_panics_as_it_is_dropped_ends_nothing_else() {
    let scripts = Scripts::new(ScriptRuntime::new());
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let native = move |_: CallContext, _: Payload| {
        let begins = Arc::clone(&begins);
        async move {
            let _bomb = Bomb;
            begins.notify_one();
            pending::<Result<Payload, CallError>>().await
        }
    };
    scripts.functions.register(id("app:native"), Options::new(), native).unwrap();
    scripts.register("outer", "return call('app:native')");
    let call = scripts.spawn("outer");
    timeout(GENEROUS, begun.notified()).await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    scripts.register("echo", "return 1");
    assert_eq!(scripts.call("echo").await.unwrap(), json!(1).into());
}

#[tokio::test]
async fn calls_made_at_once_run_in_their_order_and_do_not_keep_others_out() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let (ran, mut order) = mpsc::unbounded_channel();
    let note = move |_: CallContext, payload: Payload| {
        let _ = ran.send(payload.as_json().and_then(serde_json::Value::as_u64).unwrap_or_default());
        async { Ok::<_, CallError>(Payload::default()) }
    };
    scripts.functions.register(id("app:note"), Options::new(), note).unwrap();
    scripts.register("noting", "call('app:note', ...)");
    let joins = async |ctx: CallContext, _: Payload| {
        let call = |n: u64| ctx.call(Task::new(id("app:noting")).with_payload(json!(n)));
        let (a, b, c) = tokio::join!(call(1), call(2), call(3));
        a.and(b).and(c)
    };
    scripts.functions.register(id("app:joins"), Options::new(), joins).unwrap();
    scripts.register("once", "call('app:joins')");
    scripts.call("once").await.unwrap();
    assert_eq!([order.recv().await, order.recv().await, order.recv().await], [Some(1), Some(2), Some(3)]);

    scripts.register("for_ever", "while true do call('app:joins') end");
    scripts.register("echo", "return 1");
    let callers = [scripts.spawn("for_ever"), scripts.spawn("for_ever")];
    order.recv().await;
    while order.try_recv().is_ok() {}
    for _ in 0..10 {
        assert_eq!(scripts.call("echo").await.unwrap(), json!(1).into());
    }
    // A turn ends after a millisecond, in which some dozens of calls are made.
    let noted = order.len();
    assert!(noted < 10_000, "{noted} calls of others while ten were made");
    for caller in callers {
        caller.abort();
    }
}

#[tokio::test]
async fn each_script_of_a_chain_is_polled_on_its_own_and_timers_work_there() {
    let scripts = Scripts::new(ScriptRuntime::new());
    scripts.register("outer", "return call('app:between')");
    scripts.register("inner", "return call('app:last')");
    let between = async |ctx: CallContext, _: Payload| {
        sleep(Duration::from_millis(1)).await;
        let mut call = pin!(ctx.call(Task::new(id("app:inner"))));
        poll_fn(|context| {
            IS_INSIDE.set(true);
            let polled = call.as_mut().poll(context);
            IS_INSIDE.set(false);
            polled
        })
        .await
    };
    scripts.functions.register(id("app:between"), Options::new(), between).unwrap();
    let last = async |_: CallContext, _: Payload| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        Ok(Payload::from(json!([IS_INSIDE.get(), name.starts_with("frame-script-")])))
    };
    scripts.functions.register(id("app:last"), Options::new(), last).unwrap();
    assert_eq!(scripts.call("outer").await.unwrap(), json!([false, true]).into());
    let spawned = async |ctx: CallContext, _: Payload| {
        tokio::spawn(async move { ctx.call(Task::new(id("app:inner"))).await }).await.unwrap()
    };
    scripts.functions.register(id("app:spawned"), Options::new(), spawned).unwrap();
    scripts.register("spawning", "return call('app:spawned')");
    assert_eq!(scripts.call("spawning").await.unwrap(), json!([false, true]).into());
}

#[tokio::test]
async fn a_span_is_entered_on_the_other_thread_and_a_panic_is_the_failure_of_the_call() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    });
    let scripts = Scripts::new(ScriptRuntime::new());
    let native = async |_: CallContext, payload: Payload| {
        assert!(payload.as_json() != Some(&json!("panic")), "as it was asked");
        let span = tracing::Span::current();
        Ok(Payload::from(json!(span.metadata().map(tracing::Metadata::name))))
    };
    scripts.functions.register(id("app:native"), Options::new(), native).unwrap();
    scripts.register("script", "return call('app:native', ...)");
    let root = scripts.functions.root();
    let call = root.call(Task::new(id("app:script"))).instrument(tracing::info_span!("of the caller"));
    assert_eq!(call.await.unwrap(), json!("of the caller").into());
    let error = root.call(Task::new(id("app:script")).with_payload(json!("panic"))).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("panicked: as it was asked"), "{cause}");
}

#[tokio::test]
async fn a_process_that_was_woken_last_is_not_stranded_on_the_thread_that_woke_it() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let (sender, mut received) = mpsc::unbounded_channel();
    let report = move |_: CallContext, payload: Payload| {
        let sent = sender.send(payload).map_err(|_| CallError::invalid("the test has ended"));
        async move { sent.map(|()| Payload::default()) }
    };
    scripts.functions.register(id("app:report"), Options::new(), report).unwrap();
    let start = |name: &str, source: &str| {
        let process = scripts.engine.function(name, source, LuaConfig::process()).unwrap();
        let entry: frame_dispatch::process::EntryId = format!("app:{name}").parse().unwrap();
        scripts.processes.register(entry.clone(), Options::new(), process).unwrap();
        let start = Spawn::new("app:workers".parse().unwrap(), entry).with_name(name);
        scripts.processes.spawn(&scripts.functions.root(), start).unwrap();
    };
    start("woken", "while true do call('app:report', process.receive().payload) end");
    start(
        "waker",
        "process.send('woken', 'once') process.receive() process.send('woken', 'again') host.stall()",
    );
    assert_eq!(received.recv().await.unwrap(), json!("once").into());
    scripts.processes.send(&scripts.functions.root(), "waker", json!(null)).await.unwrap();
    let again = timeout(GENEROUS, received.recv()).await.expect("it is not stranded");
    assert_eq!(again.unwrap(), json!("again").into());
    scripts.staller.wait_for(1).await;
    scripts.staller.release();
}

#[tokio::test]
async fn components_run_on_it_and_stall_as_scripts_do() {
    let (runtime, staller) = (ScriptRuntime::builder().threads(1).build(), Staller::default());
    let _release = ReleaseOnDrop(staller.clone());
    let engine = WasmEngine::builder().instances(8).runtime(runtime.clone()).module(staller.clone());
    let engine = engine.build().unwrap();
    let functions = Functions::new(App::builder().build());
    let echo = engine.function(&frame_guests::guest("echo"), WasmConfig::default()).unwrap();
    functions.register(id("app:echo"), Options::new(), echo.clone()).unwrap();
    let remember = engine.function(&frame_guests::guest("remember"), WasmConfig::default()).unwrap();
    functions.register(id("app:remember"), Options::new(), remember.clone()).unwrap();

    let call = |name| {
        let (functions, task) = (functions.clone(), Task::new(id(name)).with_payload(json!([1, 2])));
        async move { functions.root().call(task).await }
    };
    assert_eq!(call("app:echo").await.unwrap(), json!([1, 2]).into());
    assert_eq!(runtime.statistics().threads, 1);
    let held = tokio::spawn(call("app:remember"));
    staller.wait_for(1).await;
    assert_eq!(timeout(GENEROUS, call("app:echo")).await.unwrap().unwrap(), json!([1, 2]).into());
    if cfg!(target_os = "linux") {
        until(|| remember.quarantine().is_some()).await;
        let error = call("app:remember").await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
        assert!(error.message().starts_with("the component is quarantined"), "{error}");
        assert!(echo.quarantine().is_none());
    }
    staller.release();
    held.await.unwrap().unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_assignment_that_rehashes_colliding_keys_is_found() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    // Two seconds and more, most of it in one instruction.
    let source = "local m, t = (1 << 16) - 1, {} for i = 1, (1 << 15) + 1 do t[i * m] = true end";
    let hostile = scripts.register("hostile", source);
    scripts.register("other", "return 'done'");
    let call = scripts.spawn("hostile");
    until(|| hostile.quarantine().is_some() || call.is_finished()).await;
    assert!(hostile.quarantine().is_some(), "it took less than 200 ms");
    assert_eq!(scripts.call("other").await.unwrap(), json!("done").into());
    // On a machine that has other things to do its thread may take for ever.
    call.abort();
}

#[tokio::test]
async fn a_script_that_cannot_be_suspended_makes_room_and_is_not_quarantined() {
    let scripts = Scripts::new(ScriptRuntime::builder().threads(1).build());
    let echo = async |_: CallContext, payload: Payload| Ok::<_, CallError>(payload);
    scripts.functions.register(id("app:echo"), Options::new(), echo).unwrap();
    let handler = scripts.register("handler", "xpcall(error, function() while true do end end)");
    let source = "local t = {} for i = 1, 300000 do t[i] = i end for i = 1, 3 do call('app:echo', t) end";
    let converts = scripts.register("converts", source);
    for (name, function) in [("handler", handler), ("converts", converts)] {
        // On a slow machine it may have ended before.
        let makes_room = async {
            loop {
                let call = scripts.spawn(name);
                until(|| scripts.runtime.statistics().blocked == 1 || call.is_finished()).await;
                let has_made_room = !call.is_finished();
                let _ = call.await.unwrap();
                if has_made_room {
                    break;
                }
            }
        };
        timeout(GENEROUS, makes_room).await.expect(name);
        assert!(function.quarantine().is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_script_that_is_interrupted_now_and_then_is_not_quarantined() {
    let limit = Duration::from_millis(60);
    let scripts = Scripts::new(ScriptRuntime::builder().stall_limit(limit).build());
    let source = "local ended = os.clock() + 0.3
         local t = {} for i = 1, 1000 do t[i] = i * 7919 % 1000 end
         -- Where it cannot be suspended, and in loops of library functions.
         while os.clock() < ended do
           table.sort(t, function(a, b) return a > b end)
           string.find(string.rep('a', 2000), '.-.-b')
           pcall(string.gsub, 'abc', '.', function() for i = 1, 1e4 do end end)
         end
         return 'done'";
    let honest = scripts.register("honest", source);
    assert_eq!(scripts.call("honest").await.unwrap(), json!("done").into());
    assert_eq!(honest.quarantine(), None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_quarantined_process_that_is_cancelled_is_not_given_time_to_end() {
    let scripts = Scripts::new(ScriptRuntime::new());
    let held = scripts.engine.function("held.lua", "host.stall()", LuaConfig::process()).unwrap();
    scripts.processes.register("app:held".parse().unwrap(), Options::new(), held.clone()).unwrap();
    let start = Spawn::new("app:workers".parse().unwrap(), "app:held".parse().unwrap());
    let pid = scripts.processes.spawn(&scripts.functions.root(), start).unwrap();
    until(|| held.quarantine().is_some()).await;
    let exit = scripts.processes.monitor(pid).unwrap();
    // It could not read that it is to end, though it had all the time there is.
    scripts.processes.cancel(pid, "enough", Duration::MAX).unwrap();
    let exit = timeout(GENEROUS, exit).await.expect("it ends at once");
    assert!(matches!(exit.reason, ExitReason::Killed), "{exit:?}");
}
