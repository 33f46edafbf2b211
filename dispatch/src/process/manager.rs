//! The processes of an app.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use frame_registry::{App, Options};
use rustc_hash::FxBuildHasher;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::entry::{Entry, EntryId, Process};
use super::error::{ExecError, ProcessError, RegisterError, SendError, SendErrorReason, StartError};
use super::exit::{Exit, ExitReason};
use super::host::{Host, HostConfig, HostId};
use super::info::{ProcessInfo, ProcessTable};
use super::instance::Instance;
use super::lifecycle::Lifecycle;
use super::mailbox::Refused;
use super::message::{Destination, Message};
use super::monitor::Monitor;
use super::names::{self, Names};
use super::recent::RecentExits;
use super::relations;
use super::start::{Start, Started};
use crate::ctx::Ctx;
use crate::functions::Functions;
use crate::payload::Payload;
use crate::pid::Pid;

/// How long processes that were killed are waited for. Ending one takes no time unless it blocks its thread.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a manager of processes is like.
///
/// ```
/// # use frame_dispatch::process::ManagerConfig;
/// let config = ManagerConfig::default().with_node("edge-7").with_exits(10_000);
/// assert_eq!((&*config.node, config.exits), ("edge-7", 10_000));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ManagerConfig {
    /// What this node is called in PIDs. Default: `local`.
    pub node: String,
    /// How many exits are remembered, for whoever asks about a process that has ended. Default: 4 096.
    pub exits: usize,
    /// How long a sender waits for room in a mailbox at most. Default: 30 seconds.
    pub max_wait: Duration,
}

impl Default for ManagerConfig {
    fn default() -> Self {
        Self { node: "local".to_owned(), exits: 4096, max_wait: Duration::from_secs(30) }
    }
}

impl ManagerConfig {
    /// The same, with another name of the [`node`](Self::node).
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// The same, with another number of [`exits`](Self::exits).
    #[must_use]
    pub const fn with_exits(mut self, exits: usize) -> Self {
        self.exits = exits;
        self
    }

    /// The same, with another [`max_wait`](Self::max_wait).
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }
}

/// The processes of an app: what can be started, the hosts that they live on, and those that live. Cloning it is one
/// reference count; processes go on where the last clone is dropped.
///
/// See [the module](super) for what processes are.
#[derive(Clone)]
pub struct ProcessManager {
    inner: Arc<Inner>,
}

struct Inner {
    functions: Functions,
    config: ManagerConfig,
    entries: ArcSwap<BTreeMap<EntryId, Arc<Entry>>>,
    hosts: ArcSwap<BTreeMap<HostId, Arc<Host>>>,
    /// Sorted by order, then name.
    handlers: ArcSwap<Vec<Arc<dyn Lifecycle>>>,
    /// Those that live, by the number of their PID.
    processes: DashMap<u64, Arc<Instance>, FxBuildHasher>,
    names: Names,
    recent: Mutex<RecentExits>,
    is_closed: AtomicBool,
}

/// What became of the processes that lived on a host, or on all, when that was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStopped {
    /// How many were cancelled.
    pub cancelled: usize,
    /// How many of those did not end in time, and were killed.
    pub killed: usize,
    /// Which of those have not ended yet, because they block their thread.
    pub running: Vec<Pid>,
}

impl ProcessManager {
    /// No processes yet, of the app that `functions` are of, which they can call.
    #[must_use]
    pub fn new(functions: Functions) -> Self {
        Self::with_config(functions, ManagerConfig::default())
    }

    /// The same, configured.
    #[must_use]
    pub fn with_config(functions: Functions, config: ManagerConfig) -> Self {
        let inner = Inner {
            functions,
            recent: Mutex::new(RecentExits::new(config.exits)),
            config,
            entries: ArcSwap::default(),
            hosts: ArcSwap::default(),
            handlers: ArcSwap::default(),
            processes: DashMap::default(),
            names: Names::default(),
            is_closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The app.
    pub fn app(&self) -> &App {
        self.inner.functions.app()
    }

    /// The functions that processes can call.
    pub fn functions(&self) -> &Functions {
        &self.inner.functions
    }

    // What can be started, where, and what takes part ---------------------------------------------------------------

    /// Adds something that can be started. Every process of it has `options`, under those that it is started with.
    ///
    /// # Errors
    ///
    /// [`RegisterError::EntryTaken`] if the id is taken, [`RegisterError::Stopping`] once the manager
    /// [stops](Self::stop).
    pub fn register(
        &self,
        id: EntryId,
        options: Options,
        process: impl Process,
    ) -> Result<(), RegisterError> {
        let entry = Arc::new(Entry { id: Arc::new(id), options, process: Box::new(process) });
        self.change(&self.inner.entries, &*entry.id, |entries| {
            if entries.contains_key(&*entry.id) {
                return Err(RegisterError::EntryTaken { id: (*entry.id).clone() });
            }
            entries.insert((*entry.id).clone(), Arc::clone(&entry));
            Ok(())
        })
    }

    /// Puts something else, and options, in the place of what can be started. Processes that live go on as what they are.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoEntry`] if there is nothing to replace, [`RegisterError::Stopping`] once the manager
    /// [stops](Self::stop).
    pub fn replace(&self, id: EntryId, options: Options, process: impl Process) -> Result<(), RegisterError> {
        let entry = Arc::new(Entry { id: Arc::new(id), options, process: Box::new(process) });
        self.change(&self.inner.entries, &*entry.id, |entries| {
            let place = entries.get_mut(&*entry.id);
            *place.ok_or_else(|| RegisterError::NoEntry { id: (*entry.id).clone() })? = Arc::clone(&entry);
            Ok(())
        })
    }

    /// Removes something that can be started; says whether it was there. Processes of it that live go on.
    pub fn remove(&self, id: &EntryId) -> bool {
        let mut is_removed = false;
        self.inner.entries.rcu(|entries| {
            let mut copy = BTreeMap::clone(entries);
            is_removed = copy.remove(id).is_some();
            copy
        });
        is_removed
    }

    /// The ids of what can be started, sorted.
    pub fn entries(&self) -> Vec<EntryId> {
        self.inner.entries.load().keys().cloned().collect()
    }

    pub(super) fn entry(&self, id: &EntryId) -> Option<Arc<Entry>> {
        self.inner.entries.load().get(id).cloned()
    }

    /// Adds a host.
    ///
    /// # Errors
    ///
    /// [`RegisterError::HostTaken`] if the id is taken, [`RegisterError::NoRuntime`] or [`RegisterError::NoTimer`] if
    /// there is no runtime of tokio that it can use, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn register_host(&self, id: HostId, config: HostConfig) -> Result<(), RegisterError> {
        let runtime = config.runtime.clone().or_else(|| Handle::try_current().ok());
        let Some(runtime) = runtime else { return Err(RegisterError::NoRuntime { id }) };
        if !has_timer(&runtime) {
            return Err(RegisterError::NoTimer { id });
        }
        let host = Arc::new(Host::new(id, &self.inner.config.node, config, runtime));
        self.change(&self.inner.hosts, &host.id, |hosts| {
            if hosts.contains_key(&host.id) {
                return Err(RegisterError::HostTaken { id: host.id.clone() });
            }
            hosts.insert(host.id.clone(), Arc::clone(&host));
            Ok(())
        })
    }

    /// The ids of the hosts, sorted.
    pub fn hosts(&self) -> Vec<HostId> {
        self.inner.hosts.load().keys().cloned().collect()
    }

    pub(super) fn host(&self, id: &HostId) -> Option<Arc<Host>> {
        self.inner.hosts.load().get(id).cloned()
    }

    /// Adds a handler, for processes that are started from now on.
    ///
    /// # Errors
    ///
    /// [`RegisterError::HandlerTaken`] if its name is taken.
    pub fn register_lifecycle(&self, handler: impl Lifecycle) -> Result<(), RegisterError> {
        let handler: Arc<dyn Lifecycle> = Arc::new(handler);
        let place = |handler: &Arc<dyn Lifecycle>| (handler.order(), handler.name());
        self.change(&self.inner.handlers, handler.name(), |handlers| {
            if handlers.iter().any(|other| other.name() == handler.name()) {
                return Err(RegisterError::HandlerTaken { name: handler.name() });
            }
            let index = handlers.partition_point(|other| place(other) < place(&handler));
            handlers.insert(index, Arc::clone(&handler));
            Ok(())
        })
    }

    /// Removes a handler; says whether it was there. It is still told of the end of those that it let start.
    pub fn remove_lifecycle(&self, name: &str) -> bool {
        let mut is_removed = false;
        self.inner.handlers.rcu(|handlers| {
            let mut copy = Vec::clone(handlers);
            copy.retain(|handler| handler.name() != name);
            is_removed = copy.len() < handlers.len();
            copy
        });
        is_removed
    }

    pub(super) fn handlers(&self) -> Arc<Vec<Arc<dyn Lifecycle>>> {
        self.inner.handlers.load_full()
    }

    /// Publishes a changed copy. `change` runs again where another thread was faster.
    fn change<T: Clone>(
        &self,
        place: &ArcSwap<T>,
        id: impl fmt::Display,
        mut change: impl FnMut(&mut T) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let mut changed = Ok(());
        place.rcu(|now| {
            let mut copy = T::clone(now);
            changed = if self.inner.is_closed.load(Ordering::Acquire) {
                Err(RegisterError::Stopping { id: id.to_string() })
            } else {
                change(&mut copy)
            };
            copy
        });
        changed
    }

    // Starting and ending -------------------------------------------------------------------------------------------

    /// Starts a process. Its frame inherits from that of `ctx`, and is made as that of a function is: its entry's id and
    /// its PID, the pairs it is started with, and what the resolvers make of the options. It lives on its host, not on
    /// whoever starts it: what ends `ctx` does not end it.
    ///
    /// Nothing of it runs before it is linked, monitored, named and has its messages.
    ///
    /// # Errors
    ///
    /// A [`StartError`]; nothing of the process has run then.
    pub fn start(&self, ctx: &Ctx, start: Start) -> Result<Pid, StartError> {
        self.launch(ctx, start, None).map(|instance| instance.pid)
    }

    /// Starts a process with a name; or, where a living one has the name, sends that its
    /// [messages](Start::with_message), as [`send`](Self::send) does. Of several that do this at once exactly one starts the process.
    ///
    /// Without a name it is started.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`StartError::NotSignalled`] if a message was not delivered.
    ///
    /// # Cancel safety
    ///
    /// Dropped as it waits for room in a mailbox, some messages may be delivered, and others not.
    pub async fn start_or_signal(&self, ctx: &Ctx, start: Start) -> Result<Started, StartError> {
        let Some(name) = start.name.clone() else {
            return self.start(ctx, start).map(Started::New);
        };
        loop {
            if let Some(holder) = self.inner.names.holder(&name) {
                if self.signal(ctx, &holder, &start).await? {
                    return Ok(Started::Signalled(holder.pid));
                }
                // It has ended, so its name is free, or somebody else's.
                continue;
            }
            match self.start(ctx, start.clone()) {
                Err(StartError::NameTaken { .. }) => (),
                started => return started.map(Started::New),
            }
        }
    }

    /// Says whether the process lived to have all the messages.
    async fn signal(&self, ctx: &Ctx, holder: &Instance, start: &Start) -> Result<bool, StartError> {
        for payload in &start.messages {
            match self.deliver(ctx, holder, payload.clone()).await {
                Ok(()) => (),
                Err(SendError { reason: SendErrorReason::Ended, .. }) => return Ok(false),
                Err(source) => return Err(StartError::NotSignalled { holder: holder.pid, source }),
            }
        }
        Ok(!holder.has_ended())
    }

    /// Starts a process, waits for its end, and gives what it gave back.
    ///
    /// # Errors
    ///
    /// [`ExecError::Start`] if it was not started, [`ExecError::Exit`] if it did not end normally, and
    /// [`ExecError::Over`] if `ctx` ended first: the process then goes on.
    ///
    /// # Cancel safety
    ///
    /// Where this is dropped the process goes on.
    pub async fn exec(&self, ctx: &Ctx, start: Start) -> Result<Payload, ExecError> {
        let (sender, exit) = tokio::sync::oneshot::channel();
        let instance = self.launch(ctx, start, Some(sender))?;
        let number = instance.pid.number();
        let monitor = Monitor::waiting(exit, instance, number);
        let pid = monitor.pid();
        let exit = ctx.bound(monitor).await.map_err(|source| ExecError::Over { pid, source })?;
        match exit.result {
            Some(result) if exit.reason.is_normal() => Ok(Arc::unwrap_or_clone(result)),
            _ => Err(ExecError::Exit { exit }),
        }
    }

    /// Asks a process to end: it receives [`Message::Cancelled`], may finish what it does, and is
    /// [terminated](Self::terminate) after `grace`. Asked several times it has the message once, and the shortest time.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if it does not live.
    pub fn cancel(&self, pid: Pid, reason: &str, grace: Duration) -> Result<(), ProcessError> {
        let instance = self.living(pid)?;
        if instance.cancel(&reason.into(), grace) { Ok(()) } else { Err(self.gone(pid)) }
    }

    /// Ends a process where it is: drops its future, its script or component. It does not have ended when this returns;
    /// [`monitor`](Self::monitor) tells when it has. A script or a component ends within milliseconds also where it never
    /// waits; a native process where it awaits something.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if it does not live.
    pub fn terminate(&self, pid: Pid) -> Result<(), ProcessError> {
        self.living(pid)?.terminate(ExitReason::Killed);
        Ok(())
    }

    /// Stops a host: it admits no more processes, those on it are cancelled, and what has not ended after `grace` is
    /// killed. The id is free again when this is done. None if there is no such host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the host closed, and cancelled what was.
    pub async fn stop_host(&self, id: &HostId, grace: Duration) -> Option<HostStopped> {
        let host = self.host(id)?;
        let stopped = self.stop_hosts(std::slice::from_ref(&host), grace).await;
        self.inner.hosts.rcu(|hosts| {
            let mut copy = BTreeMap::clone(hosts);
            copy.retain(|_, other| !Arc::ptr_eq(other, &host));
            copy
        });
        Some(stopped)
    }

    /// Stops all hosts, as [`stop_host`](Self::stop_host) does one. Nothing can be registered any more.
    ///
    /// Processes may call functions as they end, so [those](Functions::stop) are stopped behind them.
    ///
    /// # Cancel safety
    ///
    /// As that of [`stop_host`](Self::stop_host).
    pub async fn stop(&self, grace: Duration) -> HostStopped {
        self.inner.is_closed.store(true, Ordering::Release);
        // Published anew, so that whoever is about to add one finds that it is another, and looks whether that is over.
        let hosts = self.inner.hosts.rcu(|hosts| BTreeMap::clone(hosts));
        let hosts: Vec<_> = hosts.values().cloned().collect();
        let stopped = self.stop_hosts(&hosts, grace).await;
        self.inner.hosts.store(Arc::default());
        self.inner.entries.store(Arc::default());
        stopped
    }

    async fn stop_hosts(&self, hosts: &[Arc<Host>], grace: Duration) -> HostStopped {
        for host in hosts {
            host.close();
        }
        let reason: Arc<str> = "its host is stopping".into();
        let deadline = Instant::now().checked_add(grace);
        let asked = self.living_on(hosts);
        let cancelled = asked.iter().filter(|instance| instance.ask_to_end(&reason, deadline)).count();
        drop(asked);
        let idle = async {
            for host in hosts {
                host.idle().await;
            }
        };
        let Some(deadline) = deadline else {
            idle.await;
            return HostStopped { cancelled, ..HostStopped::default() };
        };
        // Whether they ended in time shows in what is left.
        let _ = timeout_at(deadline, idle).await;
        let left = self.living_on(hosts);
        let killed = left.iter().filter(|instance| instance.terminate(ExitReason::HostStopped)).count();
        drop(left);
        let idle = async {
            for host in hosts {
                host.idle().await;
            }
        };
        let _ = timeout(LAST_WAIT, idle).await;
        let running = self.living_on(hosts).into_iter().map(|instance| instance.pid).collect();
        HostStopped { cancelled, killed, running }
    }

    fn living_on(&self, hosts: &[Arc<Host>]) -> Vec<Arc<Instance>> {
        let lives_there =
            |instance: &Arc<Instance>| hosts.iter().any(|host| Arc::ptr_eq(host, &instance.host));
        self.snapshot().into_iter().filter(lives_there).collect()
    }

    // Messages ------------------------------------------------------------------------------------------------------

    /// Sends a message to a process, given by its PID or its name, from that of `ctx`, if it is one's. Waits where its mailbox
    /// is full: as long as `ctx` may, and no longer than [configured](ManagerConfig::max_wait). Messages of one sender
    /// arrive in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was sent.
    pub async fn send<'a>(
        &self,
        ctx: &Ctx,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let payload = payload.into();
        match self.resolve(to.into()) {
            Ok(instance) => self.deliver(ctx, &instance, payload).await,
            Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
        }
    }

    /// Sends a message if there is room for it; else as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    pub fn try_send<'a>(
        &self,
        ctx: &Ctx,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let payload = payload.into();
        match self.resolve(to.into()) {
            Ok(instance) => {
                let sent = instance.mailbox.try_send(message(ctx, payload));
                sent.map_err(|refused| not_sent(&instance, refused))
            }
            Err((to, reason)) => Err(SendError { to, reason, payload: payload.into() }),
        }
    }

    async fn deliver(&self, ctx: &Ctx, instance: &Instance, payload: Payload) -> Result<(), SendError> {
        let mut waiting = match instance.mailbox.try_send(message(ctx, payload)) {
            Ok(()) => return Ok(()),
            Err(Refused::Full(message)) => Some(message),
            Err(refused) => return Err(not_sent(instance, refused)),
        };
        let send = instance.mailbox.send(&mut waiting);
        let waited = ctx.bound(timeout(self.inner.config.max_wait, send)).await;
        let Some(message) = waiting else { return Ok(()) };
        Err(match waited {
            Ok(Ok(())) => not_sent(instance, Refused::Closed(message)),
            Ok(Err(_)) => not_sent(instance, Refused::Full(message)),
            Err(over) => SendError {
                reason: SendErrorReason::Over(over),
                ..not_sent(instance, Refused::Closed(message))
            },
        })
    }

    fn resolve(&self, to: Destination<'_>) -> Result<Arc<Instance>, (String, SendErrorReason)> {
        let found = match &to {
            Destination::Pid(pid) => self.find(*pid),
            Destination::Name(name) => self.inner.names.holder(name),
        };
        found.ok_or_else(|| {
            let has_ended = matches!(to, Destination::Pid(pid) if self.recent_exit(pid).is_some());
            (to.to_string(), if has_ended { SendErrorReason::Ended } else { SendErrorReason::NotFound })
        })
    }

    // Relations and names -------------------------------------------------------------------------------------------

    /// A future of the exit of a process. Of one that has ended it is ready at once, as long as that is
    /// [remembered](ManagerConfig::exits).
    ///
    /// # Errors
    ///
    /// [`ProcessError::Unknown`] if no process has the PID, as far as is known.
    pub fn monitor(&self, pid: Pid) -> Result<Monitor, ProcessError> {
        match self.find(pid) {
            Some(instance) => Ok(instance.watch()),
            None => self.recent_exit(pid).map(Monitor::ended).ok_or_else(|| self.gone(pid)),
        }
    }

    /// Links two processes: where one fails, the other ends, too, unless it
    /// [traps](super::ProcessCtx::trap_links) that. Linking again changes nothing, nor does linking one to itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if one of them does not live; the other goes on.
    pub fn link(&self, one: Pid, other: Pid) -> Result<(), ProcessError> {
        relations::link(&*self.living(one)?, &*self.living(other)?)
            .map_err(|exit| ProcessError::Ended { exit })
    }

    /// Ends a link, if there is one. The end of one of the processes is nothing to the other from now on.
    pub fn unlink(&self, one: Pid, other: Pid) {
        let (found_one, found_other) = (self.find(one), self.find(other));
        match (&found_one, &found_other) {
            (Some(found), _) => relations::unlink(found, other, found_other.as_deref()),
            (None, Some(found)) => relations::unlink(found, one, None),
            (None, None) => (),
        }
    }

    /// Gives a process a name, in addition to those it has. It is free again when the process has ended.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NameTaken`] if another has it, [`ProcessError::InvalidName`] if none can,
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if the process does not live.
    pub fn register_name(&self, name: &str, pid: Pid) -> Result<(), ProcessError> {
        names::check(name).map_err(|name| ProcessError::InvalidName { name })?;
        let instance = self.living(pid)?;
        let taken = |holder| ProcessError::NameTaken { name: name.to_owned(), holder };
        self.inner.names.claim(name, &instance).map_err(taken)?;
        if instance.has_ended() { Err(self.gone(pid)) } else { Ok(()) }
    }

    /// Takes a name away from whoever has it; says whether somebody had.
    pub fn unregister_name(&self, name: &str) -> bool {
        self.inner.names.take(name)
    }

    /// The living process that has a name.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.inner.names.holder(name).map(|instance| instance.pid)
    }

    // What there is -------------------------------------------------------------------------------------------------

    /// How many processes live.
    pub fn len(&self) -> usize {
        self.inner.processes.len()
    }

    /// Whether no process lives.
    pub fn is_empty(&self) -> bool {
        self.inner.processes.is_empty()
    }

    /// The processes that live, the oldest first.
    pub fn list(&self) -> ProcessTable {
        let mut list: Vec<_> = self.snapshot().iter().map(|instance| instance.info()).collect();
        list.sort_by_key(|info| info.pid.number());
        ProcessTable::new(list)
    }

    /// What a process is like now.
    pub fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        self.find(pid).map(|instance| instance.info())
    }

    fn snapshot(&self) -> Vec<Arc<Instance>> {
        self.inner.processes.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    pub(super) fn find(&self, pid: Pid) -> Option<Arc<Instance>> {
        let found = self.inner.processes.get(&pid.number())?;
        (found.pid == pid).then(|| Arc::clone(&found))
    }

    pub(super) fn living(&self, pid: Pid) -> Result<Arc<Instance>, ProcessError> {
        self.find(pid).filter(|instance| !instance.has_ended()).ok_or_else(|| self.gone(pid))
    }

    pub(super) fn recent_exit(&self, pid: Pid) -> Option<Exit> {
        self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).get(pid)
    }

    /// What is known of a process that does not live.
    pub(super) fn gone(&self, pid: Pid) -> ProcessError {
        match self.recent_exit(pid).or_else(|| self.find(pid)?.state().exit.clone()) {
            Some(exit) => ProcessError::Ended { exit },
            None => ProcessError::Unknown { process: pid.to_string() },
        }
    }

    pub(super) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(super) fn add(&self, instance: &Arc<Instance>) {
        self.inner.processes.insert(instance.pid.number(), Arc::clone(instance));
    }

    /// A process has ended. It is remembered first, so that whoever does not find it finds its exit.
    pub(super) fn forget(&self, instance: &Instance, names: &[Arc<str>], exit: &Exit) {
        let recent = self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).remember(exit);
        drop(recent);
        for name in names {
            self.inner.names.release(name, instance);
        }
        let removed = self.inner.processes.remove(&instance.pid.number());
        drop(removed);
    }
}

fn message(ctx: &Ctx, payload: Payload) -> Message {
    Message::Sent { from: ctx.process().map(|process| process.pid), payload }
}

fn not_sent(instance: &Instance, refused: Refused) -> SendError {
    let (reason, message) = match refused {
        Refused::Full(message) => (SendErrorReason::Full { capacity: instance.mailbox.capacity() }, message),
        Refused::Closed(message) => (SendErrorReason::Ended, message),
    };
    let payload = message.into_payload().unwrap_or_default().into();
    SendError { to: instance.pid.to_string(), reason, payload }
}

/// A timer panics where its runtime has none, and there is no other way to know.
fn has_timer(runtime: &Handle) -> bool {
    let _entered = runtime.enter();
    catch_unwind(AssertUnwindSafe(|| drop(sleep(Duration::ZERO)))).is_ok()
}

impl fmt::Debug for ProcessManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessManager")
            .field("node", &self.inner.config.node)
            .field("hosts", &self.hosts())
            .field("processes", &self.len())
            .finish_non_exhaustive()
    }
}
