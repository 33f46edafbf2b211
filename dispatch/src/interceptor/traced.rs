//! A span around every attempt at a call.

use std::time::Duration;

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tracing::field::{Empty, debug, display};
use tracing::{Span, info_span};

use super::{Interceptor, Next};
use crate::context::CallContext;
use crate::error::CallError;
use crate::payload::Payload;
use crate::task::Task;

/// Whether every attempt at the call is a span `call` of [`tracing`], at the level `INFO`, in which the function runs: the
/// spans of what it calls are inside.
///
/// Its fields are `function`, `pid`, `attempt`, `resolvers` (those of the app, in order), `elapsed`, and `outcome`: `ok`, or
/// the kind of the error, which is then `error`, or `dropped` where nobody waited for it to end.
#[frame_option(name = "traced", dispatcher)]
pub static TRACED: FrameOption<bool>;

/// Does what [`TRACED`] says.
#[derive(Debug)]
pub(super) struct Traces;

impl Interceptor for Traces {
    fn name(&self) -> &'static str {
        "traced"
    }

    fn order(&self) -> i32 {
        500
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        const { &[TRACED.declared()] }
    }

    fn applies(&self, task: &Task) -> bool {
        task.options().get(&TRACED) == Some(&true)
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        mut task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            let span = info_span!(
                "call",
                function = %next.function(),
                pid = Empty,
                attempt = task.attempt(),
                resolvers = Empty,
                outcome = Empty,
                error = Empty,
                elapsed = Empty,
            );
            task.span = span.clone();
            let mut record = Record { span, begun: Instant::now(), outcome: "dropped" };
            let outcome = next.call(ctx, task).await;
            record.outcome = match &outcome {
                Ok(_) => "ok",
                Err(error) => {
                    record.span.record("error", display(error));
                    error.kind().as_str()
                }
            };
            outcome
        })
    }
}

/// Says how an attempt went, also where its future is dropped.
struct Record {
    span: Span,
    begun: Instant,
    outcome: &'static str,
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed: Duration = self.begun.elapsed();
        self.span.record("outcome", self.outcome).record("elapsed", debug(elapsed));
    }
}
