//! Which processes may be spawned: the policy of the program, and the hosts that scripts and components may spawn on.

use std::collections::BTreeSet;
use std::fmt;

use frame_registry::{Frame, Key, Options, frame_key};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::cell::ProcessCell;
use super::error::SpawnError;
use super::host::{Host, HostId};
use super::manager::ProcessManager;
use super::spawn::{EntryId, ProcessDefinition, ProcessRef, Spawn};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::pid::Pid;

/// Decides which processes may be spawned.
///
/// It is called before anything is done for the process: no resolver has run, no permit of the host is taken, no name is claimed.
/// It is called for every spawn, whether by native code, a supervisor, a script or a component. A
/// [`Lifecycle`](super::Lifecycle) handler, in contrast, sees a process that is ready to run, with its frame.
///
/// Closures are policies. [`HostConfig::with_spawn_policy`](super::HostConfig::with_spawn_policy) sets one for a host,
/// [`ProcessManager::set_spawn_policy`] one for all hosts. If both are set, both have to agree.
///
/// ```
/// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn, SpawnError, SpawnRequest};
/// use frame_dispatch::{CallError, ErrorKind, Functions};
/// use frame_registry::{App, Options};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let functions = Functions::new(App::builder().build());
/// let processes = ProcessManager::new(functions.clone());
/// let only_from_processes = |request: &SpawnRequest<'_>| match request.process() {
///     Some(_) => Ok(()),
///     None => Err(CallError::new(ErrorKind::Denied, "helpers are for processes")),
/// };
/// let host = HostConfig::default().with_spawn_policy(only_from_processes);
/// processes.register_host("app:helpers".parse()?, host)?;
/// processes.register("app:helper".parse()?, Options::new(), async |_: ProcessContext| ())?;
///
/// let spawn = Spawn::new("app:helpers".parse()?, "app:helper".parse()?);
/// let refused = processes.spawn(&functions.root(), spawn).unwrap_err();
/// assert!(matches!(refused, SpawnError::NotAllowed { .. }));
/// assert_eq!(refused.to_string(), "`app:helper` may not be spawned on `app:helpers`: helpers are for processes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SpawnPolicy: Send + Sync + 'static {
    /// Decides about one spawn. It runs on the thread that spawns the process, so it must not block.
    ///
    /// # Errors
    ///
    /// Refuses the process. The caller receives the kind, the message and whether to retry. A panic counts as an error.
    fn check(&self, request: &SpawnRequest<'_>) -> Result<(), CallError>;
}

impl<F> SpawnPolicy for F
where
    F: Fn(&SpawnRequest<'_>) -> Result<(), CallError> + Send + Sync + 'static,
{
    fn check(&self, request: &SpawnRequest<'_>) -> Result<(), CallError> {
        self(request)
    }
}

impl fmt::Debug for dyn SpawnPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnPolicy").finish_non_exhaustive()
    }
}

/// A process to be spawned: what, where and by which unit.
#[derive(Clone, Copy)]
pub struct SpawnRequest<'a> {
    ctx: &'a CallContext,
    spawn: &'a Spawn,
    definition: &'a ProcessDefinition,
    host: &'a Host,
}

impl<'a> SpawnRequest<'a> {
    /// Returns the entry to be spawned.
    pub fn entry(&self) -> &'a EntryId {
        &self.definition.id
    }

    /// Returns the [engine](super::Process::engine) that it would run in.
    pub fn engine(&self) -> &'static str {
        self.definition.process.engine()
    }

    /// Returns the host that it would run on.
    pub const fn host(&self) -> &'a HostId {
        &self.host.id
    }

    /// Returns the name that it would be spawned with.
    pub fn name(&self) -> Option<&'a str> {
        self.spawn.name.as_deref()
    }

    /// Returns the options of the spawn, without those of the entry.
    pub const fn options(&self) -> &'a Options {
        &self.spawn.options
    }

    /// Returns the unit that spawns it, a process or a call of a function. `None` for a root context.
    pub fn parent(&self) -> Option<Pid> {
        self.ctx.unit()
    }

    /// Returns the process that spawns it, itself or through a function that it called. A supervisor spawns its children.
    pub fn process(&self) -> Option<ProcessRef<'a>> {
        ProcessCell::containing(self.ctx).map(ProcessRef)
    }

    /// Returns the frame of the unit that spawns it, from which it would inherit.
    pub fn frame(&self) -> &'a Frame {
        self.ctx.frame()
    }
}

impl fmt::Debug for SpawnRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnRequest")
            .field("entry", self.entry())
            .field("host", self.host())
            .field("name", &self.name())
            .field("parent", &self.parent())
            .finish_non_exhaustive()
    }
}

/// Asks the policies of the manager and of the host.
pub(crate) fn check(
    manager: &ProcessManager,
    ctx: &CallContext,
    spawn: &Spawn,
    (definition, host): (&ProcessDefinition, &Host),
) -> Result<(), SpawnError> {
    let request = SpawnRequest { ctx, spawn, definition, host };
    let check = |policy: &dyn SpawnPolicy| {
        let panicked =
            |message| Err(CallError::new(ErrorKind::Internal, format!("the spawn policy {message}")));
        panics::catch(|| policy.check(&request)).unwrap_or_else(panicked).map_err(|reason| {
            let (entry, host) = (spawn.entry.clone(), spawn.host.clone());
            SpawnError::NotAllowed { entry, host, reason }
        })
    };
    if let Some(policy) = &*manager.spawn_policy() {
        check(&***policy)?;
    }
    host.config.spawn_policy.as_deref().map_or(Ok(()), check)
}

/// The hosts on which a script or a component may spawn processes, in addition to that of the process that it is or is called by.
///
/// Without it a script can fill only its own host. Forks inherit it, so the calls and processes of a unit may do the same. The
/// program that runs manifests sets it by the option `spawn`. Other programs set it on a frame, for example with
/// [`Task::with_pair`](crate::Task::with_pair). It does not restrict native code.
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

/// Hosts on which processes may be spawned: the value of [`SPAWN_KEY`]. Its serialised form is a list of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SpawnHosts(BTreeSet<HostId>);

impl SpawnHosts {
    /// Returns whether processes may be spawned on `host`.
    pub fn contains(&self, host: &HostId) -> bool {
        self.0.contains(host)
    }

    /// Returns the hosts, sorted.
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

/// Returns whether the unit of `ctx`, a script or a component, may spawn processes on `host`.
pub(crate) fn may_spawn(ctx: &CallContext, host: &HostId) -> bool {
    // A function that a process called acts for that process, and may fill its host.
    let is_own = ProcessCell::containing(ctx).is_some_and(|process| process.host.id == *host);
    is_own || ctx.frame().get(&SPAWN_KEY).is_some_and(|hosts| hosts.contains(host))
}
