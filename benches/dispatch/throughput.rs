//! Calls a second with a number of them in flight, and what an idle entry takes in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{CallContext, FunctionId, Functions, Payload, PoolConfig, Task};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::json;

const IN_FLIGHT: [usize; 4] = [1, 2, 64, 1024];
const MEASURED: Duration = Duration::from_millis(1500);
/// Idle entries and instances of each kind, for their memory.
const IDLE: usize = 500;

fn id(text: &str) -> FunctionId {
    text.parse().expect("it is one")
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("this machine can");
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let functions = Functions::new(app.build());
    let lua = LuaEngine::builder().build().expect("there are no modules");
    let wasm = WasmEngine::new().expect("this machine can");
    let echo = frame_guests::guest("echo");

    let native = async |_: CallContext, payload: Payload| Ok(payload);
    let script = "return ...";
    let lua_function = || lua.function("bench.lua", script, LuaConfig::default()).expect("it compiles");
    let wasm_function = || wasm.function(&echo, WasmConfig::default()).expect("it is of the world");
    functions.register(id("bench:native"), Options::new(), native).expect("it is free");
    functions.register(id("bench:lua"), Options::new(), lua_function()).expect("it is free");
    functions.register(id("bench:wasm"), Options::new(), wasm_function()).expect("it is free");

    println!("| calls a second, in flight | {} |", IN_FLIGHT.map(|count| count.to_string()).join(" | "));
    println!("|---|{}", "---:|".repeat(IN_FLIGHT.len()));
    for function in ["bench:native", "bench:lua", "bench:wasm"] {
        let rates = IN_FLIGHT.map(|in_flight| {
            let rate = runtime.block_on(calls_a_second(&functions, &id(function), in_flight));
            format!("{rate:.0}")
        });
        println!("| {function} | {} |", rates.join(" | "));
    }

    println!("\n| idle | KiB each |");
    println!("|---|---:|");
    let config = LuaConfig::default().with_pool(PoolConfig::default().with_idle(IDLE).with_warm(IDLE));
    memory("Lua VM with a script", || vec![lua.function("bench.lua", script, config).expect("it compiles")]);
    memory("Wasm entry: the compiled component", || (0..IDLE).map(|_| wasm_function()).collect::<Vec<_>>());
}

async fn calls_a_second(functions: &Functions, function: &FunctionId, in_flight: usize) -> f64 {
    let is_over = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (root, is_over, calls) = (functions.root(), Arc::clone(&is_over), Arc::clone(&calls));
            let task = Task::new(function.clone()).with_payload(json!(41));
            tokio::spawn(async move {
                let mut done = 0;
                while !is_over.load(Ordering::Relaxed) {
                    root.call(task.clone()).await.expect("it gives back what it is given");
                    done += 1;
                    // A call that never waits would keep the others from this thread.
                    tokio::task::consume_budget().await;
                }
                calls.fetch_add(done, Ordering::Relaxed);
            })
        })
        .collect();
    let began = Instant::now();
    tokio::time::sleep(MEASURED).await;
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("it does not panic");
    }
    #[allow(clippy::cast_precision_loss)]
    let calls = calls.load(Ordering::Relaxed) as f64;
    calls / began.elapsed().as_secs_f64()
}

/// What the process grows by for each of [`IDLE`].
fn memory<T>(what: &str, make: impl FnOnce() -> T) {
    let before = resident_kib();
    let held = make();
    let after = resident_kib();
    drop(held);
    match (before, after) {
        #[allow(clippy::cast_precision_loss)]
        (Some(before), Some(after)) => {
            println!("| {what} | {:.1} |", after.saturating_sub(before) as f64 / IDLE as f64);
        }
        _ => println!("| {what} | – |"),
    }
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
