//! The option `traced`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use frame_dispatch::{CallContext, CallError, ErrorKind, Payload};
use frame_registry::Options;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{Attempts, fine, functions, id, poll_once, read, task, task_with, wait};

/// A span as it was recorded.
#[derive(Debug, Clone)]
struct Spanned {
    id: Id,
    parent: Option<Id>,
    name: &'static str,
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

static SPANS: Mutex<Vec<Spanned>> = Mutex::new(Vec::new());

/// Writes down every span of the program.
struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut span = Spanned {
            id: id.clone(),
            parent: ctx.current_span().id().cloned(),
            name: attributes.metadata().name(),
            level: *attributes.metadata().level(),
            fields: BTreeMap::new(),
        };
        attributes.record(&mut Fields(&mut span.fields));
        SPANS.lock().unwrap().push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = SPANS.lock().unwrap();
        // Ids are used again when a span has closed.
        let span = spans.iter_mut().rev().find(|span| span.id == *id).unwrap();
        values.record(&mut Fields(&mut span.fields));
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Has spans recorded, from now on, for the whole program.
fn record() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Recorder)).unwrap();
    });
}

/// The spans of the calls of a function, of which every test has its own.
fn spans_of(function: &str) -> Vec<Spanned> {
    let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    spans
        .iter()
        .filter(|span| span.fields.get("function").is_some_and(|name| name == function))
        .cloned()
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_a_span_with_what_is_known_of_it() {
    record();
    let functions = functions();
    let fails_once = |attempt| {
        if attempt == 1 { Err(CallError::new(ErrorKind::Unavailable, "not now")) } else { Ok(fine()) }
    };
    let attempts = Attempts::register(&functions, "trace:attempts", Options::new(), fails_once);
    functions.root().call(task_with("trace:attempts", &json!({ "traced": true, "retry": 3 }))).await.unwrap();
    let spans = spans_of("trace:attempts");
    assert_eq!(spans.len(), 2);
    for (span, seen) in spans.iter().zip(attempts.seen()) {
        assert_eq!((span.name, span.level), ("call", Level::INFO));
        assert_eq!(span.fields["attempt"], seen.attempt.to_string());
        assert!(span.fields["pid"].ends_with(&format!("{:x}}}", seen.pid)), "{span:?}");
        assert_eq!(span.fields["resolvers"], "label");
        assert_eq!(span.fields["elapsed"], "0ns", "the wait between attempts is in none");
    }
    assert_eq!((&*spans[0].fields["outcome"], &*spans[0].fields["error"]), ("unavailable", "not now"));
    assert_eq!((&*spans[1].fields["outcome"], spans[1].fields.get("error")), ("ok", None));
}

#[tokio::test(start_paused = true)]
async fn the_spans_of_what_a_function_calls_are_inside() {
    record();
    let functions = functions();
    functions.register(id("trace:inner"), read(&json!({ "traced": true })), wait).unwrap();
    let nests = async |ctx: CallContext, _: Payload| {
        tracing::info_span!("own", function = "trace:own").in_scope(|| ());
        ctx.call(task("trace:inner").with_payload(json!(250))).await
    };
    functions.register(id("trace:outer"), Options::new(), nests).unwrap();
    functions.root().call(task_with("trace:outer", &json!({ "traced": true }))).await.unwrap();
    let [outer, inner, own] = ["trace:outer", "trace:inner", "trace:own"].map(|function| {
        let [span] = &spans_of(function)[..] else { panic!("{function}") };
        span.clone()
    });
    assert_eq!(outer.parent, None);
    assert_eq!((inner.parent, own.parent), (Some(outer.id.clone()), Some(outer.id)));
    assert_eq!((&*outer.fields["elapsed"], &*inner.fields["elapsed"]), ("250ms", "250ms"));
}

#[tokio::test]
async fn what_a_function_does_before_its_future_is_polled_is_inside() {
    record();
    let functions = functions();
    let begins = |_: CallContext, payload: Payload| {
        let span = tracing::Span::current().metadata().map(tracing::Metadata::name);
        assert_eq!(span, Some("call"));
        async move { Ok(payload) }
    };
    functions.register(id("trace:begins"), read(&json!({ "traced": true })), begins).unwrap();
    functions.root().call(task("trace:begins")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_ends_a_call_is_its_outcome() {
    record();
    let functions = functions();
    functions.register(id("trace:late"), Options::new(), wait).unwrap();
    functions.register(id("trace:dropped"), Options::new(), wait).unwrap();
    let late = task_with("trace:late", &json!({ "traced": true, "timeout": "2s" }));
    functions.root().call(late).await.unwrap_err();
    assert_eq!(spans_of("trace:late")[0].fields["outcome"], "deadline");
    let root = functions.root();
    let mut dropped = Box::pin(root.call(task_with("trace:dropped", &json!({ "traced": true }))));
    assert!(!poll_once(&mut dropped).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(dropped);
    let fields = &spans_of("trace:dropped")[0].fields;
    assert_eq!((&*fields["outcome"], &*fields["elapsed"]), ("dropped", "1s"));
}

#[tokio::test]
async fn a_call_is_traced_only_where_that_is_said() {
    record();
    let functions = functions();
    Attempts::register(&functions, "trace:off", read(&json!({ "traced": true })), |_| Ok(fine()));
    functions.root().call(task_with("trace:off", &json!({ "traced": false }))).await.unwrap();
    assert!(spans_of("trace:off").is_empty());
    functions.root().call(task("trace:off")).await.unwrap();
    assert_eq!(spans_of("trace:off").len(), 1);
}
