//! Supervisors: processes that start other processes, and restart them when they fail.
//!
//! A [`Supervisor`] is built from [children](ChildSpec), and registered and spawned like any process. It starts its children in
//! order, each linked to it and [owned](super::Spawn::with_owner) by it. When one ends unexpectedly, it restarts that one, and the
//! others that its [`Strategy`] selects. When it is cancelled, it shuts them down, the last first. A child may itself be a
//! supervisor.
//!
//! ```
//! use std::time::Duration;
//!
//! use frame_dispatch::process::supervisor::{ChildSpec, RestartPolicy, Strategy, Supervisor};
//! use frame_dispatch::process::{HostConfig, Message, ProcessContext, ProcessManager, Spawn};
//! use frame_dispatch::{CallError, Functions, Payload};
//! use frame_registry::{App, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let functions = Functions::new(App::builder().build());
//! let processes = ProcessManager::new(functions.clone());
//! processes.register_host("app:workers".parse()?, HostConfig::default())?;
//!
//! // Fails with the first message that it is sent, and ends when it is cancelled.
//! processes.register("app:worker".parse()?, Options::new(), async |mut ctx: ProcessContext, _: Payload| {
//!     match ctx.receive().await {
//!         Message::Sent { .. } => Err(CallError::invalid("that is too much")),
//!         _ => Ok(Payload::default()),
//!     }
//! })?;
//!
//! let worker = Spawn::new("app:workers".parse()?, "app:worker".parse()?);
//! let supervisor = Supervisor::builder(Strategy::OneForOne)
//!     .child(ChildSpec::new("reader", worker.clone().with_name("reader")))
//!     .child(ChildSpec::new("writer", worker.with_name("writer")))
//!     .restart_policy(RestartPolicy::default().with_intensity(5, Duration::from_secs(60)))
//!     .build()?;
//! let handle = supervisor.handle();
//! processes.register("app:top".parse()?, Options::new(), supervisor)?;
//!
//! let root = functions.root();
//! processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:top".parse()?))?;
//! let top = handle.ready().await;
//!
//! let failed = processes.whereis("reader").expect("it was started");
//! processes.send(&root, failed, json!("one more")).await?;
//! let again = loop {
//!     match processes.whereis("reader") {
//!         Some(pid) if pid != failed => break pid,
//!         _ => tokio::time::sleep(Duration::from_millis(10)).await,
//!     }
//! };
//! let children = handle.children().await?;
//! assert_eq!((children[0].pid, children[0].restarts), (Some(again), 1));
//!
//! let exit = processes.monitor(top)?;
//! processes.cancel(top, "shutdown", Duration::from_secs(30))?;
//! assert!(exit.await.reason.is_normal() && processes.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Restarts
//!
//! The [restart](Restart) of a child that ended decides whether it is restarted, and the [`Strategy`] decides which others are
//! restarted with it. Those are shut down first, the last first, and started again in order. A [temporary](Restart::Temporary)
//! child among them is not started again. A [transient](Restart::Transient) one is, even if it had ended normally.
//!
//! A child that cannot be restarted, because its host is full, a resolver refuses its options, or its name is taken, has failed
//! once more, and is tried again. A child that cannot be started at first ends the supervisor: the children before it are shut
//! down, and the supervisor fails with the cause.
//!
//! # Quarantined children
//!
//! A child whose code is [quarantined](super::Process::is_quarantined) is not restarted: each of its processes would fail at once,
//! until the supervisor gave up with all children. Its state is [`Quarantined`](ChildState::Quarantined). It does not count as a
//! restart, and no sibling is restarted for it, whatever the strategy. Siblings that are restarted for another reason do not wait
//! for it. After its code was [replaced](super::ProcessManager::replace), a [restart](SupervisorHandle::restart) starts it, or a
//! restart of others that includes it.
//!
//! # Frames
//!
//! The children that a supervisor was built with have frames that inherit from its own, at each start. The frame of an
//! [added](SupervisorHandle::add) child inherits from that of the unit that added it, as if that had spawned it. So the child is
//! confined as that unit is, for example to a tenant or a network, for as long as it exists; the supervisor's own frame does not
//! apply to it. It is linked to the supervisor as the others are. Its [parent](super::ProcessInfo::parent) is the unit that added
//! it.
//!
//! # Backoff and intensity
//!
//! A child that fails in a row is restarted [later each time](Backoff). Other children, messages and commands do not wait for
//! that. With all strategies the delays are those of the child that failed.
//!
//! A supervisor gives up after more restarts within a window than its [`RestartPolicy`] allows: it shuts its children down, and
//! fails with [`TooManyRestarts`]. Each failure of any child counts at the time of the failure. Children that are restarted with
//! another do not count. The delays are part of the window. A child that fails as soon as it is started, with delays of 100 ms,
//! 200 ms, 400 ms and so on, has failed 4 times within 0.7 seconds, which is too many by default; it would have failed 8 times
//! within 12.7 seconds. So if the window is long enough for one failure more than is allowed, delays included, the supervisor
//! gives up, and its own supervisor restarts it with all children. If the window is shorter, it retries for ever, at the pace of
//! the longest delay. By default it gives up.
//!
//! # Dynamic supervisors
//!
//! A [dynamic](Supervisor::dynamic) supervisor has no children at first. [`SupervisorHandle::start_child`] starts one from its
//! [specification](DynamicSpec). The child may have its own payload, options, name and restart. Each child is restarted alone, and
//! removed when it has ended and is not to be restarted. The failures of all children count together, except those of children
//! that were started by a script or a component: each of these counts separately, and is removed after too many. When the
//! supervisor ends, it shuts down all children at the same time.
//!
//! # Shutdown
//!
//! A cancelled supervisor shuts its children down one by one, the last first, each as its [`Shutdown`] specifies, and ends
//! normally. Its own grace period should be long enough for that. When it passes, or the supervisor is terminated, everything
//! below it is terminated at once, from the last leaf of the tree to the first: the supervisor owns its children, and no child can
//! trap its end. So a supervisor should be a child with [`Shutdown::Unlimited`]. Its exit is delivered when all of them have ended.
//!
//! A supervisor that is linked to the process that spawned it ends with that, however that ends, and shuts its children down
//! first. It ends normally if that process did, and else with an error of the kind [`Cancelled`](crate::ErrorKind::Cancelled) that
//! contains the reason. A supervisor that is neither owned nor linked, or that was [unlinked](super::ProcessManager::unlink),
//! outlives the process that spawned it.
//!
//! A host that stops cancels all of its processes at the same time. If the order matters, cancel the supervisor first.
//!
//! No child prevents the end of its supervisor: a child that has not ended 5 seconds after it was terminated, because it blocks
//! its thread, is logged and abandoned. A pause of the whole program, for example by `SIGSTOP`, counts as at most one of these
//! seconds.
//!
//! # Differences from Erlang
//!
//! It is like Erlang's `supervisor`, with these differences:
//!
//! - There is a backoff. [`Backoff::none`] is Erlang's behaviour.
//! - It is started as soon as it is spawned, and children do not report that they are ready. [`SupervisorHandle::ready`] waits
//!   until all were started.
//! - It does not block while a child shuts down. It handles failures and commands meanwhile.
//! - A child that was restarted by hand and does not start is tried again. In Erlang it stays down.
//! - A removed child is shut down first, so there are no terminated children that are still known.
//! - `simple_one_for_one` and `DynamicSupervisor` are [`Supervisor::dynamic`]. [`SupervisorHandle::add`] accepts any number of
//!   different children.
//! - There are no significant children: a supervisor goes on when its children have ended.

mod children;
mod error;
mod handle;
mod restarts;
mod run;
mod schedule;
mod spec;

use std::collections::HashSet;
use std::fmt;

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::children::{ChildInfo, ChildState, LastExit};
pub use self::error::{ControlError, DownReason, SpecError, TooManyRestarts};
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(crate) use self::handle::ChildRef;
pub(crate) use self::handle::Supervisors;
pub use self::handle::{StartedChild, SupervisorHandle};
pub use self::restarts::RestartPolicy;
pub use self::spec::{ChildSpec, DynamicChild, DynamicSpec, Restart, Shutdown};
pub use crate::backoff::Backoff;

use self::run::Run;
use super::{Process, ProcessContext};
use crate::error::CallError;
use crate::payload::Payload;

/// Which children are restarted with one that has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// That child alone. The children do not depend on each other.
    OneForOne,
    /// All children. They depend on each other.
    OneForAll,
    /// That child and the children after it. Each depends on those before it.
    RestForOne,
}

impl Strategy {
    /// Returns its name: `one_for_one`, `one_for_all` or `rest_for_one`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A process that starts other processes, and restarts them when they fail. See [the module](self).
///
/// A registered supervisor can be spawned several times. Each process of it has its own children.
#[derive(Debug)]
pub struct Supervisor {
    children: InitialChildren,
    restart_policy: RestartPolicy,
    handle: SupervisorHandle,
}

/// The children that a supervisor begins with.
#[derive(Debug)]
enum InitialChildren {
    Static(Strategy, Vec<ChildSpec>),
    Dynamic(Box<DynamicSpec>),
}

impl Supervisor {
    /// Returns a builder of a supervisor without children, with the default [`RestartPolicy`].
    pub fn builder(strategy: Strategy) -> SupervisorBuilder {
        SupervisorBuilder { strategy, children: Vec::new(), restart_policy: RestartPolicy::default() }
    }

    /// Creates a dynamic supervisor. Its children are started through its handle, each from `spec`.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the id in `spec` is empty, or the restart policy is not valid.
    pub fn dynamic(spec: DynamicSpec) -> Result<Self, SpecError> {
        spec.check()?;
        let restart_policy = spec.restart_policy;
        let children = InitialChildren::Dynamic(Box::new(spec));
        Ok(Self { children, restart_policy, handle: SupervisorHandle::new() })
    }

    /// Returns a handle of the supervisor. Take it before the supervisor is registered.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        self.handle.clone()
    }
}

impl Process for Supervisor {
    /// Runs the supervisor. Its payload has to be `null`; those of its children are part of their specifications.
    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async move {
            if payload != Payload::default() {
                return Err(CallError::invalid(
                    "a supervisor takes no payload; set the payloads of its children where it is built",
                ));
            }
            Run::new(self, ctx).run().await
        })
    }
}

/// Builds a [`Supervisor`].
#[derive(Debug, Clone)]
#[must_use]
pub struct SupervisorBuilder {
    strategy: Strategy,
    children: Vec<ChildSpec>,
    restart_policy: RestartPolicy,
}

impl SupervisorBuilder {
    /// Adds a child after the others.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Sets the restart policy.
    pub const fn restart_policy(mut self, policy: RestartPolicy) -> Self {
        self.restart_policy = policy;
        self
    }

    /// Builds the supervisor.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if an id is empty or taken, or the restart policy is not valid.
    pub fn build(self) -> Result<Supervisor, SpecError> {
        let Self { strategy, children, restart_policy } = self;
        let mut ids = HashSet::new();
        for ChildSpec { id, .. } in &children {
            if id.is_empty() {
                return Err(SpecError::EmptyId);
            }
            if !ids.insert(id) {
                return Err(SpecError::DuplicateId { id: id.clone() });
            }
        }
        restart_policy.check()?;
        let children = InitialChildren::Static(strategy, children);
        Ok(Supervisor { children, restart_policy, handle: SupervisorHandle::new() })
    }
}
