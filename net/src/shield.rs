//! Calls into networks and drivers of other crates, whose panics stay there.

use std::any::Any;
use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Cause, DriverError, DriverStep};
use crate::network::BoxFuture;

/// A call panicked. The panic hook has reported how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl Panicked {
    /// The panic as the failure of `step`.
    pub(crate) fn at(self, step: DriverStep, peer: impl Display) -> DriverError {
        let Self = self;
        DriverError::new(step, peer, Cause::Panicked)
    }
}

impl From<Panicked> for io::Error {
    fn from(_: Panicked) -> Self {
        Self::other(Cause::Panicked)
    }
}

/// Calls `foreign`, whose panic becomes an error.
// What it leaves half-done is its own, and is not used again by this crate.
pub(crate) fn call<T>(foreign: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(|payload| {
        discard(payload);
        Panicked
    })
}

/// Drops `foreign`, whatever that does.
pub(crate) fn discard(foreign: impl Any) {
    // A second payload is leaked: its drop could panic for ever.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(foreign))).map_err(std::mem::forget);
}

/// A value that is dropped without a panic.
#[derive(Clone)]
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Calls the value.
    pub(crate) fn call<'a, U>(&'a self, call: impl FnOnce(&'a T) -> U) -> Result<U, Panicked> {
        // It is there until it is dropped.
        let value = self.0.as_ref().ok_or(Panicked)?;
        self::call(|| call(value))
    }

    /// Calls the value, and changes it.
    pub(crate) fn call_mut<'a, U>(&'a mut self, call: impl FnOnce(&'a mut T) -> U) -> Result<U, Panicked> {
        let value = self.0.as_mut().ok_or(Panicked)?;
        self::call(|| call(value))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = call(|| drop(value));
    }
}

/// A future whose panic is its outcome, and whose drop does not panic.
pub(crate) struct Shielded<'a, T: 'a>(Result<BoxFuture<'a, T>, Panicked>);

impl<'a, T> Shielded<'a, T> {
    /// The future that was made, or the panic of making it.
    pub(crate) const fn new(made: Result<BoxFuture<'a, T>, Panicked>) -> Self {
        Self(made)
    }
}

impl<T> Future for Shielded<'_, T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.0 {
            Ok(future) => call(|| future.as_mut().poll(context)),
            Err(Panicked) => Err(Panicked),
        };
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(Panicked) => Poll::Ready(Err(Panicked)),
        }
    }
}

impl<T> Drop for Shielded<'_, T> {
    fn drop(&mut self) {
        let future = std::mem::replace(&mut self.0, Err(Panicked));
        let _ = call(|| drop(future));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped, with itself once more.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_discarded() {
        assert_eq!(call(|| std::panic::panic_any(Bomb)), Err::<(), _>(Panicked));
        discard(Bomb);
    }

    #[tokio::test]
    async fn a_future_that_panics_when_it_is_made_polled_or_dropped_panics_nobody_else() {
        assert_eq!(Shielded::<()>::new(Err(Panicked)).await, Err(Panicked));
        let panics: [BoxFuture<'_, ()>; 2] =
            [Box::pin(async { panic!("polled") }), Box::pin(async { drop(Bomb) })];
        for future in panics {
            assert_eq!(Shielded::new(Ok(future)).await, Err(Panicked));
        }
        let bomb = Bomb;
        drop(Shielded::new(Ok(Box::pin(async move { drop(bomb) }))));
    }
}
