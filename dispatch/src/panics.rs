//! A panic of what is run is its failure, and not the end of whoever runs it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::error::CallError;
use crate::payload::Payload;

/// Makes a future and runs it; either may panic, which gives the message.
pub(crate) async fn run<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, String> {
    let future = catch_unwind(AssertUnwindSafe(make)).map_err(|panic| message(&*panic))?;
    let mut future = pin!(future);
    poll_fn(|waker| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(waker).map(Ok)))
            .unwrap_or_else(|panic| Poll::Ready(Err(message(&*panic))))
    })
    .await
}

/// The same for a call, of which a panic is a failure.
pub(crate) async fn caught<F>(make: impl FnOnce() -> F) -> Result<Payload, CallError>
where
    F: Future<Output = Result<Payload, CallError>>,
{
    run(make).await.unwrap_or_else(|message| Err(CallError::panicked(message)))
}

/// Runs what may panic, which gives the message.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic))
}

pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref().map(String::as_str)).unwrap_or("of no text");
    format!("panicked: {message}")
}
