//! From spans of `tracing` to those of OpenTelemetry.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue, TraceFlags};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Makes spans with the ids of frames, which no tracer of the SDK would give them.
pub(super) struct SpanLayer {
    spans: Arc<BatchSpanProcessor>,
}

impl SpanLayer {
    pub(super) const fn new(spans: Arc<BatchSpanProcessor>) -> Self {
        Self { spans }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut open = Open::new();
        attributes.record(&mut open);
        if open.is_sampled()
            && let Some(span) = ctx.span(id)
        {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        values.record(open);
        // When the span is closed it may be long over: whatever the unit has spawned may hold it.
        if open.outcome.is_some()
            && let Some(open) = extensions.remove::<Open>()
        {
            drop(extensions);
            self.spans.on_end(open.end());
        }
    }
}

/// A span that is not over, and what is known of it so far.
struct Open {
    begun: SystemTime,
    unit: String,
    is_process: bool,
    trace_id: TraceId,
    span_id: SpanId,
    parent_id: SpanId,
    is_parent_remote: bool,
    flags: TraceFlags,
    state: String,
    attributes: Vec<KeyValue>,
    outcome: Option<String>,
    error: String,
}

impl Open {
    fn new() -> Self {
        Self {
            begun: SystemTime::now(),
            unit: String::new(),
            is_process: false,
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent_id: SpanId::INVALID,
            is_parent_remote: false,
            flags: TraceFlags::default(),
            state: String::new(),
            attributes: Vec::new(),
            outcome: None,
            error: String::new(),
        }
    }

    /// Whether a collector is to be told of it.
    fn is_sampled(&self) -> bool {
        self.flags.is_sampled() && self.trace_id != TraceId::INVALID && self.span_id != SpanId::INVALID
    }

    fn end(mut self) -> SpanData {
        let outcome = self.outcome.unwrap_or_default();
        let status = if outcome == "ok" {
            Status::Unset
        } else {
            self.attributes.push(KeyValue::new("error.type", outcome.clone()));
            Status::error(self.error)
        };
        self.attributes.push(KeyValue::new("frame.outcome", outcome));
        let unit = if self.is_process { "frame.process" } else { "frame.function" };
        self.attributes.push(KeyValue::new(unit, self.unit.clone()));
        // The SDK knows a narrower grammar for keys with an `@`; a state that it does not take is left out.
        let state = self.state.parse().unwrap_or_default();
        SpanData {
            span_context: SpanContext::new(self.trace_id, self.span_id, self.flags, false, state),
            parent_span_id: self.parent_id,
            parent_span_is_remote: self.is_parent_remote,
            span_kind: SpanKind::Internal,
            name: self.unit.into(),
            start_time: self.begun,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("frame-runtime")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

impl Visit for Open {
    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "is_process" => self.is_process = value,
            "is_parent_remote" => self.is_parent_remote = value,
            _ => (),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "flags" => self.flags = TraceFlags::new(u8::try_from(value).unwrap_or_default()),
            "attempt" => {
                let attempt = i64::try_from(value).unwrap_or(i64::MAX);
                self.attributes.push(KeyValue::new("frame.attempt", attempt));
            }
            _ => (),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "unit" => value.clone_into(&mut self.unit),
            "pid" => self.attributes.push(KeyValue::new("frame.pid", value.to_owned())),
            "trace_id" => self.trace_id = TraceId::from_hex(value).unwrap_or(TraceId::INVALID),
            "span_id" => self.span_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "parent_id" => self.parent_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "tracestate" => value.clone_into(&mut self.state),
            "outcome" => self.outcome = Some(value.to_owned()),
            "error" => value.clone_into(&mut self.error),
            _ => (),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
