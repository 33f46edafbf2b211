//! Waiting for the exit of a process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::cell::{ProcessCell, Watcher};
use super::error::ProcessError;
use super::exit::Exit;
use super::manager::ProcessManager;
use crate::pid::{Pid, PidError};

/// Names one monitor of a process: whom it monitors, and a number that no other monitor has.
///
/// A process can have any number of monitors of another, each of which delivers the exit with its own reference. The monitor
/// that a start [sets up](super::Spawn::with_monitor) has the PID for its reference: `MonitorRef::from(pid)`.
///
/// ```
/// # use frame_dispatch::{Host, Pid};
/// # use frame_dispatch::process::MonitorRef;
/// let pid = Pid::next(Host::named("local@app:workers"));
/// let of_start = MonitorRef::from(pid);
/// assert_eq!(of_start.to_string(), pid.to_string());
/// assert_eq!(of_start.to_string().parse::<MonitorRef>()?, of_start);
/// # Ok::<(), frame_dispatch::PidError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorRef {
    pid: Pid,
    /// From the numbers of PIDs. Its own if a start set it up.
    number: u64,
}

impl MonitorRef {
    /// A reference of a new monitor.
    pub(super) fn next(pid: Pid) -> Self {
        Self { pid, number: Pid::next(pid.host()).number() }
    }

    /// The monitored process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether a start set it up.
    const fn is_of_start(&self) -> bool {
        self.number == self.pid.number()
    }

    /// The key of a watcher that is told with this reference.
    pub(super) const fn watcher_key(&self, watcher: Pid) -> u64 {
        // Several processes can have the reference of a start.
        if self.is_of_start() { watcher.number() } else { self.number }
    }
}

/// The monitor that a start sets up.
impl From<Pid> for MonitorRef {
    fn from(pid: Pid) -> Self {
        Self { pid, number: pid.number() }
    }
}

/// The PID; if no start set the monitor up, `#` and a number follow.
impl fmt::Display for MonitorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_of_start() { self.pid.fmt(f) } else { write_numbered(f, self.pid, self.number) }
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
        Ok(match numbered(text)? {
            (pid, Some(number)) => Self { pid, number },
            (pid, None) => Self::from(pid),
        })
    }
}

/// Writes a reference: a PID and a number.
pub(super) fn write_numbered(f: &mut fmt::Formatter<'_>, pid: Pid, number: u64) -> fmt::Result {
    write!(f, "{pid}#{number:#x}")
}

/// Reads a reference: a PID, and the number that may follow.
pub(super) fn numbered(text: &str) -> Result<(Pid, Option<u64>), PidError> {
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
/// [receives it in its mailbox](super::ProcessContext::monitor). Dropping it changes nothing about the process.
#[must_use = "it does nothing unless it is awaited"]
pub struct Monitor {
    pid: Pid,
    exit: State,
}

enum State {
    Ended(Option<Exit>),
    Waiting { exit: oneshot::Receiver<Exit>, instance: Weak<ProcessCell>, number: u64 },
}

impl Monitor {
    pub(super) const fn ended(exit: Exit) -> Self {
        Self { pid: exit.pid, exit: State::Ended(Some(exit)) }
    }

    pub(super) fn waiting(exit: oneshot::Receiver<Exit>, instance: &Arc<ProcessCell>, number: u64) -> Self {
        let (pid, instance) = (instance.pid, Arc::downgrade(instance));
        Self { pid, exit: State::Waiting { exit, instance, number } }
    }

    /// The process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }
}

impl Future for Monitor {
    type Output = Exit;

    /// # Panics
    ///
    /// If it is polled again behind its end.
    fn poll(mut self: Pin<&mut Self>, waker: &mut Context<'_>) -> Poll<Exit> {
        let pid = self.pid;
        match &mut self.exit {
            State::Ended(exit) => Poll::Ready(exit.take().expect("it is not polled behind its end")),
            State::Waiting { exit, .. } => Pin::new(exit).poll(waker).map(|exit| {
                // The other side is dropped only behind what it sends.
                let exit = exit.unwrap_or(Exit { pid, reason: super::ExitReason::Killed, result: None });
                self.exit = State::Ended(None);
                exit
            }),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let State::Waiting { instance, number, .. } = &self.exit
            && let Some(instance) = instance.upgrade()
        {
            instance.unwatch(*number);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl ProcessManager {
    /// Returns a future of the exit of a process. If the process has ended, the future is ready at once, as long as the exit is
    /// [remembered](super::ManagerConfig::exits). What that process [owned](super::Spawn::with_owner) may still be ending then; a
    /// monitor that is set up before the end waits for it.
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
}

impl ProcessCell {
    /// A future of its exit.
    pub(super) fn watch(self: &Arc<Self>) -> Monitor {
        let mut state = self.state();
        if let Some(exit) = state.exit_of(self.pid) {
            return Monitor::ended(exit);
        }
        let (sender, exit) = oneshot::channel();
        let number = MonitorRef::next(self.pid).watcher_key(self.pid);
        state.relations().watchers.insert(number, Watcher::Monitor(sender));
        drop(state);
        Monitor::waiting(exit, self, number)
    }
}
