//! The one place where a function's frame is made.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use frame_registry::{Context, Frame, FrameBuilder, Key, Options, Pairs, ResolveError};

use crate::ctx::Ctx;
use crate::error::CallError;
use crate::functions::{Entry, Functions};
use crate::id::FunctionId;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::task::Task;

/// The function that a frame is of.
pub static FUNCTION: Key<FunctionId> = Key::new("function");

/// The PID of the unit that a frame is of: a new one each call.
pub static PID: Key<Pid> = Key::new("pid");

/// Makes the frame of a call, and only if that is granted runs the function. A panic of the function is its failure,
/// not its caller's.
pub(crate) async fn execute(
    functions: &Functions,
    entry: &Entry,
    parent: Option<&Frame>,
    task: Task,
) -> Result<Payload, CallError> {
    let options = entry.options.merged_under(&task.options);
    // A resolver is not the function's code, and its panic not a reason to end whoever calls.
    let frame = catch_unwind(AssertUnwindSafe(|| frame(functions, &entry.id, parent, &options, task.pairs)))
        .map_err(|panic| CallError::denied(&entry.id, panicked(&*panic)))?
        .map_err(|refused| CallError::denied(&entry.id, refused))?;
    let ctx = Ctx::new(functions.clone(), frame);
    run(entry, ctx, task.payload).await.map_err(|error| error.of(&entry.id))
}

fn frame(
    functions: &Functions,
    id: &Arc<FunctionId>,
    parent: Option<&Frame>,
    options: &Options,
    pairs: Pairs,
) -> Result<Frame, ResolveError> {
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    frame.push(FUNCTION.pair_shared(Arc::clone(id))).set(&PID, Pid::next()).extend(pairs);
    let app = functions.app();
    app.resolvers().resolve(&Context::new(app, parent), options, frame.pairs_mut())?;
    Ok(frame.seal())
}

async fn run(entry: &Entry, ctx: Ctx, payload: Payload) -> Result<Payload, CallError> {
    // A closure may panic before it gives a future, too.
    let future = catch_unwind(AssertUnwindSafe(|| entry.function.call(ctx, payload)))
        .map_err(|panic| panicked(&*panic))?;
    let mut future = pin!(future);
    poll_fn(|waker| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(waker)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> CallError {
    let message = panic.downcast_ref::<&str>().copied();
    CallError::panicked(message.or_else(|| panic.downcast_ref().map(String::as_str)).unwrap_or("of no text"))
}
