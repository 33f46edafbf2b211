//! The program's own rule of which processes may be spawned.

use std::fmt;
use std::sync::Arc;

use frame_registry::{Frame, Options};

use super::cell::ProcessCell;
use super::entry::{Entry, EntryId};
use super::error::SpawnError;
use super::host::{Host, HostId};
use super::lifecycle::ProcessRef;
use super::manager::ProcessManager;
use super::spawn::Spawn;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::panics;
use crate::pid::Pid;

/// Decides which processes may be spawned.
///
/// It is asked before anything is done for the process: no resolver has run, no place on the host is taken, no name is claimed.
/// Every start asks it, whether native code, a supervisor, a script or a component wants it. A
/// [`Lifecycle`](super::Lifecycle) handler, in contrast, sees a process that is ready to run, with its frame.
///
/// Closures are policies. [`HostConfig::with_spawn_policy`](super::HostConfig::with_spawn_policy) sets one for a host,
/// [`ProcessManager::set_spawn_policy`] one for all hosts. Where both are set both have to agree.
///
/// ```
/// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, SpawnRequest, Spawn, SpawnError};
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
/// let start = Spawn::new("app:helpers".parse()?, "app:helper".parse()?);
/// let refused = processes.spawn(&functions.root(), start).unwrap_err();
/// assert!(matches!(refused, SpawnError::NotAllowed { .. }));
/// assert_eq!(refused.to_string(), "`app:helper` may not be started on `app:helpers`: helpers are for processes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SpawnPolicy: Send + Sync + 'static {
    /// Decides about one start. It runs on the thread that starts the process, so it does not block.
    ///
    /// # Errors
    ///
    /// Why the process is not started. The caller receives the kind, the message and whether to retry. A panic counts as an
    /// error.
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

/// A process that is to be spawned: what, where and by which unit.
#[derive(Clone, Copy)]
pub struct SpawnRequest<'a> {
    ctx: &'a CallContext,
    start: &'a Spawn,
    entry: &'a Entry,
    host: &'a Host,
}

impl<'a> SpawnRequest<'a> {
    /// The entry to be started.
    pub fn entry(&self) -> &'a EntryId {
        &self.entry.id
    }

    /// The [engine](super::Process::engine) that it would run in.
    pub fn engine(&self) -> &'static str {
        self.entry.process.engine()
    }

    /// The host that it would live on.
    pub const fn host(&self) -> &'a HostId {
        &self.host.id
    }

    /// The name that it would have, if it is started with one.
    pub fn name(&self) -> Option<&'a str> {
        self.start.name.as_deref()
    }

    /// The options of the start, without those of the entry.
    pub const fn options(&self) -> &'a Options {
        &self.start.options
    }

    /// The unit that starts it: a process or a call of a function. None if it is neither.
    pub fn parent(&self) -> Option<Pid> {
        self.ctx.unit()
    }

    /// The process that starts it, itself or through a function that it called. A supervisor is the process that starts its
    /// children.
    pub fn process(&self) -> Option<ProcessRef<'a>> {
        ProcessCell::containing(self.ctx).map(ProcessRef)
    }

    /// The frame of the unit that starts it, from which it would inherit.
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

impl ProcessManager {
    /// Sets the policy that every start on every host has to pass from now on. Replaces the one that was set before. Processes
    /// that live are not affected. A policy that keeps the manager is kept by it, until it is replaced or the manager
    /// [stopped](Self::stop).
    pub fn set_spawn_policy(&self, policy: impl SpawnPolicy) {
        self.spawn_policy().store(Some(Arc::new(Box::new(policy))));
    }

    /// Asks the policies of the manager and of the host.
    pub(super) fn check_policies(
        &self,
        ctx: &CallContext,
        start: &Spawn,
        (entry, host): (&Entry, &Host),
    ) -> Result<(), SpawnError> {
        let request = SpawnRequest { ctx, start, entry, host };
        let check = |policy: &dyn SpawnPolicy| {
            let panicked =
                |message| Err(CallError::new(ErrorKind::Internal, format!("the spawn policy {message}")));
            panics::catch(|| policy.check(&request)).unwrap_or_else(panicked).map_err(|reason| {
                let (entry, host) = (start.entry.clone(), start.host.clone());
                SpawnError::NotAllowed { entry, host, reason }
            })
        };
        if let Some(policy) = &*self.spawn_policy().load() {
            check(&***policy)?;
        }
        host.config.spawn_policy.as_deref().map_or(Ok(()), check)
    }
}
