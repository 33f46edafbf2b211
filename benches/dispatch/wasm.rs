//! A call of a component that gives back what it is given, and the same with wasmtime alone.

#[path = "../harness/mod.rs"]
mod harness;

use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{FunctionId, Functions, Task};
use frame_registry::{App, FrameResolvers, Options};
use harness::{Suite, opaque};
use serde_json::json;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, Lower};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

fn main() {
    let echo = frame_guests::guest("echo");
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let functions = Functions::new(app.build());
    let engine = WasmEngine::new().expect("this machine can");
    let function = engine.function(&echo, WasmConfig::default()).expect("it is of the world");
    let id: FunctionId = "bench:echo".parse().expect("it is one");
    functions.register(id.clone(), Options::new(), function).expect("it is free");
    let root = functions.root();
    let alone = Alone::new(&echo);
    // A call that a tick comes into waits for its next turn.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("this machine can");

    let mut suite = Suite::new("wasm");
    suite
        .case("wasmtime alone: pooling, a fresh store, awaited", || {
            let result = runtime.block_on(alone.call(opaque("41"))).expect("it echoes");
            assert_eq!(result, Ok(Payload::Json("41".to_owned())));
        })
        .case("gives back a number", || {
            let task = Task::new(id.clone()).with_payload(json!(41));
            assert!(runtime.block_on(root.call(task)).is_ok());
        });
    suite.finish();
}

/// As one writes it who runs components of his own; what they run in is as it is in the engine.
struct Alone {
    engine: Engine,
    component: InstancePre<()>,
}

#[derive(Debug, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
enum Payload {
    #[component(name = "json")]
    Json(String),
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[allow(dead_code, reason = "only the component makes them")]
#[component(enum)]
#[repr(u8)]
enum Kind {
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "denied")]
    Denied,
    #[component(name = "cancelled")]
    Cancelled,
    #[component(name = "deadline")]
    Deadline,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "exhausted")]
    Exhausted,
    #[component(name = "internal")]
    Internal,
}

#[derive(Debug, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
struct Error {
    kind: Kind,
    message: String,
    retryable: bool,
}

impl Alone {
    fn new(component: &[u8]) -> Self {
        let mut pooling = PoolingAllocationConfig::new();
        pooling.total_component_instances(256).total_stacks(256).linear_memory_keep_resident(64 << 10);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling))
            .epoch_interruption(true)
            .concurrency_support(false);
        let engine = Engine::new(&config).expect("this machine can");
        let component = Component::from_binary(&engine, component).expect("it is valid");
        let component = Linker::new(&engine).instantiate_pre(&component).expect("it imports nothing");
        Self { engine, component }
    }

    async fn call(&self, payload: &str) -> wasmtime::Result<Result<Payload, Error>> {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1);
        let instance = self.component.instantiate_async(&mut store).await?;
        let run = instance.get_typed_func::<(Payload,), (Result<Payload, Error>,)>(&mut store, "run")?;
        let (result,) = run.call_async(&mut store, (Payload::Json(payload.to_owned()),)).await?;
        Ok(result)
    }
}
