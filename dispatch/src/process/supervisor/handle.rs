//! Handles of supervisors, and the commands that they send.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frame_registry::Frame;
use tokio::sync::{mpsc, oneshot, watch};

use super::children::{ChildInfo, Parent};
use super::error::ControlError;
use super::spec::{ChildSpec, DynamicChild, DynamicSpec};
use crate::context::CallContext;
use crate::pid::Pid;
use crate::process::policy::may_spawn;
use crate::process::{EntryId, SpawnError};

/// The most commands that are queued for a supervisor. Further callers wait for room.
const MAX_COMMANDS: usize = 64;

/// The sender of the reply to a command.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// A command for a supervisor.
pub(crate) enum Command {
    Children(Reply<Vec<ChildInfo>>),
    Add(Box<ChildSpec>, Parent, Reply<StartedChild>),
    Remove(RemoveChild, Reply<()>),
    Restart(Arc<str>, Reply<StartedChild>),
    Arrange(Vec<Arc<str>>, Reply<()>),
    StartChild(Box<DynamicChild>, Box<ChildStarter>, Reply<StartedChild>),
    Reconfigure(Box<DynamicSpec>, Reply<()>),
    RestartChildren(Reply<usize>),
}

impl Command {
    pub(crate) fn refuse(self, error: &ControlError) {
        // The caller may have given up.
        match self {
            Self::Children(reply) => _ = reply.send(Err(error.clone())),
            Self::Add(_, _, reply) | Self::Restart(_, reply) | Self::StartChild(_, _, reply) => {
                _ = reply.send(Err(error.clone()));
            }
            Self::Remove(_, reply) | Self::Arrange(_, reply) | Self::Reconfigure(_, reply) => {
                _ = reply.send(Err(error.clone()));
            }
            Self::RestartChildren(reply) => _ = reply.send(Err(error.clone())),
        }
    }
}

/// The running processes of a supervisor.
type RunningSupervisors = BTreeMap<Pid, mpsc::Sender<Command>>;

/// A handle that inspects and controls a running [`Supervisor`](super::Supervisor). A clone costs one reference count.
///
/// It stays valid when the supervisor is restarted: it addresses the process of the supervisor that is running. If several run,
/// because the supervisor was spawned several times, [`of`](Self::of) selects one.
#[derive(Clone)]
pub struct SupervisorHandle {
    running: Arc<watch::Sender<RunningSupervisors>>,
    chosen: Option<Pid>,
}

impl SupervisorHandle {
    pub(crate) fn new() -> Self {
        Self { running: Arc::new(watch::Sender::default()), chosen: None }
    }

    /// Returns a handle of this process of the supervisor.
    #[must_use]
    pub fn of(&self, pid: Pid) -> Self {
        Self { running: Arc::clone(&self.running), chosen: Some(pid) }
    }

    /// Returns the running processes of the supervisor, the oldest first. A process is included once it has started its children.
    pub fn running(&self) -> Vec<Pid> {
        self.running.borrow().keys().copied().collect()
    }

    /// Waits until a process of the supervisor has started its children. Returns the oldest. It waits as long as there is none, so
    /// bound it with a timeout.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ready(&self) -> Pid {
        let mut running = self.running.subscribe();
        let first = |running: &RunningSupervisors| match self.chosen {
            Some(chosen) => running.contains_key(&chosen).then_some(chosen),
            None => running.keys().next().copied(),
        };
        let found = running.wait_for(|running| first(running).is_some()).await.ok();
        match found.and_then(|running| first(&running)) {
            Some(pid) => pid,
            // The sender is in this handle.
            None => pending().await,
        }
    }

    /// Returns the children in start order.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotRunning`], [`ControlError::Several`] or [`ControlError::ShuttingDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn children(&self) -> Result<Vec<ChildInfo>, ControlError> {
        self.ask(Command::Children).await
    }

    /// Adds a child after the others, starts it, and returns its process. If children before it are being restarted, it is started
    /// after them. A child that does not start is not added. A supervisor that is itself restarted has the children that it was
    /// built with.
    ///
    /// The frame of the child inherits from that of `ctx`, and not from the supervisor's, at each start: the options that the frame of
    /// `ctx` inherits apply to the child for as long as it exists. The end of `ctx` does not end the child.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use frame_dispatch::process::supervisor::{ChildSpec, Strategy, Supervisor};
    /// # use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
    /// # use frame_dispatch::{CallContext, CallError, Functions, Payload, Task};
    /// # use frame_registry::{App, Options};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let functions = Functions::new(App::builder().build());
    /// # let processes = ProcessManager::new(functions.clone());
    /// # processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// # processes.register("app:worker".parse()?, Options::new(), async |mut ctx: ProcessContext, _: Payload| {
    /// #     ctx.receive().await;
    /// #     Ok(Payload::default())
    /// # })?;
    /// # let supervisor = Supervisor::builder(Strategy::OneForOne).build()?;
    /// # let handle = supervisor.handle();
    /// # processes.register("app:top".parse()?, Options::new(), supervisor)?;
    /// # processes.spawn(&functions.root(), Spawn::new("app:workers".parse()?, "app:top".parse()?))?;
    /// # handle.ready().await;
    /// let workers = handle.clone();
    /// functions.register("app:hire".parse()?, Options::new(), move |ctx: CallContext, _: Payload| {
    ///     let workers = workers.clone();
    ///     async move {
    ///         let worker = Spawn::new("app:workers".parse()?, "app:worker".parse()?);
    ///         // The worker is confined as this function is.
    ///         workers.add(&ctx, ChildSpec::new("hired", worker)).await?;
    ///         Ok::<_, CallError>(Payload::default())
    ///     }
    /// })?;
    /// functions.root().call(Task::new("app:hire".parse()?)).await?;
    /// assert_eq!(handle.children().await?[0].id, "hired");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ControlError::Spec`] if its id is empty or taken, [`ControlError::NotStarted`] if it did not start or `ctx` has ended,
    /// [`ControlError::Quarantined`] if its code is quarantined, [`ControlError::Removed`] if it was removed meanwhile,
    /// [`ControlError::Dynamic`], and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been added.
    pub async fn add(&self, ctx: &CallContext, child: ChildSpec) -> Result<Pid, ControlError> {
        check_context(ctx, &child.id)?;
        let parent = Parent::Other(ctx.parent().cloned());
        let added = self.ask(|reply| Command::Add(Box::new(child), parent, reply)).await?;
        Ok(added.pid)
    }

    /// Adds a child as [`add`](Self::add) does, as if the supervisor had been built with it: its frame inherits from the supervisor's,
    /// whose process is its [parent](crate::process::ProcessInfo::parent).
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been added.
    pub async fn insert(&self, child: ChildSpec) -> Result<Pid, ControlError> {
        let added = self.ask(|reply| Command::Add(Box::new(child), Parent::Supervisor, reply)).await?;
        Ok(added.pid)
    }

    /// Starts a child of a [dynamic](super::Supervisor::dynamic) supervisor.
    ///
    /// Its frame inherits from that of `ctx`, as that of an [added](Self::add) child, and its
    /// [parent](crate::process::ProcessInfo::parent) is the unit of `ctx`. It outlives that unit, because the supervisor owns it. A
    /// child that does not start is not added.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotDynamic`], [`ControlError::TooManyChildren`], [`ControlError::Quarantined`] if its code is quarantined,
    /// [`ControlError::NotStarted`] if it did not start or `ctx` has ended, and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been started.
    pub async fn start_child(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
    ) -> Result<StartedChild, ControlError> {
        self.start_child_of(ctx, child, ChildStarter::native(ctx)).await
    }

    /// Starts a child for a script or a component that is not trusted.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) async fn start_child_of_guest(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
    ) -> Result<StartedChild, ControlError> {
        self.start_child_of(ctx, child, ChildStarter::guest(ctx)).await
    }

    async fn start_child_of(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
        starter: ChildStarter,
    ) -> Result<StartedChild, ControlError> {
        check_context(ctx, &"".into())?;
        self.ask(|reply| Command::StartChild(Box::new(child), Box::new(starter), reply)).await
    }

    /// Stops the child that has this process, as [`remove`](Self::remove) does for an id.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownProcess`], also if the child has been restarted, and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been stopped.
    pub async fn stop_child(&self, pid: Pid) -> Result<(), ControlError> {
        let stop = RemoveChild { child: ChildRef::Process(pid), guest: None };
        self.ask(|reply| Command::Remove(stop, reply)).await
    }

    /// Stops a child for a script or a component. `guest` is the unit that has to have started the child. `None` if it is trusted.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) async fn stop_child_of_guest(
        &self,
        guest: Option<Pid>,
        child: ChildRef,
    ) -> Result<(), ControlError> {
        let stop = RemoveChild { child, guest };
        self.ask(|reply| Command::Remove(stop, reply)).await
    }

    /// Replaces the specification of a dynamic supervisor. It applies to starts and restarts from now on. Running children are not
    /// changed until [`restart_children`](Self::restart_children), even if there are more than it allows. A supervisor that is itself
    /// restarted has the specification that it was built with.
    ///
    /// # Errors
    ///
    /// [`ControlError::Spec`] if it is not valid, [`ControlError::NotDynamic`], and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the specification may have been replaced.
    pub async fn reconfigure(&self, spec: DynamicSpec) -> Result<(), ControlError> {
        self.ask(|reply| Command::Reconfigure(Box::new(spec), reply)).await
    }

    /// Restarts all children of a dynamic supervisor, each as [`restart`](Self::restart) does. Returns how many, without waiting for
    /// them.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotDynamic`], and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the children may have been restarted.
    pub async fn restart_children(&self) -> Result<usize, ControlError> {
        self.ask(Command::RestartChildren).await
    }

    /// Removes a child: shuts it down as specified, and waits for its end. No other child is restarted.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownChild`], and the errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been removed.
    pub async fn remove(&self, id: &str) -> Result<(), ControlError> {
        let remove = RemoveChild { child: ChildRef::Id(id.into()), guest: None };
        self.ask(|reply| Command::Remove(remove, reply)).await
    }

    /// Restarts a child: shuts it down as specified, starts it, and returns the new process. A child that is down is started without
    /// waiting for its backoff. Its frame inherits from the same frame as before. No other child is restarted, and the restart does
    /// not count. If the child does not start, that counts as a failure, and the supervisor tries again.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownChild`], [`ControlError::NotStarted`] if it did not start, [`ControlError::Quarantined`] if its code is
    /// quarantined, in which case a running child goes on, [`ControlError::Removed`] if it was removed meanwhile, and the errors of
    /// [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may have been restarted.
    pub async fn restart(&self, id: &str) -> Result<Pid, ControlError> {
        let restarted = self.ask(|reply| Command::Restart(id.into(), reply)).await?;
        Ok(restarted.pid)
    }

    /// Puts the children with these ids first, in this order, and keeps the order of the others after them. No child is started or
    /// stopped. Children are started in this order from now on, and shut down in reverse order. Unknown ids are ignored, because a
    /// temporary child may have ended.
    ///
    /// # Errors
    ///
    /// The errors of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the children may be in this order.
    pub async fn arrange(
        &self,
        ids: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Result<(), ControlError> {
        let ids = ids.into_iter().map(Into::into).collect();
        self.ask(|reply| Command::Arrange(ids, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ControlError> {
        let commands = self.choose()?;
        let (reply, replied) = oneshot::channel();
        commands.send(command(reply)).await.map_err(|_| ControlError::ShuttingDown)?;
        replied.await.unwrap_or(Err(ControlError::ShuttingDown))
    }

    fn choose(&self) -> Result<mpsc::Sender<Command>, ControlError> {
        let running = self.running.borrow();
        let mut all = running.iter();
        let found = match self.chosen {
            Some(chosen) => running.get(&chosen),
            None => match (all.next(), all.next()) {
                (Some(_), Some(_)) => {
                    return Err(ControlError::Several { running: running.keys().copied().collect() });
                }
                (first, _) => first.map(|(_, commands)| commands),
            },
        };
        found.cloned().ok_or(ControlError::NotRunning)
    }

    /// Registers a running process of the supervisor until the returned receiver is dropped. `of_entry` is the handle for all
    /// supervisors that are registered by the same id.
    pub(crate) fn register(&self, pid: Pid, of_entry: Self) -> CommandReceiver {
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let handles = [self.clone(), of_entry];
        for handle in &handles {
            handle.running.send_modify(|running| _ = running.insert(pid, sender.clone()));
        }
        CommandReceiver { pid, handles, commands }
    }
}

/// Refuses a child for a context that has ended.
fn check_context(ctx: &CallContext, id: &Arc<str>) -> Result<(), ControlError> {
    let ended = |source| ControlError::NotStarted {
        id: Arc::clone(id),
        source: Arc::new(SpawnError::ContextEnded { source }),
    };
    ctx.check().map_err(ended)
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("running", &self.running())
            .field("chosen", &self.chosen)
            .finish()
    }
}

/// Receives the commands for a process of a supervisor.
pub(crate) struct CommandReceiver {
    pid: Pid,
    handles: [SupervisorHandle; 2],
    commands: mpsc::Receiver<Command>,
}

impl CommandReceiver {
    /// # Cancel safety
    ///
    /// If the future is dropped, no command was taken.
    pub(crate) async fn next(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            // A sender is in the handle.
            None => pending().await,
        }
    }
}

impl Drop for CommandReceiver {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.running.send_modify(|running| _ = running.remove(&self.pid));
        }
    }
}

/// The handles of supervisors, by the id that they are registered as. A handle addresses every process of its id, whichever version of
/// the supervisor that was spawned from. It stays when the supervisor is unregistered.
#[derive(Default)]
pub(crate) struct Supervisors(Mutex<BTreeMap<EntryId, SupervisorHandle>>);

impl Supervisors {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<EntryId, SupervisorHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &EntryId) -> Option<SupervisorHandle> {
        self.handles().get(id).cloned()
    }

    /// Returns the handle for an id, which is that of a supervisor.
    pub(crate) fn get_or_add(&self, id: &EntryId) -> SupervisorHandle {
        self.handles().entry(id.clone()).or_insert_with(SupervisorHandle::new).clone()
    }

    /// Returns the supervisors of which processes run, sorted by id.
    pub(crate) fn running(&self) -> Vec<(EntryId, SupervisorHandle)> {
        let handles = self.handles();
        let running = handles.iter().filter(|(_, handle)| !handle.running().is_empty());
        running.map(|(id, handle)| (id.clone(), handle.clone())).collect()
    }
}

/// A child that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedChild {
    /// Its id in its supervisor. A restart keeps it.
    pub id: Arc<str>,
    /// Its process.
    pub pid: Pid,
}

/// The unit that starts a child of a dynamic supervisor.
pub(crate) struct ChildStarter {
    /// The frame that the child's frame inherits from.
    pub(crate) frame: Option<Frame>,
    pub(crate) unit: Option<Pid>,
    /// Set if it is a script or a component that is not trusted.
    pub(crate) guest: Option<CallContext>,
}

impl ChildStarter {
    pub(crate) fn native(ctx: &CallContext) -> Self {
        Self { frame: ctx.parent().cloned(), unit: ctx.unit(), guest: None }
    }

    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn guest(ctx: &CallContext) -> Self {
        Self { guest: Some(ctx.clone()), ..Self::native(ctx) }
    }

    /// Refuses a guest that may not spawn processes on the host of the children.
    pub(crate) fn check(&self, spec: &DynamicSpec) -> Result<(), ControlError> {
        let host = &spec.template.spawn.host;
        match &self.guest {
            Some(ctx) if !may_spawn(ctx, host) => Err(ControlError::NotGranted { host: host.clone() }),
            _ => Ok(()),
        }
    }
}

/// A request to remove a child.
pub(crate) struct RemoveChild {
    pub(crate) child: ChildRef,
    /// The requesting unit if it is a guest, which has to have started the child.
    pub(crate) guest: Option<Pid>,
}

/// A reference to a child.
pub(crate) enum ChildRef {
    Id(Arc<str>),
    Process(Pid),
}

impl ChildRef {
    /// Returns the error for an unknown child.
    pub(crate) fn unknown(self) -> ControlError {
        match self {
            Self::Id(id) => ControlError::UnknownChild { id },
            Self::Process(pid) => ControlError::UnknownProcess { pid },
        }
    }
}
