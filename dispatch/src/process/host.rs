//! Where processes live.

use std::sync::Arc;

use frame_registry::{Id, IdKind};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::admission::{Admission, NoPlace};
use super::policy::SpawnPolicy;
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
    /// How many [timers](super::ProcessContext::send_after) each of its processes has at most. Default: 1 024.
    pub timers: usize,
    /// How many [groups](super::ProcessContext::join) each of its processes is in or watches at most. Default: 64.
    pub groups: usize,
    /// How many members each of its [groups](super::GroupId) has at most. Default: 4 096.
    pub group_members: usize,
    /// Decides what may be started on it. Default: everything.
    pub spawn_policy: Option<Arc<dyn SpawnPolicy>>,
    /// The [engines](super::Process::engine) that its processes may run in, where not all may. Default: all.
    pub engines: Option<Vec<String>>,
    /// The runtime that its processes run on. Default: the one that the host is registered on.
    pub runtime: Option<Handle>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            processes: 1 << 18,
            mailbox: 1 << 10,
            timers: 1 << 10,
            groups: 64,
            group_members: 1 << 12,
            spawn_policy: None,
            engines: None,
            runtime: None,
        }
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

    /// Sets [`timers`](Self::timers).
    #[must_use]
    pub const fn with_timers(mut self, timers: usize) -> Self {
        self.timers = timers;
        self
    }

    /// Sets [`groups`](Self::groups).
    #[must_use]
    pub const fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets [`group_members`](Self::group_members).
    #[must_use]
    pub const fn with_group_members(mut self, group_members: usize) -> Self {
        self.group_members = group_members;
        self
    }

    /// Sets the [`spawn_policy`](Self::spawn_policy).
    #[must_use]
    pub fn with_spawn_policy(mut self, policy: impl SpawnPolicy) -> Self {
        self.spawn_policy = Some(Arc::new(policy));
        self
    }

    /// The same, for these [`engines`](Self::engines) only.
    #[must_use]
    pub fn with_engines(mut self, engines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.engines = Some(engines.into_iter().map(Into::into).collect());
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
    admission: Admission,
    /// Notified when the last process of a closed host is gone.
    idle: Notify,
}

/// The place of a process on its host. When this is dropped the process is gone.
pub(super) struct Place {
    host: Arc<Host>,
    is_vacated: bool,
}

impl Host {
    pub(super) fn new(id: HostId, node: &str, config: HostConfig, runtime: Handle) -> Self {
        let name = HostName::named(&format!("{node}@{id}"));
        Self { id, name, config, runtime, admission: Admission::open(), idle: Notify::new() }
    }

    /// How many messages each mailbox has room for.
    pub(super) fn mailbox_capacity(&self) -> usize {
        self.config.mailbox.max(1)
    }

    pub(super) fn admit(self: &Arc<Self>) -> Result<Place, NoPlace> {
        self.admission.admit(self.config.processes)?;
        Ok(Place { host: Arc::clone(self), is_vacated: false })
    }

    /// Makes a process that has a place appear where whoever stops the host looks; then says whether it may go on.
    pub(super) fn appear(&self, appear: impl FnOnce()) -> Result<(), NoPlace> {
        self.admission.appear(appear)
    }

    pub(super) fn close(&self) {
        self.admission.close();
    }

    /// Waits, once the host is closed, until no process lives on it.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.admission.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

impl Place {
    /// Lets another process have it. The host is not idle before this is dropped.
    pub(super) fn vacate(&mut self) {
        if !self.is_vacated {
            self.is_vacated = true;
            self.host.admission.vacate();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.vacate();
        if self.host.admission.leave() {
            self.host.idle.notify_waiters();
        }
    }
}
