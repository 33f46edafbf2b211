//! The thread of an engine. In a program of its own, because it counts threads.
#![cfg(target_os = "linux")]

use std::fs;

use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{Functions, Task};
use frame_registry::{App, Options};

/// How many threads are clocks of engines.
fn clocks() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "wasm-epoch").count()
}

#[tokio::test]
async fn an_engine_has_one_thread_for_as_long_as_it_or_a_function_of_it_is_there() {
    assert_eq!(clocks(), 0);
    let engine = WasmEngine::builder().instances(2).build().unwrap();
    let copy = engine.clone();
    let function = engine.function(&frame_guests::guest("echo"), WasmConfig::default()).unwrap();
    let functions = Functions::new(App::builder().build());
    functions.register("app:echo".parse().unwrap(), Options::new(), function.clone()).unwrap();
    for _ in 0..100 {
        functions.root().call(Task::new("app:echo".parse().unwrap())).await.unwrap();
    }
    assert_eq!(clocks(), 1);
    drop((engine, copy));
    assert_eq!(clocks(), 1);
    functions.root().call(Task::new("app:echo".parse().unwrap())).await.unwrap();
    functions.unregister(&"app:echo".parse().unwrap()).unwrap().drained().await;
    drop(function);
    assert_eq!(clocks(), 0, "it is gone, and so is its thread");
}
