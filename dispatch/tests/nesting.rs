//! How deep calls can be nested, on worker threads with the stack that tokio gives them.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, Functions, FunctionsConfig, Interceptor, Next, Payload,
    PoolConfig, Task,
};
use frame_registry::{App, Options};
use serde_json::{Value as Json, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info_span};

const DEEP: usize = 1_000;
/// Longer than anything here takes on any machine.
const AGES: Duration = Duration::from_mins(2);

/// Each worker has a stack of 2 MiB, which is what tokio gives them by default.
fn workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_stack_size(2 << 20).enable_time().build().unwrap()
}

fn on_one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn functions(max_depth: usize) -> Functions {
    let config = FunctionsConfig::default().with_max_depth(u32::try_from(max_depth).unwrap());
    Functions::with_config(App::builder().build(), config)
}

fn task(function: &str, payload: impl Into<Payload>) -> Task {
    Task::new(function.parse().unwrap()).with_payload(payload)
}

/// Registers `app:down`, which calls itself as often as its payload says, and then runs `bottom`.
fn add_down<R>(functions: &Functions, bottom: impl Fn(CallContext) -> R + Clone + Send + Sync + 'static)
where
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    let down = move |ctx: CallContext, payload: Payload| {
        let bottom = bottom.clone();
        async move {
            match payload.as_json().and_then(Json::as_u64) {
                Some(0) | None => bottom(ctx).await,
                Some(left) => ctx.call(task("app:down", json!(left - 1))).await,
            }
        }
    };
    functions.register("app:down".parse().unwrap(), Options::new(), down).unwrap();
}

/// A call of `app:down` with so many calls nested in it.
fn down(calls: usize) -> Task {
    task("app:down", json!(calls))
}

fn deepest_cause(error: &CallError) -> &dyn Error {
    let mut deepest: &dyn Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest
}

fn assert_too_deep(error: &CallError, limit: usize) {
    let message = format!(
        "calls are nested {limit} levels deep, which is the limit; end the recursion earlier, or raise `max_depth`"
    );
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert_eq!(error.message(), message);
}

#[test]
fn native_calls_nest_to_the_limit_and_no_deeper() {
    for runtime in [workers(), on_one_thread()] {
        let functions = functions(DEEP);
        add_down(&functions, async |_| Ok(json!("bottom").into()));
        runtime.block_on(async {
            let call = |calls| {
                let root = functions.root();
                tokio::spawn(async move { root.call(down(calls)).await })
            };
            assert_eq!(call(DEEP - 1).await.unwrap().unwrap(), json!("bottom").into());
            let error = call(DEEP).await.unwrap().unwrap_err();
            assert_too_deep(&error, DEEP);
            assert_eq!(error.function().unwrap().as_str(), "app:down");
        });
    }
}

#[test]
fn an_endless_recursion_ends_at_the_default_limit() {
    let functions = Functions::new(App::builder().build());
    add_down(&functions, async |_| unreachable!("it has no bottom"));
    let error = workers()
        .block_on(async { tokio::spawn(async move { functions.root().call(down(usize::MAX)).await }).await });
    assert_too_deep(&error.unwrap().unwrap_err(), 256);
}

/// Calls `app:down` around every call, and so around its own.
struct Recursing;

impl Interceptor for Recursing {
    fn name(&self) -> &'static str {
        "recursing"
    }

    fn order(&self) -> i32 {
        50
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            ctx.call(down(0)).await?;
            next.call(ctx, task).await
        })
    }
}

#[test]
fn calls_of_an_interceptor_count() {
    let functions = functions(DEEP);
    add_down(&functions, async |_| Ok(Payload::default()));
    functions.interceptors().register(Recursing).unwrap();
    let error =
        workers().block_on(async { tokio::spawn(async move { functions.root().call(down(0)).await }).await });
    assert_too_deep(&error.unwrap().unwrap_err(), DEEP);
}

#[test]
fn every_built_in_interceptor_can_be_around_every_call() {
    let options = json!({
        "timeout": "100s", "retry": 3, "rate_limit": "1000000/s", "max_concurrent": 2 * DEEP, "traced": true
    });
    let around = Options::from_json(&options).unwrap();
    let functions = functions(DEEP);
    let native = async |ctx: CallContext, payload: Payload| match payload.as_json().and_then(Json::as_u64) {
        Some(0) | None => Ok(json!("bottom").into()),
        Some(left) => ctx.call(task("app:native", json!(left - 1))).await,
    };
    functions.register("app:native".parse().unwrap(), around.clone(), native).unwrap();
    let source = "local left = ...
                  if left == 0 then return 'bottom' end
                  return call('app:lua', left - 1)";
    let script = LUA.function("lua", source, LuaConfig::default().with_time(AGES)).unwrap();
    functions.register("app:lua".parse().unwrap(), around, script).unwrap();
    // What a component calls runs on a smaller stack.
    let component = WASM.function(&frame_guests::guest("call"), WasmConfig::default()).unwrap();
    functions.register("app:wasm".parse().unwrap(), Options::new(), component).unwrap();
    let runtime = workers();
    for (id, calls) in [("app:native", DEEP - 2), ("app:lua", 60)] {
        let direct = task(id, json!(calls));
        let from_component = task("app:wasm", format!("{id}\n\n{calls}").into_bytes());
        for call in [direct, from_component] {
            let root = functions.root();
            let called = runtime.block_on(async { tokio::spawn(async move { root.call(call).await }).await });
            assert_eq!(called.unwrap().unwrap(), json!("bottom").into(), "{id}");
        }
    }
}

// Any mix -------------------------------------------------------------------------------------------------------------

static LUA: LazyLock<LuaEngine> = LazyLock::new(|| LuaEngine::builder().build().unwrap());
static WASM: LazyLock<WasmEngine> =
    LazyLock::new(|| WasmEngine::builder().instances(512).memories(1).build().unwrap());

/// Goes on with a route: calls what its first letter says with the rest of it.
async fn step(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    let route = payload.as_json().and_then(Json::as_str).unwrap_or_default().to_owned();
    let Some(kind) = route.chars().next() else { return Ok(json!("end").into()) };
    let rest = &route[1..];
    let call = match kind {
        'n' => task("app:step", json!(rest)),
        'i' => task("app:step", json!(rest)).with_options(
            Options::from_json(&json!({ "timeout": "100s", "retry": 2, "traced": true })).unwrap(),
        ),
        'l' => task("app:lua", json!(rest)),
        'c' => task("app:coroutines", json!(rest)),
        _ => task("app:wasm", format!("app:step\n\n{}", json!(rest)).into_bytes()),
    };
    let result = ctx.call(call).await;
    // An error grows a cause each time, as that of a library may.
    result.map_err(|error| {
        let (kind, is_retryable) = (error.kind(), error.is_retryable());
        CallError::new(kind, error.message()).with_retryable(is_retryable).with_source(error)
    })
}

/// `app:step`, and what it calls.
fn mixed(max_depth: usize) -> Functions {
    let functions = functions(max_depth);
    functions.register("app:step".parse().unwrap(), Options::new(), step).unwrap();
    let config = LuaConfig::default().with_pool(PoolConfig::default().with_size(DEEP)).with_time(AGES);
    let scripts = [
        ("app:lua", "return call('app:step', (...))"),
        (
            "app:coroutines",
            "local rest = ...
             local inner = function() return call('app:step', rest) end
             local outer = coroutine.wrap(function() return coroutine.wrap(inner)() end)
             return outer()",
        ),
    ];
    for (id, source) in scripts {
        let function = LUA.function(id, source, config.clone()).unwrap();
        functions.register(id.parse().unwrap(), Options::new(), function).unwrap();
    }
    let config = WasmConfig::default().with_calls(DEEP).with_time(AGES);
    let function = WASM.function(&frame_guests::guest("call"), config).unwrap();
    functions.register("app:wasm".parse().unwrap(), Options::new(), function).unwrap();
    functions
}

/// A chain of calls of some languages, and how many calls that is.
fn route(seed: u64, depth: usize) -> (String, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    // One language more often than the others, so that long runs of it come up.
    let favourite = ['n', 'i', 'l', 'c', 'w'][usize::try_from(seed % 5).unwrap()];
    let (mut route, mut calls) = (String::new(), 1);
    while calls < depth {
        let kind = match random.u8(..100) {
            0..10 => favourite,
            10..70 => 'n',
            70..80 => 'i',
            80..85 => 'l',
            85..90 => 'c',
            _ => 'w',
        };
        route.push(kind);
        calls += if matches!(kind, 'n' | 'i') { 1 } else { 2 };
    }
    (route, calls)
}

#[test]
fn any_mix_of_languages_ends_in_a_result_or_the_clear_error() {
    let runtime = workers();
    for seed in 0..10 {
        let (route, calls) = route(seed, DEEP);
        for (limit, is_within) in [(calls, true), (calls - 1, false), (256, false)] {
            let functions = mixed(limit);
            let payload = json!(route);
            let call = async move {
                tokio::spawn(async move { functions.root().call(task("app:step", payload)).await })
                    .await
                    .unwrap()
            };
            match runtime.block_on(call) {
                Ok(payload) => assert!(is_within && payload == json!("end").into(), "{seed}: {route}"),
                Err(error) => {
                    assert!(!is_within, "{seed}: {error}, {route}");
                    assert_eq!(
                        (error.kind(), error.is_retryable()),
                        (ErrorKind::Exhausted, false),
                        "{error}"
                    );
                    // A component is told what failed in words, without the causes of that.
                    let deepest = deepest_cause(&error).to_string();
                    let is_clear = deepest.contains(&format!("calls are nested {limit} levels deep"));
                    assert!(is_clear || route.contains('w'), "{deepest}");
                }
            }
        }
    }
}

#[test]
fn one_language_alone_nests_as_deep() {
    let runtime = workers();
    for kind in ["n", "i", "l", "c", "w"] {
        let (route, limit) = (kind.repeat(100), 201);
        let functions = mixed(limit);
        let call = async move {
            tokio::spawn(async move { functions.root().call(task("app:step", json!(route))).await })
                .await
                .unwrap()
        };
        assert_eq!(runtime.block_on(call).unwrap(), json!("end").into(), "{kind}");
    }
}

// How a deep chain ends -----------------------------------------------------------------------------------------------

/// Counts what lives.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Functions whose `app:down` holds something each level, tells when it is at the bottom, and waits there.
fn waiting_at_the_bottom() -> (Functions, Arc<AtomicUsize>, mpsc::UnboundedReceiver<()>) {
    let functions = functions(DEEP);
    let alive = Arc::new(AtomicUsize::new(0));
    let (bottom, reached) = mpsc::unbounded_channel();
    let count = Arc::clone(&alive);
    let hold = move |ctx: CallContext, payload: Payload| {
        let (alive, bottom) = (Alive::new(&count), bottom.clone());
        async move {
            let _alive = alive;
            match payload.as_json().and_then(Json::as_u64) {
                Some(0) | None => {
                    bottom.send(()).unwrap();
                    pending().await
                }
                Some(left) => ctx.call(task("app:down", json!(left - 1))).await,
            }
        }
    };
    functions.register("app:down".parse().unwrap(), Options::new(), hold).unwrap();
    (functions, alive, reached)
}

async fn none_left(alive: &AtomicUsize) {
    let none = async {
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(AGES, none).await.unwrap();
}

#[test]
fn dropping_a_deep_call_drops_all_of_it_at_once() {
    let runtime = on_one_thread();
    let (functions, alive, mut reached) = waiting_at_the_bottom();
    let root = functions.root();
    let mut call = Box::pin(root.call(down(DEEP - 1)));
    runtime.block_on(async {
        tokio::select! {
            _ = &mut call => unreachable!("it waits at the bottom"),
            _ = reached.recv() => (),
        }
        assert_eq!(alive.load(Ordering::SeqCst), DEEP);
        drop(call);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_deep_call_that_outlives_its_runtime_is_dropped_all_the_same() {
    let (functions, alive, mut reached) = waiting_at_the_bottom();
    let root = functions.root();
    let mut call = Box::pin(root.call(down(DEEP - 1)));
    workers().block_on(async {
        tokio::select! {
            _ = &mut call => unreachable!("it waits at the bottom"),
            _ = reached.recv() => (),
        }
    });
    // The levels that share the stack of the outermost call are left.
    assert!(alive.load(Ordering::SeqCst) <= 16, "{alive:?}");
    drop(call);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn aborting_the_task_of_a_deep_call_frees_all_of_it() {
    workers().block_on(async {
        let (functions, alive, mut reached) = waiting_at_the_bottom();
        for _ in 0..20 {
            let root = functions.root();
            let call = tokio::spawn(async move { root.call(down(DEEP - 1)).await });
            reached.recv().await.unwrap();
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
            none_left(&alive).await;
        }
    });
}

#[test]
fn a_call_that_is_dropped_on_its_way_down_leaves_nothing_behind() {
    workers().block_on(async {
        let (functions, alive, _reached) = waiting_at_the_bottom();
        for microseconds in 0..200 {
            let root = functions.root();
            let call = tokio::spawn(async move { root.call(down(DEEP - 1)).await });
            tokio::time::sleep(Duration::from_micros(50 * microseconds)).await;
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
            none_left(&alive).await;
        }
    });
}

#[test]
fn cancelling_a_deep_call_frees_all_of_it() {
    workers().block_on(async {
        let (functions, alive, mut reached) = waiting_at_the_bottom();
        let token = CancellationToken::new();
        let root = functions.root().with_cancellation(token.clone());
        let call = tokio::spawn(async move { root.call(down(DEEP - 1)).await });
        reached.recv().await.unwrap();
        token.cancel();
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        none_left(&alive).await;
    });
}

#[test]
fn a_deadline_in_the_middle_ends_what_is_below_it() {
    workers().block_on(async {
        let (functions, alive, mut reached) = waiting_at_the_bottom();
        let half = async |ctx: CallContext, _: Payload| {
            let inner = ctx.with_timeout(Duration::from_millis(100));
            Ok(json!(inner.call(down(DEEP / 2)).await.unwrap_err().kind().as_str()).into())
        };
        functions.register("app:half".parse().unwrap(), Options::new(), half).unwrap();
        let nest = async |ctx: CallContext, payload: Payload| match payload.as_json().and_then(Json::as_u64) {
            Some(0) | None => ctx.call(task("app:half", json!(null))).await,
            Some(left) => ctx.call(task("app:nest", json!(left - 1))).await,
        };
        functions.register("app:nest".parse().unwrap(), Options::new(), nest).unwrap();
        let call =
            tokio::spawn(async move { functions.root().call(task("app:nest", json!(DEEP / 3))).await });
        assert_eq!(call.await.unwrap().unwrap(), json!("deadline").into());
        // It may not have come so far in that time.
        let _ = reached.try_recv();
        none_left(&alive).await;
    });
}

#[test]
fn a_panic_deep_inside_is_the_failure_of_what_panicked() {
    let functions = functions(DEEP);
    add_down(&functions, async |_| panic!("at the bottom"));
    let call = async move { tokio::spawn(async move { functions.root().call(down(DEEP - 1)).await }).await };
    let error = workers().block_on(call).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "panicked: at the bottom"));
    assert!(error.source().is_none());
}

#[test]
fn a_deep_call_runs_in_the_span_of_its_caller() {
    let functions = functions(DEEP);
    add_down(&functions, async |_| {
        let name = Span::current().metadata().map(tracing::Metadata::name);
        Ok(json!(name).into())
    });
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let call = async { functions.root().call(down(100)).instrument(info_span!("outermost")).await };
    assert_eq!(on_one_thread().block_on(call).unwrap(), json!("outermost").into());
}

#[test]
fn without_a_runtime_a_deep_call_is_an_error() {
    let functions = functions(DEEP);
    add_down(&functions, async |_| Ok(json!("bottom").into()));
    let poll = |calls| {
        let root = functions.root();
        match pin!(root.call(down(calls))).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => unreachable!("it waits for nothing"),
        }
    };
    assert_eq!(poll(2).unwrap(), json!("bottom").into());
    let error = poll(DEEP - 1).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
    assert!(error.message().contains("levels deep without a tokio runtime"), "{error}");
}

/// Each script resumes the next from inside coroutines. The innermost computes for a while.
const IN_COROUTINES: &str = "local left = ...
    if left == 0 then
        local sum = 0
        for i = 1, 10000000 do sum = sum + i end
        return 'bottom'
    end
    local function inside(coroutines)
        if coroutines == 0 then return call('app:script', left - 1) end
        return coroutine.wrap(inside)(coroutines - 1)
    end
    return inside(20)";

#[test]
fn the_slice_of_a_script_does_not_count_what_it_calls() {
    on_one_thread().block_on(async {
        let functions = functions(DEEP);
        let script = LUA.function("script", IN_COROUTINES, LuaConfig::default().with_time(AGES)).unwrap();
        functions.register("app:script".parse().unwrap(), Options::new(), script).unwrap();
        let root = functions.root();
        // Calls as deep as share a stack: deeper ones are polled on their own.
        let mut call = pin!(root.call(task("app:script", json!(6))));
        let (mut polls, began) = (0, Instant::now());
        let result = poll_fn(|context| {
            polls += 1;
            call.as_mut().poll(context)
        });
        assert_eq!(result.await.unwrap(), json!("bottom").into());
        // Each poll is a slice of a millisecond, but for the first and last of each script.
        let milliseconds = began.elapsed().as_millis();
        assert!((10..milliseconds + 20).contains(&polls), "{polls} polls in {milliseconds} ms");
    });
}

// Processes -----------------------------------------------------------------------------------------------------------

fn processes(max_depth: usize) -> ProcessManager {
    let processes = ProcessManager::new(functions(max_depth));
    processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
    processes
}

fn process() -> Spawn {
    Spawn::new("app:workers".parse().unwrap(), "app:process".parse().unwrap())
}

#[test]
fn processes_that_wait_for_each_other_are_nested() {
    workers().block_on(async {
        let processes = processes(100);
        let run =
            async |ctx: ProcessContext, _: Payload| Ok(ctx.processes().exec(ctx.ctx(), process()).await?);
        processes.register("app:process".parse().unwrap(), Options::new(), run).unwrap();
        let error = processes.exec(&processes.functions().root(), process()).await.unwrap_err();
        let error = CallError::from(error);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
        let deepest = deepest_cause(&error).to_string();
        assert!(deepest.contains("calls are nested 100 levels deep"), "{deepest}");
    });
}

#[test]
fn a_process_that_is_only_started_begins_at_depth_0() {
    workers().block_on(async {
        let processes = processes(10);
        let (ended, mut all) = mpsc::unbounded_channel();
        let run = move |ctx: ProcessContext, payload: Payload| {
            let ended = ended.clone();
            async move {
                match payload.as_json().and_then(Json::as_u64) {
                    Some(0) | None => ended.send(()).unwrap(),
                    Some(left) => _ = ctx.spawn(process().with_payload(json!(left - 1)))?,
                }
                Ok(Payload::default())
            }
        };
        processes.register("app:process".parse().unwrap(), Options::new(), run).unwrap();
        processes.spawn(&processes.functions().root(), process().with_payload(json!(100))).unwrap();
        timeout(AGES, all.recv()).await.unwrap().unwrap();
    });
}
