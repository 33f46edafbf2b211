//! WASI, and that there is nothing of the host in it.

use std::fmt;
use std::sync::{Arc, Mutex};

use frame_dispatch::wasm::WasmConfig;
use frame_dispatch::{ErrorKind, Payload};
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
        if event.metadata().target().starts_with("frame_dispatch::wasm") {
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
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    call(&functions, &format!("app:{name}"), payload).await.unwrap();
    std::mem::take(&mut *events.0.lock().unwrap())
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
