//! What an idle process takes that is a script or a component.

use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
use frame_dispatch::wasm::{self, WasmConfig, WasmEngine};
use frame_registry::Options;

use crate::Growth;
use crate::frames::Frames;

const SCRIPTS: usize = 2_000;
const COMPONENTS: usize = 500;

/// Waits for a message, for as long as that takes.
const COMPONENT: &str = r#"
    (import "frame:function/processes@0.1.0" "receive" (func $receive (param i32 i64 i32)))
    (func (export "run") (param i32 i32 i32) (result i32)
      (call $receive (i32.const 0) (i64.const 0) (i32.const 16))
      (unreachable))"#;

pub(crate) async fn measure() {
    let frames = Frames::new();
    let lua = LuaEngine::builder().module(ProcessModule::new(frames.processes())).build();
    let lua = lua.expect("one module is called so");
    let script = lua.function("idle.lua", "process.receive()", LuaConfig::process()).expect("it compiles");
    frames.processes().register(id("bench:lua"), Options::new(), script).expect("it is free");
    let instances = u32::try_from(COMPONENTS).expect("they are few");
    let module = wasm::ProcessModule::new(frames.processes());
    let wasm = WasmEngine::builder().instances(instances).module(module).build().expect("this machine can");
    let component = wasm.function(&frame_guests::component(COMPONENT), WasmConfig::process());
    let component = component.expect("it is of the world");
    frames.processes().register(id("bench:wasm"), Options::new(), component).expect("it is free");

    for (what, entry, count) in [("Lua", "bench:lua", SCRIPTS), ("Wasm", "bench:wasm", COMPONENTS)] {
        let start = frames.of(entry);
        // What is compiled or made once is there afterwards.
        frames.idle(&start, 1).await.end().await;
        let growth = Growth::begin();
        let idle = frames.idle(&start, count).await;
        growth.print(&format!("frame-dispatch, {what}"), count);
        idle.end().await;
    }
}

fn id(text: &str) -> frame_dispatch::process::EntryId {
    text.parse().expect("it is one")
}
