//! Monitors: how the exit of a process reaches those that wait for it, exactly once.
//!
//! - A monitor is in the `monitored` set of its process before the other process is looked up. An exit is delivered only by taking
//!   the monitor out of that set. So the exit arrives at most once, and not after `demonitor`.
//! - A process notes that it has ended before its watchers are notified. A watcher that registers afterwards finds the exit. A
//!   caller that does not find the process finds its exit among the recent ones.
//!
//! `tests/monitors_loom.rs` compiles this file with loom's primitives.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::{Exit, ExitReason, Message, Pid, PidError, ProcessCell, ProcessError, Watcher};

/// Identifies one monitor of a process: the monitored process, and a number that no other monitor has.
///
/// A process can have any number of monitors of another, each of which delivers the exit with its own reference. The monitor
/// that is [set up by a spawn](crate::process::Spawn::with_monitor) has the PID as its reference: `MonitorRef::from(pid)`.
///
/// ```
/// # use frame_dispatch::{Host, Pid};
/// # use frame_dispatch::process::MonitorRef;
/// let pid = Pid::next(Host::named("local@app:workers"));
/// let of_spawn = MonitorRef::from(pid);
/// assert_eq!(of_spawn.to_string(), pid.to_string());
/// assert_eq!(of_spawn.to_string().parse::<MonitorRef>()?, of_spawn);
/// # Ok::<(), frame_dispatch::PidError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorRef {
    pid: Pid,
    /// From the numbers of PIDs. The number of the PID itself if the monitor was set up by a spawn.
    number: u64,
}

impl MonitorRef {
    /// Returns the reference of a new monitor.
    fn next(pid: Pid) -> Self {
        Self { pid, number: Pid::next(pid.host()).number() }
    }

    /// Returns the monitored process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns whether it was set up as the process was spawned.
    const fn is_of_spawn(&self) -> bool {
        self.number == self.pid.number()
    }

    /// Returns the key of a watcher with this reference.
    pub(crate) const fn watcher_key(&self, watcher: Pid) -> u64 {
        // The reference of a spawn is the same for every watcher.
        if self.is_of_spawn() { watcher.number() } else { self.number }
    }
}

/// The monitor that is set up by a spawn.
impl From<Pid> for MonitorRef {
    fn from(pid: Pid) -> Self {
        Self { pid, number: pid.number() }
    }
}

/// The PID, followed by `#` and a number unless the monitor was set up by a spawn.
impl fmt::Display for MonitorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_of_spawn() { self.pid.fmt(f) } else { write_numbered(f, self.pid, self.number) }
    }
}

impl fmt::Debug for MonitorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MonitorRef {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        Ok(match parse_numbered(text)? {
            (pid, Some(number)) => Self { pid, number },
            (pid, None) => Self::from(pid),
        })
    }
}

/// Writes a reference: a PID and a number.
pub(crate) fn write_numbered(f: &mut fmt::Formatter<'_>, pid: Pid, number: u64) -> fmt::Result {
    write!(f, "{pid}#{number:#x}")
}

/// Reads a reference: a PID, and the number that may follow.
pub(crate) fn parse_numbered(text: &str) -> Result<(Pid, Option<u64>), PidError> {
    // A PID ends with its brace, whatever its host is called.
    let end = text.rfind('}').map_or(text.len(), |brace| brace + 1);
    let (pid, number) = text.split_at(end);
    let pid = pid.parse()?;
    if number.is_empty() {
        return Ok((pid, None));
    }
    let malformed = || PidError::Malformed { text: text.to_owned() };
    // `from_str_radix` takes a sign as well.
    let digits = number.strip_prefix("#0x").filter(|digits| !digits.starts_with('+'));
    let digits = digits.ok_or_else(malformed)?;
    let number = u64::from_str_radix(digits, 16).map_err(|_not_a_number| malformed())?;
    Ok((pid, Some(number)))
}

/// A future of the exit of a process, for callers that are not processes; a process
/// [receives it in its mailbox](crate::process::ProcessContext::monitor). Dropping it changes nothing about the process.
#[must_use = "it does nothing unless it is awaited"]
pub struct Monitor {
    pid: Pid,
    state: MonitorState,
}

enum MonitorState {
    Ended(Option<Exit>),
    Waiting { exit: oneshot::Receiver<Exit>, monitored: Weak<ProcessCell>, key: u64 },
}

impl Monitor {
    /// Returns a future of the exit of a process.
    pub(crate) fn new(monitored: &Arc<ProcessCell>) -> Self {
        let mut state = monitored.state();
        if let Some(exit) = state.exit_of(monitored.pid) {
            return Self::ended(exit);
        }
        let (sender, exit) = oneshot::channel();
        let key = MonitorRef::next(monitored.pid).watcher_key(monitored.pid);
        state.relations().watchers.insert(key, Watcher::Monitor(sender));
        drop(state);
        Self::waiting(exit, monitored, key)
    }

    /// Returns the exit of a process that has ended.
    pub(crate) const fn ended(exit: Exit) -> Self {
        Self { pid: exit.pid, state: MonitorState::Ended(Some(exit)) }
    }

    /// Waits for an exit from the watcher that has this key.
    pub(crate) fn waiting(exit: oneshot::Receiver<Exit>, monitored: &Arc<ProcessCell>, key: u64) -> Self {
        let (pid, monitored) = (monitored.pid, Arc::downgrade(monitored));
        Self { pid, state: MonitorState::Waiting { exit, monitored, key } }
    }

    /// Returns the monitored process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }
}

impl Future for Monitor {
    type Output = Exit;

    /// # Panics
    ///
    /// If it is polled again after it has returned the exit.
    fn poll(mut self: Pin<&mut Self>, waker: &mut Context<'_>) -> Poll<Exit> {
        let pid = self.pid;
        match &mut self.state {
            MonitorState::Ended(exit) => {
                Poll::Ready(exit.take().expect("a monitor is not polled after it has returned the exit"))
            }
            MonitorState::Waiting { exit, .. } => Pin::new(exit).poll(waker).map(|exit| {
                // The sender is not dropped before it has sent the exit.
                let exit = exit.unwrap_or(Exit { pid, reason: ExitReason::Killed, result: None });
                self.state = MonitorState::Ended(None);
                exit
            }),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let MonitorState::Waiting { monitored, key, .. } = &self.state
            && let Some(monitored) = monitored.upgrade()
        {
            unwatch(&monitored, *key);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Monitors `other` for a process. Delivers the exit immediately if `other` has ended.
pub(crate) fn monitor(watcher: &ProcessCell, other: Pid) -> Result<MonitorRef, ProcessError> {
    if other == watcher.pid {
        return Err(ProcessError::Itself { pid: other });
    }
    let mut state = watcher.state();
    if let Some(exit) = state.exit_of(watcher.pid) {
        return Err(ProcessError::Ended { exit });
    }
    let limit = watcher.manager.config().monitors;
    if state.relations().monitored.len() >= limit {
        return Err(ProcessError::TooManyMonitors { pid: watcher.pid, limit });
    }
    // Before the lookup, so that an end from now on can deliver the exit.
    let monitor = MonitorRef::next(other);
    state.relations().monitored.insert(monitor);
    drop(state);
    let exit = match watcher.manager.cells().find(other) {
        Some(found) => {
            let exit = add_watcher(&found, watcher.pid, monitor);
            // The end of the watcher may have removed its monitors before this one was there.
            if let Some(exit) = watcher.state().exit_of(watcher.pid) {
                unwatch(&found, monitor.watcher_key(watcher.pid));
                return Err(ProcessError::Ended { exit });
            }
            exit
        }
        None => Some(watcher.manager.cells().recent_exit(other).ok_or_else(|| {
            watcher.state().removes(|relations| relations.monitored.remove(&monitor));
            watcher.manager.cells().exit_error(other)
        })?),
    };
    if let Some(exit) = exit {
        deliver(watcher, monitor, &exit);
    }
    Ok(monitor)
}

/// Adds a process to the watchers of another. Returns the exit of that one if it has ended.
fn add_watcher(monitored: &ProcessCell, watcher: Pid, monitor: MonitorRef) -> Option<Exit> {
    let mut state = monitored.state();
    if !state.has_ended() {
        let watchers = &mut state.relations().watchers;
        watchers.insert(monitor.watcher_key(watcher), Watcher::Process(watcher, monitor));
    }
    state.exit_of(monitored.pid)
}

/// Ends a monitor. Its exit is not in the mailbox afterwards, and will not be. Returns whether there was a monitor or an unread exit.
pub(crate) fn demonitor(watcher: &ProcessCell, monitor: MonitorRef) -> bool {
    let mut state = watcher.state();
    if state.removes(|relations| relations.monitored.remove(&monitor)) {
        drop(state);
        if let Some(found) = watcher.manager.cells().find(monitor.pid()) {
            unwatch(&found, monitor.watcher_key(watcher.pid));
        }
        return true;
    }
    let is_its_exit =
        |message: &Message| matches!(message, Message::Exited { monitor: other, .. } if *other == monitor);
    let discarded = watcher.mailbox.discard(is_its_exit);
    drop(state);
    // Dropped outside of all locks, because an error in it may run code of its own.
    !discarded.is_empty()
}

/// Removes a watcher by its [key](MonitorRef::watcher_key).
fn unwatch(monitored: &ProcessCell, key: u64) {
    let mut state = monitored.state();
    let watcher = state.relations.as_mut().and_then(|relations| relations.watchers.remove(&key));
    drop(state);
    // Dropping it may wake a task.
    drop(watcher);
}

/// Delivers the exit of a monitored process, unless the monitor has been removed.
pub(super) fn deliver(watcher: &ProcessCell, monitor: MonitorRef, exit: &Exit) {
    let mut state = watcher.state();
    if !state.has_ended() && state.removes(|relations| relations.monitored.remove(&monitor)) {
        let mut exit = exit.clone();
        // A result can be large, so no more of them are kept than messages.
        if watcher.mailbox.is_crowded() {
            exit.result = None;
        }
        watcher.push_system(state, Message::Exited { monitor, exit: Box::new(exit) });
    }
}

/// Ends the monitors of a process that has ended. A monitored process that lives long would otherwise keep every watcher it ever
/// had.
pub(super) fn end_monitors(watcher: &ProcessCell, monitored: impl IntoIterator<Item = MonitorRef>) {
    for monitor in monitored {
        if let Some(found) = watcher.manager.cells().find(monitor.pid()) {
            unwatch(&found, monitor.watcher_key(watcher.pid));
        }
    }
}
