//! A panic of what is called is a failed call, and not the end of whoever called.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::error::CallError;
use crate::payload::Payload;

/// Makes a future and runs it; either may panic.
pub(crate) async fn caught<F>(make: impl FnOnce() -> F) -> Result<Payload, CallError>
where
    F: Future<Output = Result<Payload, CallError>>,
{
    let future =
        catch_unwind(AssertUnwindSafe(make)).map_err(|panic| CallError::panicked(message(&*panic)))?;
    let mut future = pin!(future);
    poll_fn(|waker| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(waker)))
            .unwrap_or_else(|panic| Poll::Ready(Err(CallError::panicked(message(&*panic)))))
    })
    .await
}

pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref().map(String::as_str)).unwrap_or("of no text");
    format!("panicked: {message}")
}
