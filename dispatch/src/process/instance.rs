//! One process: what it is, what it is related to, and how it ends.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::entry::Entry;
use super::exit::{Exit, ExitReason};
use super::host::{Host, Place};
use super::mailbox::Mailbox;
use super::manager::ProcessManager;
use super::message::Message;
use crate::pid::Pid;

/// A process, from before it is spawned until nobody refers to it any more.
///
/// Of the locks here that of `state` is taken before that of the mailbox or of the names. No thread holds those of two
/// processes but [`both`], which takes them in the order of their PIDs.
pub(crate) struct Instance {
    pub(super) pid: Pid,
    pub(super) entry: Arc<Entry>,
    pub(super) host: Arc<Host>,
    pub(super) parent: Option<Pid>,
    pub(super) started: Instant,
    pub(super) manager: ProcessManager,
    pub(super) mailbox: Mailbox,
    frame: Frame,
    state: Mutex<State>,
    has_ended: AtomicBool,
    /// It ends, or has ended: so does all that was called in it.
    is_terminated: AtomicBool,
    terminated: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// Set once it has ended.
    pub(super) exit: Option<Exit>,
    /// Why it is being terminated.
    end: Option<ExitReason>,
    /// None until it is spawned.
    pub(super) task: Option<AbortHandle>,
    pub(super) cancelled: Option<Cancelled>,
    traps_links: bool,
    /// Most processes have none, and take no memory for them.
    pub(super) relations: Option<Box<Relations>>,
}

/// It was asked to end.
pub(super) struct Cancelled {
    reason: Arc<str>,
    deadline: Option<Instant>,
    /// Terminates it when the deadline passes.
    timer: Option<AbortHandle>,
}

#[derive(Default)]
pub(super) struct Relations {
    pub(super) names: Vec<Arc<str>>,
    pub(super) links: HashSet<Pid, FxBuildHasher>,
    /// Those that it monitors. The exit of one is delivered only while it is here.
    pub(super) monitored: HashSet<Pid, FxBuildHasher>,
    /// Those that are told of its exit, by a number that is theirs alone.
    pub(super) watchers: HashMap<u64, Watcher, FxBuildHasher>,
}

/// Who is told of an exit.
pub(super) enum Watcher {
    /// A process, in its mailbox.
    Process(Pid),
    /// A [`Monitor`](super::Monitor).
    Monitor(oneshot::Sender<Exit>),
}

impl State {
    pub(super) fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    /// Whether something is removed from the relations, if there are any.
    pub(super) fn removes(&mut self, remove: impl FnOnce(&mut Relations) -> bool) -> bool {
        self.relations.as_deref_mut().is_some_and(remove)
    }
}

impl Instance {
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
            started: Instant::now(),
            manager,
            mailbox: Mailbox::new(host.config.mailbox.max(1)),
            host,
            frame,
            state: Mutex::default(),
            has_ended: AtomicBool::new(false),
            is_terminated: AtomicBool::new(false),
            terminated: Notify::new(),
        })
    }

    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Whether it is being terminated, or has ended.
    pub(crate) fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::Acquire)
    }

    /// Waits until it [is](Self::is_terminated).
    pub(crate) async fn terminated(&self) {
        // Made before the look, it is notified of what comes behind it.
        let terminated = self.terminated.notified();
        if !self.is_terminated() {
            terminated.await;
        }
    }

    fn note_terminated(&self) {
        self.is_terminated.store(true, Ordering::Release);
        self.terminated.notify_waiters();
    }

    /// It is spawned. It may be being terminated already.
    pub(super) fn spawned(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.exit.is_some() {
            return;
        }
        if state.end.is_some() {
            task.abort();
        }
        state.task = Some(task);
    }

    /// Ends it wherever it is. Of several reasons the first counts. Says whether this is that.
    pub(super) fn terminate(&self, reason: ExitReason) -> bool {
        self.terminate_in(self.state(), reason)
    }

    fn terminate_in(&self, mut state: MutexGuard<'_, State>, reason: ExitReason) -> bool {
        if state.exit.is_some() || state.end.is_some() {
            return false;
        }
        state.end = Some(reason);
        let task = state.task.clone();
        drop(state);
        self.note_terminated();
        if let Some(task) = task {
            task.abort();
        }
        true
    }

    /// Why it is being terminated.
    pub(super) fn end_reason(&self) -> Option<ExitReason> {
        self.state().end.clone()
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
        if state.exit.is_some() {
            return false;
        }
        if state.cancelled.is_some() {
            return true;
        }
        let reason = Arc::clone(reason);
        state.cancelled = Some(Cancelled { reason: Arc::clone(&reason), deadline: None, timer: None });
        wake_outside(state, self.mailbox.tell(Message::Cancelled { reason, deadline }));
        true
    }

    fn terminate_at(self: &Arc<Self>, deadline: Instant) {
        let mut state = self.state();
        if state.exit.is_some() {
            return;
        }
        let Some(cancelled) = &mut state.cancelled else { return };
        if cancelled.deadline.is_some_and(|earlier| earlier <= deadline) {
            return;
        }
        let this = Arc::downgrade(self);
        let timer = self.host.runtime.spawn(async move {
            sleep_until(deadline).await;
            if let Some(this) = this.upgrade() {
                this.terminate(ExitReason::Killed);
            }
        });
        cancelled.deadline = Some(deadline);
        if let Some(later) = cancelled.timer.replace(timer.abort_handle()) {
            later.abort();
        }
    }

    pub(super) fn trap_links(&self, traps: bool) {
        self.state().traps_links = traps;
    }

    /// It has ended: tells all who want to know, exactly once. Whoever is told finds its place free.
    pub(super) fn ended(&self, exit: &Exit, is_started: bool, place: &mut Place) {
        let mut state = self.state();
        if state.exit.is_some() {
            return;
        }
        state.exit = Some(Exit { result: None, ..exit.clone() });
        state.task = None;
        let timer = state.cancelled.as_mut().and_then(|cancelled| cancelled.timer.take());
        let relations = state.relations.take();
        self.has_ended.store(true, Ordering::Release);
        drop(state);
        if let Some(timer) = timer {
            timer.abort();
        }
        // What is left of it, such as a task that it spawned, ends with it.
        self.note_terminated();
        drop(self.mailbox.close());
        let names = relations.as_ref().map_or(&[][..], |relations| &relations.names);
        // One that was never started is none to remember, or the real ones would be forgotten for it.
        self.manager.forget(self, names, is_started.then_some(exit));
        place.vacate();
        let Some(relations) = relations else { return };
        for watcher in relations.watchers.into_values() {
            match watcher {
                Watcher::Process(pid) => {
                    if let Some(watcher) = self.manager.find(pid) {
                        watcher.deliver(exit);
                    }
                }
                // Whoever wanted to know may be gone.
                Watcher::Monitor(watcher) => _ = watcher.send(exit.clone()),
            }
        }
        for pid in relations.links {
            if let Some(linked) = self.manager.find(pid) {
                linked.link_ended(exit);
            }
        }
        // Whoever lives long would otherwise keep all that ever monitored it.
        for pid in relations.monitored {
            if let Some(monitored) = self.manager.find(pid) {
                monitored.unwatch(self.pid.number());
            }
        }
    }

    /// A process ended that this one monitors, or has monitored.
    pub(super) fn deliver(&self, exit: &Exit) {
        let mut state = self.state();
        if state.exit.is_none() && state.removes(|relations| relations.monitored.remove(&exit.pid)) {
            wake_outside(state, self.mailbox.tell(Message::Exited(exit.clone())));
        }
    }

    /// A process ended that this one is linked to, or was.
    fn link_ended(&self, exit: &Exit) {
        let mut state = self.state();
        let is_linked = state.exit.is_none() && state.removes(|relations| relations.links.remove(&exit.pid));
        if !is_linked || exit.reason.is_normal() {
            return;
        }
        if state.traps_links {
            wake_outside(state, self.mailbox.tell(Message::LinkDown(exit.clone())));
        } else {
            self.terminate_in(state, exit.reason.to_link_down(exit.pid));
        }
    }
}

/// Wakes a receiver when the lock is let go: what a waker does is not known here.
fn wake_outside(state: MutexGuard<'_, State>, receiver: Option<Waker>) {
    drop(state);
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}

/// The states of two processes that are not the same.
pub(super) fn both<'a>(a: &'a Instance, b: &'a Instance) -> (MutexGuard<'a, State>, MutexGuard<'a, State>) {
    if a.pid < b.pid {
        let a = a.state();
        (a, b.state())
    } else {
        let b = b.state();
        (a.state(), b)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .field("entry", &self.entry.id)
            .finish_non_exhaustive()
    }
}
