//! A panic of what is run is its failure, and not the end of whoever runs it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::error::CallError;
use crate::payload::Payload;

/// Builds, polls and drops a future. Each poll is between `begin` and `end`, and `begin` has what the last `end` returned. Returns
/// the message of the first panic.
pub(crate) async fn run<F: Future, S, C: Default>(
    make: impl FnOnce() -> F,
    begin: impl Fn(C) -> S,
    end: impl Fn(S, &mut Context<'_>) -> C,
) -> Result<F::Output, String> {
    let mut future = pin!(Some(catch(make)?));
    let mut carried = C::default();
    let output = poll_fn(|context| {
        let scope = begin(mem::take(&mut carried));
        let poll = || future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(context));
        let polled = catch(poll);
        carried = end(scope, context);
        polled.map_or_else(|message| Poll::Ready(Err(message)), |polled| polled.map(Ok))
    })
    .await;
    let dropped = catch(|| future.set(None));
    output.and_then(|output| dropped.map(|()| output))
}

pin_project! {
    /// A call within bounds, of which a panic is a failure.
    //
    // Not an `async fn`, whose future would have room for its argument twice.
    pub(crate) struct Caught<F> {
        #[pin]
        call: F,
    }
}

/// Makes a panic of `call` its failure, also one as it is dropped where it ends.
pub(crate) const fn caught<F>(call: F) -> Caught<F>
where
    F: Future<Output = Result<Result<Payload, CallError>, CallError>>,
{
    Caught { call }
}

impl<F> Future for Caught<F>
where
    F: Future<Output = Result<Result<Payload, CallError>, CallError>>,
{
    type Output = Result<Payload, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.project().call;
        match catch(|| call.poll(context)) {
            Ok(polled) => polled.map(Result::flatten),
            Err(message) => Poll::Ready(Err(CallError::panicked(message))),
        }
    }
}

/// Runs what may panic, which gives the message.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let message = message(&*panic);
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            // It could go on like that.
            mem::forget(again);
        }
        message
    })
}

pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref().map(String::as_str)).unwrap_or("of no text");
    format!("panicked: {message}")
}
