//! A panic of what is run is its failure, and not the end of whoever runs it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::error::CallError;
use crate::payload::Payload;

/// Makes a future, runs it and drops it; each may panic, which gives the message, of several panics that of the first.
pub(crate) async fn run<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, String> {
    let mut future = pin!(Some(catch(make)?));
    let output = poll_fn(|waker| {
        let poll = || future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(waker));
        catch(poll).map_or_else(|message| Poll::Ready(Err(message)), |polled| polled.map(Ok))
    })
    .await;
    let dropped = catch(|| future.set(None));
    output.and_then(|output| dropped.map(|()| output))
}

/// Makes and runs a call, of which a panic is a failure. Apart from [`run`], because every call pays for what that does more.
pub(crate) async fn caught<F>(make: impl FnOnce() -> F) -> Result<Payload, CallError>
where
    F: Future<Output = Result<Payload, CallError>>,
{
    let mut future = pin!(catch(make).map_err(CallError::panicked)?);
    poll_fn(|waker| {
        let polled = catch(|| future.as_mut().poll(waker));
        polled.unwrap_or_else(|message| Poll::Ready(Err(CallError::panicked(message))))
    })
    .await
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
