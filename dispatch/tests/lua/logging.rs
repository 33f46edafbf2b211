//! What scripts write to the log.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use frame_dispatch::LogFields;
use serde_json::{Value as Json, json};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::{Script, failed};

/// An event that says something of a script.
#[derive(Debug, Default, Clone)]
struct Event {
    level: String,
    message: String,
    function: String,
    fields: Option<Json>,
    fields_text: String,
}

impl Visit for Event {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        assert_eq!(field.name(), "fields");
        let fields = value.downcast_ref::<LogFields>().expect("they are fields of a script");
        (self.fields, self.fields_text) = (Some(fields.as_json().clone()), fields.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "function" => self.function = format!("{value:?}"),
            _ => {}
        }
    }
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "frame_dispatch::log" {
            let mut seen = Event { level: event.metadata().level().to_string(), ..Event::default() };
            event.record(&mut seen);
            self.0.lock().unwrap().push(seen);
        }
    }
}

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

/// What a script logs that is given `null`.
async fn logged(source: &str) -> Vec<Event> {
    let (events, _guard) = Events::capture();
    Script::new(source).json(json!(null)).await;
    events.take()
}

#[tokio::test]
async fn fields_are_json_and_not_its_text() {
    let events = logged("log.warn('said', { ticks = 1, nested = { 'a', { b = 2.5 } }, none = null })").await;
    let [event] = &events[..] else { panic!("{events:?}") };
    let fields = json!({ "ticks": 1, "nested": ["a", { "b": 2.5 }], "none": null });
    assert_eq!((&event.fields, &*event.message, &*event.level), (&Some(fields), "said", "WARN"));
    assert_eq!(event.function, "app:script");
}

#[tokio::test]
async fn what_is_not_printable_is_escaped_in_messages_and_in_the_text_of_fields() {
    let hostile = "\\u{202e}\\u{2028}\\u{e0041}\\x1b[2J\\n\\u{9b}";
    let events =
        logged(&format!("log.info('a{hostile}b', {{ ['{hostile}'] = '{hostile}' }}) print('{hostile}')"))
            .await;
    let escaped = "\\u{202e}\\u{2028}\\u{e0041}\\u{1b}[2J\\n\\u{9b}";
    assert_eq!(events[0].message, format!("a{escaped}b"));
    assert_eq!(events[1].message, escaped);
    let json = r"\u202e\u2028\udb40\udc41\u001b[2J\n\u009b";
    assert_eq!(events[0].fields_text, format!(r#"{{"{json}":"{json}"}}"#));
    let value = "\u{202e}\u{2028}\u{e0041}\u{1b}[2J\n\u{9b}";
    assert_eq!(events[0].fields, Some(json!({ value: value })), "programs read what the script wrote");
}

#[tokio::test]
async fn messages_are_cut_and_fields_that_are_too_large_are_refused() {
    let events = logged("log.info(('x'):rep(1000000))").await;
    assert_eq!(events[0].message, format!("{}…", "x".repeat(8 << 10)));
    let error = failed("log.info('said', { text = ('x'):rep(1000000) })").await;
    assert!(error.message().contains("larger than 16384 bytes"), "{error}");
}

#[tokio::test]
async fn a_call_fills_no_log() {
    for source in [
        "for i = 1, 20000 do log.info('line') end",
        "for i = 1, 500 do log.info(('x'):rep(8000)) end",
        "for i = 1, 500 do log.info('', { x = ('x'):rep(8000) }) end",
    ] {
        let events = logged(source).await;
        let last = events.last().unwrap();
        assert!(last.message.starts_with("nothing more of this call is in the log"), "{source}: {last:?}");
        let bytes: usize = events.iter().map(|event| event.message.len() + event.fields_text.len()).sum();
        assert!(events.len() <= 10_001 && bytes <= (1 << 20) + 1000, "{source}: {} {bytes}", events.len());
    }
}

#[tokio::test]
async fn each_call_has_a_log_budget_of_its_own() {
    let (events, _guard) = Events::capture();
    let script = Script::new("for i = 1, 10000 do log.info('line') end");
    for _ in 0..2 {
        script.json(json!(null)).await;
    }
    assert_eq!(events.take().len(), 20_000);
}
