//! One process: what it is, what it is related to, and how it ends.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::call::CallTimer;
use super::entry::Entry;
use super::exit::{Exit, ExitReason};
use super::group::GroupUse;
use super::host::{Host, Place};
use super::mailbox::Mailbox;
use super::manager::ProcessManager;
use super::message::Message;
use super::monitor::MonitorRef;
use super::owner::Owner;
use super::timer::Timers;
use crate::bounds::Termination;
use crate::context::{CallContext, ContainingProcess};
use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::pid::Pid;

/// A process, from before it is spawned until nobody refers to it any more.
///
/// Of the locks here that of `state` is taken before that of the mailbox or of the names. No thread holds those of two
/// processes but [`both`], which takes them in the order of their PIDs.
pub(crate) struct ProcessCell {
    pub(super) pid: Pid,
    pub(super) entry: Arc<Entry>,
    pub(super) host: Arc<Host>,
    pub(super) parent: Option<Pid>,
    /// When it was started, in nanoseconds since its manager was made: a word less than an [`Instant`] for each process.
    pub(super) started: u64,
    pub(super) manager: ProcessManager,
    pub(super) mailbox: Mailbox,
    frame: Frame,
    state: Mutex<State>,
    has_ended: AtomicBool,
    termination: Termination,
}

#[derive(Default)]
pub(super) struct State {
    life: Life,
    /// None until it is spawned.
    pub(super) task: Option<AbortHandle>,
    /// Few processes are cancelled, and others take no memory for it.
    pub(super) cancelled: Option<Box<Cancelled>>,
    traps_links: Traps,
    /// How many calls wait for their replies.
    pub(super) calls: u32,
    /// The timer of its last call, for the next one.
    pub(super) call_timer: Option<Pin<Box<CallTimer>>>,
    /// Most processes have none, and take no memory for them.
    pub(super) relations: Option<Box<Relations>>,
}

/// How far a process has come.
#[derive(Default)]
enum Life {
    /// It may not be spawned yet.
    #[default]
    Alive,
    /// It is being terminated.
    Terminated(ExitReason),
    Ended(ExitReason),
}

/// Which ends of linked processes are messages.
#[derive(Clone, Copy, Default)]
enum Traps {
    /// None: where one fails, this one ends.
    #[default]
    Nothing,
    Failures,
    /// The normal ones, too.
    Ends,
}

/// The process that started another and linked it to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkedStarter {
    /// There is none, or no more: one of them ended the link.
    None,
    Lives(Pid),
    Ended,
}

/// It was asked to end.
pub(super) struct Cancelled {
    reason: Arc<str>,
    /// When it is terminated; the earliest of those that were said.
    deadline: Option<Instant>,
    /// Terminates it at that time, unless whoever asked does.
    timer: Option<(Instant, AbortHandle)>,
}

#[derive(Default)]
pub(super) struct Relations {
    pub(super) names: Vec<Arc<str>>,
    pub(super) groups: Vec<GroupUse>,
    pub(super) links: HashSet<Pid, FxBuildHasher>,
    /// The process that started it linked to itself, also when that has ended, but not when the link was.
    pub(super) starter: Option<Pid>,
    /// Its monitors of others. An exit is delivered only while its monitor is here.
    pub(super) monitored: HashSet<MonitorRef, FxBuildHasher>,
    /// Those that are told of its exit, by their [key](MonitorRef::watcher_key).
    pub(super) watchers: HashMap<u64, Watcher, FxBuildHasher>,
    /// Most processes have none.
    pub(super) timers: Option<Box<Timers>>,
    pub(super) owner: Option<Owner>,
    /// Those that end with it, whatever they trap: by rank, the last first.
    pub(super) owned: BTreeSet<(u64, Pid)>,
    /// Its exit, until it is told: that waits for what it owned.
    pub(super) untold: Option<Exit>,
}

impl Relations {
    /// What it owns, the first first.
    pub(super) fn owned(&self) -> Vec<Pid> {
        self.owned.iter().map(|&(_, pid)| pid).collect()
    }
}

/// Who is told of an exit.
pub(super) enum Watcher {
    /// A process, in its mailbox, with the reference of its monitor.
    Process(Pid, MonitorRef),
    /// A [`Monitor`](super::Monitor).
    Monitor(oneshot::Sender<Exit>),
}

impl State {
    /// Notes why it is terminated, unless it is already, or has ended. Of several reasons the first counts.
    pub(super) fn decide_end(&mut self, reason: &ExitReason) -> bool {
        let is_open = !self.is_ending();
        if is_open {
            self.life = Life::Terminated(reason.clone());
        }
        is_open
    }

    /// Whether it is being terminated, or has ended.
    pub(super) const fn is_ending(&self) -> bool {
        !matches!(self.life, Life::Alive)
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_))
    }

    /// The exit of the process, which is `pid`, without a result.
    pub(super) fn exit_of(&self, pid: Pid) -> Option<Exit> {
        match &self.life {
            Life::Ended(reason) => Some(Exit { pid, reason: reason.clone(), result: None }),
            Life::Alive | Life::Terminated(_) => None,
        }
    }

    /// How many timers and groups there are, each of which says one thing at most.
    fn most_notices(&self) -> usize {
        let Some(relations) = &self.relations else { return 0 };
        relations.timers.as_deref().map_or(0, Timers::len).saturating_add(relations.groups.len())
    }

    pub(super) fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    /// Whether something is removed from the relations, if there are any.
    pub(super) fn removes(&mut self, remove: impl FnOnce(&mut Relations) -> bool) -> bool {
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
    pub(super) fn new(
        pid: Pid,
        (entry, host): (Arc<Entry>, Arc<Host>),
        parent: Option<Pid>,
        frame: Frame,
        manager: ProcessManager,
    ) -> Arc<Self> {
        Arc::new(Self {
            pid,
            entry,
            parent,
            started: manager.age(),
            manager,
            mailbox: Mailbox::new(host.mailbox_capacity()),
            host,
            frame,
            state: Mutex::default(),
            has_ended: AtomicBool::new(false),
            termination: Termination::default(),
        })
    }

    /// The process that a context belongs to.
    pub(super) fn of(ctx: &CallContext) -> Option<Arc<Self>> {
        let process: Arc<dyn Any + Send + Sync> = Arc::clone(ctx.process()?) as _;
        process.downcast().ok()
    }

    /// The process that a context belongs to, or that called the function it belongs to, directly or through others.
    pub(super) fn containing(ctx: &CallContext) -> Option<&Self> {
        let process: &dyn Any = &**ctx.containing_process()?;
        process.downcast_ref()
    }

    pub(super) const fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Whether it is being terminated, or has ended.
    pub(super) fn is_terminated(&self) -> bool {
        self.termination.has_begun()
    }

    /// Waits until it [is](Self::is_terminated).
    pub(super) async fn terminated(&self) {
        self.termination.begun().await;
    }

    /// It is spawned. It may be being terminated already.
    pub(super) fn spawned(&self, task: AbortHandle) {
        let mut state = self.state();
        match state.life {
            Life::Alive => (),
            Life::Terminated(_) => task.abort(),
            Life::Ended(_) => return,
        }
        state.task = Some(task);
    }

    /// Ends it wherever it is, and [all that it owns](Self::terminate_in). Of several reasons the first counts. Says whether
    /// this is that.
    pub(super) fn terminate(&self, reason: ExitReason) -> bool {
        self.terminate_in(self.state(), reason)
    }

    /// Drops its future, once its end is decided.
    pub(super) fn abort(&self, task: Option<AbortHandle>) {
        self.termination.begin();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Why it is being terminated.
    pub(super) fn end_reason(&self) -> Option<ExitReason> {
        match &self.state().life {
            Life::Terminated(reason) => Some(reason.clone()),
            Life::Alive | Life::Ended(_) => None,
        }
    }

    /// Why it was cancelled.
    pub(super) fn cancel_reason(&self) -> Option<Arc<str>> {
        self.state().cancelled.as_ref().map(|cancelled| Arc::clone(&cancelled.reason))
    }

    /// Asks it to end, and terminates it after `grace`. Asked again it can only become sooner. Says whether it lives.
    pub(super) fn cancel(self: &Arc<Self>, reason: &Arc<str>, grace: Duration) -> bool {
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

    /// The same, where whoever asks terminates it at the deadline.
    pub(super) fn ask_to_end(&self, reason: &Arc<str>, deadline: Option<Instant>) -> bool {
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
        self.tell(state, Message::Cancelled { reason, deadline });
        // It may hold its thread, and would not read the message.
        if self.entry.is_quarantined() {
            self.terminate(ExitReason::Killed);
        }
        true
    }

    /// When it is terminated, if it was cancelled and there is an end to the grace period.
    pub(super) fn cancel_deadline(&self) -> Option<Instant> {
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

    pub(super) fn trap_links(&self, traps: bool) {
        self.state().traps_links = if traps { Traps::Failures } else { Traps::Nothing };
    }

    /// Has it told of every end of a linked process from now on, also of the normal ones. Gives what it could not be told of
    /// before.
    pub(super) fn trap_ends(&self) -> LinkedStarter {
        let mut state = self.state();
        state.traps_links = Traps::Ends;
        let Some(relations) = &state.relations else { return LinkedStarter::None };
        match relations.starter {
            Some(starter) if relations.links.contains(&starter) => LinkedStarter::Lives(starter),
            Some(_) => LinkedStarter::Ended,
            None => LinkedStarter::None,
        }
    }

    /// It has ended: ends what it owned, and tells all who want to know, exactly once. Whoever is told finds its place free, and
    /// those of all that it owned.
    pub(super) fn ended(&self, exit: &Exit, is_started: bool, place: &mut Place) {
        let mut state = self.state();
        if state.has_ended() {
            return;
        }
        state.life = Life::Ended(exit.reason.clone());
        state.task = None;
        let call_timer = state.call_timer.take();
        let timer = state.cancelled.as_mut().and_then(|cancelled| cancelled.timer.take());
        // From here on there are no more of them.
        let is_related = state.relations.is_some();
        let (names, owned) = match state.relations.as_deref_mut() {
            Some(relations) => (mem::take(&mut relations.names), relations.owned()),
            None => (Vec::new(), Vec::new()),
        };
        let (timers, groups) = match state.relations.as_deref_mut() {
            Some(relations) => (relations.timers.take(), mem::take(&mut relations.groups)),
            None => (None, Vec::new()),
        };
        self.has_ended.store(true, Ordering::Release);
        drop(state);
        // Its waker may be the last that keeps something.
        shielded(|| drop(call_timer));
        drop(timers);
        shielded(|| self.manager.groups().ended(self.pid, groups));
        if let Some((_, timer)) = timer {
            timer.abort();
        }
        // What is left of it, such as a task that it spawned, ends with it.
        self.termination.begin();
        self.end_owned(owned, &exit.reason);
        shielded(|| drop(self.mailbox.close()));
        // One that was never started is none to remember, or the real ones would be forgotten for it.
        let forgotten = self.manager.forget(self, &names, is_started.then_some(exit));
        shielded(|| drop(forgotten));
        place.vacate();
        if is_related {
            self.tell_exit(exit.clone());
        }
    }

    /// Tells those of its exit that it is related to.
    pub(super) fn tell_related(&self, exit: &Exit, relations: Relations) {
        for watcher in relations.watchers.into_values() {
            match watcher {
                Watcher::Process(pid, monitor) => {
                    if let Some(watcher) = self.manager.find(pid) {
                        shielded(|| watcher.deliver(monitor, exit));
                    }
                }
                // Whoever wanted to know may be gone.
                Watcher::Monitor(watcher) => shielded(|| _ = watcher.send(exit.clone())),
            }
        }
        for pid in relations.links {
            if let Some(linked) = self.manager.find(pid) {
                shielded(|| linked.link_ended(exit));
            }
        }
        self.end_monitors(relations.monitored);
    }

    /// Puts what the runtime says into the mailbox. A process that receives nothing of that, and has more of it than all there
    /// can be would say at once, is ended: nothing else bounds how much that is.
    pub(super) fn tell(&self, state: MutexGuard<'_, State>, message: Message) {
        let capacity = self.host.mailbox_capacity();
        let told = self.mailbox.tell(message, capacity).or_else(|message| {
            let most = self
                .manager
                .most_processes()
                .saturating_mul(2)
                .saturating_add(capacity)
                .saturating_add(self.manager.config().monitors)
                .saturating_add(state.most_notices());
            self.mailbox.tell(message, most)
        });
        let Ok(receiver) = told else {
            let message = format!("it has {} exits in its mailbox, and receives none", self.mailbox.told());
            let error = CallError::new(ErrorKind::Exhausted, message).with_retryable(false);
            self.terminate_in(state, ExitReason::Failed(Arc::new(error)));
            return;
        };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// A process ended that this one is linked to, or was.
    fn link_ended(&self, exit: &Exit) {
        let mut state = self.state();
        let is_linked = !state.has_ended() && state.removes(|relations| relations.links.remove(&exit.pid));
        if !is_linked {
            return;
        }
        match state.traps_links {
            Traps::Ends => self.tell(state, Message::LinkDown(Box::new(exit.clone()))),
            _ if exit.reason.is_normal() => (),
            Traps::Failures => self.tell(state, Message::LinkDown(Box::new(exit.clone()))),
            Traps::Nothing => _ = self.terminate_in(state, exit.reason.to_link_down(exit.pid)),
        }
    }
}

/// Runs what may do anything: wake whom nobody knows here, or drop what is somebody else's. Where that panics the others are
/// told, all the same.
fn shielded(run: impl FnOnce()) {
    if let Err(message) = panics::catch(run) {
        tracing::error!("as a process ended, what it left behind {message}");
    }
}

/// The states of two processes that are not the same.
pub(super) fn both<'a>(
    a: &'a ProcessCell,
    b: &'a ProcessCell,
) -> (MutexGuard<'a, State>, MutexGuard<'a, State>) {
    if a.pid < b.pid {
        let a = a.state();
        (a, b.state())
    } else {
        let b = b.state();
        (a.state(), b)
    }
}

impl fmt::Debug for ProcessCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .field("entry", &self.entry.id)
            .finish_non_exhaustive()
    }
}
