//! On which hosts scripts and components may start processes.

use std::collections::BTreeSet;
use std::fmt;

use frame_registry::{Key, frame_key};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::cell::ProcessCell;
use super::host::HostId;
use crate::context::CallContext;

/// The hosts on which a script or a component may start processes, beside that of the process that it is or is called by.
///
/// Without it a script can fill no host but its own. Forks inherit it, so what a unit calls and starts may do the same. The
/// program that runs manifests sets it by the option `spawn`; others put it on a frame themselves, such as with
/// [`Task::with_pair`](crate::Task::with_pair). It does not bind native code.
///
/// ```
/// use frame_dispatch::process::{SPAWN_KEY, SpawnHosts};
///
/// let workers: SpawnHosts = ["app:workers".parse()?].into_iter().collect();
/// let pair = SPAWN_KEY.pair(workers);
/// # drop(pair);
/// # Ok::<(), frame_registry::IdError>(())
/// ```
#[frame_key(name = "process.spawn", stays, inherit, public)]
pub static SPAWN_KEY: Key<SpawnHosts>;

/// Hosts on which processes may be started: the value of [`SPAWN_KEY`]. As data it is a list of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SpawnHosts(BTreeSet<HostId>);

impl SpawnHosts {
    /// Whether processes may be started on `host`.
    pub fn contains(&self, host: &HostId) -> bool {
        self.0.contains(host)
    }

    /// The hosts, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &HostId> {
        self.0.iter()
    }
}

impl FromIterator<HostId> for SpawnHosts {
    fn from_iter<I: IntoIterator<Item = HostId>>(hosts: I) -> Self {
        Self(hosts.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for SpawnHosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = SpawnHosts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hosts, such as [\"app:workers\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SpawnHosts, A::Error> {
                let mut hosts = BTreeSet::new();
                while let Some(host) = list.next_element()? {
                    hosts.insert(host);
                }
                Ok(SpawnHosts(hosts))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// Whether the unit of `ctx` may start processes on `host` where it is a script or a component.
pub(super) fn may_spawn(ctx: &CallContext, host: &HostId) -> bool {
    // What a process calls acts for it, and fills its host and no other.
    let is_own = ProcessCell::containing(ctx).is_some_and(|process| process.host.id == *host);
    is_own || ctx.frame().get(&SPAWN_KEY).is_some_and(|hosts| hosts.contains(host))
}
