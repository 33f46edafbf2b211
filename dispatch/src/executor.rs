//! The one place where a function's frame is made.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use frame_registry::{App, Context, Frame, FrameBuilder, Key, ResolveError};
use tracing::{Instrument, Span};

use crate::ctx::Ctx;
use crate::entry::Entry;
use crate::error::CallError;
use crate::id::FunctionId;
use crate::panics;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::task::Task;

/// The function that a frame is of.
pub static FUNCTION: Key<FunctionId> = Key::new("function").public();

/// The PID of the unit that a frame is of: a new one each attempt at a call.
pub static PID: Key<Pid> = Key::new("pid").public();

/// Which attempt at a call a frame is of: the first is 1.
pub static ATTEMPT: Key<u32> = Key::new("attempt").public();

/// Makes the frame of a call, whose options are merged, and only if that is granted runs the function, within the
/// bounds of `caller`. A panic of the function is its failure, not its caller's.
pub(crate) async fn execute(entry: &Entry, caller: &Ctx, task: &mut Task) -> Result<Payload, CallError> {
    caller.check()?;
    // A resolver is not the function's code, and its panic not a reason to end whoever calls.
    let frame = catch_unwind(AssertUnwindSafe(|| frame(entry, caller, task)))
        .map_err(|panic| CallError::denied(panics::message(&*panic)))?
        .map_err(CallError::denied)?;
    if !task.span.is_disabled() {
        record(&task.span, &frame, caller.app());
    }
    let (ctx, payload) = (caller.with_frame(frame), mem::take(&mut task.payload));
    // Around the bounds, because what is dropped may panic, too.
    let call = async move { entry.function.call(ctx, payload).await };
    let run = panics::caught(async move || caller.bound(call).await?);
    if task.span.is_disabled() {
        return run.await;
    }
    // On the heap, so that calls that are not traced do not carry room for it.
    Box::pin(run.instrument(task.span.clone())).await
}

fn frame(entry: &Entry, caller: &Ctx, task: &mut Task) -> Result<Frame, ResolveError> {
    let parent = caller.parent();
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    let pid = Pid::next(entry.host);
    frame.push(FUNCTION.pair_shared(Arc::clone(&entry.id))).set(&PID, pid).set(&ATTEMPT, task.attempt);
    frame.extend(task.pairs.drain(..));
    let app = caller.app();
    app.resolvers().resolve(&Context::new(app, parent), &task.options, frame.pairs_mut())?;
    Ok(frame.seal())
}

/// Says in the span of a call what only its frame tells.
fn record(span: &Span, frame: &Frame, app: &App) {
    if let Some(pid) = frame.get(&PID) {
        span.record("pid", tracing::field::display(pid));
    }
    let resolvers: Vec<_> = app.resolvers().iter().map(|resolver| resolver.name().to_owned()).collect();
    span.record("resolvers", resolvers.join(", "));
}
