//! Runs functions, each call with a frame of its own.

use std::mem;
use std::sync::Arc;

use frame_registry::{App, Frame, Key};
use tracing::{Instrument, Span};

use crate::context::CallContext;
use crate::entry::Entry;
use crate::error::CallError;
use crate::frame::{self, PID, Refused};
use crate::id::FunctionId;
use crate::nesting::Nesting;
use crate::panics;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::task::Task;

/// The function that a frame is of.
pub static FUNCTION: Key<FunctionId> = Key::new("function").public();

/// Which attempt at a call a frame is of: the first is 1.
pub static ATTEMPT: Key<u32> = Key::new("attempt").public();

/// Makes the frame of a call, whose options are merged, and only if that is granted runs the function, within the
/// bounds of `caller` and nested as deep as `nesting` says. A panic of the function is its failure, not its caller's.
pub(crate) async fn execute(
    entry: &Entry,
    caller: &CallContext,
    nesting: Nesting,
    task: &mut Task,
) -> Result<Payload, CallError> {
    caller.check()?;
    let frame = frame(entry, caller, task).map_err(|refused| match refused {
        Refused::Resolver(error) => CallError::denied(error),
        Refused::Panic(message) => CallError::denied(message),
    })?;
    if !task.span.is_disabled() {
        record(&task.span, &frame, caller.app());
    }
    // The resolvers may have taken their time.
    caller.check()?;
    let (ctx, payload) = (caller.with_frame(frame, nesting), mem::take(&mut task.payload));
    let make = || task.span.in_scope(|| entry.function.call(ctx, payload));
    let call = panics::catch(make).map_err(CallError::panicked)?;
    // Around the bounds, because what is dropped may panic, too.
    let run = panics::caught(caller.bound_checked(call));
    let result = if task.span.is_disabled() {
        run.await
    } else {
        // On the heap, so that calls that are not traced do not carry room for it.
        Box::pin(run.instrument(task.span.clone())).await
    };
    caller.in_time(result)
}

fn frame(entry: &Entry, caller: &CallContext, task: &mut Task) -> Result<Frame, Refused> {
    let pid = Pid::next(entry.host);
    let id = FUNCTION.pair_shared(Arc::clone(&entry.id));
    let attempt = task.attempt;
    frame::make(
        caller.app(),
        caller.parent(),
        |frame| {
            frame.push(id).set(&PID, pid).set(&ATTEMPT, attempt);
        },
        task.pairs.drain(..),
        &task.options,
    )
}

/// Says in the span of a call what only its frame tells.
fn record(span: &Span, frame: &Frame, app: &App) {
    if let Some(pid) = frame.get(&PID) {
        span.record("pid", tracing::field::display(pid));
    }
    let resolvers: Vec<_> = app.resolvers().iter().map(|resolver| resolver.name().to_owned()).collect();
    span.record("resolvers", resolvers.join(", "));
}
