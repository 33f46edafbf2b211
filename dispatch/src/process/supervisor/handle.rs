//! Asking a supervisor that runs.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;

use frame_registry::Frame;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::error::StartError;
use super::error::{ControlError, DownReason};
use super::spec::{ChildSpec, Restart};
use crate::ctx::Ctx;
use crate::pid::Pid;

/// How many commands wait for a supervisor; who gives more waits for room.
const COMMANDS: usize = 64;

/// What a child of a supervisor was like at one moment.
#[derive(Debug, Clone, Serialize)]
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
    /// How it ended the last time, or why it did not start; as data in text.
    pub last: Option<DownReason>,
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
}

impl ChildState {
    /// Its name in text: `running`, `stopping`, `waiting` or `done`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Done => "done",
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
    /// With the frame that it inherits from.
    Add(Box<ChildSpec>, Option<Frame>, Reply<Pid>),
    Remove(Arc<str>, Reply<()>),
    Restart(Arc<str>, Reply<Pid>),
    Arrange(Vec<Arc<str>>, Reply<()>),
}

impl Command {
    pub(super) fn refuse(self, error: &ControlError) {
        // Whoever asked may be gone.
        match self {
            Self::Children(reply) => _ = reply.send(Err(error.clone())),
            Self::Add(_, _, reply) | Self::Restart(_, reply) => _ = reply.send(Err(error.clone())),
            Self::Remove(_, reply) | Self::Arrange(_, reply) => _ = reply.send(Err(error.clone())),
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
    /// # use frame_dispatch::process::{HostConfig, ProcessCtx, ProcessManager, Start};
    /// # use frame_dispatch::{CallError, Ctx, Functions, Payload, Task};
    /// # use frame_registry::{App, Options};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let functions = Functions::new(App::builder().build());
    /// # let processes = ProcessManager::new(functions.clone());
    /// # processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// # processes.register("app:worker".parse()?, Options::new(), async |mut ctx: ProcessCtx, _: Payload| {
    /// #     ctx.receive().await;
    /// #     Ok(Payload::default())
    /// # })?;
    /// # let supervisor = Supervisor::builder(Strategy::OneForOne).build()?;
    /// # let handle = supervisor.handle();
    /// # processes.register("app:top".parse()?, Options::new(), supervisor)?;
    /// # processes.start(&functions.root(), Start::new("app:workers".parse()?, "app:top".parse()?))?;
    /// # handle.ready().await;
    /// let workers = handle.clone();
    /// functions.register("app:hire".parse()?, Options::new(), move |ctx: Ctx, _: Payload| {
    ///     let workers = workers.clone();
    ///     async move {
    ///         let worker = Start::new("app:workers".parse()?, "app:worker".parse()?);
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
    /// nothing more, [`ControlError::Removed`] if it was removed before, and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be added or not.
    pub async fn add(&self, ctx: &Ctx, child: ChildSpec) -> Result<Pid, ControlError> {
        ctx.check().map_err(|source| ControlError::NotStarted {
            id: Arc::clone(&child.id),
            source: Arc::new(StartError::Over { source }),
        })?;
        let parent = ctx.parent().cloned();
        self.ask(|reply| Command::Add(Box::new(child), parent, reply)).await
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
        self.ask(|reply| Command::Remove(id.into(), reply)).await
    }

    /// Shuts a child down, as it says, and starts it again; gives the new process. One that is down is started, without
    /// waiting for a backoff to be over. Its frame inherits from the one that it did before. No other child is restarted for that, and it does not count as a restart that
    /// there can be too many of. If it does not start, that does: the supervisor goes on to try.
    ///
    /// # Errors
    ///
    /// [`ControlError::UnknownChild`], [`ControlError::NotStarted`] if it did not start,
    /// [`ControlError::Removed`] if it was removed before, and those of [`children`](Self::children).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the child may be restarted or not.
    pub async fn restart(&self, id: &str) -> Result<Pid, ControlError> {
        self.ask(|reply| Command::Restart(id.into(), reply)).await
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

    /// A process of the supervisor runs, until what this gives is dropped.
    pub(super) fn enter(&self, pid: Pid) -> Entered {
        let (sender, commands) = mpsc::channel(COMMANDS);
        self.running.send_modify(|running| _ = running.insert(pid, sender));
        Entered { pid, handle: self.clone(), commands }
    }
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
    handle: SupervisorHandle,
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
        self.handle.running.send_modify(|running| _ = running.remove(&self.pid));
    }
}
