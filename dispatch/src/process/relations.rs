//! Links and monitors between processes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::error::ProcessError;
use super::exit::Exit;
use super::instance::{Instance, State, Watcher, both};
use super::manager::ProcessManager;
use super::message::Message;
use super::monitor::{Monitor, MonitorRef};
use super::owner;
use crate::pid::Pid;

/// Relates a process to the one that starts it, before anything of it runs: makes that the owner, with a rank, links both, and
/// has the starter monitor it. Fails where the starter has ended or is being terminated.
pub(super) fn begin(
    starter: &Arc<Instance>,
    child: &Instance,
    (owner, link, monitor): (Option<u64>, bool, bool),
) -> Result<(), StarterEnded> {
    let (mut a, mut b) = both(starter, child);
    // A terminated process has no relation to what it started afterwards.
    if a.is_ending() {
        return Err(StarterEnded);
    }
    if let Some(rank) = owner {
        owner::own((starter, &mut a), (child, &mut b), rank);
    }
    if link {
        b.relations().starter = Some(starter.pid);
    }
    join((starter.pid, &mut a), (child.pid, &mut b), link, monitor);
    Ok(())
}

/// The process that starts another has ended, or is about to.
pub(super) struct StarterEnded;

/// Links a process to another, and has it monitor that; what is so already stays. Fails where one of them has ended.
pub(super) fn relate(one: &Instance, other: &Instance, link: bool, monitor: bool) -> Result<(), Exit> {
    let (mut a, mut b) = both(one, other);
    living(&a, &b)?;
    join((one.pid, &mut a), (other.pid, &mut b), link, monitor);
    Ok(())
}

fn join((one, a): (Pid, &mut State), (other, b): (Pid, &mut State), link: bool, monitor: bool) {
    if link {
        a.relations().links.insert(other);
        b.relations().links.insert(one);
    }
    if monitor {
        let monitor = MonitorRef::from(other);
        a.relations().monitored.insert(monitor);
        b.relations().watchers.insert(monitor.watcher_key(one), Watcher::Process(one, monitor));
    }
}

/// Links two processes; fails with the exit of one that has ended.
pub(super) fn link(one: &Instance, other: &Instance) -> Result<(), Exit> {
    if one.pid == other.pid {
        return Ok(());
    }
    relate(one, other, true, false)
}

/// Ends a link. The end of one is nothing to the other from now on.
pub(super) fn unlink(one: &Instance, other: Pid, found: Option<&Instance>) {
    let Some(found) = found.filter(|found| found.pid != one.pid) else {
        remove_link(&mut one.state(), other);
        return;
    };
    let (mut a, mut b) = both(one, found);
    remove_link(&mut a, other);
    remove_link(&mut b, one.pid);
}

fn remove_link(state: &mut State, other: Pid) {
    state.removes(|relations| {
        relations.starter = relations.starter.filter(|&starter| starter != other);
        relations.links.remove(&other)
    });
}

fn living(one: &State, other: &State) -> Result<(), Exit> {
    [one, other].into_iter().find_map(|state| state.exit.clone()).map_or(Ok(()), Err)
}

impl ProcessManager {
    /// A future of the exit of a process. Of one that has ended it is ready at once, as long as that is
    /// [remembered](super::ManagerConfig::exits).
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
        link(&*self.living(one)?, &*self.living(other)?).map_err(|exit| ProcessError::Ended { exit })
    }

    /// Ends a link, if there is one. The end of one of the processes is nothing to the other from now on; what one that
    /// traps was told before is still in its mailbox.
    pub fn unlink(&self, one: Pid, other: Pid) {
        let (found_one, found_other) = (self.find(one), self.find(other));
        match (&found_one, &found_other) {
            (Some(found), _) => unlink(found, other, found_other.as_deref()),
            (None, Some(found)) => unlink(found, one, None),
            (None, None) => (),
        }
    }
}

impl Instance {
    /// Monitors `other`. Delivers the exit at once if it has ended.
    pub(crate) fn monitor(&self, other: Pid) -> Result<MonitorRef, ProcessError> {
        if other == self.pid {
            return Err(ProcessError::Itself { pid: other });
        }
        let mut state = self.state();
        if let Some(exit) = state.exit.clone() {
            return Err(ProcessError::Ended { exit });
        }
        let limit = self.manager.config().monitors;
        if state.relations().monitored.len() >= limit {
            return Err(ProcessError::TooManyMonitors { pid: self.pid, limit });
        }
        // Before it is looked for, so that whatever finds it ended can deliver that.
        let monitor = MonitorRef::next(other);
        state.relations().monitored.insert(monitor);
        drop(state);
        let exit = match self.manager.find(other) {
            Some(found) => found.tells(self.pid, monitor),
            None => Some(self.manager.recent_exit(other).ok_or_else(|| {
                self.state().removes(|relations| relations.monitored.remove(&monitor));
                self.manager.gone(other)
            })?),
        };
        if let Some(exit) = exit {
            self.deliver(monitor, &exit);
        }
        Ok(monitor)
    }

    /// Tells a process of its exit, unless it has ended: then it returns the exit.
    fn tells(&self, watcher: Pid, monitor: MonitorRef) -> Option<Exit> {
        let mut state = self.state();
        if state.exit.is_none() {
            let watchers = &mut state.relations().watchers;
            watchers.insert(monitor.watcher_key(watcher), Watcher::Process(watcher, monitor));
        }
        state.exit.clone()
    }

    /// Ends a monitor. Its exit is not in the mailbox afterwards, and will not be.
    pub(crate) fn demonitor(&self, monitor: MonitorRef) -> bool {
        let mut state = self.state();
        if state.removes(|relations| relations.monitored.remove(&monitor)) {
            drop(state);
            if let Some(found) = self.manager.find(monitor.pid()) {
                found.unwatch(monitor.watcher_key(self.pid));
            }
            return true;
        }
        let is_told = |message: &Message| matches!(message, Message::Exited { monitor: other, .. } if *other == monitor);
        let told = self.mailbox.discard(is_told);
        drop(state);
        // Dropped outside of all locks: an error in it may be the last of its kind, and do anything.
        !told.is_empty()
    }

    /// A future of its exit.
    pub(super) fn watch(self: &Arc<Self>) -> Monitor {
        let mut state = self.state();
        if let Some(exit) = &state.exit {
            return Monitor::ended(exit.clone());
        }
        let (sender, exit) = oneshot::channel();
        let number = MonitorRef::next(self.pid).watcher_key(self.pid);
        state.relations().watchers.insert(number, Watcher::Monitor(sender));
        drop(state);
        Monitor::waiting(exit, self, number)
    }

    pub(super) fn unwatch(&self, number: u64) {
        let watcher =
            self.state().relations.as_mut().and_then(|relations| relations.watchers.remove(&number));
        // Dropping it may wake somebody.
        drop(watcher);
    }
}
