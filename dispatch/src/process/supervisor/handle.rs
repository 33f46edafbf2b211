//! Asking a supervisor that runs.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::error::SpawnError;
use super::children::Parent;
use super::dynamic::{DynamicChild, DynamicSpec, Remove, StartedChild, Starter, Which};
use super::error::{ControlError, DownReason};
use super::spec::{ChildSpec, Restart};
use crate::context::CallContext;
use crate::pid::Pid;

/// How many commands wait for a supervisor; who gives more waits for room.
const COMMANDS: usize = 64;

/// What a child of a supervisor was like at one moment.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// What it is called in its supervisor.
    pub id: String,
    /// Its process; none if there is none just now.
    pub pid: Option<Pid>,
    /// After which ends it is started again.
    pub restart: Restart,
    /// What it does.
    pub state: ChildState,
    /// How often it was started again, for whatever cause.
    pub restarts: u64,
    /// How it ended the last time, or why it did not start.
    pub last: Option<LastExit>,
}

/// The last time that a child was not up. Its `Display` is the reason.
///
/// As data it is an object: the `reason` by its [name](DownReason::as_str), the `message`, which is the same in words, and `ago`, in
/// seconds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LastExit {
    /// How it ended, or why it did not start.
    pub reason: DownReason,
    /// How long ago that was.
    pub ago: Duration,
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Serialize for LastExit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("reason", self.reason.as_str())?;
        map.serialize_entry("message", &self.reason.to_string())?;
        map.serialize_entry("ago", &self.ago.as_secs_f64())?;
        map.end()
    }
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChildState {
    /// Its process runs.
    Running,
    /// Its process was told to end, and has not yet.
    Stopping,
    /// It will be started, when its [backoff](super::Backoff) is over and what has to end or start before it has.
    Waiting,
    /// It has ended, and is not started again by itself.
    Done,
    /// It has ended, and is left alone, because its code is [quarantined](crate::Quarantine). It is started again when it is
    /// [asked for](SupervisorHandle::restart) after its code was replaced.
    Quarantined,
}

impl ChildState {
    /// Its name in text: `running`, `stopping`, `waiting`, `done` or `quarantined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where the answer to a command goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// What a supervisor is asked.
pub(super) enum Command {
    Children(Reply<Vec<ChildInfo>>),
    Add(Box<ChildSpec>, Parent, Reply<StartedChild>),
    Remove(Remove, Reply<()>),
    Restart(Arc<str>, Reply<StartedChild>),
    Arrange(Vec<Arc<str>>, Reply<()>),
    StartChild(Box<DynamicChild>, Box<Starter>, Reply<StartedChild>),
    Reconfigure(Box<DynamicSpec>, Reply<()>),
    RestartChildren(Reply<usize>),
}

impl Command {
    pub(super) fn refuse(self, error: &ControlError) {
        // Whoever asked may be gone.
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

/// The processes of a supervisor that run.
type Running = BTreeMap<Pid, mpsc::Sender<Command>>;

/// Asks a [`Supervisor`](super::Supervisor) that runs, and changes what it supervises. Cloning it is one reference count.
///
/// It goes on being of use where the supervisor is started again: it asks whichever process of it runs. Where there are
/// several, because what was registered was started several times, [`of`](Self::of) chooses.
#[derive(Clone)]
pub struct SupervisorHandle {
    running: Arc<watch::Sender<Running>>,
    chosen: Option<Pid>,
}

impl SupervisorHandle {
    pub(super) fn new() -> Self {
        Self { running: Arc::new(watch::Sender::default()), chosen: None }
    }

    /// The same, for this process of the supervisor.
    #[must_use]
    pub fn of(&self, pid: Pid) -> Self {
        Self { running: Arc::clone(&self.running), chosen: Some(pid) }
    }

    /// The processes of the supervisor that run, the oldest first; each from when it has started its children.
    pub fn running(&self) -> Vec<Pid> {
        self.running.borrow().keys().copied().collect()
    }

    /// Waits until a process of the supervisor runs, and has started its children; gives the oldest. It waits for as long
    /// as there is none, so it is for whoever has a bound.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ready(&self) -> Pid {
        let mut running = self.running.subscribe();
        let first = |running: &Running| match self.chosen {
            Some(chosen) => running.contains_key(&chosen).then_some(chosen),
            None => running.keys().next().copied(),
        };
        let found = running.wait_for(|running| first(running).is_some()).await.ok();
        match found.and_then(|running| first(&running)) {
            Some(pid) => pid,
            // The other side is here.
            None => pending().await,
        }
    }

    /// The children, in the order in which they are started.
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

    /// Adds a child behind the others, and starts it; gives its process. Where those before it are about to be started
    /// again it is started behind them. One that does not start is not added. A supervisor that is itself started again
    /// has the children again that it was built with.
    ///
    /// Its frame inherits from that of `ctx`, and not from the supervisor's, each time it is started: the options that the
    /// frame of `ctx` inherits go on applying to it for as long as it is a child, whoever has it restarted. Of `ctx` that is
    /// all; what ends it does not end the child.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use frame_dispatch::process::supervisor::{ChildSpec, Strategy, Supervisor};
    /// # use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
    /// # use frame_dispatch::{CallError, CallContext, Functions, Payload, Task};
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
    /// [`ControlError::Spec`] if its id is empty or taken, [`ControlError::NotStarted`] if it did not start or `ctx` may do
    /// nothing more, [`ControlError::Quarantined`] if its code is, [`ControlError::Removed`] if it was removed before,
    /// [`ControlError::Dynamic`], and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be added or not.
    pub async fn add(&self, ctx: &CallContext, child: ChildSpec) -> Result<Pid, ControlError> {
        may_go_on(ctx, &child.id)?;
        let parent = Parent::Other(ctx.parent().cloned());
        let added = self.ask(|reply| Command::Add(Box::new(child), parent, reply)).await?;
        Ok(added.pid)
    }

    /// The same, where the child is one of the supervisor's own: its frame inherits from the supervisor's, whose process is its
    /// [parent](crate::process::ProcessInfo::parent), as if the supervisor had been built with it.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be added or not.
    pub async fn insert(&self, child: ChildSpec) -> Result<Pid, ControlError> {
        let added = self.ask(|reply| Command::Add(Box::new(child), Parent::Supervisor, reply)).await?;
        Ok(added.pid)
    }

    /// Starts a child of a [dynamic](super::Supervisor::dynamic) supervisor.
    ///
    /// Its frame inherits from that of `ctx`, as that of a child that is [added](Self::add), and its
    /// [parent](crate::process::ProcessInfo::parent) is the unit of `ctx`. It outlives that unit: the supervisor owns it. A child
    /// that does not start is not one of the supervisor's.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotDynamic`], [`ControlError::TooManyChildren`], [`ControlError::Quarantined`] if its code is,
    /// [`ControlError::NotStarted`] if it did not start or `ctx` may do nothing more, and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the child may be started or not.
    pub async fn start_child(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
    ) -> Result<StartedChild, ControlError> {
        self.start_child_of(ctx, child, Starter::native(ctx)).await
    }

    /// [`start_child`](Self::start_child), for a script or a component that is not trusted.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(in crate::process) async fn start_child_of_guest(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
    ) -> Result<StartedChild, ControlError> {
        self.start_child_of(ctx, child, Starter::guest(ctx)).await
    }

    async fn start_child_of(
        &self,
        ctx: &CallContext,
        child: DynamicChild,
        starter: Starter,
    ) -> Result<StartedChild, ControlError> {
        may_go_on(ctx, &"".into())?;
        self.ask(|reply| Command::StartChild(Box::new(child), Box::new(starter), reply)).await
    }

    /// Stops the child that has this process: shuts it down, as its specification says, waits for its end, and removes it. It is
    /// [`remove`](Self::remove) for a child that is known by its process.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownProcess`], also if the child has another process by now, and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the child may be stopped or not.
    pub async fn stop_child(&self, pid: Pid) -> Result<(), ControlError> {
        let stop = Remove { child: Which::Process(pid), guest: None };
        self.ask(|reply| Command::Remove(stop, reply)).await
    }

    /// The same for a script or a component. `guest` is the unit that has to have started the child, unless it is trusted.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(in crate::process) async fn stop_child_of_guest(
        &self,
        guest: Option<Pid>,
        child: Which,
    ) -> Result<(), ControlError> {
        let stop = Remove { child, guest };
        self.ask(|reply| Command::Remove(stop, reply)).await
    }

    /// Replaces the specification of a dynamic supervisor. Children are started and restarted as it says from now on; those that
    /// run go on as what they are, until [`restart_children`](Self::restart_children). More of them than it allows stay. A
    /// supervisor that is itself restarted has the specification again that it was built with.
    ///
    /// # Errors
    ///
    /// [`ControlError::Spec`] if it is not valid, [`ControlError::NotDynamic`], and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the specification may be replaced or not.
    pub async fn reconfigure(&self, spec: DynamicSpec) -> Result<(), ControlError> {
        self.ask(|reply| Command::Reconfigure(Box::new(spec), reply)).await
    }

    /// Restarts all children of a dynamic supervisor, each as [`restart`](Self::restart) does. Returns how many, and does not wait
    /// for them.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotDynamic`], and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the children may be restarted or not.
    pub async fn restart_children(&self) -> Result<usize, ControlError> {
        self.ask(Command::RestartChildren).await
    }

    /// Removes a child: shuts it down, as it says, and waits for its end. No other child is restarted for that.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownChild`], and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be removed or not.
    pub async fn remove(&self, id: &str) -> Result<(), ControlError> {
        let remove = Remove { child: Which::Id(id.into()), guest: None };
        self.ask(|reply| Command::Remove(remove, reply)).await
    }

    /// Shuts a child down, as it says, and starts it again; gives the new process. One that is down is started, without
    /// waiting for a backoff to be over. Its frame inherits from the one that it did before. No other child is restarted for that, and it does not count as a restart that
    /// there can be too many of. If it does not start, that does: the supervisor goes on to try.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownChild`], [`ControlError::NotStarted`] if it did not start,
    /// [`ControlError::Quarantined`] if its code is, for which a running child is not ended, [`ControlError::Removed`] if it was removed before, and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be restarted or not.
    pub async fn restart(&self, id: &str) -> Result<Pid, ControlError> {
        let restarted = self.ask(|reply| Command::Restart(id.into(), reply)).await?;
        Ok(restarted.pid)
    }

    /// Puts the children of these ids first, in this order, and the others behind them in the order that they have. Nothing is
    /// started or ended for that; it is the order in which children are started from now on, and shut down from the last to
    /// the first. Ids that no child has are ignored: it may have been temporary, and be done.
    ///
    /// # Errors
    ///
    /// Those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the children may be in this order or not.
    pub async fn arrange(
        &self,
        ids: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Result<(), ControlError> {
        let ids = ids.into_iter().map(Into::into).collect();
        self.ask(|reply| Command::Arrange(ids, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ControlError> {
        let commands = self.choose()?;
        let (reply, answer) = oneshot::channel();
        commands.send(command(reply)).await.map_err(|_| ControlError::ShuttingDown)?;
        answer.await.unwrap_or(Err(ControlError::ShuttingDown))
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

    /// A process of the supervisor runs, until what this gives is dropped. `of_entry` is the handle for all that is registered as
    /// the same.
    pub(super) fn enter(&self, pid: Pid, of_entry: Self) -> Entered {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let handles = [self.clone(), of_entry];
        for handle in &handles {
            handle.running.send_modify(|running| _ = running.insert(pid, sender.clone()));
        }
        Entered { pid, handles, commands }
    }
}

/// Refuses a child for a context that may do nothing more.
fn may_go_on(ctx: &CallContext, id: &Arc<str>) -> Result<(), ControlError> {
    let over = |source| ControlError::NotStarted {
        id: Arc::clone(id),
        source: Arc::new(SpawnError::ContextEnded { source }),
    };
    ctx.check().map_err(over)
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("running", &self.running())
            .field("chosen", &self.chosen)
            .finish()
    }
}

/// Where the commands for a process of a supervisor arrive.
pub(super) struct Entered {
    pid: Pid,
    handles: [SupervisorHandle; 2],
    commands: mpsc::Receiver<Command>,
}

impl Entered {
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was taken.
    pub(super) async fn next(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            // The other side is in the handle.
            None => pending().await,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.running.send_modify(|running| _ = running.remove(&self.pid));
        }
    }
}
