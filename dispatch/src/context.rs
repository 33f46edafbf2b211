//! What a running function has to hand.

use std::fmt;
use std::future::{Future, pending};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use frame_registry::{App, Frame};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bounds::Bounds;
use crate::error::CallError;
use crate::frame::PID;
use crate::function::BoxFuture;
use crate::functions::Functions;
use crate::held::{HeldPermits, Hold, LimitId};
use crate::nesting::Nesting;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::process::cell::ProcessCell;
use crate::task::Task;

/// The surroundings of a running function: its frame, the app, the functions it can call, and when it has to end.
///
/// Whatever is called through it inherits all of that; its bounds can be narrowed, never widened. Cloning it is a few
/// reference counts.
#[derive(Clone)]
pub struct CallContext {
    functions: Functions,
    /// None outside of any function.
    frame: Option<Frame>,
    bounds: Bounds,
    nesting: Nesting,
    held: HeldPermits,
    /// Whether it is of a call that was admitted: what is called with it is part of that.
    is_admitted: bool,
    /// The process that this is part of, with which it ends.
    process: Option<Arc<ProcessCell>>,
    /// Whether it is the process's own, and not that of a function that it called.
    is_process: bool,
    /// Whether the frame is that of another, for which the process starts something.
    is_for_other: bool,
}

/// What a process has to know of a unit that waits for its end: it is nested in that, as a call is.
#[derive(Debug, Default)]
pub(crate) struct WaitingCaller {
    nesting: Nesting,
    held: HeldPermits,
}

impl CallContext {
    pub(crate) fn root(functions: Functions) -> Self {
        let bounds = Bounds::default();
        Self {
            functions,
            frame: None,
            bounds,
            nesting: Nesting::default(),
            held: HeldPermits::default(),
            is_admitted: false,
            process: None,
            is_process: false,
            is_for_other: false,
        }
    }

    /// The surroundings of a process.
    pub(crate) fn of_process(
        functions: Functions,
        process: Arc<ProcessCell>,
        waiting: Option<WaitingCaller>,
    ) -> Self {
        let frame = Some(process.frame().clone());
        let WaitingCaller { nesting, held } = waiting.unwrap_or_default();
        Self { frame, nesting, held, process: Some(process), is_process: true, ..Self::root(functions) }
    }

    /// What a process has to know of this unit if this waits for it, and the mark that it does.
    pub(crate) fn as_waiting_caller(&self) -> (WaitingCaller, Option<Hold>) {
        let (held, mark) = match &self.process {
            Some(process) => {
                let (held, mark) = self.held.clone().with(LimitId::mailbox_of(process.pid()), None);
                (held, Some(mark))
            }
            None => (self.held.clone(), None),
        };
        (WaitingCaller { nesting: self.nesting.inside(), held }, mark)
    }

    /// The process that this unit is part of: the process itself, or the one that called the function.
    pub(crate) const fn owner(&self) -> Option<&Arc<ProcessCell>> {
        self.process.as_ref()
    }

    /// Returns whether a process is, or waits for, this unit, so that it does not receive before this is done.
    pub(crate) fn is_awaited_by(&self, process: Pid) -> bool {
        self.owner().is_some_and(|owner| owner.pid() == process)
            || self.held.contains(LimitId::mailbox_of(process))
    }

    /// The process whose own this is.
    pub(crate) fn process(&self) -> Option<&Arc<ProcessCell>> {
        self.process.as_ref().filter(|_| self.is_process)
    }

    /// The process that this context belongs to, or that called the function it belongs to, directly or through others.
    pub(crate) const fn containing_process(&self) -> Option<&Arc<ProcessCell>> {
        self.process.as_ref()
    }

    /// The unit whose own this is, be it a process or a function. A process is known without its frame, where a pair can
    /// stand in the place of its PID.
    pub(crate) fn unit(&self) -> Option<Pid> {
        let process = self.process().filter(|_| !self.is_for_other);
        process.map(|process| process.pid()).or_else(|| self.frame().get(&PID).copied())
    }

    /// With the frame and the nesting of a function that is called from here.
    pub(crate) fn with_frame(&self, frame: Frame, nesting: Nesting) -> Self {
        Self {
            functions: self.functions.clone(),
            frame: Some(frame),
            bounds: self.bounds.clone(),
            nesting,
            held: self.held.clone(),
            is_admitted: true,
            process: self.process.clone(),
            is_process: false,
            is_for_other: false,
        }
    }

    /// The same, where what is started from here inherits from the frame of another unit, or from none, and has that for its
    /// parent. Unlike with [`with_frame`](Self::with_frame) it stays the process's own, if it is one's: links and monitors are
    /// that one's.
    pub(crate) fn with_parent_frame(&self, frame: Option<Frame>) -> Self {
        Self { frame, is_for_other: true, ..self.clone() }
    }

    /// For what runs around a call. What that calls itself is nested as deep as what the function calls.
    pub(crate) fn admitted(&self) -> Self {
        Self { is_admitted: true, nesting: self.nesting.inside(), ..self.clone() }
    }

    pub(crate) const fn nesting(&self) -> Nesting {
        self.nesting
    }

    /// For what runs as a task of its own.
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

    pub(crate) const fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    fn with_bounds(&self, bounds: Bounds) -> Self {
        Self { bounds, ..self.clone() }
    }

    /// The function's own frame; outside of any function an empty one.
    pub fn frame(&self) -> &Frame {
        self.frame.as_ref().unwrap_or_else(|| self.functions.no_frame())
    }

    /// The frame that a call from here inherits from.
    pub(crate) const fn parent(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The app.
    pub fn app(&self) -> &App {
        self.functions.app()
    }

    /// The functions that can be called.
    pub const fn functions(&self) -> &Functions {
        &self.functions
    }

    /// When the call has to be done. Past it the function's future is dropped.
    pub const fn deadline(&self) -> Option<Instant> {
        self.bounds.deadline()
    }

    /// Whether the call was cancelled, the process that it is part of terminated, or the functions stopped.
    pub fn is_cancelled(&self) -> bool {
        self.functions.is_stopped() || self.is_terminated() || self.bounds.is_cancelled()
    }

    fn is_terminated(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_terminated())
    }

    async fn terminated(&self) {
        match &self.process {
            Some(process) => process.terminated().await,
            None => pending().await,
        }
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled): for what a function spawned, and has to end itself.
    /// What a function awaits is dropped with it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.functions.stopped() => (),
            () = self.terminated() => (),
            () = self.bounds.cancelled() => (),
        }
    }

    /// The same, cancelled by `token` as well.
    ///
    /// ```
    /// # use frame_dispatch::{CallError, CallContext, ErrorKind, Functions, Payload, Task};
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

    /// The same, with a deadline: this one, or the one there is if that is earlier.
    ///
    /// A call that has a deadline and is not done at once needs tokio's timer, and panics where the runtime has none, as
    /// tokio's own timeouts do.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.with_bounds(self.bounds.with_deadline(deadline))
    }

    /// [`with_deadline`](Self::with_deadline), counted from now. A time too long to be counted is no deadline.
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

    /// Calls a function, whose frame inherits from this function's own.
    ///
    /// # Errors
    ///
    /// As [`Functions::call`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the function called.
    pub fn call(&self, task: Task) -> impl Future<Output = Result<Payload, CallError>> + Send {
        self.functions.call(self, task)
    }

    /// Whether the call may go on.
    ///
    /// # Errors
    ///
    /// Of the kind [`Cancelled`](crate::ErrorKind::Cancelled) or [`Deadline`](crate::ErrorKind::Deadline) if it may not.
    #[inline]
    pub fn check(&self) -> Result<(), CallError> {
        if self.functions.is_stopped() || self.process.is_some() || !self.bounds.are_none() {
            return self.check_each();
        }
        Ok(())
    }

    fn check_each(&self) -> Result<(), CallError> {
        if self.functions.is_stopped() {
            return Err(CallError::stopped());
        }
        if self.is_terminated() {
            return Err(CallError::terminated());
        }
        self.bounds.check()
    }

    /// Runs `future` until it is done, the call cancelled, or its deadline passed; in the latter cases drops it. For
    /// an interceptor that waits, and for whoever narrows a `CallContext`.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); `future` is not even polled if the call may not go on to begin with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `future`.
    pub fn bound<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, CallError>> {
        Bound { ctx: self, future: Some(future), is_checked: false, ended: None }
    }

    /// The same where [`check`](Self::check) was asked just now.
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

    /// Waits until the call may go on no more, and says why.
    async fn ended(&self) -> CallError {
        tokio::select! {
            () = self.functions.stopped() => CallError::stopped(),
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
