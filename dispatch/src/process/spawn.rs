//! How a process is started.

use std::sync::Arc;

use frame_registry::{Id, IdKind, Key, OptionKind, Options, Pair, nearest};
use tokio::sync::oneshot;

use super::admission::NoPlace;
use super::batch::Batch;
use super::cell::{ProcessCell, Watcher};
use super::context::ProcessContext;
use super::entry::{Entry, EntryId};
use super::error::SpawnError;
use super::exit::{Exit, ExitReason};
use super::host::{Host, HostId, Place};
use super::lifecycle::{Lifecycle, ProcessRef};
use super::manager::ProcessManager;
use super::message::Message;
use super::{names, relations};
use crate::context::{CallContext, WaitingCaller};
use crate::error::{CallError, ErrorKind};
use crate::frame::{self, FrameError, PID};
use crate::panics;
use crate::payload::Payload;
use crate::pid::Pid;
use crate::printable::printable;

/// How many bytes of the reason for which a process ended are logged.
pub(super) const LONGEST_REASON: usize = 4 << 10;

/// What a frame is of, if it is that of a process.
pub static PROCESS: Key<EntryId> = Key::new("process").public();

/// A process to be started.
#[derive(Debug, Clone)]
pub struct Spawn {
    pub(super) host: HostId,
    pub(super) entry: EntryId,
    pub(super) payload: Payload,
    pub(super) options: Options,
    pub(super) pairs: Vec<Pair>,
    pub(super) name: Option<String>,
    pub(super) messages: Vec<Payload>,
    pub(super) monitor: bool,
    pub(super) link: bool,
    /// The rank, if the process that starts it is its owner.
    pub(super) owner: Option<u64>,
}

impl Spawn {
    /// A process of `entry` on `host`, with the payload `null`, no options, and no name.
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

    /// Gives the process `payload`.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the options of the process; they go over those that the entry was registered with.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds a pair to the frame. It wins over what the frame has of its own, its id and its PID included, and what a
    /// resolver makes of the options wins over it. Which process it is, and whose [parent](ProcessManager::parent), is not
    /// read from there.
    #[must_use]
    pub fn with_pair(mut self, pair: Pair) -> Self {
        self.pairs.push(pair);
        self
    }

    /// Registers the process by a name, before anything of it runs.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a message, which is in the mailbox before anything of the process runs.
    #[must_use]
    pub fn with_message(mut self, payload: impl Into<Payload>) -> Self {
        self.messages.push(payload.into());
        self
    }

    /// Tells the process that starts it, or [signals](ProcessManager::spawn_or_signal) it, of its
    /// [exit](super::Message::Exited), however soon that is.
    #[must_use]
    pub const fn with_monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// Links it to the process that starts it, or [signals](ProcessManager::spawn_or_signal) it.
    #[must_use]
    pub const fn with_link(mut self) -> Self {
        self.link = true;
        self
    }

    /// Makes the process that starts it its owner: when that ends, however it ends, this one is terminated. It cannot trap
    /// that, nor end the relation. Of several the youngest is terminated first, each after what it owns itself, and the exit
    /// of the owner is told when all of them have ended. Where another process has the name and is
    /// [signalled](ProcessManager::spawn_or_signal), that keeps the owner it has.
    #[must_use]
    pub const fn with_owner(mut self) -> Self {
        self.owner = Some(0);
        self
    }
}

/// What [`ProcessManager::spawn_or_signal`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spawned {
    /// The process was started.
    New(Pid),
    /// Another had the name, and was sent the messages.
    Signalled(Pid),
}

impl Spawned {
    /// The process that has the name.
    pub const fn pid(self) -> Pid {
        match self {
            Self::New(pid) | Self::Signalled(pid) => pid,
        }
    }
}

impl ProcessManager {
    /// Starts a process. A `watcher` receives the exit, and is the caller, which waits for that.
    pub(super) fn launch(
        &self,
        ctx: &CallContext,
        start: Spawn,
        watcher: Option<(oneshot::Sender<Exit>, WaitingCaller)>,
    ) -> Result<Arc<ProcessCell>, SpawnError> {
        ctx.check().map_err(|source| SpawnError::ContextEnded { source })?;
        let (watcher, waiting) = watcher.unzip();
        let (entry, host) = self.what_and_where(&start)?;
        if let Some(name) = &start.name {
            names::check(name).map_err(|name| SpawnError::InvalidName { name })?;
            if let Some(holder) = self.whereis(name) {
                return Err(SpawnError::NameTaken { name: name.clone(), holder });
            }
        }
        let starter = self.starter(ctx, &start)?;
        self.check_policies(ctx, &start, (&entry, &host))?;

        let (instance, place) = self.instance(ctx, (entry, host), &start)?;
        // From here on dropping it undoes what was done.
        let mut running = Running {
            instance: Arc::clone(&instance),
            handlers: Vec::new(),
            is_started: false,
            outcome: None,
            place,
        };
        running.handle(&self.handlers())?;
        // Before anybody can find it, who may fill its mailbox.
        for payload in start.messages {
            let _ = instance.mailbox.try_send(Message::sent(ctx, payload, None));
        }
        instance
            .host
            .appear(|| self.add(&instance))
            .map_err(|_closed| SpawnError::HostStopping { host: instance.host.id.clone() })?;
        // Behind that, so that whoever learns who has the name finds it.
        if let Some(name) = &start.name {
            self.names()
                .claim(name, &instance)
                .map_err(|holder| SpawnError::NameTaken { name: name.clone(), holder })?;
        }
        if let Some(watcher) = watcher {
            instance.state().relations().watchers.insert(instance.pid.number(), Watcher::Monitor(watcher));
        }
        if let Some(starter) = starter {
            relations::begin(&starter, &instance, (start.owner, start.link, start.monitor))
                .map_err(|relations::StarterEnded| SpawnError::StarterEnded { starter: starter.pid })?;
        }
        running.is_started = true;
        let payload = start.payload;
        let task = instance.host.runtime.spawn(running.run(payload, waiting));
        instance.spawned(task.abort_handle());
        Ok(instance)
    }

    /// The process that starts another, if it is to be related to that.
    pub(super) fn starter(
        &self,
        ctx: &CallContext,
        start: &Spawn,
    ) -> Result<Option<Arc<ProcessCell>>, SpawnError> {
        if !start.link && !start.monitor && start.owner.is_none() {
            return Ok(None);
        }
        match ProcessCell::of(ctx).filter(|starter| starter.manager.is(self)) {
            Some(starter) if starter.has_ended() => Err(SpawnError::StarterEnded { starter: starter.pid }),
            Some(starter) => Ok(Some(starter)),
            None => Err(SpawnError::NoProcess),
        }
    }

    pub(super) fn what_and_where(&self, start: &Spawn) -> Result<(Arc<Entry>, Arc<Host>), SpawnError> {
        let (host, entry) = match (self.host(&start.host), self.entry(&start.entry)) {
            (Some(host), Some(entry)) => (host, entry),
            // They were there.
            _ if self.is_closed() => return Err(SpawnError::HostStopping { host: start.host.clone() }),
            (None, _) => {
                let nearest = nearest_to(&start.host, &self.host_ids());
                return Err(SpawnError::UnknownHost { host: start.host.clone(), nearest });
            }
            (_, None) => {
                let nearest = nearest_to(&start.entry, &self.ids());
                return Err(SpawnError::UnknownEntry { entry: start.entry.clone(), nearest });
            }
        };
        let engine = entry.process.engine();
        match &host.config.engines {
            Some(engines) if engines.iter().all(|other| other != engine) => Err(SpawnError::NotRunnable {
                host: start.host.clone(),
                entry: start.entry.clone(),
                engine,
                engines: if engines.is_empty() { "nothing".to_owned() } else { engines.join(", ") },
            }),
            _ => Ok((entry, host)),
        }
    }

    /// Makes the frame, and only if that is granted asks the host for a place.
    fn instance(
        &self,
        ctx: &CallContext,
        (entry, host): (Arc<Entry>, Arc<Host>),
        start: &Spawn,
    ) -> Result<(Arc<ProcessCell>, Place), SpawnError> {
        let (messages, capacity) = (start.messages.len(), host.mailbox_capacity());
        if messages > capacity {
            return Err(SpawnError::TooManyMessages { messages, capacity });
        }
        let merged;
        let options = if entry.options.is_empty() {
            &start.options
        } else {
            merged = entry.options.merged_under(&start.options);
            &merged
        };
        if let Some(option) = options.iter().find(|option| option.kind() == OptionKind::Dispatcher) {
            return Err(SpawnError::DispatcherOption { option: option.name() });
        }
        let pid = Pid::next(host.name);
        let frame = frame::make(
            self.app(),
            ctx.parent(),
            |frame| {
                frame.push(PROCESS.pair_shared(Arc::clone(&entry.id))).set(&PID, pid);
            },
            start.pairs.iter().cloned(),
            options,
        );
        let frame = frame.map_err(|error| match error {
            FrameError::Resolver(source) => SpawnError::Denied { source },
            FrameError::Panic(message) => SpawnError::ResolverPanicked { message },
        })?;
        let place = host.admit().map_err(|none| match none {
            NoPlace::Full => SpawnError::HostFull { host: host.id.clone(), limit: host.config.processes },
            NoPlace::Closed => SpawnError::HostStopping { host: host.id.clone() },
        })?;
        Ok((ProcessCell::new(pid, (entry, host), ctx.unit(), frame, self.clone()), place))
    }
}

fn nearest_to<K: IdKind>(id: &Id<K>, ids: &[Id<K>]) -> Option<Id<K>> {
    let found = nearest(id.as_str(), ids.iter().map(Id::as_str))?;
    ids.iter().find(|other| other.as_str() == found).cloned()
}

/// A process that is being started, or runs. Dropping it is its end, wherever it was.
struct Running {
    instance: Arc<ProcessCell>,
    /// Those that let it start, in order.
    handlers: Vec<Arc<dyn Lifecycle>>,
    is_started: bool,
    /// What came of it: an error of its own, or the message of a panic.
    outcome: Option<Result<Result<Payload, CallError>, String>>,
    /// Gone behind everything else.
    place: Place,
}

impl Running {
    #[allow(clippy::manual_async_fn, reason = "its arguments would have their room twice")]
    fn run(mut self, payload: Payload, waiting: Option<WaitingCaller>) -> impl Future<Output = ()> + Send {
        async move {
            let Self { instance, outcome, .. } = &mut self;
            let process = || instance.entry.process.run(ProcessContext::new(instance, waiting), payload);
            let begin = |owes_room| Batch::begin(&instance.mailbox, owes_room);
            *outcome = Some(panics::run(process, begin, Batch::end).await);
        }
    }

    fn handle(&mut self, handlers: &[Arc<dyn Lifecycle>]) -> Result<(), SpawnError> {
        for handler in handlers {
            panics::catch(|| handler.starting(&ProcessRef(&self.instance)))
                .unwrap_or_else(|message| Err(message.into()))
                .map_err(|source| SpawnError::Refused { handler: handler.name(), source })?;
            self.handlers.push(Arc::clone(handler));
        }
        Ok(())
    }

    fn exit(&mut self) -> Exit {
        let instance = &self.instance;
        let mut result = None;
        let reason = match self.outcome.take() {
            Some(Ok(Ok(payload))) => {
                result = Some(Arc::new(payload));
                ExitReason::Normal
            }
            Some(Ok(Err(error))) if error.kind() == ErrorKind::Cancelled => {
                let cancelled = || instance.cancel_reason().map(ExitReason::Cancelled);
                instance
                    .end_reason()
                    .or_else(cancelled)
                    .unwrap_or_else(|| ExitReason::Failed(Arc::new(error)))
            }
            Some(Ok(Err(error))) => ExitReason::Failed(Arc::new(error)),
            Some(Err(message)) => ExitReason::Panicked(message.into()),
            None => instance.end_reason().unwrap_or(ExitReason::HostStopped),
        };
        Exit { pid: instance.pid, reason, result }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let exit = self.exit();
        let process = ProcessRef(&self.instance);
        let seen = self.is_started.then_some(&exit);
        for handler in self.handlers.iter().rev() {
            if let Err(message) = panics::catch(|| handler.ended(&process, seen)) {
                tracing::error!(pid = %exit.pid, handler = handler.name(), "a lifecycle handler {message}");
            }
        }
        self.instance.ended(&exit, self.is_started, &mut self.place);
        if self.is_started {
            // Behind all else: an error of somebody else's says itself what it is.
            let _ = panics::catch(|| log(&self.instance, &exit.reason));
        }
    }
}

fn log(instance: &ProcessCell, reason: &ExitReason) {
    let (pid, process, exit) = (instance.pid, &*instance.entry.id, reason.as_str());
    match reason {
        ExitReason::Failed(_) | ExitReason::Panicked(_) => {
            let reason = printable(&reason.to_string(), LONGEST_REASON);
            tracing::warn!(%pid, %process, exit, "a process ended: {reason}");
        }
        _ => tracing::debug!(%pid, %process, exit, "a process ended"),
    }
}
