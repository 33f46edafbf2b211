//! Engines, and what they take for a function.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::wasm::{WasmConfig, WasmEngine, WasmError};
use frame_dispatch::{ErrorKind, Task};
use frame_registry::Options;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::common::{GATE, TestHost, call, engine, functions, id};

#[test]
fn what_is_no_component_is_refused() {
    let refused = |bytes: &[u8]| engine().function(bytes, WasmConfig::default()).unwrap_err();
    assert_eq!(
        refused(b"\0asm\x01\0\0\0").to_string(),
        "not a WebAssembly component: it is a core module; make a component of it with `wasm-tools component new`"
    );
    assert!(matches!(refused(b""), WasmError::NotAComponent { .. }));
    assert!(matches!(refused(b"(component)"), WasmError::NotAComponent { .. }));
    let mut damaged = frame_guests::guest("echo");
    damaged.truncate(damaged.len() / 2);
    assert!(matches!(refused(&damaged), WasmError::Compile { .. }));
}

#[test]
fn a_component_of_another_world_is_refused_by_what_it_lacks() {
    let refused = |text: &str| {
        engine().function(&frame_guests::text(text), WasmConfig::default()).unwrap_err().to_string()
    };
    assert_eq!(
        refused("(component)"),
        "the component is not a function: it exports no `run`; it must export `run` as in the world \
         `frame:function/function`"
    );
    let other = refused(
        r#"(component
             (core module $m (func (export "run")))
             (core instance $i (instantiate $m))
             (func (export "run") (canon lift (core func $i "run"))))"#,
    );
    assert!(other.contains("type-checking export func `run`"), "{other}");
    let lacks = refused(r#"(component (import "app:other/thing@1.0.0" (instance (export "f" (func)))))"#);
    assert!(lacks.contains("what is not there"), "{lacks}");
    assert!(lacks.contains("`app:other/thing@1.0.0`"), "{lacks}");
    let odd = refused(
        r#"(component (import "frame:function/frame@0.1.0" (instance (export "get" (func (param "name" u32))))))"#,
    );
    assert!(odd.contains("`frame:function/frame@0.1.0`") && odd.contains("`get`"), "{odd}");
}

#[test]
fn an_engine_that_this_machine_cannot_hold_is_an_error() {
    let error = WasmEngine::builder().instances(u32::MAX).build().unwrap_err();
    assert!(matches!(error, WasmError::Engine { .. }), "{error}");
    WasmEngine::builder().instances(0).build().unwrap();
}

#[tokio::test]
async fn all_functions_of_an_engine_share_its_instances() {
    let engine = WasmEngine::builder().instances(2).module(TestHost).build().unwrap();
    let functions = functions();
    let config = WasmConfig::default().with_max_wait(Duration::from_millis(10));
    let remember = engine.function(&frame_guests::guest("remember"), config).unwrap();
    let echo = engine.function(&frame_guests::guest("echo"), config).unwrap();
    functions.register(id("app:remember"), Options::new(), remember.clone()).unwrap();
    functions.register(id("app:echo"), Options::new(), echo.clone()).unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let task = Task::new(id("app:remember")).with_payload(vec![1]).with_pair(GATE.pair(Arc::clone(&gate)));
    let running: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let (root, task) = (functions.root(), task.clone());
                async move { root.call(task).await }
            })
        })
        .collect();
    while remember.statistics().built < 2 {
        tokio::task::yield_now().await;
    }
    let error = call(&functions, "app:echo", json!(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
    assert_eq!(error.message(), "all 2 of the engine's instances were busy for as long as it could wait");
    gate.add_permits(2);
    for running in running {
        running.await.unwrap().unwrap();
    }
    call(&functions, "app:echo", json!(1)).await.unwrap();
    assert_eq!((echo.statistics().running, remember.statistics().running), (0, 0));
}
