//! Functions, and the contexts that they are called with.

use std::any::Any;
use std::fmt;
use std::future::{Future, pending};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use frame_registry::{App, Frame, FrameBuilder};
use futures_core::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::bounds::{Bounds, HeldPermits, Hold, LimitId, Termination};
use crate::error::CallError;
use crate::frame::PID;
use crate::gate::Gate;
use crate::nesting::{self, Nesting};
use crate::panics;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::task::Task;

/// Something that can be called. Closures and `async fn`s convert [into](crate::IntoFunction) a function.
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

/// The context of a running function: its frame, the app, its deadline and cancellation, and the functions that it can
/// [call](Self::call).
///
/// A call through it inherits its frame and its bounds. Bounds can be narrowed, never widened. A clone costs a few reference
/// counts.
#[derive(Clone)]
pub struct CallContext {
    dispatcher: Arc<Dispatcher>,
    /// `None` outside of any function.
    frame: Option<Frame>,
    bounds: Bounds,
    nesting: Nesting,
    held: HeldPermits,
    unit: Unit,
}

/// The unit that a context belongs to.
#[derive(Clone)]
enum Unit {
    /// None: a root context.
    Root,
    /// A process.
    Process(Arc<dyn ContainingProcess>),
    /// A process that spawns with the frame of another unit, or with none.
    Delegate(Arc<dyn ContainingProcess>),
    /// A call of a function, and the process that made it, directly or through other functions.
    Function(Option<Arc<dyn ContainingProcess>>),
    /// An interceptor of a call that a process or a root context made.
    Interceptor(Option<Arc<dyn ContainingProcess>>),
}

/// A process, as far as the calls that it makes know it.
pub(crate) trait ContainingProcess: Any + Send + Sync {
    fn pid(&self) -> Pid;

    /// Ends its calls.
    fn termination(&self) -> &Termination;
}

/// What all calls through the same [`Functions`](crate::Functions) share, and the functions.
pub(crate) struct Dispatcher<F: ?Sized = dyn Dispatch> {
    pub(crate) app: App,
    pub(crate) gate: Gate,
    pub(crate) max_depth: u32,
    empty_frame: Frame,
    pub(crate) functions: F,
}

/// Finds functions.
pub(crate) trait Dispatch: Send + Sync {
    /// Prepares a call, which merges the options of the function into those of `task`.
    fn prepare<'a>(
        &'a self,
        caller: &'a CallContext,
        nesting: Nesting,
        task: &mut Task,
    ) -> Result<PreparedCall<'a>, CallError>;
}

/// A call whose function is found.
pub(crate) enum PreparedCall<'a> {
    /// No interceptor applies. The function runs with the frame.
    Direct(Arc<dyn Function>, Frame),
    /// Calls the interceptors, which have taken the task.
    Intercepted(BoxFuture<'a, Result<Payload, CallError>>),
}

/// What a process inherits from a unit that waits for its exit: it is nested in that, as a call is.
#[derive(Debug, Default)]
pub(crate) struct WaitingCaller {
    nesting: Nesting,
    held: HeldPermits,
}

impl<F> Dispatcher<F> {
    pub(crate) fn new(app: App, max_depth: u32, functions: F) -> Self {
        Self { app, gate: Gate::default(), max_depth, empty_frame: FrameBuilder::new().seal(), functions }
    }
}

impl Unit {
    const fn process(&self) -> Option<&Arc<dyn ContainingProcess>> {
        match self {
            Self::Process(process) | Self::Delegate(process) => Some(process),
            Self::Function(process) | Self::Interceptor(process) => process.as_ref(),
            Self::Root => None,
        }
    }

    /// Returns whether it runs inside a call that was admitted: what it calls is part of that.
    const fn is_admitted(&self) -> bool {
        matches!(self, Self::Function(_) | Self::Interceptor(_))
    }
}

impl CallContext {
    pub(crate) fn root(dispatcher: Arc<Dispatcher>, frame: Option<Frame>) -> Self {
        Self {
            dispatcher,
            frame,
            bounds: Bounds::default(),
            nesting: Nesting::default(),
            held: HeldPermits::default(),
            unit: Unit::Root,
        }
    }

    /// Turns a root context into that of a process, which `waiting` waits for.
    pub(crate) fn into_process(
        self,
        process: Arc<dyn ContainingProcess>,
        frame: Frame,
        waiting: Option<WaitingCaller>,
    ) -> Self {
        let WaitingCaller { nesting, held } = waiting.unwrap_or_default();
        Self { frame: Some(frame), nesting, held, unit: Unit::Process(process), ..self }
    }

    /// Returns what a process inherits from this unit if this waits for it, and the mark that it does.
    pub(crate) fn as_waiting_caller(&self) -> (WaitingCaller, Option<Hold>) {
        let (held, mark) = match self.unit.process() {
            Some(process) => {
                let (held, mark) = self.held.clone().with(LimitId::mailbox_of(process.pid()), None);
                (held, Some(mark))
            }
            None => (self.held.clone(), None),
        };
        (WaitingCaller { nesting: self.nesting.inside(), held }, mark)
    }

    /// Returns whether a process is, or waits for, this unit, so that it does not receive before this is done.
    pub(crate) fn is_awaited_by(&self, process: Pid) -> bool {
        self.unit.process().is_some_and(|containing| containing.pid() == process)
            || self.held.contains(LimitId::mailbox_of(process))
    }

    /// The process that this context belongs to, or that called the function it belongs to, directly or through others.
    pub(crate) const fn containing_process(&self) -> Option<&Arc<dyn ContainingProcess>> {
        self.unit.process()
    }

    /// The process that this context belongs to. `None` for a function that a process called.
    pub(crate) const fn process(&self) -> Option<&Arc<dyn ContainingProcess>> {
        match &self.unit {
            Unit::Root | Unit::Function(_) => None,
            unit => unit.process(),
        }
    }

    /// The PID of the process or the call that this context belongs to. Of a process it is not read from the frame, where a
    /// pair can replace it.
    pub(crate) fn unit(&self) -> Option<Pid> {
        match &self.unit {
            Unit::Process(process) | Unit::Interceptor(Some(process)) => Some(process.pid()),
            Unit::Root | Unit::Delegate(_) | Unit::Function(_) | Unit::Interceptor(None) => {
                self.frame().get(&PID).copied()
            }
        }
    }

    /// Returns the context of a function that is called from here.
    fn with_frame(&self, frame: Frame, nesting: Nesting) -> Self {
        Self {
            dispatcher: Arc::clone(&self.dispatcher),
            frame: Some(frame),
            bounds: self.bounds.clone(),
            nesting,
            held: self.held.clone(),
            unit: Unit::Function(self.unit.process().cloned()),
        }
    }

    /// Returns the context of a process as it spawns on behalf of another unit: what it spawns inherits from the frame of that
    /// unit, or from none, and has that unit for its parent. Links and monitors are those of the process.
    pub(crate) fn with_parent_frame(&self, frame: Option<Frame>) -> Self {
        let unit = match &self.unit {
            Unit::Process(process) => Unit::Delegate(Arc::clone(process)),
            unit => unit.clone(),
        };
        Self { frame, unit, ..self.clone() }
    }

    /// Returns the context of what runs around a call from here. It is nested as deep as the function.
    pub(crate) fn admitted(&self) -> Self {
        let unit = match &self.unit {
            Unit::Root => Unit::Interceptor(None),
            Unit::Process(process) | Unit::Delegate(process) => Unit::Interceptor(Some(Arc::clone(process))),
            unit @ (Unit::Function(_) | Unit::Interceptor(_)) => unit.clone(),
        };
        Self { unit, nesting: self.nesting.inside(), ..self.clone() }
    }

    pub(crate) const fn nesting(&self) -> Nesting {
        self.nesting
    }

    /// Returns the context of a unit that runs as a task of its own.
    pub(crate) fn on_fresh_stack(self) -> Self {
        Self { nesting: self.nesting.on_fresh_stack(), ..self }
    }

    /// The permits that this unit and its callers hold.
    pub(crate) const fn held(&self) -> &HeldPermits {
        &self.held
    }

    /// Adds a permit of `limit` and one of `second`, which count until the mark is dropped.
    pub(crate) fn holding(self, limit: LimitId, second: Option<LimitId>) -> (Self, Hold) {
        let (held, mark) = self.held.with(limit, second);
        (Self { held, ..self }, mark)
    }

    fn with_bounds(&self, bounds: Bounds) -> Self {
        Self { bounds, ..self.clone() }
    }

    /// The function's own frame; an empty one outside of any function.
    pub fn frame(&self) -> &Frame {
        self.frame.as_ref().unwrap_or(&self.dispatcher.empty_frame)
    }

    /// The frame that a call from here inherits from.
    pub(crate) const fn parent(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.dispatcher.app
    }

    /// The time by which the call has to be done. The function's future is dropped after that.
    pub const fn deadline(&self) -> Option<Instant> {
        self.bounds.deadline()
    }

    /// Returns whether the call was cancelled, the process that it is part of terminated, or the functions stopped.
    pub fn is_cancelled(&self) -> bool {
        self.dispatcher.gate.is_stopped() || self.is_terminated() || self.bounds.is_cancelled()
    }

    fn is_terminated(&self) -> bool {
        self.unit.process().is_some_and(|process| process.termination().has_begun())
    }

    async fn terminated(&self) {
        match self.unit.process() {
            Some(process) => process.termination().begun().await,
            None => pending().await,
        }
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled) returns true. For tasks that a function spawned and has to end itself: what
    /// a function awaits is dropped with it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.dispatcher.gate.stopped() => (),
            () = self.terminated() => (),
            () = self.bounds.cancelled() => (),
        }
    }

    /// Returns a context that `token` cancels, too.
    ///
    /// ```
    /// # use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
    /// # use frame_registry::{App, Options};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let functions = Functions::new(App::builder().build());
    /// functions.register("app:wait".parse()?, Options::new(), async |_: CallContext, _: Payload| {
    ///     std::future::pending::<Result<Payload, CallError>>().await
    /// })?;
    ///
    /// let token = CancellationToken::new();
    /// let ctx = functions.root().with_cancellation(token.clone());
    /// let (outcome, ()) = tokio::join!(ctx.call(Task::new("app:wait".parse()?)), async { token.cancel() });
    /// assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_cancellation(&self, token: CancellationToken) -> Self {
        self.with_bounds(self.bounds.with_cancellation(token))
    }

    /// Returns a context with this deadline, or with its own if that is earlier.
    ///
    /// A call that has a deadline and is not done at once needs tokio's timer. It panics if the runtime has none, as tokio's own
    /// timeouts do.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.with_bounds(self.bounds.with_deadline(deadline))
    }

    /// Sets the deadline as [`with_deadline`](Self::with_deadline) does, counted from now. A timeout that is too long for an
    /// [`Instant`] sets none.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.clone().within(timeout)
    }

    /// Narrows the deadline as [`with_timeout`](Self::with_timeout) does.
    pub(crate) fn within(self, timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => Self { bounds: self.bounds.with_deadline(deadline), ..self },
            None => self,
        }
    }

    /// Calls a function, within the bounds of this context and with a frame that inherits from its frame. Merges the options of
    /// the function under those of the task, and goes through the [interceptors](crate::interceptor). Then resolves the options,
    /// and runs the function.
    ///
    /// # Errors
    ///
    /// A [`CallError`] of the kind
    ///
    /// - [`NotFound`](crate::ErrorKind::NotFound) if no function has the id,
    /// - [`Denied`](crate::ErrorKind::Denied) if a resolver refused an option, or panicked,
    /// - [`Cancelled`](crate::ErrorKind::Cancelled) or [`Deadline`](crate::ErrorKind::Deadline) if this context ended it,
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if the functions [stop](crate::Functions::stop),
    /// - [`Exhausted`](crate::ErrorKind::Exhausted) if calls are nested too [deep](crate::FunctionsConfig::max_depth),
    /// - [`Internal`](crate::ErrorKind::Internal) if the function panicked,
    ///
    /// or the error of an interceptor or of the function.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's. A deeply nested call may run in a task of its own. If another thread is
    /// polling that task, the function's future is dropped as soon as the poll returns.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice")]
    pub fn call(&self, mut task: Task) -> impl Future<Output = Result<Payload, CallError>> + Send {
        async move {
            let Dispatcher { gate, functions, max_depth, .. } = &*self.dispatcher;
            if self.nesting.is_deep(*max_depth) {
                return self.call_deep(task).await;
            }
            let _admitted = if self.unit.is_admitted() {
                gate.enter_inside().ok_or_else(|| CallError::stopped().of(&task.function))?
            } else {
                gate.enter().ok_or_else(|| CallError::stopping().of(&task.function))?
            };
            let nesting = self.nesting.inside();
            let result = match functions.prepare(self, nesting, &mut task) {
                Ok(PreparedCall::Direct(function, frame)) => {
                    self.run(&*function, frame, nesting, &mut task).await
                }
                Ok(PreparedCall::Intercepted(call)) => call.await,
                Err(error) => Err(error),
            };
            result.map_err(|error| error.of(&task.function))
        }
    }

    /// Refuses a call that is nested too deep, or runs it on a fresh stack.
    #[cold]
    fn call_deep(&self, task: Task) -> BoxFuture<'static, Result<Payload, CallError>> {
        let function = task.function.clone();
        let spawned = self.nesting.check(self.dispatcher.max_depth).and_then(|()| {
            let ctx = self.clone().on_fresh_stack();
            nesting::spawn(async move { ctx.call(task).await })
        });
        match spawned {
            Ok(call) => Box::pin(call),
            Err(error) => Box::pin(async move { Err(error.of(&function)) }),
        }
    }

    /// Runs a function with `frame`, which is that of a call from here. A panic of the function is its failure, not its
    /// caller's.
    pub(crate) async fn run(
        &self,
        function: &dyn Function,
        frame: Frame,
        nesting: Nesting,
        task: &mut Task,
    ) -> Result<Payload, CallError> {
        // The resolvers may have taken their time.
        self.check()?;
        let (ctx, payload) = (self.with_frame(frame, nesting), mem::take(&mut task.payload));
        let call = panics::catch(|| task.span.in_scope(|| function.call(ctx, payload)))
            .map_err(CallError::panicked)?;
        // Around the bounds, because what is dropped may panic, too.
        let run = panics::caught(self.bound_checked(call));
        let result = if task.span.is_disabled() {
            run.await
        } else {
            // On the heap, so that calls that are not traced do not carry room for it.
            Box::pin(run.instrument(task.span.clone())).await
        };
        self.in_time(result)
    }

    /// Checks that the call may go on.
    ///
    /// # Errors
    ///
    /// A [`CallError`] of the kind [`Cancelled`](crate::ErrorKind::Cancelled) or [`Deadline`](crate::ErrorKind::Deadline) if it
    /// may not.
    #[inline]
    pub fn check(&self) -> Result<(), CallError> {
        if self.dispatcher.gate.is_stopped() || self.unit.process().is_some() || !self.bounds.are_none() {
            return self.check_each();
        }
        Ok(())
    }

    fn check_each(&self) -> Result<(), CallError> {
        if self.dispatcher.gate.is_stopped() {
            return Err(CallError::stopped());
        }
        if self.is_terminated() {
            return Err(CallError::terminated());
        }
        self.bounds.check()
    }

    /// Runs `future` until it is done, the call is cancelled, or its deadline has passed. Drops it in the latter cases. For an
    /// interceptor that waits, and for code that narrows a `CallContext`.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check). `future` is not polled if the call may not go on to begin with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `future`.
    pub fn bound<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, CallError>> {
        Bound { ctx: self, future: Some(future), is_checked: false, ended: None }
    }

    /// As [`bound`](Self::bound), after a call of [`check`](Self::check).
    pub(crate) const fn bound_checked<F: Future>(&self, future: F) -> Bound<'_, F> {
        Bound { ctx: self, future: Some(future), is_checked: true, ended: None }
    }

    /// [Bounds](Self::bound_checked) a call, which has to be done [in time](Self::in_time).
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) async fn bound_call(
        &self,
        call: impl Future<Output = Result<Payload, CallError>>,
    ) -> Result<Payload, CallError> {
        self.in_time(self.bound_checked(call).await?)
    }

    /// The result of a call. One that succeeds after the deadline, because it held its thread until then, is not done in time.
    pub(crate) fn in_time(&self, result: Result<Payload, CallError>) -> Result<Payload, CallError> {
        if result.is_ok() && self.bounds.is_past() { Err(CallError::deadline()) } else { result }
    }

    /// Waits until the call may not go on, and returns why.
    async fn ended(&self) -> CallError {
        tokio::select! {
            () = self.dispatcher.gate.stopped() => CallError::stopped(),
            () = self.terminated() => CallError::terminated(),
            reached = self.bounds.reached() => reached,
        }
    }
}

pin_project! {
    /// A future within the bounds of a context. It drops what it is given as soon as it is done.
    //
    // Not an `async fn`, whose future would have room for its argument twice.
    pub(crate) struct Bound<'a, F> {
        ctx: &'a CallContext,
        #[pin]
        future: Option<F>,
        is_checked: bool,
        // On the heap: most calls are done at once, and should not carry room for it.
        ended: Option<BoxFuture<'a, CallError>>,
    }
}

impl<F: Future> Future for Bound<'_, F> {
    type Output = Result<F::Output, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = Self::poll_within(this.ctx, this.future.as_mut(), this.is_checked, this.ended, context);
        if polled.is_ready() {
            this.future.set(None);
        }
        polled
    }
}

impl<'a, F: Future> Bound<'a, F> {
    fn poll_within(
        ctx: &'a CallContext,
        future: Pin<&mut Option<F>>,
        is_checked: &mut bool,
        ended: &mut Option<BoxFuture<'a, CallError>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<F::Output, CallError>> {
        if !mem::replace(is_checked, true)
            && let Err(ended) = ctx.check()
        {
            return Poll::Ready(Err(ended));
        }
        if let Some(future) = future.as_pin_mut()
            && let Poll::Ready(output) = future.poll(context)
        {
            return Poll::Ready(Ok(output));
        }
        // If the future used up the budget that tokio gives a task, no timer and no token would say anything.
        if let Err(ended) = ctx.check() {
            return Poll::Ready(Err(ended));
        }
        ended.get_or_insert_with(|| Box::pin(ctx.ended())).as_mut().poll(context).map(Err)
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("frame", self.frame())
            .field("deadline", &self.deadline())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
