//! The processes of an app.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(any(feature = "lua", feature = "wasm"))]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use frame_registry::{App, OptionKind, Options};
use rustc_hash::FxBuildHasher;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::cell::ProcessCell;
use super::config::ManagerConfig;
use super::entry::{Entry, EntryId, IntoProcess, Process};
use super::error::{ExecError, ProcessError, RegisterError, SpawnError};
use super::exit::{Exit, ExitReason};
use super::group::Groups;
use super::host::{Host, HostConfig, HostId};
use super::info::{ProcessInfo, ProcessTable};
use super::lifecycle::Lifecycle;
use super::monitor::Monitor;
use super::names::Names;
use super::policy::SpawnPolicy;
use super::recent::RecentExits;
use super::spawn::Spawn;
use super::supervisor::Supervisors;
use super::turns::Turns;
use crate::context::CallContext;
use crate::functions::Functions;
use crate::payload::Payload;
use crate::pid::Pid;

/// The processes of an app: what can be started, the hosts that they live on, and those that live. Cloning it is one
/// reference count; processes go on where the last clone is dropped.
///
/// See [the module](super) for what processes are.
#[derive(Clone)]
pub struct ProcessManager {
    inner: Arc<Inner>,
}

/// The processes of an app, which this does not keep: for what the functions keep.
#[cfg(any(feature = "lua", feature = "wasm"))]
#[derive(Clone)]
pub(super) struct WeakManager(Weak<Inner>);

struct Inner {
    functions: Functions,
    config: ManagerConfig,
    entries: ArcSwap<BTreeMap<EntryId, Arc<Entry>>>,
    hosts: ArcSwap<BTreeMap<HostId, Arc<Host>>>,
    /// Sorted by order, then name.
    handlers: ArcSwap<Vec<Arc<dyn Lifecycle>>>,
    /// Those that live, by the number of their PID.
    processes: DashMap<u64, Arc<ProcessCell>, FxBuildHasher>,
    names: Names,
    groups: Groups,
    spawn_policy: ArcSwapOption<Box<dyn SpawnPolicy>>,
    turns: Turns,
    supervisors: Supervisors,
    recent: Mutex<RecentExits>,
    begun: Instant,
    is_closed: AtomicBool,
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
            names: Names::new(),
            groups: Groups::default(),
            spawn_policy: ArcSwapOption::empty(),
            turns: Turns::default(),
            supervisors: Supervisors::default(),
            begun: Instant::now(),
            is_closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(super) fn downgrade(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.inner))
    }

    /// Whether it is the same, and not one of other processes.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
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

    /// Adds something that can be started: a closure or an `async fn` of one of these
    /// [forms](crate::handler), or a type that implements [`Process`]. Every process of it has `options`,
    /// under those that it is started with.
    ///
    /// # Errors
    ///
    /// [`RegisterError::EntryTaken`] if the id is taken, [`RegisterError::DispatcherOption`] if one of the options is for calls
    /// of functions, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn register<M>(
        &self,
        id: EntryId,
        options: Options,
        process: impl IntoProcess<M, Process: Process>,
    ) -> Result<(), RegisterError> {
        check_options(&id, &options)?;
        let entry = Arc::new(Entry::new(id, options, process.into_process()));
        self.change(&self.inner.entries, &*entry.id, |entries| {
            if entries.contains_key(&*entry.id) {
                return Err(RegisterError::EntryTaken { id: (*entry.id).clone() });
            }
            entries.insert((*entry.id).clone(), Arc::clone(&entry));
            Ok(())
        })
    }

    /// Replaces what can be started, and its options. Takes what [`register`](Self::register) takes.
    /// Processes that are alive are not affected.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoEntry`] if there is nothing to replace, [`RegisterError::DispatcherOption`] if one of the options is for
    /// calls of functions, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn replace<M>(
        &self,
        id: EntryId,
        options: Options,
        process: impl IntoProcess<M, Process: Process>,
    ) -> Result<(), RegisterError> {
        check_options(&id, &options)?;
        let entry = Arc::new(Entry::new(id, options, process.into_process()));
        self.change(&self.inner.entries, &*entry.id, |entries| {
            let place = entries.get_mut(&*entry.id);
            *place.ok_or_else(|| RegisterError::NoEntry { id: (*entry.id).clone() })? = Arc::clone(&entry);
            Ok(())
        })
    }

    /// Registers what can be started, or replaces what has the same ids, all in one step. For many this takes far less time than
    /// registering one after the other. Processes that are alive are not affected.
    ///
    /// # Errors
    ///
    /// [`RegisterError::DispatcherOption`] for the first that has an option for calls of functions, [`RegisterError::Stopping`]
    /// once the manager [stops](Self::stop). Nothing is registered then.
    pub fn apply<P: Process>(
        &self,
        processes: impl IntoIterator<Item = (EntryId, Options, P)>,
    ) -> Result<(), RegisterError> {
        let mut new = Vec::new();
        for (id, options, process) in processes {
            check_options(&id, &options)?;
            new.push(Arc::new(Entry::new(id, options, process)));
        }
        let Some(first) = new.first() else { return Ok(()) };
        self.change(&self.inner.entries, &*first.id, |entries| {
            for entry in &new {
                entries.insert((*entry.id).clone(), Arc::clone(entry));
            }
            Ok(())
        })
    }

    /// Removes something that can be started; says whether it was there. Processes of it that live go on.
    pub fn unregister(&self, id: &EntryId) -> bool {
        let mut is_removed = false;
        self.inner.entries.rcu(|entries| {
            let mut copy = BTreeMap::clone(entries);
            is_removed = copy.remove(id).is_some();
            copy
        });
        is_removed
    }

    /// Returns whether something is registered by this id.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.inner.entries.load().contains_key(id)
    }

    /// The ids of what can be started, sorted.
    pub fn ids(&self) -> Vec<EntryId> {
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
    pub fn host_ids(&self) -> Vec<HostId> {
        self.inner.hosts.load().keys().cloned().collect()
    }

    /// Whether the code of an entry is quarantined, so that each process of it would fail at once.
    pub(super) fn is_quarantined(&self, id: &EntryId) -> bool {
        self.entry(id).is_some_and(|entry| entry.is_quarantined())
    }

    pub(super) fn host(&self, id: &HostId) -> Option<Arc<Host>> {
        self.inner.hosts.load().get(id).cloned()
    }

    /// Whether it stops, or has stopped.
    pub(super) fn is_closed(&self) -> bool {
        self.inner.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn remove_host(&self, host: &Arc<Host>) {
        self.inner.hosts.rcu(|hosts| {
            let mut copy = BTreeMap::clone(hosts);
            copy.retain(|_, other| !Arc::ptr_eq(other, host));
            copy
        });
    }

    /// Lets nothing more be registered; gives the hosts there are.
    pub(super) fn close(&self) -> Vec<Arc<Host>> {
        self.inner.is_closed.store(true, Ordering::Release);
        // Published anew, so that whoever is about to add one finds that it is another, and looks whether that is over.
        let hosts = self.inner.hosts.rcu(|hosts| BTreeMap::clone(hosts));
        hosts.values().cloned().collect()
    }

    /// Drops the hosts, what can be started, the handlers and the policy: what is among them may keep the manager.
    pub(super) fn clear(&self) {
        self.inner.hosts.store(Arc::default());
        self.inner.entries.store(Arc::default());
        self.inner.handlers.store(Arc::default());
        self.inner.spawn_policy.store(None);
    }

    /// Adds a handler, for processes that are started from now on. One that keeps the manager is kept by it, until it is
    /// [removed](Self::unregister_lifecycle) or the manager [stopped](Self::stop).
    ///
    /// # Errors
    ///
    /// [`RegisterError::HandlerTaken`] if its name is taken, [`RegisterError::Stopping`] once the manager
    /// [stops](Self::stop).
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
    pub fn unregister_lifecycle(&self, name: &str) -> bool {
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
            changed = if self.is_closed() {
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
    /// A [`SpawnError`]; nothing of the process has run then.
    pub fn spawn(&self, ctx: &CallContext, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.launch(ctx, spawn, None).map(|instance| instance.pid)
    }

    /// Starts a process, waits for its end, and gives what it gave back.
    ///
    /// # Errors
    ///
    /// [`ExecError::Spawn`] if it was not started, [`ExecError::Exit`] if it did not end normally, and
    /// [`ExecError::ContextEnded`] if `ctx` ended first: the process then goes on.
    ///
    /// The process is nested in the caller, as a call is. So it fails with [`SpawnError::TooDeep`] past
    /// [`max_depth`](crate::FunctionsConfig::max_depth), and is refused if it would wait for a permit that the caller holds.
    ///
    /// # Cancel safety
    ///
    /// Where this is dropped the process goes on.
    pub async fn exec(&self, ctx: &CallContext, start: Spawn) -> Result<Payload, ExecError> {
        let max_depth = self.functions().max_depth();
        ctx.nesting().check(max_depth).map_err(|source| SpawnError::TooDeep { source })?;
        let (sender, exit) = tokio::sync::oneshot::channel();
        let (waiting, _waits) = ctx.as_waiting_caller();
        let instance = self.launch(ctx, start, Some((sender, waiting)))?;
        let number = instance.pid.number();
        let monitor = Monitor::waiting(exit, &instance, number);
        let pid = monitor.pid();
        let exit = ctx.bound(monitor).await.map_err(|source| ExecError::ContextEnded { pid, source })?;
        match exit.result {
            Some(result) if exit.reason.is_normal() => Ok(Arc::unwrap_or_clone(result)),
            _ => Err(ExecError::Exit { exit }),
        }
    }

    /// Asks a process to end: it receives [`Message::Cancelled`](super::Message::Cancelled), may finish what it does, and is
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
    pub fn processes(&self) -> ProcessTable {
        let mut list: Vec<_> = self.snapshot().iter().map(|instance| instance.info()).collect();
        list.sort_by_key(|info| info.pid.number());
        ProcessTable::new(list)
    }

    /// What a process is like now.
    pub fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        self.find(pid).map(|instance| instance.info())
    }

    /// The unit that started a process: none if that was no function and no process, or the process is not known, or
    /// [no more](ManagerConfig::exits).
    pub fn parent(&self, pid: Pid) -> Option<Pid> {
        match self.find(pid) {
            Some(instance) => instance.parent,
            None => self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).parent(pid),
        }
    }

    /// The [owner](Spawn::with_owner) of a process that lives, if it has one.
    pub fn owner(&self, pid: Pid) -> Option<Pid> {
        self.find(pid).and_then(|instance| instance.owner())
    }

    /// How many processes can live at once.
    pub(super) fn most_processes(&self) -> usize {
        let hosts = self.inner.hosts.load();
        hosts.values().fold(0, |most, host| most.saturating_add(host.config.processes))
    }

    pub(super) fn snapshot(&self) -> Vec<Arc<ProcessCell>> {
        self.inner.processes.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    pub(super) fn find(&self, pid: Pid) -> Option<Arc<ProcessCell>> {
        let found = self.inner.processes.get(&pid.number())?;
        (found.pid == pid).then(|| Arc::clone(&found))
    }

    pub(super) fn living(&self, pid: Pid) -> Result<Arc<ProcessCell>, ProcessError> {
        self.find(pid).filter(|instance| !instance.has_ended()).ok_or_else(|| self.gone(pid))
    }

    pub(super) fn recent_exit(&self, pid: Pid) -> Option<Exit> {
        self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).get(pid)
    }

    /// What is known of a process that does not live.
    pub(super) fn gone(&self, pid: Pid) -> ProcessError {
        // In this order, as it is remembered before it is not found any more.
        let exit = self.find(pid).and_then(|instance| instance.state().exit_of(pid));
        match exit.or_else(|| self.recent_exit(pid)) {
            Some(exit) => ProcessError::Ended { exit },
            None => ProcessError::Unknown { process: pid.to_string() },
        }
    }

    pub(super) fn config(&self) -> &ManagerConfig {
        &self.inner.config
    }

    /// Nanoseconds since it was made, for five centuries.
    pub(super) fn age(&self) -> u64 {
        u64::try_from(self.inner.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(super) fn supervisors_table(&self) -> &Supervisors {
        &self.inner.supervisors
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.inner.groups
    }

    pub(super) fn spawn_policy(&self) -> &ArcSwapOption<Box<dyn SpawnPolicy>> {
        &self.inner.spawn_policy
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    pub(super) fn add(&self, instance: &Arc<ProcessCell>) {
        self.inner.processes.insert(instance.pid.number(), Arc::clone(instance));
    }

    /// A process has ended. It is remembered first, so that whoever does not find it finds its exit. Gives the exit that is
    /// forgotten for that.
    pub(super) fn forget(
        &self,
        instance: &ProcessCell,
        names: &[Arc<str>],
        exit: Option<&Exit>,
    ) -> Option<Exit> {
        let forgotten = exit.and_then(|exit| {
            self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).remember(exit, instance.parent)
        });
        for name in names {
            self.inner.names.release(name, instance);
        }
        let removed = self.inner.processes.remove(&instance.pid.number());
        drop(removed);
        forgotten
    }
}

/// An entry that could never be started is none.
fn check_options(id: &EntryId, options: &Options) -> Result<(), RegisterError> {
    match options.iter().find(|option| option.kind() == OptionKind::Dispatcher) {
        Some(option) => Err(RegisterError::DispatcherOption { id: id.clone(), option: option.name() }),
        None => Ok(()),
    }
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
            .field("hosts", &self.host_ids())
            .field("processes", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(any(feature = "lua", feature = "wasm"))]
impl WeakManager {
    /// The manager, as long as something else keeps it: a clone, or a process that lives.
    pub(super) fn upgrade(&self) -> Option<ProcessManager> {
        self.0.upgrade().map(|inner| ProcessManager { inner })
    }
}

#[cfg(any(feature = "lua", feature = "wasm"))]
impl fmt::Debug for WeakManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakManager").finish_non_exhaustive()
    }
}
