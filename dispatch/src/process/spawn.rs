//! Spawning: what can be spawned, how a process is made, and the guard whose drop is its end.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use frame_registry::{BoxError, Frame, Id, IdKind, Key, OptionKind, Options, Pair, text};
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::cell::{ProcessCell, SpawnRelations, Watcher, relations};
use super::context::ProcessContext;
use super::error::SpawnError;
use super::host::{Host, HostId, HostPermit, NotAdmitted};
use super::manager::ProcessManager;
use super::message::{Exit, ExitReason, Message};
use super::supervisor::Supervisor;
use super::{names, policy};
use crate::context::{CallContext, WaitingCaller};
use crate::error::{CallError, ErrorKind};
use crate::frame::{self, FrameError, PID};
use crate::handler::{Handler, HandlerContext, RunsWith};
use crate::panics;
use crate::payload::Payload;
use crate::pid::Pid;

/// The most bytes of an exit reason that are logged.
pub(crate) const MAX_LOGGED_REASON: usize = 4 << 10;

/// Frame key of a process: the id of its definition.
pub static PROCESS: Key<EntryId> = Key::new("process").public();

/// The id of something that can be spawned as a process: `namespace:name`.
pub type EntryId = Id<EntryKind>;

/// Marks an [`Id`] as the id of something that can be spawned as a process.
#[derive(Debug)]
pub enum EntryKind {}

impl IdKind for EntryKind {
    const NOUN: &'static str = "process";
    const EXAMPLE: &'static str = "app:worker";
}

/// Something that can be spawned as a process. Closures and `async fn`s convert [into](IntoProcess) a
/// process. Scripts and components are processes, too: see [`LuaFunction`](crate::lua::LuaFunction) and
/// [`WasmFunction`](crate::wasm::WasmFunction).
///
/// Terminating a process drops the future, so it is written to be cancel safe.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "write `async |ctx: ProcessContext, Json(request): Json<Request>| -> Result<Json<Response>, E>`"
)]
pub trait Process: Send + Sync + 'static {
    /// Returns the name of the engine that it runs in. A host can be [restricted](super::HostConfig::engines) to some engines.
    /// Default: `native`.
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
    /// The process. [`Process`] is not a bound here, so that the compiler says why a closure is not a process.
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

/// A registered process, with the options that each of its processes has.
pub(crate) struct ProcessDefinition {
    pub(crate) id: Arc<EntryId>,
    pub(crate) options: Options,
    pub(crate) process: Box<dyn Process>,
    pub(crate) is_supervisor: bool,
}

impl ProcessDefinition {
    pub(crate) fn new<P: Process>(id: EntryId, options: Options, process: P) -> Self {
        let is_supervisor = TypeId::of::<P>() == TypeId::of::<Supervisor>();
        Self { id: Arc::new(id), options, process: Box::new(process), is_supervisor }
    }

    /// Returns whether its code is quarantined. It is not if the process panics instead of answering.
    pub(crate) fn is_quarantined(&self) -> bool {
        matches!(panics::catch(|| self.process.is_quarantined()), Ok(true))
    }
}

impl fmt::Debug for ProcessDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessDefinition")
            .field("id", &self.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A hook that runs as every process is spawned and as it ends, for accounting or for resources of each process.
///
/// It runs on the thread that spawns or ends the process, so it must not block.
pub trait Lifecycle: Send + Sync + 'static {
    /// Returns its name, which is unique among the handlers.
    fn name(&self) -> &'static str;

    /// Returns its place. The lowest is called first as a process is spawned, and last as it ends. Equal ones are ordered by name.
    fn order(&self) -> i32;

    /// Called before a process is spawned. Its frame is sealed. It has not run, and cannot be looked up.
    ///
    /// # Errors
    ///
    /// Refuses the process. [`ended`](Self::ended) is then called on the handlers before this one, the last first, and not on this
    /// one. A panic counts as an error.
    fn starting(&self, process: &ProcessRef<'_>) -> Result<(), BoxError>;

    /// Called after a process that this handler accepted has ended and is dropped, and before its exit is delivered. `exit` is
    /// `None` if the process was refused after all. A panic is logged, and changes nothing.
    fn ended(&self, process: &ProcessRef<'_>, exit: Option<&Exit>);
}

/// A process, as hooks and policies see it.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRef<'a>(pub(crate) &'a ProcessCell);

impl<'a> ProcessRef<'a> {
    /// Returns its PID.
    pub const fn pid(&self) -> Pid {
        self.0.pid
    }

    /// Returns the id of its definition.
    pub fn entry(&self) -> &'a EntryId {
        &self.0.definition.id
    }

    /// Returns its host.
    pub fn host(&self) -> &'a HostId {
        &self.0.host.id
    }

    /// Returns the unit that spawned it. `None` if it was spawned from a root context.
    pub const fn parent(&self) -> Option<Pid> {
        self.0.parent
    }

    /// Returns its frame.
    pub const fn frame(&self) -> &'a Frame {
        self.0.frame()
    }
}

/// A process to be spawned.
#[derive(Debug, Clone)]
pub struct Spawn {
    pub(crate) host: HostId,
    pub(crate) entry: EntryId,
    pub(crate) payload: Payload,
    pub(crate) options: Options,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) name: Option<String>,
    pub(crate) messages: Vec<Payload>,
    pub(crate) monitor: bool,
    pub(crate) link: bool,
    /// The rank, if the spawning process is the owner.
    pub(crate) owner: Option<u64>,
}

impl Spawn {
    /// Creates the specification of a process of `entry` on `host`, with the payload `null`, no options and no name.
    #[must_use]
    pub fn new(host: HostId, entry: EntryId) -> Self {
        Self {
            host,
            entry,
            payload: Payload::default(),
            options: Options::new(),
            pairs: Vec::new(),
            name: None,
            messages: Vec::new(),
            monitor: false,
            link: false,
            owner: None,
        }
    }

    /// Sets the payload of the process.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the options of the process, which take precedence over those that the entry was registered with.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds a pair to the frame. It replaces pairs that the frame has of its own, its id and its PID included. What a resolver makes
    /// of the options replaces it. The identity of a process and its [parent](ProcessManager::parent) are not read from the frame.
    #[must_use]
    pub fn with_pair(mut self, pair: Pair) -> Self {
        self.pairs.push(pair);
        self
    }

    /// Sets a name, which the process has before it runs.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a message, which is in the mailbox before the process runs.
    #[must_use]
    pub fn with_message(mut self, payload: impl Into<Payload>) -> Self {
        self.messages.push(payload.into());
        self
    }

    /// Makes the spawning or [signalling](ProcessManager::spawn_or_signal) process monitor it: that receives its
    /// [exit](super::Message::Exited), however soon it ends.
    #[must_use]
    pub const fn with_monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// Links it to the spawning or [signalling](ProcessManager::spawn_or_signal) process.
    #[must_use]
    pub const fn with_link(mut self) -> Self {
        self.link = true;
        self
    }

    /// Makes the spawning process its owner. When the owner ends, however it ends, this process is terminated. It can neither trap
    /// that nor end the relation. Of several owned processes the youngest is terminated first, each after what it owns itself. The
    /// exit of the owner is delivered when all of them have ended. A process that is
    /// [signalled](ProcessManager::spawn_or_signal) keeps its owner.
    #[must_use]
    pub const fn with_owner(mut self) -> Self {
        self.owner = Some(0);
        self
    }

    /// Returns how the process shall be related to the process that spawns it.
    pub(crate) const fn relations(&self) -> SpawnRelations {
        SpawnRelations { owner_rank: self.owner, link: self.link, monitor: self.monitor }
    }
}

/// Spawns a process. `watcher` receives its exit, for a caller that waits for that.
pub(crate) fn launch(
    manager: &ProcessManager,
    ctx: &CallContext,
    spawn: Spawn,
    watcher: Option<(oneshot::Sender<Exit>, WaitingCaller)>,
) -> Result<Arc<ProcessCell>, SpawnError> {
    ctx.check().map_err(|source| SpawnError::ContextEnded { source })?;
    let (watcher, waiting) = watcher.unzip();
    let (definition, host) = lookup(manager, &spawn)?;
    if let Some(name) = &spawn.name {
        names::check(name).map_err(|name| SpawnError::InvalidName { name })?;
        if let Some(holder) = manager.whereis(name) {
            return Err(SpawnError::NameTaken { name: name.clone(), holder });
        }
    }
    let starter = starter(manager, ctx, &spawn)?;
    policy::check(manager, ctx, &spawn, (&definition, &host))?;

    let (cell, permit) = prepare(manager, ctx, (definition, host), &spawn)?;
    // From here on its drop undoes what was done.
    let mut guard = ProcessGuard {
        cell: Arc::clone(&cell),
        handlers: Vec::new(),
        is_started: false,
        outcome: None,
        permit,
    };
    guard.call_handlers(&manager.handlers())?;
    let relations = spawn.relations();
    // Before the process can be found, because other senders may fill its mailbox then.
    for payload in spawn.messages {
        let _ = cell.mailbox.try_send(Message::sent(ctx, payload, None));
    }
    cell.host
        .publish(|| manager.cells().insert(&cell))
        .map_err(|_closed| SpawnError::HostStopping { host: cell.host.id.clone() })?;
    // After that, so that a process that is found by its name is found by its PID.
    if let Some(name) = &spawn.name {
        manager
            .names()
            .claim(name, &cell)
            .map_err(|holder| SpawnError::NameTaken { name: name.clone(), holder })?;
    }
    if let Some(watcher) = watcher {
        cell.state().relations().watchers.insert(cell.pid.number(), Watcher::Monitor(watcher));
    }
    if let Some(starter) = starter {
        relations::begin(&starter, &cell, relations)
            .map_err(|relations::StarterEnded| SpawnError::StarterEnded { starter: starter.pid })?;
    }
    guard.is_started = true;
    let task = cell.host.runtime.spawn(guard.run(spawn.payload, waiting));
    cell.set_task(task.abort_handle());
    Ok(cell)
}

/// Returns the process that spawns another, if the two shall be related.
pub(crate) fn starter(
    manager: &ProcessManager,
    ctx: &CallContext,
    spawn: &Spawn,
) -> Result<Option<Arc<ProcessCell>>, SpawnError> {
    if spawn.relations().is_empty() {
        return Ok(None);
    }
    match ProcessCell::of(ctx).filter(|starter| starter.manager.is(manager)) {
        Some(starter) if starter.has_ended() => Err(SpawnError::StarterEnded { starter: starter.pid }),
        Some(starter) => Ok(Some(starter)),
        None => Err(SpawnError::NoProcess),
    }
}

/// Returns the definition and the host of a process to be spawned.
pub(crate) fn lookup(
    manager: &ProcessManager,
    spawn: &Spawn,
) -> Result<(Arc<ProcessDefinition>, Arc<Host>), SpawnError> {
    let (definition, host) = match (manager.definition(&spawn.entry), manager.host(&spawn.host)) {
        (Some(definition), Some(host)) => (definition, host),
        // They were removed by the stop.
        _ if manager.is_closed() => return Err(SpawnError::HostStopping { host: spawn.host.clone() }),
        (_, None) => {
            let nearest = nearest_to(&spawn.host, &manager.host_ids());
            return Err(SpawnError::UnknownHost { host: spawn.host.clone(), nearest });
        }
        (None, _) => {
            let nearest = nearest_to(&spawn.entry, &manager.ids());
            return Err(SpawnError::UnknownEntry { entry: spawn.entry.clone(), nearest });
        }
    };
    let engine = definition.process.engine();
    match &host.config.engines {
        Some(engines) if engines.iter().all(|other| other != engine) => Err(SpawnError::NotRunnable {
            host: spawn.host.clone(),
            entry: spawn.entry.clone(),
            engine,
            engines: if engines.is_empty() { "nothing".to_owned() } else { engines.join(", ") },
        }),
        _ => Ok((definition, host)),
    }
}

/// Makes the frame, and then asks the host for a permit.
fn prepare(
    manager: &ProcessManager,
    ctx: &CallContext,
    (definition, host): (Arc<ProcessDefinition>, Arc<Host>),
    spawn: &Spawn,
) -> Result<(Arc<ProcessCell>, HostPermit), SpawnError> {
    let (messages, capacity) = (spawn.messages.len(), host.mailbox_capacity());
    if messages > capacity {
        return Err(SpawnError::TooManyMessages { messages, capacity });
    }
    let merged;
    let options = if definition.options.is_empty() {
        &spawn.options
    } else {
        merged = definition.options.merged_under(&spawn.options);
        &merged
    };
    if let Some(option) = options.iter().find(|option| option.kind() == OptionKind::Dispatcher) {
        return Err(SpawnError::DispatcherOption { option: option.name() });
    }
    let pid = Pid::next(host.name);
    let frame = frame::make(
        manager.app(),
        ctx.parent(),
        |frame| {
            frame.push(PROCESS.pair_shared(Arc::clone(&definition.id))).set(&PID, pid);
        },
        spawn.pairs.iter().cloned(),
        options,
    );
    let frame = frame.map_err(|error| match error {
        FrameError::Resolver(source) => SpawnError::Denied { source: Arc::new(source) },
        FrameError::Panic(message) => SpawnError::ResolverPanicked { message },
    })?;
    let permit = host.admit().map_err(|reason| match reason {
        NotAdmitted::Full => SpawnError::HostFull { host: host.id.clone(), limit: host.config.processes },
        NotAdmitted::Closed => SpawnError::HostStopping { host: host.id.clone() },
    })?;
    Ok((ProcessCell::new(pid, (definition, host), ctx.unit(), frame, manager.clone()), permit))
}

fn nearest_to<K: IdKind>(id: &Id<K>, ids: &[Id<K>]) -> Option<Id<K>> {
    let found = text::nearest(id.as_str(), ids.iter().map(Id::as_str))?;
    ids.iter().find(|other| other.as_str() == found).cloned()
}

/// A process that is being spawned, or runs. Its drop is the end of the process, wherever that was.
struct ProcessGuard {
    cell: Arc<ProcessCell>,
    /// The handlers that accepted the process, in order.
    handlers: Vec<Arc<dyn Lifecycle>>,
    is_started: bool,
    /// The result of the process, or the message of its panic.
    outcome: Option<Result<Result<Payload, CallError>, String>>,
    /// Dropped last.
    permit: HostPermit,
}

impl ProcessGuard {
    #[allow(clippy::manual_async_fn, reason = "an `async fn` would contain its arguments twice")]
    fn run(mut self, payload: Payload, waiting: Option<WaitingCaller>) -> impl Future<Output = ()> + Send {
        async move {
            let Self { cell, outcome, .. } = &mut self;
            let process = || cell.definition.process.run(ProcessContext::new(cell, waiting), payload);
            let begin = |owes_room| Batch::begin(&cell.mailbox, owes_room);
            *outcome = Some(panics::run(process, begin, Batch::end).await);
        }
    }

    fn call_handlers(&mut self, handlers: &[Arc<dyn Lifecycle>]) -> Result<(), SpawnError> {
        for handler in handlers {
            panics::catch(|| handler.starting(&ProcessRef(&self.cell)))
                .unwrap_or_else(|message| Err(message.into()))
                .map_err(|source| SpawnError::Refused { handler: handler.name(), source: source.into() })?;
            self.handlers.push(Arc::clone(handler));
        }
        Ok(())
    }

    fn exit(&mut self) -> Exit {
        let cell = &self.cell;
        let mut result = None;
        let reason = match self.outcome.take() {
            Some(Ok(Ok(payload))) => {
                result = Some(Arc::new(payload));
                ExitReason::Normal
            }
            Some(Ok(Err(error))) if error.kind() == ErrorKind::Cancelled => {
                let cancelled = || cell.cancel_reason().map(ExitReason::Cancelled);
                cell.end_reason().or_else(cancelled).unwrap_or_else(|| ExitReason::Failed(Arc::new(error)))
            }
            Some(Ok(Err(error))) => ExitReason::Failed(Arc::new(error)),
            Some(Err(message)) => ExitReason::Panicked(message.into()),
            None => cell.end_reason().unwrap_or(ExitReason::HostStopped),
        };
        Exit { pid: cell.pid, reason, result }
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        let exit = self.exit();
        let process = ProcessRef(&self.cell);
        let seen = self.is_started.then_some(&exit);
        for handler in self.handlers.iter().rev() {
            if let Err(message) = panics::catch(|| handler.ended(&process, seen)) {
                tracing::error!(pid = %exit.pid, handler = handler.name(), "a lifecycle handler {message}");
            }
        }
        self.cell.end(&exit, self.is_started, &mut self.permit);
        if self.is_started {
            // After everything else, because the error's own code writes its text.
            let _ = panics::catch(|| log(&self.cell, &exit.reason));
        }
    }
}

/// Splits the traceback of a script, which comes last, from the rest of a reason.
fn without_traceback(reason: &str) -> (&str, Option<&str>) {
    match reason.find("stack traceback:\n") {
        Some(at) => (reason[..at].trim_end_matches([':', ' ']), Some(&reason[at..])),
        None => (reason, None),
    }
}

fn log(cell: &ProcessCell, reason: &ExitReason) {
    let (pid, process, exit) = (cell.pid, &*cell.definition.id, reason.as_str());
    match reason {
        ExitReason::Failed(_) | ExitReason::Panicked(_) => {
            let reason = reason.to_string();
            let (reason, traceback) = without_traceback(&reason);
            let reason = text::excerpt(reason, MAX_LOGGED_REASON);
            // The subscriber escapes it, line by line.
            let traceback = traceback.map(|traceback| text::shorten(traceback, MAX_LOGGED_REASON));
            tracing::warn!(%pid, %process, exit, traceback = traceback.as_deref(), "a process ended: {reason}");
        }
        _ => tracing::debug!(%pid, %process, exit, "a process ended"),
    }
}
