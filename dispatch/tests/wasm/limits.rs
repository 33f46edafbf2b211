//! What a call may use, and what becomes of one that wants more.

use std::error::Error;

use frame_dispatch::wasm::{WasmConfig, WasmError};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;

use crate::common::{add, add_guest, assert_works, call, engine, functions, request, run, runs};

fn assert_exhausted(error: &CallError, message: &str) {
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(error.message().contains(message), "{error}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn memory_is_limited_for_all_memories_of_a_call_together() {
    let functions = functions();
    let grows = frame_guests::component(&format!(
        r"(memory $other 0)
          {}",
        run("(loop $more
               (if (i32.eq (memory.grow $other (i32.const 1)) (i32.const -1)) (then unreachable))
               (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
               (br $more))
             unreachable")
    ));
    let config = WasmConfig::default().with_memory(1 << 20);
    add(&functions, "app:grows", &grows, config);
    for _ in 0..3 {
        let error = call(&functions, "app:grows", json!(1)).await.unwrap_err();
        assert_exhausted(&error, "it needs more than the 1048576 bytes of memory it may have, in `run`");
    }
    assert_works(&functions).await;
}

#[tokio::test]
async fn a_guest_gets_exactly_the_memory_it_may_have_and_may_go_on_without_more() {
    let functions = functions();
    // Gives how many pages it has when it gets no more, as one digit.
    let counts = runs(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
         (i32.store8 (i32.const 64) (i32.add (memory.size) (i32.const 48)))
         (i32.store (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (i32.const 0))
         (i32.store (i32.const 24) (i32.const 64))
         (i32.store (i32.const 28) (i32.const 1))
         (i32.const 16)",
    );
    add(&functions, "app:counts", &counts, WasmConfig::default().with_memory(7 << 16));
    for _ in 0..3 {
        assert_eq!(call(&functions, "app:counts", json!(1)).await.unwrap(), Payload::from(json!(7)));
    }
}

#[tokio::test]
async fn tables_are_limited() {
    let functions = functions();
    let grows = frame_guests::component(&format!(
        "(table $t 0 funcref) {}",
        run("(loop $more
               (if (i32.eq (table.grow $t (ref.null func) (i32.const 10)) (i32.const -1)) (then unreachable))
               (br $more))
             unreachable")
    ));
    add(&functions, "app:grows", &grows, WasmConfig::default().with_table_elements(1000));
    let error = call(&functions, "app:grows", json!(1)).await.unwrap_err();
    assert_exhausted(&error, "it needs more than the 1000 table elements it may have");
    assert_works(&functions).await;
}

#[tokio::test]
async fn a_payload_that_does_not_fit_into_the_guest_is_refused_there() {
    let functions = functions();
    add_guest(&functions, "echo");
    let error = call(&functions, "app:echo", vec![0; 100 << 20]).await.unwrap_err();
    assert_exhausted(&error, "bytes of memory it may have");
    assert_works(&functions).await;
}

#[tokio::test]
async fn results_and_what_is_given_to_other_functions_are_limited() {
    let functions = functions();
    let config = WasmConfig::default().with_payload(10_000);
    add(&functions, "app:echo", &frame_guests::guest("echo"), config);
    add(&functions, "app:call", &frame_guests::guest("call"), config);
    call(&functions, "app:echo", vec![0; 10_000]).await.unwrap();
    let error = call(&functions, "app:echo", vec![0; 10_001]).await.unwrap_err();
    assert_exhausted(&error, "it handed over more than the 10000 bytes it may at once");

    let ones = |count| format!("[{}1]", "1,".repeat(count));
    call(&functions, "app:call", request("app:echo", "", &ones(4_900))).await.unwrap();
    let error = call(&functions, "app:call", request("app:echo", "", &ones(5_000))).await.unwrap_err();
    assert_exhausted(&error, "it handed over more than the 10000 bytes it may at once");
    assert_works(&functions).await;
}

#[tokio::test]
async fn a_result_that_lies_about_its_size_costs_nothing() {
    let functions = functions();
    let lies = runs(
        "(i32.store (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (local.get $kind))
         (i32.store (i32.const 24) (i32.const 0))
         (i32.store (i32.const 28) (i32.const -1))
         (i32.const 16)",
    );
    add(&functions, "app:lies", &lies, WasmConfig::default());
    for payload in [Payload::from(json!(1)), Payload::from(vec![])] {
        let error = call(&functions, "app:lies", payload).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(error.message().contains("out of bounds"), "{error}");
    }
    assert_works(&functions).await;
}

#[test]
fn a_component_that_starts_with_too_much_is_refused_at_once() {
    let echo = frame_guests::guest("echo");
    let error = engine().function(&echo, WasmConfig::default().with_memory(60_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component starts with 65536 bytes of memory, and the function may have 60000"
    );
    let config = WasmConfig::default().with_table_elements(30_000);
    let error = engine().function(&echo, config).unwrap_err();
    assert!(matches!(error, WasmError::TooLarge { needed: 30_000, limit: 20_000, .. }), "{error}");

    let many_memories = "(memory 1)".repeat(8);
    let component = frame_guests::component(&format!("{many_memories} {}", run("unreachable")));
    let error = engine().function(&component, WasmConfig::default()).unwrap_err();
    assert!(matches!(error, WasmError::Compile { .. }), "{error}");
    assert!(error.to_string().contains("memories"), "{error}");
}

/// Gives this text as JSON.
fn gives(text: &str) -> Vec<u8> {
    let data = text.replace('\\', r"\\").replace('"', r#"\""#);
    frame_guests::component(&format!(
        r#"(data (i32.const 2048) "{data}") {}"#,
        run(&format!(
            "(i32.store (i32.const 16) (i32.const 0))
             (i32.store (i32.const 20) (i32.const 0))
             (i32.store (i32.const 24) (i32.const 2048))
             (i32.store (i32.const 28) (i32.const {}))
             (i32.const 16)",
            text.len()
        ))
    ))
}

/// A list of this many copies of a text.
fn list(element: &str, count: usize) -> String {
    format!("[{}{element}]", format!("{element},").repeat(count - 1))
}

#[tokio::test]
async fn json_is_limited_by_the_memory_it_takes() {
    let functions = functions();
    let config = WasmConfig::default().with_json_memory(32_000);
    // Of each, as many as fit and as many as do not.
    for (number, (element, fits, too_many)) in [
        (r#"{"":0}"#, 40, 50),
        (r#"{"a":{"b":[]}}"#, 10, 25),
        ("[0]", 120, 250),
        ("0", 512, 1025),
        (r#""a text of thirty characters ""#, 128, 512),
        (r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0}"#, 8, 16),
        (r#""\u0041\u0041\u0041\u0041""#, 128, 900),
    ]
    .into_iter()
    .enumerate()
    {
        let (fitting, large) = (format!("app:fits-{number}"), format!("app:large-{number}"));
        add(&functions, &fitting, &gives(&list(element, fits)), config);
        add(&functions, &large, &gives(&list(element, too_many)), config);
        let given = call(&functions, &fitting, json!(1)).await.unwrap();
        assert_eq!(given, serde_json::from_str::<serde_json::Value>(&list(element, fits)).unwrap().into());
        let error = call(&functions, &large, json!(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{element}: {error}");
        assert_eq!(
            error.message(),
            "its result is JSON that takes more than 32000 bytes of memory once it is read"
        );
    }
    assert_works(&functions).await;
}

#[tokio::test]
async fn json_for_another_function_is_limited_by_the_memory_it_takes() {
    let functions = functions();
    add_guest(&functions, "echo");
    add(&functions, "app:call", &frame_guests::guest("call"), WasmConfig::default().with_json_memory(32_000));
    call(&functions, "app:call", request("app:echo", "", &list(r#"{"":0}"#, 40))).await.unwrap();
    let error =
        call(&functions, "app:call", request("app:echo", "", &list(r#"{"":0}"#, 50))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(
        error.message().contains("the payload for `app:echo` is JSON that takes more than 32000"),
        "{error}"
    );

    let options = format!(r#"{{"tenant":"{}"}}"#, "a".repeat(64 << 10));
    let error = call(&functions, "app:call", request("app:echo", &options, "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.message().contains("the options for `app:echo` have 65549 bytes, and may have 65536"),
        "{error}"
    );
}

#[tokio::test]
async fn json_of_many_small_objects_is_not_read_to_its_end() {
    let functions = functions();
    // 4 MiB of `[{"":0}, {"":0}, …`, which would be 400 MiB.
    let objects = runs(&format!(
        r"(drop (memory.grow (i32.const 64)))
          (local.set $at (i32.const 65537))
          (i32.store8 (i32.const 65536) (i32.const 91))
          (loop $more
            (i64.store (local.get $at) (i64.const {}))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const {}))))
          (i32.store (i32.const 16) (i32.const 0))
          (i32.store (i32.const 20) (i32.const 0))
          (i32.store (i32.const 24) (i32.const 65536))
          (i32.store (i32.const 28) (i32.const {}))
          (i32.const 16)",
        u64::from_le_bytes(*br#"{"":0}, "#),
        65_536 + (4 << 20) - 8,
        4 << 20
    ));
    add(&functions, "app:objects", &objects, WasmConfig::default());
    let error = call(&functions, "app:objects", json!(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");

    // What is more usual passes.
    add_guest(&functions, "echo");
    let person =
        json!({ "name": "Ada Lovelace", "born": 1815, "languages": ["English", "French"], "living": false });
    let people = Payload::from(vec![person; (1 << 20) / 80].into_iter().collect::<serde_json::Value>());
    assert!(people.as_json().unwrap().to_string().len() > 1 << 20);
    assert_eq!(call(&functions, "app:echo", people.clone()).await.unwrap(), people);
}

#[tokio::test]
async fn json_is_limited_in_depth() {
    let functions = functions();
    for (depth, is_read) in [(127, true), (128, false), (10_000, false)] {
        let name = format!("app:deep-{depth}");
        add(
            &functions,
            &name,
            &gives(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
            WasmConfig::default(),
        );
        let result = call(&functions, &name, json!(1)).await;
        assert_eq!(result.is_ok(), is_read, "{depth}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(error.message().contains("recursion limit exceeded"), "{error}");
        }
    }
}

/// What a guest has handles of is counted, whatever it is and whichever interfaces it uses.
#[tokio::test]
async fn handles_are_limited_by_what_they_hold() {
    let functions = functions();
    let counts = |import: &str, call: &str| {
        frame_guests::component(&format!(
            "{import} {}",
            run(&format!("(loop $more (drop {call}) (br $more)) unreachable"))
        ))
    };
    let timers = counts(
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $wait (param i64) (result i32)))"#,
        "(call $wait (i64.const 1000000000000))",
    );
    let streams = counts(
        r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))"#,
        "(call $stdout)",
    );
    let config = WasmConfig::default().with_host_memory(1 << 20);
    for (name, guest) in [("app:timers", timers), ("app:streams", streams)] {
        add(&functions, name, &guest, config);
        let error = call(&functions, name, json!(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{name}: {error}");
        assert!(error.message().contains("the 1048576 bytes of the limit `host_memory`"), "{name}: {error}");
    }
    assert_works(&functions).await;
}
