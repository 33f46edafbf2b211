//! How long after its deadline a call is over, where ten thousand begin at once and a third of them run without end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{CallContext, CallError, FunctionId, Functions, Payload, PoolConfig, Task};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::json;
use tokio::time::Instant;

const CALLS: u64 = 10_000;
/// The first and the last deadline, in microseconds. All have begun before the first; until the last what runs without end
/// has company.
const FIRST: u64 = 500_000;
const LAST: u64 = 2_500_000;

fn id(text: &str) -> FunctionId {
    text.parse().expect("it is one")
}

fn main() {
    println!("| calls at once in each engine | `event_interval` | p50 | p99 | longest |");
    println!("|---:|---:|---:|---:|---:|");
    for (at_once, interval) in [(2, 61), (2, 2), (16, 61), (16, 2), (64, 61), (64, 2)] {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        // How many polls a worker makes before it looks at timers: 61 where nothing is said.
        let runtime = runtime.worker_threads(2).enable_time().event_interval(interval).build();
        let functions = functions(at_once);
        let mut late = runtime.expect("this machine can").block_on(lateness(&functions));
        late.sort_unstable();
        let at = |share: usize| late[(late.len() - 1) * share / 100];
        println!("| {at_once} | {interval} | {:.1?} | {:.1?} | {:.1?} |", at(50), at(99), at(100));
    }
}

/// Of each language one that gives back what it is given, and one that never ends.
fn functions(at_once: usize) -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let functions = Functions::new(app.build());
    let lua = LuaEngine::builder().build().expect("there are no modules");
    let wasm = WasmEngine::new().expect("this machine can");
    let spin = frame_guests::component(
        r#"(func (export "run") (param i32 i32 i32) (result i32) (loop (br 0)) (unreachable))"#,
    );

    let echo = async |_: CallContext, payload: Payload| Ok(payload);
    let forever = async |_: CallContext, _: Payload| pending::<Result<Payload, CallError>>().await;
    functions.register(id("echo:native"), Options::new(), echo).expect("it is free");
    functions.register(id("spin:native"), Options::new(), forever).expect("it is free");
    for (name, source) in [("echo:lua", "return ..."), ("spin:lua", "while true do end")] {
        let config = LuaConfig::default().with_pool(PoolConfig::default().with_size(at_once));
        let function = lua.function(name, source, config).expect("it compiles");
        functions.register(id(name), Options::new(), function).expect("it is free");
    }
    for (name, component) in [("echo:wasm", frame_guests::guest("echo")), ("spin:wasm", spin)] {
        let config = WasmConfig::default().with_calls(at_once);
        let function = wasm.function(&component, config).expect("it is of the world");
        functions.register(id(name), Options::new(), function).expect("it is free");
    }
    functions
}

/// Of every call that its deadline ended, how much later that was.
async fn lateness(functions: &Functions) -> Vec<Duration> {
    let names = ["echo:native", "echo:lua", "echo:wasm", "spin:native", "spin:lua", "spin:wasm"].map(id);
    let names = Arc::new(names);
    let callers: Vec<_> = (0..CALLS)
        .map(|number| {
            let (root, names) = (functions.root(), Arc::clone(&names));
            tokio::spawn(async move {
                // Spread without chance, so that every run does the same.
                let after = Duration::from_micros(FIRST + number.wrapping_mul(7_919_993) % (LAST - FIRST));
                let function = names[usize::try_from(number).unwrap_or_default() % names.len()].clone();
                let deadline = Instant::now() + after;
                let task = Task::new(function).with_payload(json!(number));
                let outcome = root.with_deadline(deadline).call(task).await;
                outcome.is_err().then(|| deadline.elapsed())
            })
        })
        .collect();
    let mut late = Vec::new();
    for caller in callers {
        late.extend(caller.await.expect("it does not panic"));
    }
    late
}
