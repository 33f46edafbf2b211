//! WASI, and that there is nothing of the host in it.

use std::fmt;
use std::sync::{Arc, Mutex};

use frame_dispatch::wasm::WasmConfig;
use frame_dispatch::{CallError, ErrorKind, Functions, Payload};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::common::{add, add_guest, assert_works, call, functions, run};

/// The error code `access-denied` of `wasi:sockets`.
const ACCESS_DENIED: u8 = 1;
/// Looking up a name is denied as one that cannot be resolved, for good.
const PERMANENT_RESOLVER_FAILURE: u8 = 20;

#[tokio::test]
async fn there_are_no_sockets_and_no_names() {
    let functions = functions();
    add_guest(&functions, "network");
    for name in ["localhost", "127.0.0.1", "example.org"] {
        let outcomes = call(&functions, "app:network", name.as_bytes().to_vec()).await.unwrap();
        let [name_failed, name_code, tcp_failed, tcp_code, udp_failed, udp_code] =
            outcomes.as_bytes().unwrap().try_into().unwrap();
        assert_eq!((name_failed, tcp_failed, udp_failed), (1, 1, 1));
        assert_eq!(name_code, PERMANENT_RESOLVER_FAILURE);
        assert_eq!((tcp_code, udp_code), (ACCESS_DENIED, ACCESS_DENIED));
    }
}

#[tokio::test]
async fn a_guest_that_exits_has_no_result() {
    let functions = functions();
    for (status, code) in [(0, 0), (1, 1)] {
        let exits = frame_guests::component(&format!(
            r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32))) {}"#,
            run(&format!("(call $exit (i32.const {status})) unreachable"))
        ));
        let name = format!("app:exits-{status}");
        add(&functions, &name, &exits, WasmConfig::default());
        let error = call(&functions, &name, json!(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.message(), format!("it exited with status {code}; a function returns its result"));
    }
    assert_works(&functions).await;
}

/// Keeps the events of the guests as text.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "frame_dispatch::log" {
            let mut text = event.metadata().level().to_string();
            event.record(&mut Text(&mut text));
            self.0.lock().unwrap().push(text);
        }
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // The PID is another one each time.
        let value = if field.name() == "pid" { "…".to_owned() } else { format!("{value:?}") };
        write!(self.0, " {field}={value}").unwrap();
    }
}

async fn events_of(name: &str, payload: impl Into<Payload>) -> Vec<String> {
    let functions = functions();
    add_guest(&functions, name);
    events_of_call(&functions, name, payload).await.1
}

async fn events_of_call(
    functions: &Functions,
    name: &str,
    payload: impl Into<Payload>,
) -> (Result<Payload, CallError>, Vec<String>) {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let result = call(functions, &format!("app:{name}"), payload).await;
    let events = std::mem::take(&mut *events.0.lock().unwrap());
    (result, events)
}

#[tokio::test]
async fn what_a_guest_logs_is_an_event_with_its_function_and_pid() {
    let events = events_of("log", b"hello".to_vec()).await;
    assert_eq!(events, ["INFO message=hello function=app:log pid=…"]);
    let events = events_of("log", b"a line\n2026 ERROR forged \x1b[31m".to_vec()).await;
    assert_eq!(events, [r"INFO message=a line\n2026 ERROR forged \u{1b}[31m function=app:log pid=…"]);
    let events = events_of("log", vec![b'x'; 1 << 20]).await;
    assert!(events[0].len() < 9_000 && events[0].contains("xx… function"), "{}", events[0].len());
}

#[tokio::test]
async fn what_a_guest_prints_is_an_event_a_line() {
    let events = events_of("stdout", b"one\ntwo\n\nrest".to_vec()).await;
    let line = |text: &str| format!(r#"INFO message={text} function=app:stdout pid=… stream="stdout""#);
    assert_eq!(events, ["one", "two", "", "rest"].map(line));
    let events = events_of("stdout", vec![b'x'; 4096]).await;
    assert_eq!(events, [line(&"x".repeat(4096))]);
}

const OVER: &str = "nothing more of this call is in the log: it may write 10000 lines and 1048576 bytes";

#[tokio::test]
async fn more_than_a_stream_says_it_takes_is_a_trap() {
    let functions = functions();
    for (name, length, is_over) in
        [("allowed", 8192, false), ("over", 8193, true), ("far-over", 4 << 20, true)]
    {
        let writes = frame_guests::component(&format!(
            r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
               (import "wasi:io/streams@0.2.0" "[method]output-stream.write"
                 (func $write (param i32 i32 i32 i32)))
               {}"#,
            run(&format!(
                "(drop (memory.grow (i32.const 65)))
                 (memory.fill (i32.const 65536) (i32.const 10) (i32.const {length}))
                 (call $write (call $stdout) (i32.const 65536) (i32.const {length}) (i32.const 64))
                 unreachable"
            ))
        ));
        add(&functions, &format!("app:{name}"), &writes, WasmConfig::default());
        let (result, events) = events_of_call(&functions, name, json!(1)).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.message().contains("more is written at once"), is_over, "{error}");
        assert_eq!(events.len(), if is_over { 0 } else { length });
    }
}

#[tokio::test]
async fn a_call_logs_only_so_much() {
    let functions = functions();
    // Both ways to the log count together. So do lines and bytes, of which one is used up first.
    for (name, length, logged) in [("lines", 1, 10_000), ("bytes", 1024, 1024)] {
        let logs = frame_guests::component(&format!(
            r#"(import "frame:function/log@0.1.0" "log" (func $log (param i32 i32 i32)))
               (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
               (import "wasi:io/streams@0.2.0" "[method]output-stream.write"
                 (func $write (param i32 i32 i32 i32)))
               {}"#,
            run(&format!(
                "(local $count i32) (local $stdout i32)
                 (memory.fill (i32.const 4096) (i32.const 97) (i32.const {length}))
                 (i32.store8 (i32.const {}) (i32.const 10))
                 (local.set $stdout (call $stdout))
                 (loop $more
                   (call $log (i32.const 2) (i32.const 4096) (i32.const {length}))
                   (call $write (local.get $stdout) (i32.const 4096) (i32.const {}) (i32.const 64))
                   (local.set $count (i32.add (local.get $count) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $count) (i32.const 6000))))
                 (i32.store8 (i32.const 128) (i32.const 48))
                 (i32.store (i32.const 16) (i32.const 0))
                 (i32.store (i32.const 20) (i32.const 0))
                 (i32.store (i32.const 24) (i32.const 128))
                 (i32.store (i32.const 28) (i32.const 1))
                 (i32.const 16)",
                4096 + length,
                length + 1
            ))
        ));
        add(&functions, &format!("app:{name}"), &logs, WasmConfig::default());
        for _ in 0..2 {
            let (result, events) = events_of_call(&functions, name, json!(1)).await;
            assert_eq!(result.unwrap(), json!(0).into(), "it goes on without the log");
            assert_eq!(events.len(), logged + 1);
            assert_eq!(events[logged], format!("WARN message={OVER} function=app:{name} pid=…"));
            assert!(events[..logged].iter().all(|event| event.starts_with("INFO message=a")));
        }
    }
}
