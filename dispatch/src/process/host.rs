//! Where processes live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frame_registry::{Id, IdKind};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::pid::Host as HostName;

/// The name of a host: `namespace:name`.
pub type HostId = Id<HostKind>;

/// Says that an [`Id`] is the name of a host.
#[derive(Debug)]
pub enum HostKind {}

impl IdKind for HostKind {
    const NOUN: &'static str = "host";
    const EXAMPLE: &'static str = "app:workers";
}

/// What a host of processes allows.
///
/// ```
/// # use frame_dispatch::process::HostConfig;
/// let scripts = HostConfig::default().with_engines(["lua", "wasm"]).with_processes(1_000).with_mailbox(64);
/// assert_eq!((scripts.processes, scripts.mailbox), (1_000, 64));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostConfig {
    /// How many processes live on it at most. Default: 262 144.
    pub processes: usize,
    /// How many messages a mailbox holds that were sent and not yet received; at least one. What the runtime itself says,
    /// such as the exit of a monitored process, always finds room. Default: 1 024.
    pub mailbox: usize,
    /// The [engines](super::Process::engine) that its processes may run in, where not all may. Default: all.
    pub engines: Option<Vec<&'static str>>,
    /// The runtime that its processes run on. Default: the one that the host is registered on.
    pub runtime: Option<Handle>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { processes: 1 << 18, mailbox: 1 << 10, engines: None, runtime: None }
    }
}

impl HostConfig {
    /// The same, with another number of [`processes`](Self::processes).
    #[must_use]
    pub const fn with_processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// The same, with another size of the [`mailbox`](Self::mailbox).
    #[must_use]
    pub const fn with_mailbox(mut self, mailbox: usize) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// The same, for these [`engines`](Self::engines) only.
    #[must_use]
    pub fn with_engines(mut self, engines: impl IntoIterator<Item = &'static str>) -> Self {
        self.engines = Some(engines.into_iter().collect());
        self
    }

    /// The same, on another [`runtime`](Self::runtime).
    #[must_use]
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

/// A host that is registered.
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) name: HostName,
    pub(super) config: HostConfig,
    pub(super) runtime: Handle,
    /// [`CLOSED`], and [`PROCESS`] for each that lives on it. One word, so that no process is admitted behind the back of
    /// whoever closes the host, and never one too many.
    state: AtomicUsize,
    /// Notified when the last process of a closed host is gone.
    idle: Notify,
}

const CLOSED: usize = 1;
const PROCESS: usize = 2;

/// The place of a process on its host, until it is dropped.
pub(super) struct Place(Arc<Host>);

/// Why a host has no place for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    Full,
    Closed,
}

impl Host {
    pub(super) fn new(id: HostId, node: &str, config: HostConfig, runtime: Handle) -> Self {
        let name = HostName::named(&format!("{node}@{id}"));
        Self { id, name, config, runtime, state: AtomicUsize::new(0), idle: Notify::new() }
    }

    pub(super) fn admit(self: &Arc<Self>) -> Result<Place, NoPlace> {
        // All in one order with the look at the table of whoever closes: see `ProcessManager::start`.
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            if state & CLOSED != 0 {
                return Err(NoPlace::Closed);
            }
            if state / PROCESS >= self.config.processes {
                return Err(NoPlace::Full);
            }
            let next = state + PROCESS;
            match self.state.compare_exchange_weak(state, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(Place(Arc::clone(self))),
                Err(now) => state = now,
            }
        }
    }

    pub(super) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// How many processes live on it.
    pub(super) fn processes(&self) -> usize {
        self.state.load(Ordering::SeqCst) / PROCESS
    }

    /// Waits, once the host is closed, until no process lives on it.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.processes() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.state.fetch_sub(PROCESS, Ordering::SeqCst);
        if before & CLOSED != 0 && before / PROCESS == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
