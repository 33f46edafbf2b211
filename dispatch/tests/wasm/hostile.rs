//! Guests that do their worst: each fails alone, with a clear error, and the next call works.

use std::error::Error;
use std::time::Duration;

use frame_dispatch::wasm::WasmConfig;
use frame_dispatch::{ErrorKind, Payload};
use serde_json::json;

use crate::common::{add, add_guest, assert_works, call, functions, run, runs};

/// Short, for what would never end.
const SHORT: Duration = Duration::from_millis(100);

/// That each of these guests, with the fields of its module, fails with this kind and what its message contains, and that
/// the next call works.
async fn assert_fail(config: WasmConfig, kind: ErrorKind, guests: impl IntoIterator<Item = (String, &str)>) {
    let functions = functions();
    for (number, (fields, message)) in guests.into_iter().enumerate() {
        let id = format!("app:guest-{number}");
        let function = add(&functions, &id, &frame_guests::component(&fields), config);
        for _ in 0..2 {
            let error = call(&functions, &id, json!(1)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fields}: {error}");
            assert!(error.message().contains(message), "{fields}: {error}");
            assert!(error.message().len() < 500, "{fields}: {error}");
            assert_works(&functions).await;
        }
        assert_eq!(function.statistics().running, 0, "{fields}");
    }
}

#[tokio::test]
async fn a_trap_fails_its_call_alone() {
    let indirect = run("(call_indirect (result i32) (i32.const 0))");
    let guests = [
        (run("unreachable"), "`unreachable`"),
        (run("(call $run (local.get 0) (local.get 1) (local.get 2))"), "call stack exhausted"),
        (run("(i32.load (i32.const -8))"), "out of bounds memory access"),
        (
            run("(memory.fill (i32.const 0) (i32.const 1) (i32.const -1)) (i32.const 0)"),
            "out of bounds memory",
        ),
        (run("(i32.rem_u (i32.const 1) (i32.const 0))"), "integer divide by zero"),
        (run("(i32.div_s (i32.const 0x80000000) (i32.const -1))"), "integer overflow"),
        (run("(i32.trunc_f32_s (f32.const nan))"), "invalid conversion to integer"),
        (format!("(table 0 funcref) {indirect}"), "out of bounds table access"),
        (format!("(table 1 funcref) {indirect}"), "uninitialized element"),
        (format!("(table 1 funcref) (elem (i32.const 0) $run) {indirect}"), "indirect call type mismatch"),
        (format!("(start $s) (func $s unreachable) {}", run("unreachable")), "in `s`"),
    ];
    assert_fail(WasmConfig::default(), ErrorKind::Internal, guests).await;
}

#[tokio::test]
async fn a_result_that_is_none_fails_its_call_alone() {
    let no_payload = "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store8 (i32.const 20) (i32.const 9))";
    let guests = [
        (run("(i32.const -16)"), "pointer"),
        (run("(i32.const 17)"), "aligned"),
        (run("(i32.store8 (i32.const 16) (i32.const 9)) (i32.const 16)"), "discriminant"),
        (run(&format!("{no_payload} (i32.const 16)")), "discriminant"),
    ];
    assert_fail(WasmConfig::default(), ErrorKind::Internal, guests).await;
}

#[tokio::test]
async fn names_that_a_guest_chose_are_not_repeated_at_length() {
    let long = "a".repeat(10_000);
    let calls = run(&format!("(call ${long}) (i32.const 0)"));
    let forged = r#"(func $"x\0ay" unreachable)"#;
    let guests = [
        (format!("(func ${long} unreachable) {calls}"), "a…` called by `run`"),
        (format!("{forged} {}", run(r#"(call $"x\0ay") (i32.const 0)"#)), r"`x\ny` called by `run`"),
    ];
    assert_fail(WasmConfig::default(), ErrorKind::Internal, guests).await;
}

#[tokio::test]
async fn the_source_of_a_trap_repeats_no_names_as_they_are_nor_at_length() {
    let functions = functions();
    let forged = format!(r#"$"x\0a2026 ERROR forged {}""#, "a".repeat(10_000));
    let traps = frame_guests::component(&format!(
        "(func {forged} unreachable) {}",
        run(&format!("(call {forged}) unreachable"))
    ));
    add(&functions, "app:traps", &traps, WasmConfig::default());
    let error = call(&functions, "app:traps", json!(1)).await.unwrap_err();
    let source = error.source().expect("what wasmtime says").to_string();
    assert!(source.contains(r"x\n2026 ERROR forged") && !source.contains('\n'), "{source}");
    assert!(source.len() < 1100, "{} bytes", source.len());
    assert!(format!("{error:?}").len() < 2500, "{error:?}");
}

#[tokio::test]
async fn the_message_of_an_error_that_a_guest_gives_is_cut() {
    let functions = functions();
    let fails = runs(
        "(drop (memory.grow (i32.const 100)))
         (memory.fill (i32.const 65536) (i32.const 97) (i32.const 6000000))
         (i32.store (i32.const 16) (i32.const 1))
         (i32.store (i32.const 20) (i32.const 0))
         (i32.store (i32.const 24) (i32.const 65536))
         (i32.store (i32.const 28) (i32.const 6000000))
         (i32.store (i32.const 32) (i32.const 0))
         (i32.const 16)",
    );
    add(&functions, "app:fails", &fails, WasmConfig::default());
    let error = call(&functions, "app:fails", json!(1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Invalid, format!("{}…", "a".repeat(8 << 10)).as_str())
    );
}

#[tokio::test]
async fn asking_for_more_than_there_is_fails_its_call_alone() {
    let asks = "(drop (memory.grow (i32.const 60000))) unreachable";
    let guests = [
        (run(asks), "bytes of memory it may have"),
        (format!("(start $s) (func $s {asks}) {}", run("unreachable")), "bytes of memory it may have"),
    ];
    assert_fail(WasmConfig::default(), ErrorKind::Exhausted, guests).await;
}

#[tokio::test]
async fn a_guest_that_never_ends_is_ended() {
    let guests = [
        (run("(loop $l (br $l)) unreachable"), "deadline"),
        (format!("(start $s) (func $s (loop $l (br $l))) {}", run("unreachable")), "deadline"),
    ];
    assert_fail(WasmConfig::default().with_time(SHORT), ErrorKind::Deadline, guests).await;
}

#[tokio::test]
async fn an_allocator_that_lies_is_a_trap() {
    let functions = functions();
    for (name, at) in [("app:outside", "-4"), ("app:crossing", "65535")] {
        let lies = frame_guests::of_module(&format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {at}))
                 {})"#,
            run("unreachable")
        ));
        add(&functions, name, &lies, WasmConfig::default());
        let error = call(&functions, name, vec![1; 100]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert_eq!(error.message(), "realloc return: beyond end of memory");
    }
    assert_works(&functions).await;
}

#[tokio::test]
async fn an_allocator_that_loops_is_ended() {
    let functions = functions();
    let loops = frame_guests::of_module(&format!(
        r#"(module (memory (export "memory") 1)
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $l (br $l)) unreachable)
             {})"#,
        run("unreachable")
    ));
    add(&functions, "app:loops", &loops, WasmConfig::default().with_time(SHORT));
    let error = call(&functions, "app:loops", json!(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_works(&functions).await;
}

/// A component that calls `name`, which has ten characters.
fn calls(name: &str) -> Vec<u8> {
    assert_eq!(name.len(), 10);
    frame_guests::component(&format!(
        r#"(import "frame:function/functions@0.1.0" "call"
             (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
           (data (i32.const 256) "{name}1")
           {}"#,
        run("(call $call (i32.const 256) (i32.const 10) (i32.const 0) (i32.const 266) (i32.const 1)
                         (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))
             (i32.const 16)")
    ))
}

/// Each call holds a turn while it waits for the one inside it, so the last gets none, and does not wait for one.
#[tokio::test]
async fn a_component_that_calls_itself_forever_ends_at_its_turns() {
    let functions = functions();
    let config = WasmConfig::default().with_calls(20);
    let function = add(&functions, "app:itself", &calls("app:itself"), config);
    let error = call(&functions, "app:itself", json!(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(error.message().contains("all 20 of its instances are busy, and a caller"), "{error}");
    assert_eq!((function.statistics().running, function.statistics().admitted), (0, 20));
    assert_works(&functions).await;
}

#[tokio::test]
async fn components_that_call_each_other_forever_end_at_the_deadline() {
    let functions = functions();
    let config = WasmConfig::default().with_calls(20).with_time(SHORT);
    let one = add(&functions, "app:oneway", &calls("app:return"), config);
    let other = add(&functions, "app:return", &calls("app:oneway"), config);
    let error = call(&functions, "app:oneway", json!(1)).await.unwrap_err();
    // Whoever waits for a turn at the deadline may be the first to see that it is past.
    assert!(matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Exhausted), "{error}");
    assert_eq!((one.statistics().running, other.statistics().running), (0, 0));
    assert_works(&functions).await;
}

#[tokio::test]
async fn what_a_guest_writes_over_itself_does_not_outlive_its_call() {
    let functions = functions();
    let wrecks = runs(
        "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))
         (i32.store (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (i32.const 1))
         (i32.store (i32.const 24) (i32.const 2048))
         (i32.store (i32.const 28) (i32.const 4))
         (i32.const 16)",
    );
    add(&functions, "app:wrecks", &wrecks, WasmConfig::default());
    add_guest(&functions, "remember");
    for _ in 0..10 {
        let wrecked = call(&functions, "app:wrecks", json!(1)).await.unwrap();
        assert_eq!(wrecked, Payload::from(vec![255; 4]));
        let found = call(&functions, "app:remember", vec![7; 8]).await.unwrap();
        assert_eq!(found.as_bytes().unwrap()[..12], [0; 12], "no calls before, nothing left");
    }
}
