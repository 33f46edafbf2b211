//! Closures and `async fn`s as functions and processes.
//!
//! [`Functions::register`] and [`ProcessManager::register`] take any of these forms. The context `ctx` is a
//! [`CallContext`] for a function and a [`ProcessContext`] for a process.
//!
//! | arguments | returns |
//! |---|---|
//! | `ctx: CallContext` | `Result<R, E>`, or [`Payload`] in place of `R` |
//! | `ctx: CallContext, Json(request): Json<T>` | `Result<R, E>` |
//! | `ctx: CallContext, bytes: Vec<u8>` | `Result<R, E>` |
//! | `ctx: CallContext, payload: Payload` | `Result<Payload, CallError>` |
//!
//! - `R` is [`Json<T>`](Json), `Vec<u8>`, `()`, or another type that implements [`IntoPayload`]. A function
//!   that cannot fail returns one of the first three without a `Result`.
//! - `E` is [`CallError`], any type that implements [`std::error::Error`], or [`BoxError`]. The last lets `?`
//!   convert errors of several types. See [`IntoCallError`] for the [`CallError`] that the caller gets.
//! - In place of `Json<T>` and `Vec<u8>`, an argument can be any type that implements [`FromPayload`].
//!
//! ```
//! use std::num::ParseIntError;
//!
//! use frame_dispatch::{CallContext, ErrorKind, Functions, Json, Task};
//! use frame_registry::{App, BoxError, Options};
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! struct Request {
//!     numbers: Vec<String>,
//! }
//!
//! #[derive(Serialize)]
//! struct Response {
//!     sum: u64,
//! }
//!
//! async fn sum(_: CallContext, Json(request): Json<Request>) -> Result<Json<Response>, ParseIntError> {
//!     let mut sum = 0;
//!     for number in &request.numbers {
//!         sum += number.parse::<u64>()?;
//!     }
//!     Ok(Json(Response { sum }))
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let functions = Functions::new(App::builder().build());
//! functions.register("app:sum".parse()?, Options::new(), sum)?;
//!
//! let task = Task::new("app:sum".parse()?).with_payload(json!({ "numbers": ["1", "x"] }));
//! let error = functions.root().call(task).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Internal);
//!
//! let task = Task::new("app:sum".parse()?).with_payload(json!({ "numbers": ["1", 2] }));
//! let error = functions.root().call(task).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Invalid);
//! let message = "invalid payload at `numbers[1]`: invalid type: integer `2`, expected a string";
//! assert_eq!(error.message(), message);
//! # Ok::<(), BoxError>(())
//! # })?;
//! # Ok::<(), BoxError>(())
//! ```
//!
//! # Type inference
//!
//! A closure that takes a `Payload` returns `Result<Payload, CallError>`. So the compiler infers the return
//! type if the argument is written as `payload: Payload`, and the argument if the closure returns
//! `Result<Payload, _>`. Such a closure parses its payload with [`FromPayload::from_payload`].
//!
//! Every other closure names the type of its error:
//! `async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(Json(n + 1))`.
//!
//! [`BoxError`]: frame_registry::BoxError
//! [`Functions::register`]: crate::Functions::register
//! [`ProcessContext`]: crate::process::ProcessContext
//! [`ProcessManager::register`]: crate::process::ProcessManager::register

use std::fmt;
use std::future::{Future, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use frame_registry::BoxError;
use futures_core::future::BoxFuture;
use pin_project_lite::pin_project;

use crate::context::{CallContext, Function};
use crate::error::CallError;
use crate::payload::{FromPayload, IntoPayload, Json, Payload};

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

/// A closure or an `async fn` as a [`Function`] or as a [`Process`](crate::process::Process).
///
/// [`IntoFunction`] and [`IntoProcess`](crate::process::IntoProcess) convert into it.
/// `S` is its signature as a function pointer: `fn(C) -> R` or `fn(C, A) -> R`.
pub struct Handler<F, S> {
    f: F,
    signature: PhantomData<S>,
}

impl<F, S> Handler<F, S> {
    pub(crate) const fn new(f: F) -> Self {
        Self { f, signature: PhantomData }
    }
}

impl<F, S> fmt::Debug for Handler<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl<F, S> Function for Handler<F, S>
where
    Self: RunsWith<CallContext>,
{
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        self.run_with(ctx, payload)
    }
}

/// A [`Handler`] whose signature fits a context of type `C`: [`CallContext`] or
/// [`ProcessContext`](crate::process::ProcessContext).
pub trait RunsWith<C>: Send + Sync + 'static {
    #[doc(hidden)]
    fn run_with(&self, ctx: C, payload: Payload) -> BoxFuture<'static, Result<Payload, CallError>>;
}

impl<C, F, X, R> RunsWith<C> for Handler<F, fn(X) -> R>
where
    C: HandlerContext<X>,
    F: Fn(X) -> R + Send + Sync + 'static,
    X: 'static,
    R: HandlerFuture + Send + 'static,
    fn() -> R::Output: HandlerSignature<Output = R::Output>,
{
    fn run_with(&self, ctx: C, _: Payload) -> BoxFuture<'static, Result<Payload, CallError>> {
        Box::pin(Respond::<R, fn() -> R::Output>::new((self.f)(ctx.into_argument())))
    }
}

impl<C, F, X, A, R> RunsWith<C> for Handler<F, fn(X, A) -> R>
where
    C: HandlerContext<X>,
    F: Fn(X, A) -> R + Send + Sync + 'static,
    X: 'static,
    A: 'static,
    R: HandlerFuture + Send + 'static,
    fn(A) -> R::Output: HandlerSignature<Argument = A, Output = R::Output>,
{
    fn run_with(&self, ctx: C, payload: Payload) -> BoxFuture<'static, Result<Payload, CallError>> {
        match <fn(A) -> R::Output>::argument(payload) {
            Ok(argument) => {
                let run = (self.f)(ctx.into_argument(), argument);
                Box::pin(Respond::<R, fn(A) -> R::Output>::new(run))
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

/// The context that a function or a process takes first: [`CallContext`], or
/// [`ProcessContext`](crate::process::ProcessContext).
#[diagnostic::on_unimplemented(
    message = "the first argument must be `{Self}`, not `{X}`",
    label = "takes `{X}` first",
    note = "write `async |ctx: CallContext, Json(request): Json<Request>|` for a function",
    note = "write `async |ctx: ProcessContext, Json(request): Json<Request>|` for a process"
)]
pub trait HandlerContext<X> {
    #[doc(hidden)]
    fn into_argument(self) -> X;
}

impl HandlerContext<Self> for CallContext {
    fn into_argument(self) -> Self {
        self
    }
}

/// The future of an `async` closure or an `async fn`.
#[diagnostic::on_unimplemented(
    message = "a function must be `async`; this one returns `{Self}`, which is not a future",
    label = "is not `async`",
    note = "write `async |ctx: CallContext, Json(request): Json<Request>| …` or `async fn`"
)]
pub trait HandlerFuture {
    #[doc(hidden)]
    type Output;
    #[doc(hidden)]
    fn poll_handler(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output>;
}

#[diagnostic::do_not_recommend]
impl<R: Future> HandlerFuture for R {
    type Output = R::Output;

    fn poll_handler(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Output> {
        self.poll(cx)
    }
}

/// The signature of a [`Handler`] after its context, without its future: `fn(A) -> R` or `fn() -> R`.
///
/// See the [forms](self). `fn(Payload) -> Result<Payload, CallError>` is the only one that takes a
/// [`Payload`], and the only one with an argument that returns a `Result` of a [`Payload`]. So the compiler
/// infers one half of it from the other.
#[diagnostic::on_unimplemented(
    message = "a function that takes a `Payload` must return `Result<Payload, CallError>`",
    label = "is `{Self}` after the context",
    note = "to return something else, take `Json<T>`, `Vec<u8>` or no argument after the context"
)]
pub trait HandlerSignature {
    #[doc(hidden)]
    type Argument;
    #[doc(hidden)]
    type Output;
    #[doc(hidden)]
    fn argument(payload: Payload) -> Result<Self::Argument, CallError>;
    #[doc(hidden)]
    fn result(output: Self::Output) -> Result<Payload, CallError>;
}

impl HandlerSignature for fn(Payload) -> Result<Payload, CallError> {
    type Argument = Payload;
    type Output = Result<Payload, CallError>;

    fn argument(payload: Payload) -> Result<Payload, CallError> {
        Ok(payload)
    }

    fn result(output: Self::Output) -> Result<Payload, CallError> {
        output
    }
}

/// Never applies. Makes the compiler report a wrong return type, and not that [`Payload`] does not implement
/// [`FromPayload`].
#[doc(hidden)]
#[diagnostic::do_not_recommend]
impl<R> HandlerSignature for fn(Payload) -> R
where
    Payload: Never<R>,
{
    type Argument = Payload;
    type Output = R;

    fn argument(payload: Payload) -> Result<Payload, CallError> {
        Ok(payload)
    }

    fn result(output: R) -> Result<Payload, CallError> {
        Payload::never(output)
    }
}

trait Never<R> {
    fn never(output: R) -> Result<Payload, CallError>;
}

impl<A: FromPayload, R: HandlerOutput> HandlerSignature for fn(A) -> R {
    type Argument = A;
    type Output = R;

    fn argument(payload: Payload) -> Result<A, CallError> {
        A::from_payload(payload)
    }

    fn result(output: R) -> Result<Payload, CallError> {
        output.into_result()
    }
}

impl<R: HandlerOutput> HandlerSignature for fn() -> R {
    type Argument = ();
    type Output = R;

    fn argument(_: Payload) -> Result<(), CallError> {
        Ok(())
    }

    fn result(output: R) -> Result<Payload, CallError> {
        output.into_result()
    }
}

impl<E: IntoCallError> HandlerSignature for fn() -> Result<Payload, E> {
    type Argument = ();
    type Output = Result<Payload, E>;

    fn argument(_: Payload) -> Result<(), CallError> {
        Ok(())
    }

    fn result(output: Self::Output) -> Result<Payload, CallError> {
        output.map_err(E::into_call_error)
    }
}

/// The output of a [`Handler`]: [`Json<T>`](Json), `Vec<u8>`, `()`, or a `Result` of a type that implements
/// [`IntoPayload`] and an [error](IntoCallError).
#[diagnostic::on_unimplemented(
    message = "a function cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "return `Json<T>`, `Vec<u8>` or `()`, or a `Result` of one of these with any error"
)]
pub trait HandlerOutput {
    #[doc(hidden)]
    fn into_result(self) -> Result<Payload, CallError>;
}

impl<R: IntoPayload, E: IntoCallError> HandlerOutput for Result<R, E> {
    fn into_result(self) -> Result<Payload, CallError> {
        self.map_err(E::into_call_error)?.into_payload()
    }
}

impl<T> HandlerOutput for Json<T>
where
    Self: IntoPayload,
{
    fn into_result(self) -> Result<Payload, CallError> {
        self.into_payload()
    }
}

impl HandlerOutput for Vec<u8> {
    fn into_result(self) -> Result<Payload, CallError> {
        self.into_payload()
    }
}

impl HandlerOutput for () {
    fn into_result(self) -> Result<Payload, CallError> {
        self.into_payload()
    }
}

/// An error that a function may return: every type that implements [`std::error::Error`], and every other
/// type that converts into [`BoxError`], such as `String`.
///
/// A [`CallError`] stays as it is, also inside a [`BoxError`]. Any other error becomes the
/// [`source`](std::error::Error::source) of a [`CallError`] of the kind
/// [`Internal`](crate::ErrorKind::Internal).
#[diagnostic::on_unimplemented(
    message = "a function cannot fail with `{Self}`, which is not an error",
    label = "the trait `std::error::Error` is not implemented for `{Self}`",
    note = "implement `std::error::Error` for `{Self}`, or return a `CallError` or a `BoxError`"
)]
pub trait IntoCallError {
    #[doc(hidden)]
    fn into_call_error(self) -> CallError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoCallError for E {
    #[cold]
    fn into_call_error(self) -> CallError {
        CallError::from(self.into())
    }
}

pin_project! {
    /// Runs the future of a handler and converts its output. An `async` block that does this would be twice
    /// as large.
    struct Respond<R, S> {
        #[pin]
        run: R,
        signature: PhantomData<S>,
    }
}

impl<R, S> Respond<R, S> {
    const fn new(run: R) -> Self {
        Self { run, signature: PhantomData }
    }
}

impl<R, S> Future for Respond<R, S>
where
    R: HandlerFuture,
    S: HandlerSignature<Output = R::Output>,
{
    type Output = Result<Payload, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(S::result(ready!(self.project().run.poll_handler(cx))))
    }
}
