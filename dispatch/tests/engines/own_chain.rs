//! No call waits for a permit that its own callers hold.

use std::error::Error;
use std::future::Future;
use std::iter::successors;
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
use frame_dispatch::process::{HostConfig, ProcessManager, Spawn};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, PoolConfig};
use frame_registry::Options;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::language::{Behaviour, Language, Limits, functions, id, options, task};

/// Makes `app:back` call `app:f`.
fn add_back(functions: &Functions) {
    let back = async |ctx: CallContext, _: Payload| ctx.call(task("app:f")).await;
    functions.register(id("app:back"), Options::new(), back).unwrap();
}

/// Asserts that a call is refused at once: time is paused, and passes when something waits for it.
async fn assert_refused(call: impl Future<Output = Result<Payload, CallError>>, message: &str) {
    let began = Instant::now();
    let error = call.await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    let causes = successors(Some(&error as &dyn Error), |&error| error.source());
    let text: String = causes.map(ToString::to_string).collect();
    assert!(text.contains(message), "{text}");
    assert!(began.elapsed() < Duration::from_secs(1), "it waited for {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn recursion_deeper_than_the_pool_of_a_function_is_refused_at_once() {
    for language in [Language::Lua, Language::Wasm] {
        let functions = functions();
        let limits = Limits { calls: 1, ..Limits::default() };
        let f =
            language.register_with(&functions, "app:f", Behaviour::Call, &Options::new(), limits).unwrap();
        add_back(&functions);
        let call = task("app:f").with_payload(language.calling("app:back", &json!(1), None));
        let message = "the only one of its instances is busy, and a caller of this call runs in one of them";
        assert_refused(functions.root().call(call), message).await;
        f.assert_idle();
        assert_eq!(f.statistics().unwrap().refused, 1, "{language:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn recursion_deeper_than_the_engine_of_components_is_refused_at_once() {
    let functions = functions();
    let engine = WasmEngine::builder().instances(1).build().unwrap();
    for name in ["app:f", "app:g"] {
        let function = engine.function(&frame_guests::guest("call"), WasmConfig::default()).unwrap();
        functions.register(id(name), Options::new(), function).unwrap();
    }
    let call = task("app:g").with_payload(Language::Wasm.calling("app:f", &json!(1), None));
    let message =
        "the only one of the engine's instances is busy, and a caller of this call runs in one of them";
    assert_refused(functions.root().call(call), message).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_calls_itself_past_max_concurrent_is_refused_at_once() {
    let limited = options(&json!({ "max_concurrent": 1 }));
    let message = "its limit of 1 at once is reached, and a caller of this call counts there";
    // The limit of the function, and that of the call.
    for (preset, own) in [(&limited, &Options::new()), (&Options::new(), &limited)] {
        let functions = functions();
        let inner = own.clone();
        let f = move |ctx: CallContext, _: Payload| {
            let inner = inner.clone();
            async move { ctx.call(task("app:f").with_options(inner)).await }
        };
        functions.register(id("app:f"), preset.clone(), f).unwrap();
        assert_refused(functions.root().call(task("app:f").with_options(own.clone())), message).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_functions_that_call_each_other_past_max_concurrent_are_refused_at_once() {
    let functions = functions();
    for (id, other) in [("app:f", "app:g"), ("app:g", "app:f")] {
        let f = async move |ctx: CallContext, _: Payload| ctx.call(task(other)).await;
        functions.register(id.parse().unwrap(), options(&json!({ "max_concurrent": 2 })), f).unwrap();
    }
    let message = "its limit of 2 at once is reached, and a caller of this call counts there";
    assert_refused(functions.root().call(task("app:f")), message).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_a_retry_does_not_count_for_the_next() {
    let functions = functions();
    let preset = options(&json!({ "max_concurrent": 1, "retry": 3 }));
    let f = async |_: CallContext, _: Payload| Err(CallError::new(ErrorKind::Unavailable, "not now"));
    functions.register(id("app:f"), preset, f).unwrap();
    let error = functions.root().call(task("app:f")).await.unwrap_err();
    assert_eq!(error.message(), "not now (the last of 3 attempts)");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_another_chain_waits_as_before() {
    let functions = functions();
    let f = async |_: CallContext, _: Payload| {
        sleep(Duration::from_secs(1)).await;
        Ok(Payload::default())
    };
    functions.register(id("app:f"), options(&json!({ "max_concurrent": 1 })), f).unwrap();
    let root = functions.root();
    let (first, second) = tokio::join!(root.call(task("app:f")), root.call(task("app:f")));
    first.unwrap();
    second.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_context_that_outlives_its_call_holds_nothing() {
    let functions = functions();
    let (sender, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let f = move |ctx: CallContext, _: Payload| {
        let sender = sender.clone();
        async move {
            sender.send(ctx).unwrap();
            sleep(Duration::from_secs(1)).await;
            Ok(Payload::default())
        }
    };
    functions.register(id("app:f"), options(&json!({ "max_concurrent": 1 })), f).unwrap();
    let root = functions.root();
    root.call(task("app:f")).await.unwrap();
    let ctx = kept.recv().await.unwrap();
    let (first, second) = tokio::join!(root.call(task("app:f")), ctx.call(task("app:f")));
    first.unwrap();
    second.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_waited_for_does_not_wait_for_its_caller() {
    let functions = functions();
    let processes = ProcessManager::new(functions.clone());
    processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
    let engine = LuaEngine::builder().module(ProcessModule::new(&processes)).build().unwrap();
    let config = LuaConfig::default().with_pool(PoolConfig::default().with_size(1));
    let source = "return process.exec { host = 'app:workers', entry = 'app:f' }";
    let script = engine.function("f.lua", source, config).unwrap();
    processes.register("app:f".parse().unwrap(), Options::new(), script.clone()).unwrap();
    let start = Spawn::new("app:workers".parse().unwrap(), "app:f".parse().unwrap());
    let root = functions.root();
    let exec = async { processes.exec(&root, start).await.map_err(CallError::from) };
    assert_refused(exec, "ended without a result").await;
    assert_eq!(script.statistics().refused, 1);
}
