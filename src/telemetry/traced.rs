//! Spans of what runs.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::thread;

use frame_dispatch::process::{IntoProcess, Process, ProcessContext};
use frame_dispatch::{ATTEMPT, BoxFuture, CallContext, CallError, Function, IntoFunction, PID, Payload};
use frame_registry::Frame;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::report::printable;
use crate::trace::{TRACE_KEY, TraceContext};

/// The target of the spans.
pub(super) const TARGET: &str = "frame_runtime::span";

/// A function or a process whose every run is a span of [`tracing`] if its frame has a trace; otherwise it
/// costs looking for one. Made by [`traced`] of anything that can be registered.
pub struct Traced<T> {
    id: Arc<str>,
    inner: T,
}

/// Puts every run of `inner` that is part of a trace in a span of [`tracing`], of the target `frame_runtime::span`, at the
/// level `INFO`. What is logged, and what else runs meanwhile, is inside.
///
/// The span is called `run`. Its fields are `unit`, which is `id`, `is_process`, `pid`, `attempt` (of a call), `trace_id`,
/// `span_id`, `parent_id`, `is_parent_remote`, `flags` and `tracestate`, as they are on the frame; and when it is over
/// `error`, if there is one, and `outcome`: `ok`, or the kind of the error, or `dropped` where nobody waited for it to end. A
/// panic is `internal`.
pub fn traced<T>(id: &impl Display, inner: T) -> Traced<T> {
    Traced { id: id.to_string().into(), inner }
}

impl<F: IntoFunction<M>, M> IntoFunction<Traced<M>> for Traced<F> {
    type Function = TracedUnit<F::Function>;

    fn into_function(self) -> Self::Function {
        TracedUnit { id: self.id, inner: self.inner.into_function() }
    }
}

impl<P: IntoProcess<M>, M> IntoProcess<Traced<M>> for Traced<P> {
    type Process = TracedUnit<P::Process>;

    fn into_process(self) -> Self::Process {
        TracedUnit { id: self.id, inner: self.inner.into_process() }
    }
}

impl<T> fmt::Debug for Traced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A [`Traced`] that is registered.
pub struct TracedUnit<T> {
    id: Arc<str>,
    inner: T,
}

impl<F: Function> Function for TracedUnit<F> {
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        let Some(trace) = ctx.frame().get(&TRACE_KEY) else { return self.inner.call(ctx, payload) };
        let span = span(&self.id, ctx.frame(), trace, false);
        if span.is_disabled() {
            return self.inner.call(ctx, payload);
        }
        Box::pin(run(span, ctx.clone(), move || self.inner.call(ctx, payload)))
    }
}

impl<P: Process> Process for TracedUnit<P> {
    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn is_quarantined(&self) -> bool {
        self.inner.is_quarantined()
    }

    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        let Some(trace) = ctx.frame().get(&TRACE_KEY) else { return self.inner.run(ctx, payload) };
        let span = span(&self.id, ctx.frame(), trace, true);
        if span.is_disabled() {
            return self.inner.run(ctx, payload);
        }
        Box::pin(run(span, ctx.ctx().clone(), move || self.inner.run(ctx, payload)))
    }
}

impl<T> fmt::Debug for TracedUnit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedUnit").field("id", &self.id).finish_non_exhaustive()
    }
}

fn span(id: &str, frame: &Frame, trace: &TraceContext, is_process: bool) -> Span {
    let state = Some(trace.state()).filter(|state| !state.is_empty());
    info_span!(
        target: TARGET,
        "run",
        unit = id,
        is_process,
        pid = frame.get(&PID).map(display),
        attempt = frame.get(&ATTEMPT),
        trace_id = %trace.trace_id(),
        span_id = %trace.span_id(),
        parent_id = trace.parent_id().map(display),
        is_parent_remote = trace.is_parent_remote(),
        flags = trace.flags(),
        tracestate = state.map(display),
        outcome = Empty,
        error = Empty,
    )
}

async fn run<'a>(
    span: Span,
    ctx: CallContext,
    start: impl FnOnce() -> BoxFuture<'a, Result<Payload, CallError>> + Send + 'a,
) -> Result<Payload, CallError> {
    let mut record = Record { span: span.clone(), ctx, outcome: None };
    let running = span.in_scope(start);
    let outcome = running.instrument(span).await;
    record.outcome = Some(match &outcome {
        Ok(_) => "ok",
        Err(error) => {
            // It may be in the words of a script.
            record.span.record("error", &*printable(&error.to_string()));
            error.kind().as_str()
        }
    });
    outcome
}

/// Says how a run went, also where its future is dropped.
struct Record {
    span: Span,
    ctx: CallContext,
    outcome: Option<&'static str>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or_else(|| {
            // Who bounds the call drops its future, and says only to the caller why.
            let (outcome, error) = if thread::panicking() {
                ("internal", "it panicked")
            } else if self.ctx.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                ("deadline", "not done by its deadline")
            } else if self.ctx.is_cancelled() {
                ("cancelled", "cancelled")
            } else {
                ("dropped", "nobody waited for it to end")
            };
            self.span.record("error", error);
            outcome
        });
        self.span.record("outcome", outcome);
    }
}
