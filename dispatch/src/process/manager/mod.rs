//! The process manager: what can be spawned, where, and the processes that are alive.

mod config;
mod stop;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;
#[cfg(any(feature = "lua", feature = "wasm"))]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use frame_registry::{App, OptionKind, Options};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

pub use self::config::ManagerConfig;
pub use self::stop::HostStopped;
use super::call::{self, ProcessCallError};
use super::cell::monitor::Monitor;
use super::cell::{ProcessCells, relations};
use super::error::{ExecError, ProcessError, RegisterError, SpawnError};
use super::group::{self, GroupError, GroupId, Groups, Published};
use super::host::{Host, HostConfig, HostId};
use super::info::{ProcessInfo, ProcessTable};
use super::message::{Destination, ExitReason};
use super::names::spawn_or_signal::{Spawned, spawn_or_signal};
use super::names::{LookupError, Names};
use super::policy::SpawnPolicy;
use super::send::{self, SendError};
use super::spawn::{self, EntryId, IntoProcess, Lifecycle, Process, ProcessDefinition, Spawn};
use super::supervisor::{SupervisorHandle, Supervisors};
use crate::context::CallContext;
use crate::functions::Functions;
use crate::payload::Payload;
use crate::pid::Pid;

/// The processes of an app: what can be spawned, the hosts, and the processes that are alive. A clone costs one reference count.
/// Processes go on when the last clone is dropped.
///
/// See [the module](super) for an overview of processes.
#[derive(Clone)]
pub struct ProcessManager {
    inner: Arc<Inner>,
}

/// A weak reference to a process manager, for what the functions hold.
#[cfg(any(feature = "lua", feature = "wasm"))]
#[derive(Clone)]
pub(crate) struct WeakManager(Weak<Inner>);

struct Inner {
    functions: Functions,
    config: ManagerConfig,
    definitions: ArcSwap<BTreeMap<EntryId, Arc<ProcessDefinition>>>,
    hosts: ArcSwap<BTreeMap<HostId, Arc<Host>>>,
    /// Sorted by order, then name.
    handlers: ArcSwap<Vec<Arc<dyn Lifecycle>>>,
    cells: ProcessCells,
    names: Names,
    groups: Groups,
    spawn_policy: ArcSwapOption<Box<dyn SpawnPolicy>>,
    supervisors: Supervisors,
    created: Instant,
    is_closed: AtomicBool,
}

impl ProcessManager {
    /// Creates a manager without processes, for the app of `functions`. Its processes can call these functions.
    #[must_use]
    pub fn new(functions: Functions) -> Self {
        Self::with_config(functions, ManagerConfig::default())
    }

    /// Creates a manager with a configuration.
    #[must_use]
    pub fn with_config(functions: Functions, config: ManagerConfig) -> Self {
        let inner = Inner {
            functions,
            cells: ProcessCells::new(config.exits),
            config,
            definitions: ArcSwap::default(),
            hosts: ArcSwap::default(),
            handlers: ArcSwap::default(),
            names: Names::new(),
            groups: Groups::default(),
            spawn_policy: ArcSwapOption::empty(),
            supervisors: Supervisors::default(),
            created: Instant::now(),
            is_closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn downgrade(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.inner))
    }

    /// Returns whether both are clones of one manager.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns the app.
    pub fn app(&self) -> &App {
        self.inner.functions.app()
    }

    /// Returns the functions that processes can call.
    pub fn functions(&self) -> &Functions {
        &self.inner.functions
    }

    // Definitions, hosts and handlers -------------------------------------------------------------------------------

    /// Registers a process: a closure or an `async fn` of one of these [forms](crate::handler), or a type that implements
    /// [`Process`]. Each of its processes has `options`, under those that it is spawned with.
    ///
    /// # Errors
    ///
    /// [`RegisterError::EntryTaken`] if the id is taken, [`RegisterError::DispatcherOption`] if one of the options applies only to
    /// function calls, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn register<M>(
        &self,
        id: EntryId,
        options: Options,
        process: impl IntoProcess<M, Process: Process>,
    ) -> Result<(), RegisterError> {
        check_options(&id, &options)?;
        let definition = Arc::new(ProcessDefinition::new(id, options, process.into_process()));
        let id = &*definition.id;
        self.change(&self.inner.definitions, id, |definitions| {
            if definitions.contains_key(id) {
                return Err(RegisterError::EntryTaken { id: id.clone() });
            }
            definitions.insert(id.clone(), Arc::clone(&definition));
            Ok(())
        })
    }

    /// Replaces a registered process and its options. Accepts what [`register`](Self::register) accepts. Processes that are alive
    /// are not affected.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoEntry`] if there is nothing to replace, [`RegisterError::DispatcherOption`] if one of the options applies
    /// only to function calls, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn replace<M>(
        &self,
        id: EntryId,
        options: Options,
        process: impl IntoProcess<M, Process: Process>,
    ) -> Result<(), RegisterError> {
        check_options(&id, &options)?;
        let definition = Arc::new(ProcessDefinition::new(id, options, process.into_process()));
        let id = &*definition.id;
        self.change(&self.inner.definitions, id, |definitions| {
            let replaced =
                definitions.get_mut(id).ok_or_else(|| RegisterError::NoEntry { id: id.clone() })?;
            *replaced = Arc::clone(&definition);
            Ok(())
        })
    }

    /// Registers processes, or replaces those with the same ids, in one step. For many processes this takes far less time than one
    /// registration each. Processes that are alive are not affected.
    ///
    /// # Errors
    ///
    /// [`RegisterError::DispatcherOption`] for the first that has an option which applies only to function calls,
    /// [`RegisterError::Stopping`] once the manager [stops](Self::stop). Nothing is registered then.
    pub fn apply<P: Process>(
        &self,
        processes: impl IntoIterator<Item = (EntryId, Options, P)>,
    ) -> Result<(), RegisterError> {
        let mut new = Vec::new();
        for (id, options, process) in processes {
            check_options(&id, &options)?;
            new.push(Arc::new(ProcessDefinition::new(id, options, process)));
        }
        let Some(first) = new.first() else { return Ok(()) };
        self.change(&self.inner.definitions, &*first.id, |definitions| {
            for definition in &new {
                definitions.insert((*definition.id).clone(), Arc::clone(definition));
            }
            Ok(())
        })
    }

    /// Unregisters a process. Returns whether it was registered. Its processes go on.
    pub fn unregister(&self, id: &EntryId) -> bool {
        let mut is_removed = false;
        self.inner.definitions.rcu(|definitions| {
            let mut copy = BTreeMap::clone(definitions);
            is_removed = copy.remove(id).is_some();
            copy
        });
        is_removed
    }

    /// Returns whether a process is registered by this id.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.inner.definitions.load().contains_key(id)
    }

    /// Returns the ids of the registered processes, sorted.
    pub fn ids(&self) -> Vec<EntryId> {
        self.inner.definitions.load().keys().cloned().collect()
    }

    pub(crate) fn definition(&self, id: &EntryId) -> Option<Arc<ProcessDefinition>> {
        self.inner.definitions.load().get(id).cloned()
    }

    /// Registers a host.
    ///
    /// # Errors
    ///
    /// [`RegisterError::HostTaken`] if the id is taken, [`RegisterError::NoRuntime`] or [`RegisterError::NoTimer`] if there is no
    /// tokio runtime that it can use, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
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

    /// Returns the ids of the hosts, sorted.
    pub fn host_ids(&self) -> Vec<HostId> {
        self.inner.hosts.load().keys().cloned().collect()
    }

    /// Stops a host: it admits no more processes, its processes are cancelled, and those that have not ended after `grace` are
    /// terminated. The id is free again afterwards. Returns `None` if there is no such host.
    ///
    /// # Panics
    ///
    /// If it is awaited on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the host stays closed, and cancelled processes stay cancelled.
    pub async fn stop_host(&self, id: &HostId, grace: Duration) -> Option<HostStopped> {
        let host = self.host(id)?;
        let stopped = stop::stop(self.cells(), slice::from_ref(&host), grace).await;
        self.inner.hosts.rcu(|hosts| {
            let mut copy = BTreeMap::clone(hosts);
            copy.retain(|_, other| !Arc::ptr_eq(other, &host));
            copy
        });
        Some(stopped)
    }

    /// Stops all hosts as [`stop_host`](Self::stop_host) does. Nothing can be registered afterwards. Hosts, registered processes,
    /// lifecycle handlers and the spawn policy are dropped.
    ///
    /// Processes may call functions as they end, so [stop the functions](crate::Functions::stop) afterwards.
    ///
    /// # Panics
    ///
    /// If it is awaited on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all hosts stay closed, and cancelled processes stay cancelled.
    pub async fn stop(&self, grace: Duration) -> HostStopped {
        self.inner.is_closed.store(true, Ordering::Release);
        // Published anew, so that a concurrent registration finds a changed table, repeats its change and sees that this is closed.
        let hosts = self.inner.hosts.rcu(|hosts| BTreeMap::clone(hosts));
        let hosts: Vec<_> = hosts.values().cloned().collect();
        let stopped = stop::stop(self.cells(), &hosts, grace).await;
        // What is registered may hold the manager.
        self.inner.hosts.store(Arc::default());
        self.inner.definitions.store(Arc::default());
        self.inner.handlers.store(Arc::default());
        self.inner.spawn_policy.store(None);
        stopped
    }

    pub(crate) fn host(&self, id: &HostId) -> Option<Arc<Host>> {
        self.inner.hosts.load().get(id).cloned()
    }

    /// Returns whether the manager is stopping or has stopped.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.is_closed.load(Ordering::Acquire)
    }

    /// Returns the most processes that can be alive at once.
    pub(crate) fn max_processes(&self) -> usize {
        let hosts = self.inner.hosts.load();
        hosts.values().fold(0, |most, host| most.saturating_add(host.config.processes))
    }

    /// Registers a handler for processes that are spawned from now on. The manager holds it, and all that it holds, until it is
    /// [unregistered](Self::unregister_lifecycle) or the manager [stops](Self::stop).
    ///
    /// # Errors
    ///
    /// [`RegisterError::HandlerTaken`] if its name is taken, [`RegisterError::Stopping`] once the manager [stops](Self::stop).
    pub fn register_lifecycle(&self, handler: impl Lifecycle) -> Result<(), RegisterError> {
        let handler: Arc<dyn Lifecycle> = Arc::new(handler);
        let position = |handler: &Arc<dyn Lifecycle>| (handler.order(), handler.name());
        self.change(&self.inner.handlers, handler.name(), |handlers| {
            if handlers.iter().any(|other| other.name() == handler.name()) {
                return Err(RegisterError::HandlerTaken { name: handler.name() });
            }
            let index = handlers.partition_point(|other| position(other) < position(&handler));
            handlers.insert(index, Arc::clone(&handler));
            Ok(())
        })
    }

    /// Unregisters a handler. Returns whether it was registered. It is still called for the end of processes that it accepted.
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

    pub(crate) fn handlers(&self) -> Arc<Vec<Arc<dyn Lifecycle>>> {
        self.inner.handlers.load_full()
    }

    /// Sets the policy for every spawn on every host from now on, in place of the one before. Processes that are alive are not
    /// affected. The manager holds the policy, and all that it holds, until it is replaced or the manager [stops](Self::stop).
    pub fn set_spawn_policy(&self, policy: impl SpawnPolicy) {
        self.inner.spawn_policy.store(Some(Arc::new(Box::new(policy))));
    }

    pub(crate) fn spawn_policy(&self) -> Guard<Option<Arc<Box<dyn SpawnPolicy>>>> {
        self.inner.spawn_policy.load()
    }

    /// Publishes a changed copy of a table. `change` runs again if another thread was faster.
    fn change<T: Clone>(
        &self,
        table: &ArcSwap<T>,
        id: impl fmt::Display,
        mut change: impl FnMut(&mut T) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let mut changed = Ok(());
        table.rcu(|now| {
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

    // Spawning and ending -------------------------------------------------------------------------------------------

    /// Spawns a process. Its frame inherits from that of `ctx`, and is made as that of a function is: the id of its entry and its
    /// PID, the pairs that it is spawned with, and what the resolvers make of the options. It belongs to its host and not to its
    /// caller: the end of `ctx` does not end it.
    ///
    /// It does not run before it is linked, monitored, named and has its messages.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`]. The process has not run then.
    pub fn spawn(&self, ctx: &CallContext, spawn: Spawn) -> Result<Pid, SpawnError> {
        spawn::launch(self, ctx, spawn, None).map(|cell| cell.pid)
    }

    /// Spawns a process with a name. If a process that is alive has the name, sends that the [messages](Spawn::with_message)
    /// instead, as [`send`](Self::send) does. Of several concurrent callers exactly one spawns the process, and the others find it.
    /// Without a name the process is spawned.
    ///
    /// A [monitor](Spawn::with_monitor) or a [link](Spawn::with_link) applies to the process that has the name too, before it
    /// receives any message. Existing ones stay. Its payload, options and pairs are those that it was spawned with.
    ///
    /// A message is delivered to one process. If that ends before it has received the message, the message is lost. If it ends
    /// before all messages were sent, the next process with the name receives the remaining ones. The exit of the one before is
    /// delivered to a caller that monitored it with this.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn); [`SpawnError::NotSignalled`] if a message was not delivered, and [`SpawnError::NotMonitored`] if a
    /// process was to monitor itself.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it waits for room in a mailbox, some messages may have been delivered. A monitor and a link
    /// stay.
    pub async fn spawn_or_signal(&self, ctx: &CallContext, spawn: Spawn) -> Result<Spawned, SpawnError> {
        spawn_or_signal(self, ctx, spawn, |_| Ok(())).await
    }

    /// Spawns a process, waits for its end, and returns its result.
    ///
    /// The process is nested in the caller, as a call is. So it fails with [`SpawnError::TooDeep`] past
    /// [`max_depth`](crate::FunctionsConfig::max_depth), and is refused if it would wait for a permit that the caller holds.
    ///
    /// # Errors
    ///
    /// [`ExecError::Spawn`] if it was not spawned, [`ExecError::Exit`] if it did not end normally, and [`ExecError::ContextEnded`]
    /// if `ctx` ended first. The process then goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process goes on.
    pub async fn exec(&self, ctx: &CallContext, spawn: Spawn) -> Result<Payload, ExecError> {
        let max_depth = self.functions().max_depth();
        ctx.nesting().check(max_depth).map_err(|source| SpawnError::TooDeep { source })?;
        let (sender, exit) = oneshot::channel();
        let (waiting, _waits) = ctx.as_waiting_caller();
        let cell = spawn::launch(self, ctx, spawn, Some((sender, waiting)))?;
        let monitor = Monitor::waiting(exit, &cell, cell.pid.number());
        let pid = monitor.pid();
        let exit = ctx.bound(monitor).await.map_err(|source| ExecError::ContextEnded { pid, source })?;
        match exit.result {
            Some(result) if exit.reason.is_normal() => Ok(Arc::unwrap_or_clone(result)),
            _ => Err(ExecError::Exit { exit }),
        }
    }

    /// Asks a process to end: it receives [`Message::Cancelled`](super::Message::Cancelled), may finish its work, and is
    /// [terminated](Self::terminate) after `grace`. After several requests it has one message, and the shortest time applies.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if it is not alive.
    pub fn cancel(&self, pid: Pid, reason: &str, grace: Duration) -> Result<(), ProcessError> {
        let cell = self.cells().get_alive(pid)?;
        if cell.cancel(&reason.into(), grace) { Ok(()) } else { Err(self.cells().exit_error(pid)) }
    }

    /// Terminates a process: drops its future, its script or component. The process may not have ended when this returns;
    /// [`monitor`](Self::monitor) waits for that. A script or a component ends within milliseconds, even if it never waits. A
    /// native process ends where it awaits something.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if it is not alive.
    pub fn terminate(&self, pid: Pid) -> Result<(), ProcessError> {
        self.cells().get_alive(pid)?.terminate(ExitReason::Killed);
        Ok(())
    }

    // Relations -----------------------------------------------------------------------------------------------------

    /// Links two processes: if one fails, the other ends too, unless it [traps](super::ProcessContext::trap_links) that. Linking
    /// again changes nothing, nor does linking a process to itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if one of them is not alive. The other goes on.
    pub fn link(&self, one: Pid, other: Pid) -> Result<(), ProcessError> {
        let (one, other) = (self.cells().get_alive(one)?, self.cells().get_alive(other)?);
        relations::link(&one, &other).map_err(|exit| ProcessError::Ended { exit })
    }

    /// Ends a link, if there is one. From now on the end of one process does not reach the other. A message about it that was
    /// delivered before stays in the mailbox.
    pub fn unlink(&self, one: Pid, other: Pid) {
        let (found_one, found_other) = (self.cells().find(one), self.cells().find(other));
        match (&found_one, &found_other) {
            (Some(found), _) => relations::unlink(found, other, found_other.as_deref()),
            (None, Some(found)) => relations::unlink(found, one, None),
            (None, None) => (),
        }
    }

    /// Returns a future of the exit of a process. If the process has ended, the future is ready immediately, as long as the exit is
    /// [remembered](super::ManagerConfig::exits). What the process [owned](super::Spawn::with_owner) may still be ending then. A
    /// monitor that is set up before the end waits for it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Unknown`] if no process has the PID, or its exit has been forgotten.
    pub fn monitor(&self, pid: Pid) -> Result<Monitor, ProcessError> {
        match self.cells().find(pid) {
            Some(cell) => Ok(Monitor::new(&cell)),
            None => match self.cells().recent_exit(pid) {
                Some(exit) => Ok(Monitor::ended(exit)),
                None => Err(self.cells().exit_error(pid)),
            },
        }
    }

    // Names ---------------------------------------------------------------------------------------------------------

    /// Gives a process a further name, which is free again when the process has ended.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NameTaken`] if another process has it, [`ProcessError::InvalidName`] if it is not valid,
    /// [`ProcessError::TooManyNames`] if the process has 64, [`ProcessError::Ended`] or [`ProcessError::Unknown`] if the process is
    /// not alive.
    pub fn register_name(&self, name: &str, pid: Pid) -> Result<(), ProcessError> {
        self.names().register(name, self.cells(), pid)
    }

    /// Takes a name from the process that has it. Returns whether one had it.
    pub fn unregister_name(&self, name: &str) -> bool {
        self.names().unregister(name)
    }

    /// Returns the process that has a name and is alive.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.names().holder(name).map(|cell| cell.pid)
    }

    /// Returns the process that has a name. Waits for one for at most `time`, and as long as `ctx` may. Unlike this,
    /// [`whereis`](Self::whereis) does not wait.
    ///
    /// The name is free again when the process has ended, which may be at any time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use frame_dispatch::Functions;
    /// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
    /// use frame_registry::{App, Options};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:db".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     ctx.receive().await;
    /// })?;
    ///
    /// let root = functions.root();
    /// let spawn = Spawn::new("app:workers".parse()?, "app:db".parse()?).with_name("db");
    /// let (found, spawned) = tokio::join!(processes.lookup(&root, "db", Duration::from_secs(5)), async {
    ///     processes.spawn(&root, spawn)
    /// });
    /// assert_eq!(found?, spawned?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`LookupError`].
    ///
    /// # Panics
    ///
    /// If it has to wait on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lookup(&self, ctx: &CallContext, name: &str, time: Duration) -> Result<Pid, LookupError> {
        self.names().lookup(ctx, name, time).await
    }

    // Messages ------------------------------------------------------------------------------------------------------

    /// Sends a message to a process, given by its PID or its name. The sender is the process of `ctx`, if there is one: the process
    /// itself, or the one that called the function.
    ///
    /// Waits if the mailbox is full, as long as `ctx` may, and at most for the
    /// [configured time](super::ManagerConfig::max_wait). It does not wait for room in the mailbox of its own process, nor of a
    /// process that waits for it. Messages of one sender arrive in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    ///
    /// # Panics
    ///
    /// If it has to wait on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing was sent. Waiting futures are given room in the order in which they began to wait, before
    /// they are polled again, and keep that room until they are polled or dropped. So poll a future to its end, or drop it: one that
    /// was polled once and is only kept takes the room of one message.
    pub fn send<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> impl Future<Output = Result<(), SendError>> {
        send::send(self, ctx, to.into(), payload.into())
    }

    /// Sends a message as [`send`](Self::send) does, if there is room for it.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    pub fn try_send<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        send::try_send(self, ctx, &to.into(), payload.into())
    }

    /// Sends a request to a process, as [`send`](Self::send) does, and waits for its reply. The process receives the request
    /// as a [`Message::Sent`](super::Message::Sent) with a [`ReplyTo`](super::ReplyTo).
    ///
    /// Waits as long as `ctx` may, and at most for the [configured time](super::ManagerConfig::call_timeout), room in the mailbox
    /// included. The reply does not pass through the caller's mailbox, and a late one is discarded.
    ///
    /// ```
    /// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
    /// use frame_dispatch::{Functions, Payload};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:counter".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     for count in 1.. {
    ///         // A caller that waits no longer is not a reason to end.
    ///         let _ = ctx.receive().await.reply(json!(count));
    ///     }
    /// })?;
    ///
    /// let root = functions.root();
    /// let counter = processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:counter".parse()?))?;
    /// assert_eq!(processes.call(&root, counter, Payload::default()).await?, json!(1).into());
    /// assert_eq!(processes.call(&root, counter, Payload::default()).await?, json!(2).into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`ProcessCallError`].
    ///
    /// A process that is the caller's own, or waits for the caller, is refused at once. A function that a process called counts
    /// as part of that process. Two processes that call each other at once wait until a deadline passes.
    ///
    /// # Panics
    ///
    /// If it is awaited on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future discards the reply. The request stays in the mailbox if it was delivered; the process can see that
    /// its reply is not [awaited](super::ReplyTo::is_awaited).
    pub async fn call<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<Payload, ProcessCallError> {
        call::call(self, ctx, to.into(), payload.into(), self.config().call_timeout).await
    }

    /// Sends a request to a process and waits for its reply, as [`call`](Self::call) does, but for at most `time`.
    ///
    /// # Errors
    ///
    /// A [`ProcessCallError`].
    ///
    /// # Cancel safety
    ///
    /// As that of [`call`](Self::call).
    pub async fn call_timeout<'a>(
        &self,
        ctx: &CallContext,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
        time: Duration,
    ) -> Result<Payload, ProcessCallError> {
        call::call(self, ctx, to.into(), payload.into(), time).await
    }

    // Groups --------------------------------------------------------------------------------------------------------

    /// Makes a process a member of a group until it leaves or ends. Returns whether it was not a member before.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn join(&self, group: &GroupId, pid: Pid) -> Result<bool, GroupError> {
        group::join(self, group, pid)
    }

    /// Ends the membership of a process in a group. Returns whether it was a member.
    pub fn leave(&self, group: &GroupId, pid: Pid) -> bool {
        group::leave(self, group, pid)
    }

    /// Returns the members of a group that are alive, the oldest first.
    pub fn members(&self, group: &GroupId) -> Vec<Pid> {
        let members = self.groups().members(group);
        members.iter().filter(|member| !member.has_ended()).map(|member| member.pid).collect()
    }

    /// Sends a message to each member of a group that has room in its mailbox, without waiting. A slow member does not delay the
    /// sender or the others, but misses messages. Each member receives the message at most once, the sender included if it is
    /// a member.
    ///
    /// The message is like one of [`try_send`](Self::try_send). Each member receives a copy of the payload.
    ///
    /// ```
    /// use frame_dispatch::Functions;
    /// use frame_dispatch::process::{GroupId, HostConfig, ProcessContext, ProcessManager, Spawn};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:reader".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     ctx.receive().await;
    /// })?;
    ///
    /// let (root, news) = (functions.root(), GroupId::new("app:workers".parse()?, "news")?);
    /// for _ in 0..3 {
    ///     let reader = processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:reader".parse()?))?;
    ///     processes.join(&news, reader)?;
    /// }
    /// let published = processes.publish(&root, &news, json!("it rains")).await;
    /// assert_eq!((published.delivered, published.full), (3, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some members may have received the message. It yields to other tasks between members.
    pub async fn publish(
        &self,
        ctx: &CallContext,
        group: &GroupId,
        payload: impl Into<Payload>,
    ) -> Published {
        group::publish(self, ctx, group, payload.into()).await
    }

    // Processes -----------------------------------------------------------------------------------------------------

    /// Returns the number of processes that are alive.
    pub fn len(&self) -> usize {
        self.cells().len()
    }

    /// Returns whether no process is alive.
    pub fn is_empty(&self) -> bool {
        self.cells().is_empty()
    }

    /// Returns the processes that are alive, the oldest first.
    pub fn processes(&self) -> ProcessTable {
        let mut processes: Vec<_> =
            self.cells().snapshot().iter().map(|cell| ProcessInfo::of(cell)).collect();
        processes.sort_by_key(|info| info.pid.number());
        ProcessTable::new(processes)
    }

    /// Returns a snapshot of a process.
    pub fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        self.cells().find(pid).map(|cell| ProcessInfo::of(&cell))
    }

    /// Returns the unit that spawned a process. `None` if it was spawned from a root context, or the process is unknown or has been
    /// [forgotten](ManagerConfig::exits).
    pub fn parent(&self, pid: Pid) -> Option<Pid> {
        self.cells().parent(pid)
    }

    /// Returns the [owner](Spawn::with_owner) of a process that is alive, if it has one.
    pub fn owner(&self, pid: Pid) -> Option<Pid> {
        self.cells().find(pid)?.state().relations.as_deref()?.owner()
    }

    /// Returns the handle of the supervisor that is registered as `id`, if there is one. It addresses whichever process of that id
    /// runs, also after the supervisor was [replaced](Self::replace).
    pub fn supervisor(&self, id: &EntryId) -> Option<SupervisorHandle> {
        let is_registered = self.definition(id).is_some_and(|definition| definition.is_supervisor);
        if is_registered {
            Some(self.inner.supervisors.get_or_add(id))
        } else {
            self.inner.supervisors.get(id)
        }
    }

    /// Returns the supervisors of which processes run, sorted by id.
    pub fn supervisors(&self) -> Vec<(EntryId, SupervisorHandle)> {
        self.inner.supervisors.running()
    }

    // Shared with the rest of the module ----------------------------------------------------------------------------

    pub(crate) fn config(&self) -> &ManagerConfig {
        &self.inner.config
    }

    /// Returns the nanoseconds since it was created, which fit for five centuries.
    pub(crate) fn age(&self) -> u64 {
        u64::try_from(self.inner.created.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn cells(&self) -> &ProcessCells {
        &self.inner.cells
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.inner.groups
    }

    pub(crate) fn supervisor_table(&self) -> &Supervisors {
        &self.inner.supervisors
    }
}

/// Refuses options with which no process could be spawned.
fn check_options(id: &EntryId, options: &Options) -> Result<(), RegisterError> {
    match options.iter().find(|option| option.kind() == OptionKind::Dispatcher) {
        Some(option) => Err(RegisterError::DispatcherOption { id: id.clone(), option: option.name() }),
        None => Ok(()),
    }
}

/// Returns whether a runtime has a timer. A sleep panics without one, and there is no other way to know.
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
    /// Returns the manager, as long as a clone or a process that is alive holds it.
    pub(crate) fn upgrade(&self) -> Option<ProcessManager> {
        self.0.upgrade().map(|inner| ProcessManager { inner })
    }
}

#[cfg(any(feature = "lua", feature = "wasm"))]
impl fmt::Debug for WeakManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakManager").finish_non_exhaustive()
    }
}
