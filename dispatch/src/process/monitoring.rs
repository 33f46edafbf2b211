//! Monitors between processes.
//!
//! - A monitor is in the `monitored` of its process before the other is looked for. An exit is delivered only by taking it out of
//!   there, so it comes once at most, and not after `demonitor`.
//! - A process notes that it has ended before it tells its watchers. One that registers with it finds that, or is told. One that
//!   does not find it finds its exit among those that are remembered.

use super::cell::{ProcessCell, Watcher};
use super::error::ProcessError;
use super::exit::Exit;
use super::message::Message;
use super::monitor::MonitorRef;
use crate::pid::Pid;

impl ProcessCell {
    /// Monitors `other`. Delivers the exit at once if it has ended.
    pub(crate) fn monitor(&self, other: Pid) -> Result<MonitorRef, ProcessError> {
        if other == self.pid {
            return Err(ProcessError::Itself { pid: other });
        }
        let mut state = self.state();
        if let Some(exit) = state.exit_of(self.pid) {
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
            Some(found) => {
                let exit = found.tells(self.pid, monitor);
                // Its end may have taken back all monitors before this one was there.
                if let Some(exit) = self.state().exit_of(self.pid) {
                    found.unwatch(monitor.watcher_key(self.pid));
                    return Err(ProcessError::Ended { exit });
                }
                exit
            }
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
        if !state.has_ended() {
            let watchers = &mut state.relations().watchers;
            watchers.insert(monitor.watcher_key(watcher), Watcher::Process(watcher, monitor));
        }
        state.exit_of(self.pid)
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

    pub(super) fn unwatch(&self, number: u64) {
        let watcher =
            self.state().relations.as_mut().and_then(|relations| relations.watchers.remove(&number));
        // Dropping it may wake a task.
        drop(watcher);
    }

    /// A process ended that this one monitors, or has monitored.
    pub(super) fn deliver(&self, monitor: MonitorRef, exit: &Exit) {
        let mut state = self.state();
        if !state.has_ended() && state.removes(|relations| relations.monitored.remove(&monitor)) {
            let mut exit = exit.clone();
            // A result can be large. So no more are kept than messages.
            if self.mailbox.is_crowded() {
                exit.result = None;
            }
            self.tell(state, Message::Exited { monitor, exit: Box::new(exit) });
        }
    }

    /// Ends the monitors of a process that has ended. A monitored one that lives long would otherwise keep all that ever monitored
    /// it.
    pub(super) fn end_monitors(&self, monitored: impl IntoIterator<Item = MonitorRef>) {
        for monitor in monitored {
            if let Some(monitored) = self.manager.find(monitor.pid()) {
                monitored.unwatch(monitor.watcher_key(self.pid));
            }
        }
    }
}
