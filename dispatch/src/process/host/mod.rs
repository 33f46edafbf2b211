//! Hosts: where processes run, and how many.

mod admission;

use std::sync::Arc;

use frame_registry::{Id, IdKind};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::admission::Admission;
pub(crate) use self::admission::NotAdmitted;
use super::policy::SpawnPolicy;
use super::sync;
use crate::pid::Host as HostName;

/// The name of a host: `namespace:name`.
pub type HostId = Id<HostKind>;

/// Marks an [`Id`] as the name of a host.
#[derive(Debug)]
pub enum HostKind {}

impl IdKind for HostKind {
    const NOUN: &'static str = "host";
    const EXAMPLE: &'static str = "app:workers";
}

/// The limits of a host of processes.
///
/// ```
/// # use frame_dispatch::process::HostConfig;
/// let scripts = HostConfig::default().with_engines(["lua", "wasm"]).with_processes(1_000).with_mailbox(64);
/// assert_eq!((scripts.processes, scripts.mailbox), (1_000, 64));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// The most processes that are alive on it at once. Default: 262 144.
    pub processes: usize,
    /// The most unread messages that a mailbox holds, at least one. System messages, such as the exit of a monitored process, do
    /// not count and always find room. Default: 1 024.
    pub mailbox: usize,
    /// The most [timers](super::ProcessContext::send_after) of each process. Default: 1 024.
    pub timers: usize,
    /// The most [groups](super::ProcessContext::join) that each process is in or watches. Default: 64.
    pub groups: usize,
    /// The most members of each of its [groups](super::GroupId). Default: 4 096.
    pub group_members: usize,
    /// Decides which processes may be spawned on it. It is code, so it is not part of the serialised form. Default: all.
    #[serde(skip)]
    pub spawn_policy: Option<Arc<dyn SpawnPolicy>>,
    /// The [engines](super::Process::engine) that its processes may run in. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engines: Option<Vec<String>>,
    /// The runtime that its processes run on. It is a handle, so it is not part of the serialised form. Default: the runtime that
    /// the host is registered on.
    #[serde(skip)]
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
    /// Sets [`processes`](Self::processes).
    #[must_use]
    pub const fn with_processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// Sets [`mailbox`](Self::mailbox).
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

    /// Sets [`spawn_policy`](Self::spawn_policy).
    #[must_use]
    pub fn with_spawn_policy(mut self, policy: impl SpawnPolicy) -> Self {
        self.spawn_policy = Some(Arc::new(policy));
        self
    }

    /// Sets [`engines`](Self::engines).
    #[must_use]
    pub fn with_engines(mut self, engines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.engines = Some(engines.into_iter().map(Into::into).collect());
        self
    }

    /// Sets [`runtime`](Self::runtime).
    #[must_use]
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

/// A registered host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) name: HostName,
    pub(crate) config: HostConfig,
    pub(crate) runtime: Handle,
    admission: Admission,
    /// Notified when the last process of a closed host has left.
    idle: Notify,
}

/// The permit of a process to be on its host. Dropping it means that the process has left.
pub(crate) struct HostPermit {
    host: Arc<Host>,
    is_released: bool,
}

impl Host {
    pub(crate) fn new(id: HostId, node: &str, config: HostConfig, runtime: Handle) -> Self {
        let name = HostName::named(&format!("{node}@{id}"));
        Self { id, name, config, runtime, admission: Admission::open(), idle: Notify::new() }
    }

    /// Returns how many messages each mailbox has room for.
    pub(crate) fn mailbox_capacity(&self) -> usize {
        self.config.mailbox.max(1)
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<HostPermit, NotAdmitted> {
        self.admission.admit(self.config.processes)?;
        Ok(HostPermit { host: Arc::clone(self), is_released: false })
    }

    /// Publishes an admitted process where a stop of the host looks for it. Fails if the host has been closed meanwhile.
    pub(crate) fn publish(&self, publish: impl FnOnce()) -> Result<(), NotAdmitted> {
        self.admission.publish(publish)
    }

    pub(crate) fn close(&self) {
        self.admission.close();
    }

    /// Waits until no process is on the host, which is closed.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.admission.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

impl HostPermit {
    /// Makes room for another process. The host is not idle before the permit is dropped.
    pub(crate) fn release(&mut self) {
        if !self.is_released {
            self.is_released = true;
            self.host.admission.release();
        }
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        self.release();
        if self.host.admission.leave() {
            self.host.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = HostConfig::default().with_processes(7).with_mailbox(8).with_engines(["lua"]);
        let written = serde_json::to_value(&config).unwrap();
        let read: HostConfig = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        assert_eq!((read.processes, read.mailbox, read.engines), (7, 8, Some(vec!["lua".to_owned()])));
    }

    #[test]
    fn what_is_left_out_has_its_default_and_an_unknown_member_is_an_error() {
        let read: HostConfig = serde_json::from_value(json!({ "timers": 3 })).unwrap();
        assert_eq!((read.timers, read.groups), (3, HostConfig::default().groups));
        let error = serde_json::from_value::<HostConfig>(json!({ "process": 3 })).unwrap_err();
        assert!(error.to_string().contains("unknown field `process`"), "{error}");
    }
}
