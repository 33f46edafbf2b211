//! What can be called.

use std::future::Future;
use std::pin::Pin;

use crate::ctx::Ctx;
use crate::error::CallError;
use crate::payload::Payload;

/// A future on the heap, of a type nobody names.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that can be called: every `async` closure over a [`Ctx`] and a [`Payload`] is.
///
/// Dropping the future ends the call, so a function is written to be cancel safe.
pub trait Function: Send + Sync + 'static {
    /// Runs it, with the frame that `ctx` has.
    fn call(&self, ctx: Ctx, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>>;
}

impl<F, R> Function for F
where
    F: Fn(Ctx, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    fn call(&self, ctx: Ctx, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(self(ctx, payload))
    }
}
