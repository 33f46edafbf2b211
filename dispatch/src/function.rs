//! Registered functions.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use frame_registry::{App, Frame, Options};
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Span;

use crate::context::{CallContext, Function};
use crate::error::CallError;
use crate::frame::{self, ATTEMPT, FUNCTION, PID};
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::pid::{Host, Pid};
use crate::task::Task;

/// A registered function. Every call of it holds a reference until it is done.
pub(crate) struct FunctionEntry {
    pub(crate) id: Arc<FunctionId>,
    pub(crate) options: Options,
    /// The host in the PIDs of its calls.
    host: Host,
    function: Box<dyn Function>,
    /// Never sent on. It is dropped after the function, which tells [`Retired`] that it has been.
    _dropped: oneshot::Sender<Infallible>,
    /// Waits here until the entry is retired.
    retired: Mutex<Option<Retired>>,
}

/// A function that was replaced or unregistered. It finishes the calls that have begun, and is dropped with the last one.
///
/// Dropping this changes nothing about that.
#[derive(Debug)]
pub struct Retired {
    dropped: oneshot::Receiver<Infallible>,
}

impl FunctionEntry {
    pub(crate) fn new(id: FunctionId, options: Options, function: impl Function) -> Self {
        let (sender, dropped) = oneshot::channel();
        Self {
            host: Host::named(id.as_str()),
            id: Arc::new(id),
            options,
            function: Box::new(function),
            _dropped: sender,
            retired: Mutex::new(Some(Retired { dropped })),
        }
    }

    /// Makes the frame of a call, whose options are merged.
    pub(crate) fn frame(&self, caller: &CallContext, task: &mut Task) -> Result<Frame, CallError> {
        caller.check()?;
        let pid = Pid::next(self.host);
        let id = FUNCTION.pair_shared(Arc::clone(&self.id));
        let attempt = task.attempt;
        let frame = frame::make(
            caller.app(),
            caller.parent(),
            |frame| {
                frame.push(id).set(&PID, pid).set(&ATTEMPT, attempt);
            },
            task.pairs.drain(..),
            &task.options,
        )?;
        if !task.span.is_disabled() {
            record(&task.span, &frame, caller.app());
        }
        Ok(frame)
    }

    /// Returns the retired function, once.
    pub(crate) fn retire(&self) -> Option<Retired> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Function for FunctionEntry {
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        self.function.call(ctx, payload)
    }
}

/// Records in the span of a call what only its frame holds.
fn record(span: &Span, frame: &Frame, app: &App) {
    if let Some(pid) = frame.get(&PID) {
        span.record("pid", tracing::field::display(pid));
    }
    let resolvers: Vec<_> = app.resolvers().iter().map(|resolver| resolver.name().to_owned()).collect();
    span.record("resolvers", resolvers.join(", "));
}

impl Retired {
    /// Waits until the last of its calls is done and the function is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops this.
    pub async fn drained(self) {
        let Err(_dropped) = self.dropped.await;
    }
}
