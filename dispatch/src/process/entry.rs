//! What can be started.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use frame_registry::{Id, IdKind, Options};
use futures_core::future::BoxFuture;

use super::context::ProcessContext;
use super::supervisor::Supervisor;
use crate::error::CallError;
use crate::handler::{Handler, HandlerContext, RunsWith};
use crate::panics;
use crate::payload::Payload;

/// The name of something that can be started as a process: `namespace:name`.
pub type EntryId = Id<EntryKind>;

/// Says that an [`Id`] is the name of something that can be started as a process.
#[derive(Debug)]
pub enum EntryKind {}

impl IdKind for EntryKind {
    const NOUN: &'static str = "process";
    const EXAMPLE: &'static str = "app:worker";
}

/// Something that can be started as a process. Closures and `async fn`s convert [into](IntoProcess) a
/// process. Scripts and components are processes, too: see [`LuaFunction`](crate::lua::LuaFunction) and
/// [`WasmFunction`](crate::wasm::WasmFunction).
///
/// Terminating a process drops the future, so it is written to be cancel safe.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "write `async |ctx: ProcessContext, Json(request): Json<Request>| -> Result<Json<Response>, E>`"
)]
pub trait Process: Send + Sync + 'static {
    /// What it runs in: `native`, unless it says another. A host can be [restricted](super::HostConfig::engines) to some.
    fn engine(&self) -> &'static str {
        "native"
    }

    /// Returns whether the process is [quarantined](crate::ScriptRuntime), so that it may never look at its mailbox again. It is
    /// then terminated when it is cancelled, without a grace period, and its supervisor leaves it alone when it has ended. Default: no.
    fn is_quarantined(&self) -> bool {
        false
    }

    /// Runs the process with the mailbox and the frame of `ctx`.
    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>>;
}

impl<F, S> Process for Handler<F, S>
where
    Self: RunsWith<ProcessContext>,
{
    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        self.run_with(ctx, payload)
    }
}

impl HandlerContext<Self> for ProcessContext {
    fn into_argument(self) -> Self {
        self
    }
}

/// Conversion into a [`Process`].
///
/// Implemented for every [`Process`], and for closures and `async fn`s of the [forms](crate::handler) that a
/// process may have. The compiler infers `M`, which keeps these implementations apart.
/// [`ProcessManager::register`](super::ProcessManager::register) calls it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered as a process",
    label = "is neither a closure that takes a context and at most one argument nor a `Process`",
    note = "write `async |ctx: ProcessContext, Json(request): Json<Request>| -> Result<Json<Response>, E>`",
    note = "a process takes a `ProcessContext`, and after it at most one `Json<T>`, `Vec<u8>` or `Payload`"
)]
pub trait IntoProcess<M> {
    /// The process. [`Process`] is not a bound here, so that the compiler says why a closure is not a
    /// process.
    type Process;

    /// Converts into a process.
    fn into_process(self) -> Self::Process;
}

impl<P: Process> IntoProcess<()> for P {
    type Process = P;

    fn into_process(self) -> P {
        self
    }
}

impl<F, X, R> IntoProcess<fn(X) -> R> for F
where
    F: Fn(X) -> R,
{
    type Process = Handler<F, fn(X) -> R>;

    fn into_process(self) -> Self::Process {
        Handler::new(self)
    }
}

impl<F, X, A, R> IntoProcess<fn(X, A) -> R> for F
where
    F: Fn(X, A) -> R,
{
    type Process = Handler<F, fn(X, A) -> R>;

    fn into_process(self) -> Self::Process {
        Handler::new(self)
    }
}

/// Something that can be started, with the options that each of its processes has.
pub(super) struct Entry {
    pub(super) id: Arc<EntryId>,
    pub(super) options: Options,
    pub(super) process: Box<dyn Process>,
    pub(super) is_supervisor: bool,
}

impl Entry {
    pub(super) fn new<P: Process>(id: EntryId, options: Options, process: P) -> Self {
        let is_supervisor = TypeId::of::<P>() == TypeId::of::<Supervisor>();
        Self { id: Arc::new(id), options, process: Box::new(process), is_supervisor }
    }

    /// Whether its code is quarantined. A process that cannot say is not.
    pub(super) fn is_quarantined(&self) -> bool {
        matches!(panics::catch(|| self.process.is_quarantined()), Ok(true))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("options", &self.options).finish_non_exhaustive()
    }
}
