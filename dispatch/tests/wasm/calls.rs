//! Components called, and calling.

use std::error::Error;

use frame_dispatch::wasm::WasmConfig;
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_registry::Options;
use serde_json::{Value, json};

use crate::common::{
    SECRET, TENANT, TENANT_KEY, add, add_guest, assert_works, call, functions, id, request, runs,
};

async fn show(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    let tenant = ctx.frame().get(&TENANT_KEY);
    Ok(Payload::from(json!({ "tenant": tenant, "payload": payload.as_json() })))
}

fn with_show() -> Functions {
    let functions = functions();
    functions.register(id("app:show"), Options::new(), show).unwrap();
    add_guest(&functions, "call");
    functions
}

#[tokio::test]
async fn json_and_bytes_go_in_and_come_out() {
    let functions = functions();
    let echo = add_guest(&functions, "echo");
    let payloads = [
        Payload::from(json!(null)),
        Payload::from(json!({ "text": "Grüße \u{0} \"", "list": [1, -2.5, true, {}], "large": u64::MAX })),
        Payload::from(Vec::new()),
        Payload::from(vec![0, 159, 146, 150]),
        Payload::from(vec![7; 300_000]),
    ];
    for payload in payloads {
        assert_eq!(call(&functions, "app:echo", payload.clone()).await.unwrap(), payload);
    }
    let statistics = echo.statistics();
    assert_eq!((statistics.admitted, statistics.built, statistics.discarded), (5, 5, 5));
    assert_eq!((statistics.running, statistics.waiting, statistics.idle, statistics.size), (0, 0, 0, 64));
}

#[tokio::test]
async fn an_error_of_a_guest_keeps_its_kind_and_whether_it_is_worth_a_retry() {
    let kinds = [
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Denied,
        ErrorKind::Cancelled,
        ErrorKind::Deadline,
        ErrorKind::Unavailable,
        ErrorKind::Exhausted,
        ErrorKind::Internal,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        for is_retryable in [false, true] {
            let fails = runs(&format!(
                r"(i32.store8 (i32.const 16) (i32.const 1))
                  (i32.store8 (i32.const 20) (i32.const {number}))
                  (i32.store (i32.const 24) (local.get $at))
                  (i32.store (i32.const 28) (local.get $length))
                  (i32.store8 (i32.const 32) (i32.const {}))
                  (i32.const 16)",
                u8::from(is_retryable)
            ));
            let functions = with_show();
            add(&functions, "app:fails", &fails, WasmConfig::default());
            let error = call(&functions, "app:fails", b"out of luck".to_vec()).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, is_retryable));
            assert_eq!(error.to_string(), "call of `app:fails`: out of luck");
            let long = call(&functions, "app:fails", vec![b'x'; 100_000]).await.unwrap_err();
            assert_eq!(long.message(), format!("{}…", "x".repeat(8192)));

            let nested = call(&functions, "app:call", request("app:fails", "", "0")).await.unwrap_err();
            assert_eq!((nested.kind(), nested.is_retryable()), (kind, is_retryable), "through another guest");
        }
    }
}

#[tokio::test]
async fn a_result_that_is_not_json_or_not_text_is_an_error() {
    let functions = functions();
    let json = r"
        (i32.store8 (i32.const 16) (i32.const 0))
        (i32.store8 (i32.const 20) (i32.const 0))
        (i32.store (i32.const 24) (local.get $at))
        (i32.store (i32.const 28) (local.get $length))
        (i32.const 16)";
    add(&functions, "app:json", &runs(json), WasmConfig::default());
    let error = call(&functions, "app:json", b"{]".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().starts_with("its result is not JSON: "), "{error}");
    let error = call(&functions, "app:json", "[".repeat(100_000).into_bytes()).await.unwrap_err();
    assert!(error.message().contains("recursion limit"), "{error}");
    let error = call(&functions, "app:json", vec![0xff, 0xfe]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("utf-8"), "{error}");
    assert_works(&functions).await;
}

#[tokio::test]
async fn a_guest_calls_functions_whose_frames_inherit_from_its_own() {
    let functions = with_show();
    let task = Task::new(id("app:call"))
        .with_payload(request("app:show", "", r#"{"a":1}"#))
        .with_options(Options::new().with(&TENANT, "acme".to_owned()));
    let shown = functions.root().call(task).await.unwrap();
    assert_eq!(shown.as_json().unwrap(), &json!({ "tenant": "acme", "payload": { "a": 1 } }));
}

#[tokio::test]
async fn a_guest_gives_options_and_what_it_misspells_is_refused() {
    let functions = with_show();
    let options = r#"{"tenant":"other"}"#;
    let shown = call(&functions, "app:call", request("app:show", options, "1")).await.unwrap();
    assert_eq!(shown.as_json().unwrap()["tenant"], "other");

    let refused = [
        (("app:show", r#"{"tenent":"x"}"#, "1"), ErrorKind::Invalid, "did you mean `tenant`?"),
        (("app:show", r#"["tenant"]"#, "1"), ErrorKind::Invalid, "options are a JSON object"),
        (("app:show", "{", "1"), ErrorKind::Invalid, "the options for `app:show` are not JSON: EOF"),
        (("app:show", "", "{"), ErrorKind::Invalid, "the payload for `app:show` is not JSON: EOF"),
        (("show", "", "1"), ErrorKind::Invalid, "app:hello"),
        (("app:nowhere", "", "1"), ErrorKind::NotFound, "no function is registered by this id"),
        (("app:show", r#"{"tenant":"nobody"}"#, "1"), ErrorKind::Denied, "its frame was refused"),
    ];
    for ((name, options, payload), kind, message) in refused {
        let error = call(&functions, "app:call", request(name, options, payload)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.function(), Some(&id("app:call")));
    }
}

#[tokio::test]
async fn a_guest_reads_what_is_public_of_its_frame_and_nothing_else() {
    let functions = functions();
    add_guest(&functions, "frame");
    let read = async |name: &str| -> Option<Value> {
        let task = Task::new(id("app:frame"))
            .with_payload(name.as_bytes().to_vec())
            .with_options(Options::new().with(&TENANT, "acme".to_owned()))
            .with_pair(SECRET.pair("xyzzy".to_owned()));
        functions.root().call(task).await.unwrap().as_json().cloned()
    };
    assert_eq!(read("tenant").await, Some(json!("acme")));
    assert_eq!(read("function").await, Some(json!("app:frame")));
    assert_eq!(read("attempt").await, Some(json!(1)));
    let pid = read("pid").await.unwrap();
    assert!(pid.as_str().unwrap().starts_with("{app:frame|"), "{pid}");
    assert_ne!(read("pid").await.unwrap(), pid, "each call has a frame of its own");
    assert_eq!(read("secret").await, None);
    assert_eq!(read("nothing").await, None);
}

#[tokio::test]
async fn a_trap_says_what_happened_and_where() {
    let functions = functions();
    let divides = frame_guests::component(
        r#"(func $ratio (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
           (func $run (export "run") (param i32 i32 i32) (result i32) (call $ratio (i32.const 0)))"#,
    );
    add(&functions, "app:divides", &divides, WasmConfig::default());
    let error = call(&functions, "app:divides", json!(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(
        error.to_string(),
        "call of `app:divides`: wasm trap: integer divide by zero, in `ratio` called by `run`"
    );
    assert!(error.source().is_some());
}
