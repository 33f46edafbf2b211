//! Calls of scripts and components on the caller's thread, and on the threads of a `ScriptRuntime`.

use std::future::Future;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaModule, ModuleBuilder};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{CallContext, FunctionId, Functions, Payload, ScriptRuntime, Task};
use frame_registry::{App, Options};
use serde_json::json;

const MEASURED: Duration = Duration::from_millis(1500);
const IN_FLIGHT: [usize; 3] = [1, 2, 64];
/// Threads, for their memory.
const THREADS: usize = 64;

fn id(text: &str) -> FunctionId {
    text.parse().expect("it is one")
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let tokio = tokio.expect("this machine can");
    let scripts = ScriptRuntime::new();
    let inline = functions(LuaEngine::builder().build(), WasmEngine::builder().build());
    let apart = functions(
        LuaEngine::builder().runtime(scripts.clone()).build(),
        WasmEngine::builder().runtime(scripts).build(),
    );

    println!("| µs a call / µs of processor time | on the caller's thread | on threads of its own |");
    println!("|---|---:|---:|");
    for function in ["bench:native", "bench:script", "bench:chain", "bench:component"] {
        let cells = [&inline, &apart].map(|functions| {
            let (rate, processor) = tokio.block_on(measure(functions, function, 1));
            format!("{:.1} / {processor:.1}", 1e6 / rate)
        });
        println!("| {function} | {} |", cells.join(" | "));
    }
    println!(
        "\n| calls of bench:script a second, in flight | on the caller's thread | on threads of its own |"
    );
    println!("|---|---:|---:|");
    for in_flight in IN_FLIGHT {
        let cells = [&inline, &apart].map(|functions| {
            let (rate, _) = tokio.block_on(measure(functions, "bench:script", in_flight));
            format!("{rate:.0}")
        });
        println!("| {in_flight} | {} |", cells.join(" | "));
    }
    println!("\nA thread that has run a script takes {} KiB.", tokio.block_on(thread_memory()));
}

fn functions<E: std::fmt::Debug, F: std::fmt::Debug>(
    lua: Result<LuaEngine, E>,
    wasm: Result<WasmEngine, F>,
) -> Functions {
    let functions = Functions::new(App::builder().build());
    let (lua, wasm) = (lua.expect("there are no modules"), wasm.expect("this machine can"));
    let native = async |_: CallContext, payload: Payload| Ok(payload);
    functions.register(id("bench:native"), Options::new(), native).expect("it is free");
    let scripts =
        [("bench:script", "local n = ... return n + 1"), ("bench:chain", "return call('bench:script', ...)")];
    for (name, source) in scripts {
        let function = lua.function("bench.lua", source, LuaConfig::default()).expect("it compiles");
        functions.register(id(name), Options::new(), function).expect("it is free");
    }
    let echo = wasm.function(&frame_guests::guest("echo"), WasmConfig::default());
    functions
        .register(id("bench:component"), Options::new(), echo.expect("it is of the world"))
        .expect("it is free");
    functions
}

/// Calls a second, and the processor time of each in microseconds.
async fn measure(functions: &Functions, function: &str, in_flight: usize) -> (f64, f64) {
    let task = Task::new(id(function)).with_payload(json!(41));
    let (began, processor) = (Instant::now(), processor_time());
    let callers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (root, task) = (functions.root(), task.clone());
            tokio::spawn(async move {
                let mut calls = 0_u32;
                while began.elapsed() < MEASURED {
                    black_box(root.call(task.clone()).await.expect("it adds"));
                    calls += 1;
                    tokio::task::consume_budget().await;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("it does not panic");
    }
    let (elapsed, processor) = (began.elapsed(), processor_time().saturating_sub(processor));
    (f64::from(calls) / elapsed.as_secs_f64(), processor.as_secs_f64() * 1e6 / f64::from(calls))
}

/// The processor time of this process, of which Linux counts hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Blocks the threads of scripts until there are enough.
struct Meeting(Arc<Barrier>);

impl LuaModule for Meeting {
    fn name(&self) -> &'static str {
        "meeting"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> frame_dispatch::lua::mlua::Result<()> {
        let barrier = Arc::clone(&self.0);
        module.function("join", move |_, _: CallContext, ()| {
            barrier.wait();
            Ok(())
        })
    }
}

/// What the process grows by for each thread, in KiB, without the VM that it runs.
fn thread_memory() -> impl Future<Output = u64> {
    let engine = LuaEngine::builder()
        .runtime(ScriptRuntime::builder().threads(THREADS).build())
        .module(Meeting(Arc::new(Barrier::new(THREADS))))
        .build()
        .expect("its name is free");
    let mut config = LuaConfig::default();
    config.pool = config.pool.with_size(THREADS).with_warm(THREADS).with_idle(THREADS);
    let function = engine.function("meet.lua", "meeting.join()", config).expect("it compiles");
    let functions = Functions::new(App::builder().build());
    functions.register(id("bench:meet"), Options::new(), function).expect("it is free");
    async move {
        let before = resident_kib();
        let calls: Vec<_> = (0..THREADS)
            .map(|_| {
                let root = functions.root();
                tokio::spawn(async move { root.call(Task::new(id("bench:meet"))).await })
            })
            .collect();
        for call in calls {
            call.await.expect("it does not panic").expect("they meet");
        }
        resident_kib().saturating_sub(before) / THREADS as u64
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
