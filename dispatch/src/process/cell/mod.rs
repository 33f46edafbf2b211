//! Process cells: the shared state of each process, and the table in which processes are found.

pub(crate) mod monitor;
pub(crate) mod relations;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::relations::{LinkedStarter, Relations, SpawnRelations, Watcher};
use super::call::CallTimer;
use super::error::ProcessError;
use super::group::GroupUses;
use super::host::{Host, HostPermit};
use super::mailbox::Mailbox;
use super::manager::ProcessManager;
use super::message::{Exit, ExitReason, Message};
use super::spawn::ProcessDefinition;
use super::timer::Timers;
use crate::bounds::Termination;
use crate::context::{CallContext, ContainingProcess};
use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::pid::{Pid, PidError};

/// A process, from before it is spawned until the last reference to it is dropped.
///
/// The lock of `state` is taken before that of the mailbox or of the names. Only the functions in [`relations`] hold the locks of
/// two processes, which they take in the order of the PIDs.
pub(crate) struct ProcessCell {
    pub(crate) pid: Pid,
    pub(crate) definition: Arc<ProcessDefinition>,
    pub(crate) host: Arc<Host>,
    pub(crate) parent: Option<Pid>,
    /// The time of its spawn in nanoseconds since its manager was made, which is a word less than an [`Instant`].
    pub(crate) spawned_at: u64,
    pub(crate) manager: ProcessManager,
    pub(crate) mailbox: Mailbox,
    frame: Frame,
    state: Mutex<CellState>,
    has_ended: AtomicBool,
    /// Begins when it is being terminated or has ended. All that was called in it ends then.
    termination: Termination,
}

#[derive(Default)]
pub(crate) struct CellState {
    life: Life,
    /// `None` until it is spawned.
    pub(crate) task: Option<AbortHandle>,
    /// On the heap, because few processes are cancelled.
    pub(crate) cancelled: Option<Box<Cancelled>>,
    traps_links: Traps,
    /// The number of calls that wait for their replies.
    pub(crate) calls: u32,
    /// The timer of its last call, kept for the next one.
    pub(crate) call_timer: Option<Pin<Box<CallTimer>>>,
    /// On the heap, because most processes have none.
    pub(crate) relations: Option<Box<Relations>>,
}

/// The phase of a process.
#[derive(Default)]
enum Life {
    /// Alive, and possibly not spawned yet.
    #[default]
    Alive,
    /// Being terminated.
    Terminated(ExitReason),
    Ended(ExitReason),
}

/// Which exits of linked processes are delivered as messages.
#[derive(Clone, Copy, Default)]
enum Traps {
    /// None. The failure of a linked process ends this one.
    #[default]
    Nothing,
    Failures,
    /// All exits, normal ones included.
    Exits,
}

/// A request to end.
pub(crate) struct Cancelled {
    reason: Arc<str>,
    /// The earliest deadline of all requests.
    deadline: Option<Instant>,
    /// Terminates the process at the deadline, unless the caller does so itself.
    timer: Option<(Instant, AbortHandle)>,
}

impl CellState {
    /// Sets the reason for termination, unless the process is being terminated or has ended. The first reason counts.
    pub(crate) fn decide_end(&mut self, reason: &ExitReason) -> bool {
        let is_open = !self.is_ending();
        if is_open {
            self.life = Life::Terminated(reason.clone());
        }
        is_open
    }

    /// Returns whether it is being terminated or has ended.
    pub(crate) const fn is_ending(&self) -> bool {
        !matches!(self.life, Life::Alive)
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_))
    }

    /// Returns the exit of the process, which has this PID, without a result.
    pub(crate) fn exit_of(&self, pid: Pid) -> Option<Exit> {
        match &self.life {
            Life::Ended(reason) => Some(Exit { pid, reason: reason.clone(), result: None }),
            Life::Alive | Life::Terminated(_) => None,
        }
    }

    /// Returns the number of timers and groups. Each has at most one message in the mailbox.
    fn max_notices(&self) -> usize {
        let Some(relations) = &self.relations else { return 0 };
        relations.timers.as_deref().map_or(0, Timers::len).saturating_add(relations.groups.len())
    }

    pub(crate) fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    /// Returns its groups, without making room for them.
    pub(crate) fn groups(&mut self) -> Option<&mut GroupUses> {
        self.relations.as_deref_mut().map(|relations| &mut relations.groups)
    }

    /// Returns its timers, without making room for them.
    pub(crate) fn timers(&mut self) -> Option<&mut Timers> {
        self.relations.as_deref_mut().and_then(|relations| relations.timers.as_deref_mut())
    }

    /// Returns whether `remove` removes anything from the relations, if there are any.
    pub(crate) fn removes(&mut self, remove: impl FnOnce(&mut Relations) -> bool) -> bool {
        self.relations.as_deref_mut().is_some_and(remove)
    }
}

impl ContainingProcess for ProcessCell {
    fn pid(&self) -> Pid {
        self.pid
    }

    fn termination(&self) -> &Termination {
        &self.termination
    }
}

impl ProcessCell {
    pub(crate) fn new(
        pid: Pid,
        (definition, host): (Arc<ProcessDefinition>, Arc<Host>),
        parent: Option<Pid>,
        frame: Frame,
        manager: ProcessManager,
    ) -> Arc<Self> {
        Arc::new(Self {
            pid,
            definition,
            parent,
            spawned_at: manager.age(),
            manager,
            mailbox: Mailbox::new(host.mailbox_capacity()),
            host,
            frame,
            state: Mutex::default(),
            has_ended: AtomicBool::new(false),
            termination: Termination::default(),
        })
    }

    /// Returns the process that a context belongs to.
    pub(crate) fn of(ctx: &CallContext) -> Option<Arc<Self>> {
        let process: Arc<dyn Any + Send + Sync> = Arc::clone(ctx.process()?) as _;
        process.downcast().ok()
    }

    /// Returns the process that a context belongs to, or that called the function it belongs to, directly or through others.
    pub(crate) fn containing(ctx: &CallContext) -> Option<&Self> {
        let process: &dyn Any = &**ctx.containing_process()?;
        process.downcast_ref()
    }

    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Returns whether it is being terminated or has ended.
    pub(crate) fn is_terminated(&self) -> bool {
        self.termination.has_begun()
    }

    /// Waits until it [is terminated](Self::is_terminated).
    pub(crate) async fn terminated(&self) {
        self.termination.begun().await;
    }

    /// Sets its task. Aborts the task if the process is being terminated already.
    pub(crate) fn set_task(&self, task: AbortHandle) {
        let mut state = self.state();
        match state.life {
            Life::Alive => (),
            Life::Terminated(_) => task.abort(),
            Life::Ended(_) => return,
        }
        state.task = Some(task);
    }

    /// Terminates it and all that it owns. The first reason counts. Returns whether this was the first.
    pub(crate) fn terminate(&self, reason: ExitReason) -> bool {
        relations::terminate(self, self.state(), reason)
    }

    /// Drops its future. Its end is decided.
    fn abort(&self, task: Option<AbortHandle>) {
        self.termination.begin();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Returns the reason for its termination.
    pub(crate) fn end_reason(&self) -> Option<ExitReason> {
        match &self.state().life {
            Life::Terminated(reason) => Some(reason.clone()),
            Life::Alive | Life::Ended(_) => None,
        }
    }

    /// Returns the reason for its cancellation.
    pub(crate) fn cancel_reason(&self) -> Option<Arc<str>> {
        self.state().cancelled.as_ref().map(|cancelled| Arc::clone(&cancelled.reason))
    }

    /// Asks it to end, and terminates it after `grace`. A further request can only shorten that. Returns whether it is alive.
    pub(crate) fn cancel(self: &Arc<Self>, reason: &Arc<str>, grace: Duration) -> bool {
        let deadline = Instant::now().checked_add(grace);
        let is_alive = self.ask_to_end(reason, deadline);
        if !is_alive {
            return false;
        }
        match deadline {
            Some(_) if grace.is_zero() => _ = self.terminate(ExitReason::Killed),
            Some(deadline) => self.terminate_at(deadline),
            None => (),
        }
        true
    }

    /// Asks it to end by a deadline at which the caller terminates it. Returns whether it is alive.
    pub(crate) fn ask_to_end(&self, reason: &Arc<str>, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        if state.has_ended() {
            return false;
        }
        if let Some(cancelled) = &mut state.cancelled {
            cancelled.deadline = [cancelled.deadline, deadline].into_iter().flatten().min();
            return true;
        }
        let reason = Arc::clone(reason);
        state.cancelled = Some(Box::new(Cancelled { reason: Arc::clone(&reason), deadline, timer: None }));
        self.push_system(state, Message::Cancelled { reason, deadline });
        // A quarantined process may never look at its mailbox.
        if self.definition.is_quarantined() {
            self.terminate(ExitReason::Killed);
        }
        true
    }

    /// Returns the end of the grace period, if it was cancelled and the period has an end.
    pub(crate) fn cancel_deadline(&self) -> Option<Instant> {
        self.state().cancelled.as_ref().and_then(|cancelled| cancelled.deadline)
    }

    fn terminate_at(self: &Arc<Self>, deadline: Instant) {
        let mut state = self.state();
        if state.has_ended() {
            return;
        }
        let Some(cancelled) = &mut state.cancelled else { return };
        if cancelled.timer.as_ref().is_some_and(|(earlier, _)| *earlier <= deadline) {
            return;
        }
        let this = Arc::downgrade(self);
        let timer = self.host.runtime.spawn(async move {
            sleep_until(deadline).await;
            if let Some(this) = this.upgrade() {
                this.terminate(ExitReason::Killed);
            }
        });
        if let Some((_, later)) = cancelled.timer.replace((deadline, timer.abort_handle())) {
            later.abort();
        }
    }

    pub(crate) fn trap_links(&self, traps: bool) {
        self.state().traps_links = if traps { Traps::Failures } else { Traps::Nothing };
    }

    /// Delivers every linked exit as a message from now on, normal exits included. Returns the state of the process that spawned
    /// this one with a link.
    pub(crate) fn trap_exits(&self) -> LinkedStarter {
        let mut state = self.state();
        state.traps_links = Traps::Exits;
        let Some(relations) = &state.relations else { return LinkedStarter::None };
        match relations.starter {
            Some(starter) if relations.links.contains(&starter) => LinkedStarter::Alive(starter),
            Some(_) => LinkedStarter::Ended,
            None => LinkedStarter::None,
        }
    }

    /// Ends the process: releases what it has, terminates what it owned, and delivers its exit, exactly once. Receivers of the exit
    /// find its permit, its names and its groups free, and those of all that it owned.
    pub(crate) fn end(&self, exit: &Exit, is_started: bool, permit: &mut HostPermit) {
        let mut state = self.state();
        if state.has_ended() {
            return;
        }
        state.life = Life::Ended(exit.reason.clone());
        state.task = None;
        let call_timer = state.call_timer.take();
        let timer = state.cancelled.as_mut().and_then(|cancelled| cancelled.timer.take());
        // No names, groups or owned processes are added after this.
        let is_related = state.relations.is_some();
        let (names, owned) = match state.relations.as_deref_mut() {
            Some(relations) => (mem::take(&mut relations.names), relations.owned()),
            None => (Vec::new(), Vec::new()),
        };
        let (timers, groups) = match state.relations.as_deref_mut() {
            Some(relations) => (relations.timers.take(), mem::take(&mut relations.groups)),
            None => (None, GroupUses::default()),
        };
        self.has_ended.store(true, Ordering::Release);
        drop(state);
        // Its waker may hold the last reference to a value of the program.
        catch_and_log(|| drop(call_timer));
        drop(timers);
        catch_and_log(|| self.manager.groups().remove_process(self.pid, groups));
        if let Some((_, timer)) = timer {
            timer.abort();
        }
        // What is left of it, such as a task that it spawned, is cancelled.
        self.termination.begin();
        relations::terminate_owned(self, owned, &exit.reason);
        catch_and_log(|| drop(self.mailbox.close()));
        // The exit is remembered before the process is removed, so that a caller that does not find the process finds its exit.
        // A process that was never started is not remembered, because exits of real ones would be forgotten for it.
        let forgotten = if is_started { self.manager.cells().remember(exit, self.parent) } else { None };
        for name in &names {
            self.manager.names().release(name, self);
        }
        self.manager.cells().remove(self.pid);
        catch_and_log(|| drop(forgotten));
        permit.release();
        if is_related {
            relations::deliver_exit(self, exit.clone());
        }
    }

    /// Adds a system message to the mailbox. Terminates a process that has more of them than everything could send it at once:
    /// nothing else bounds how many a process leaves unread.
    pub(crate) fn push_system(&self, state: MutexGuard<'_, CellState>, message: Message) {
        let capacity = self.host.mailbox_capacity();
        let pushed = self.mailbox.push_system(message, capacity).or_else(|message| {
            let most = self
                .manager
                .max_processes()
                .saturating_mul(2)
                .saturating_add(capacity)
                .saturating_add(self.manager.config().monitors)
                .saturating_add(state.max_notices());
            self.mailbox.push_system(message, most)
        });
        let Ok(receiver) = pushed else {
            let message =
                format!("it has {} exits in its mailbox, and receives none", self.mailbox.system_len());
            let error = CallError::new(ErrorKind::Exhausted, message).with_retryable(false);
            relations::terminate(self, state, ExitReason::Failed(Arc::new(error)));
            return;
        };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

/// Runs code that may panic, such as the drop of a value of the program or a waker. Logs a panic, so that the end of the process
/// goes on.
fn catch_and_log(run: impl FnOnce()) {
    if let Err(message) = panics::catch(run) {
        tracing::error!("a value that an ended process had used {message}");
    }
}

impl fmt::Debug for ProcessCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessCell")
            .field("pid", &self.pid)
            .field("entry", &self.definition.id)
            .finish_non_exhaustive()
    }
}

/// The processes that are alive, and the exits of those that ended last.
pub(crate) struct ProcessCells {
    /// By the number of the PID.
    alive: DashMap<u64, Arc<ProcessCell>, FxBuildHasher>,
    recent: Mutex<RecentExits>,
}

impl ProcessCells {
    /// Creates a table that remembers `exits` exits.
    pub(crate) fn new(exits: usize) -> Self {
        Self { alive: DashMap::default(), recent: Mutex::new(RecentExits::new(exits)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.alive.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    pub(crate) fn insert(&self, cell: &Arc<ProcessCell>) {
        self.alive.insert(cell.pid.number(), Arc::clone(cell));
    }

    fn remove(&self, pid: Pid) {
        let removed = self.alive.remove(&pid.number());
        drop(removed);
    }

    /// Returns the processes, in no order.
    pub(crate) fn snapshot(&self) -> Vec<Arc<ProcessCell>> {
        self.alive.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Returns a process, which may be ending.
    pub(crate) fn find(&self, pid: Pid) -> Option<Arc<ProcessCell>> {
        let found = self.alive.get(&pid.number())?;
        (found.pid == pid).then(|| Arc::clone(&found))
    }

    /// Returns a process that has not ended.
    pub(crate) fn get_alive(&self, pid: Pid) -> Result<Arc<ProcessCell>, ProcessError> {
        self.find(pid).filter(|cell| !cell.has_ended()).ok_or_else(|| self.exit_error(pid))
    }

    /// Returns the error for a process that is not alive: its exit, as long as that is known.
    pub(crate) fn exit_error(&self, pid: Pid) -> ProcessError {
        // In this order, because an exit is remembered before its process is removed.
        let exit = self.find(pid).and_then(|cell| cell.state().exit_of(pid));
        match exit.or_else(|| self.recent_exit(pid)) {
            Some(exit) => ProcessError::Ended { exit },
            None => ProcessError::Unknown { process: pid.to_string() },
        }
    }

    pub(crate) fn recent_exit(&self, pid: Pid) -> Option<Exit> {
        self.recent().get(pid)
    }

    /// Returns the unit that spawned a process, as long as the process is known.
    pub(crate) fn parent(&self, pid: Pid) -> Option<Pid> {
        match self.find(pid) {
            Some(cell) => cell.parent,
            None => self.recent().parent(pid),
        }
    }

    /// Remembers an exit. Returns the one that is forgotten for it.
    fn remember(&self, exit: &Exit, parent: Option<Pid>) -> Option<Exit> {
        self.recent().add(exit, parent)
    }

    fn recent(&self) -> MutexGuard<'_, RecentExits> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last exits, for callers that ask about a process that has ended.
struct RecentExits {
    capacity: usize,
    /// Oldest first.
    exits: VecDeque<RecentExit>,
    /// The number of forgotten exits.
    forgotten: u64,
    /// By the number of the PID, how many exits came before. Kept apart from the exits, so that this table, which is accessed at
    /// random, fits into the cache.
    indexes: HashMap<u64, u64, FxBuildHasher>,
}

struct RecentExit {
    exit: Exit,
    /// The unit that spawned the process.
    parent: Option<Pid>,
}

impl RecentExits {
    fn new(capacity: usize) -> Self {
        Self { capacity, exits: VecDeque::new(), forgotten: 0, indexes: HashMap::default() }
    }

    /// Adds an exit without its result, which can be large. Returns the exit that is forgotten for it.
    fn add(&mut self, exit: &Exit, parent: Option<Pid>) -> Option<Exit> {
        let exit = Exit { pid: exit.pid, reason: exit.reason.clone(), result: None };
        if self.capacity == 0 {
            return Some(exit);
        }
        let oldest = if self.exits.len() == self.capacity { self.exits.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            self.indexes.remove(&oldest.exit.pid.number());
            self.forgotten += 1;
        }
        // Twice the room, because the tombstones of forgotten entries would make the table grow again.
        if self.indexes.capacity() < 2 * (self.indexes.len() + 1) {
            self.indexes.reserve(self.indexes.len() + 2);
        }
        let before = u64::try_from(self.exits.len()).unwrap_or(u64::MAX);
        self.indexes.insert(exit.pid.number(), self.forgotten.saturating_add(before));
        self.exits.push_back(RecentExit { exit, parent });
        oldest.map(|it| it.exit)
    }

    fn get(&self, pid: Pid) -> Option<Exit> {
        self.find(pid).map(|it| it.exit.clone())
    }

    /// Returns the unit that spawned a process.
    fn parent(&self, pid: Pid) -> Option<Pid> {
        self.find(pid)?.parent
    }

    fn find(&self, pid: Pid) -> Option<&RecentExit> {
        let before = *self.indexes.get(&pid.number())?;
        let index = usize::try_from(before.checked_sub(self.forgotten)?).ok()?;
        // A PID that was read from text may have the number of another.
        self.exits.get(index).filter(|it| it.exit.pid == pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use crate::pid::Host;

    fn exit() -> Exit {
        let pid = Pid::next(Host::named("local@test:host"));
        Exit { pid, reason: ExitReason::Normal, result: Some(Arc::new(Payload::default())) }
    }

    #[test]
    fn the_last_exits_are_kept_without_their_results() {
        let mut recent = RecentExits::new(3);
        let (parent, exits) = (exit().pid, [(); 10].map(|()| exit()));
        for (index, exit) in exits.iter().enumerate() {
            let forgotten = recent.add(exit, Some(parent)).map(|exit| exit.pid);
            assert_eq!(forgotten, index.checked_sub(3).map(|oldest| exits[oldest].pid));
            for (other, exit) in exits.iter().enumerate() {
                let is_known = other <= index && other + 3 > index;
                assert_eq!(recent.get(exit.pid).is_some(), is_known);
                assert_eq!(recent.parent(exit.pid), is_known.then_some(parent));
            }
            assert!(recent.get(exit.pid).unwrap().result.is_none());
        }
    }

    #[test]
    fn no_exit_is_kept_if_none_shall_be() {
        let mut recent = RecentExits::new(0);
        let exit = exit();
        assert_eq!(recent.add(&exit, None).map(|exit| exit.pid), Some(exit.pid));
        assert!(recent.get(exit.pid).is_none() && recent.parent(exit.pid).is_none());
    }
}
