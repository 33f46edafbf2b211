//! What can be called.

use std::pin::Pin;

use crate::context::CallContext;
use crate::error::CallError;
use crate::handler::Handler;
use crate::payload::Payload;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that can be called. Closures and `async fn`s convert [into](IntoFunction) a function.
///
/// Dropping the future ends the call, so a function is written to be cancel safe.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function",
    label = "write `async |ctx: CallContext, Json(request): Json<Request>| -> Result<Json<Response>, E>`"
)]
pub trait Function: Send + Sync + 'static {
    /// Runs the function with the frame of `ctx`.
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>>;
}

/// Conversion into a [`Function`].
///
/// Implemented for every [`Function`], and for closures and `async fn`s of the [forms](crate::handler) that a
/// function may have. The compiler infers `M`, which keeps these implementations apart.
///
/// [`Functions::register`](crate::Functions::register) calls it. Call it to pass a closure where a
/// [`Function`] is expected:
///
/// ```
/// use frame_dispatch::{CallContext, Function, IntoFunction, Json};
///
/// fn boxed<M>(function: impl IntoFunction<M, Function: Function>) -> Box<dyn Function> {
///     Box::new(function.into_function())
/// }
///
/// let increment = boxed(async |_: CallContext, Json(n): Json<u64>| Json(n + 1));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered as a function",
    label = "is neither a closure that takes a context and at most one argument nor a `Function`",
    note = "write `async |ctx: CallContext, Json(request): Json<Request>| -> Result<Json<Response>, E>`",
    note = "a function takes a `CallContext`, and after it at most one `Json<T>`, `Vec<u8>` or `Payload`"
)]
pub trait IntoFunction<M> {
    /// The function. [`Function`] is not a bound here, so that the compiler says why a closure is not a
    /// function.
    type Function;

    /// Converts into a function.
    fn into_function(self) -> Self::Function;
}

impl<F: Function> IntoFunction<()> for F {
    type Function = F;

    fn into_function(self) -> F {
        self
    }
}

impl<F, X, R> IntoFunction<fn(X) -> R> for F
where
    F: Fn(X) -> R,
{
    type Function = Handler<F, fn(X) -> R>;

    fn into_function(self) -> Self::Function {
        Handler::new(self)
    }
}

impl<F, X, A, R> IntoFunction<fn(X, A) -> R> for F
where
    F: Fn(X, A) -> R,
{
    type Function = Handler<F, fn(X, A) -> R>;

    fn into_function(self) -> Self::Function {
        Handler::new(self)
    }
}
