//! What a component may use that lives for long.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::process::ExitReason;
use frame_dispatch::wasm::WasmConfig;
use frame_dispatch::{ErrorKind, Pid};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::{Surroundings, start, steps, surroundings, within};

/// The fields of an event, in text.
type Event = Vec<(&'static str, String)>;

/// Each event that says something of a guest.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    fn capture() -> (Self, DefaultGuard) {
        let events = Self::default();
        let subscriber = tracing_subscriber::registry().with(events.clone());
        (events, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Fields<'a>(&'a mut Event);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().ends_with("dispatch::log") {
            let mut fields = Vec::new();
            event.record(&mut Fields(&mut fields));
            self.0.lock().unwrap().push(fields);
        }
    }
}

fn message<'a>(event: &'a [(&'static str, String)]) -> &'a str {
    event.iter().find(|field| field.0 == "message").map_or("", |field| &field.1)
}

/// Waits until it has received all that it was sent, and waits for more.
async fn settle(all: &Surroundings, pid: Pid) {
    let settled = async {
        loop {
            let info = all.processes.info(pid).expect("it lives");
            if info.mailbox == 0 && info.state == frame_dispatch::process::ProcessState::Receiving {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("a test for a process to settle", settled).await;
}

#[tokio::test]
async fn a_line_of_the_log_says_which_process_it_is_of() {
    let (events, _guard) = Events::capture();
    let all = surroundings();
    let pid = all.start(steps(&["L\nhello"]));
    all.exit(pid).await;
    let event = events.take().pop().unwrap();
    let expected =
        [("process", "app:steps".to_owned()), ("pid", pid.to_string()), ("message", "hello".to_owned())];
    let mut found: Vec<_> = event.into_iter().filter(|field| field.0 != "level").collect();
    found.sort_by_key(|field| expected.iter().position(|expected| expected.0 == field.0));
    assert_eq!(found, expected);
}

/// On a clock that the test moves.
#[tokio::test(start_paused = true)]
async fn what_a_process_may_log_is_renewed_in_time() {
    let (events, _guard) = Events::capture();
    let all = surroundings();
    let line = format!("L\n{}\n", "a".repeat(8 << 10));
    // 16 lines of 8 KiB a message: after 8 messages it has written 1 MiB.
    let script = format!("r\n\n{}@\n", line.repeat(16));
    let pid = all.start(start("app:steps", script.into_bytes()));
    for _ in 0..10 {
        all.processes.send(&all.root, pid, json!(1)).await.unwrap();
    }
    settle(&all, pid).await;
    let written = events.take();
    assert_eq!(written.len(), 8 * 16 + 1);
    assert_eq!(
        message(written.last().unwrap()),
        "nothing more of this process is in the log for now: it may write 10000 lines and 1048576 bytes in 10 minutes"
    );

    tokio::time::advance(Duration::from_mins(9)).await;
    all.processes.send(&all.root, pid, json!(1)).await.unwrap();
    settle(&all, pid).await;
    assert_eq!(events.take().len(), 0);

    tokio::time::advance(Duration::from_mins(1)).await;
    all.processes.send(&all.root, pid, json!(1)).await.unwrap();
    settle(&all, pid).await;
    let written = events.take();
    assert_eq!(message(&written[0]), "48 lines of this process are not in the log");
    assert_eq!(written.len(), 1 + 16);
}

/// What it hands over is counted each time anew, and what it receives leaves nothing behind in the host.
#[tokio::test]
async fn a_process_receives_and_sends_more_than_any_budget_of_one_call() {
    let all = surroundings();
    let config = WasmConfig::process().with_payload(4000).with_json_memory(10_000).with_memory(4 << 16);
    all.register("app:small", &frame_guests::guest("steps"), config);
    let text = json!("a".repeat(1000)).to_string();
    let script = format!("r\n\nt\nnobody\n{text}\nt\nnobody\n{text}\n@\n");
    let pid = all.start(start("app:small", script.into_bytes()));
    for _ in 0..1000 {
        all.processes.send(&all.root, pid, json!("b".repeat(3000))).await.unwrap();
    }
    settle(&all, pid).await;
    all.processes.terminate(pid).unwrap();
    all.exit(pid).await;
}

#[tokio::test]
async fn memory_that_it_did_without_is_not_why_it_fails_later() {
    let all = surroundings();
    let config = WasmConfig::process().with_memory(2 << 16);
    all.register("app:small", &frame_guests::guest("steps"), config);
    let pid = all.start(start("app:small", b"g\n100\nr\n0\n!".to_vec()));
    let exit = all.exit(pid).await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

/// More than the engine has instances, one behind the other and all at once.
#[tokio::test]
async fn processes_that_end_leave_their_instances_to_others() {
    let all = surroundings();
    for _ in 0..10 {
        let pids: Vec<_> = (0..10).map(|_| all.start(steps(&["r\n"]))).collect();
        for pid in &pids {
            all.processes.terminate(*pid).unwrap();
        }
        for pid in pids {
            all.exit(pid).await;
        }
    }
    assert_eq!(all.run(steps(&["r\n0"])).await, ["-"]);
}
