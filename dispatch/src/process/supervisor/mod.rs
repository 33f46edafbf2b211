//! Supervisors: processes that start others, and start them again when they fail.
//!
//! A [`Supervisor`] is built from [children](ChildSpec), registered as any process is, and started as any. It starts its
//! children in order, each linked to it and [owned](super::Spawn::with_owner) by it. When one ends that should not have, it
//! starts that one again, and with it those that its [`Strategy`] says. When it is cancelled it shuts them down, the last first. A child may itself be a supervisor.
//!
//! ```
//! use std::time::Duration;
//!
//! use frame_dispatch::process::supervisor::{ChildSpec, Strategy, Supervisor};
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
//!     .with_intensity(5, Duration::from_secs(60))
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
//! processes.cancel(top, "that is all", Duration::from_secs(30))?;
//! assert!(exit.await.reason.is_normal() && processes.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who is started again
//!
//! That is for the [restart](Restart) of the child that ended to say, and for the strategy which others are: those are shut
//! down first, the last first, and started again in order. A [temporary](Restart::Temporary) one among them is not; a
//! [transient](Restart::Transient) one is also where it was done before.
//!
//! A child that cannot be started again, because its host is full, a resolver refuses its options, or its name is taken,
//! has failed once more, and is tried again as any. One that cannot be started to begin with ends the supervisor: those
//! before it are shut down, and the supervisor fails with the cause.
//!
//! # Who is not
//!
//! A child whose code is [quarantined](super::Process::is_quarantined) is left alone when it has ended: each process of it would fail at
//! once, until the supervisor gave up, with all children. Its state is [`Quarantined`](ChildState::Quarantined). It does not count as a
//! restart, and no sibling is restarted for it, whatever the strategy. Siblings that are restarted for another reason do not wait
//! for it. When its code was [replaced](super::ProcessManager::replace) it is started as soon as that is
//! [asked for](SupervisorHandle::restart), or where it is restarted with others.
//!
//! # Whose frame they inherit from
//!
//! The children that a supervisor was built with have frames that inherit from its own, each time they are started. One that
//! is [added](SupervisorHandle::add) has a frame that inherits from that of whoever adds it, as if that had started it: what
//! the caller is confined to, such as a tenant or a network, the child is, for as long as it is a child; and what the
//! supervisor's own frame has of that is nothing to it. It is linked to the supervisor, as the others are. Its
//! [parent](super::ProcessInfo::parent) is the unit that added it.
//!
//! # Backoff and intensity
//!
//! A child that fails in a row is started again [later each time](Backoff); other children, messages and commands do not
//! wait for that. With all strategies the delays are those of the child that failed.
//!
//! A supervisor that had to start children again more than so many times within a window gives up: it shuts its children
//! down, and fails with [`TooManyRestarts`]. That counts each failure of a child, whichever it is, when it happens; others
//! that are restarted for it do not count. The delays are part of the window. A child that fails as soon as it is started,
//! with delays of 100 ms, 200 ms, 400 ms and so on, has failed 4 times within 0.7 seconds, which by default is too many; it
//! would have failed 8 times within 12.7 seconds. So where the window is long enough for one failure more than is allowed,
//! delays included, the supervisor gives up, and whoever supervises it tries again with all of it; where it is shorter, it
//! tries for ever, at the pace of the longest delay. Both can be what is wanted. By default it gives up.
//!
//! # Dynamic supervisors
//!
//! One that is [dynamic](Supervisor::dynamic) has no children at first. [`SupervisorHandle::start_child`] starts one of its
//! [specification](DynamicSpec), which may have a payload, options, a name and a restart of its own. Each is restarted alone, and removed
//! when it has ended and is not to be restarted. The failures of all children count together, but for those of children that a script or
//! a component has started: each of these counts for itself, and is removed after too many. When the supervisor ends, it shuts down all
//! children at the same time.
//!
//! # How it ends
//!
//! Cancelled, it shuts its children down one by one, the last first, each as its [`Shutdown`] says, and ends normally. Its
//! own grace period is to be as long as that takes. When it passes, or the supervisor is killed, all that is below it is killed
//! at once, from the last leaf of the tree to the first: the supervisor owns its children, and no child can trap its end. So a
//! supervisor is to be a child with [`Shutdown::Unlimited`]. Its exit is told when all of them have ended.
//!
//! Where a process that started it otherwise is linked to it, it ends with that, however that ends, and shuts its children
//! down first: normally if that ended normally, and else with an error of the kind
//! [`Cancelled`](crate::ErrorKind::Cancelled) that says how. Neither owned nor linked, or
//! [unlinked](super::ProcessManager::unlink) since, it outlives the process that started it.
//!
//! A host that stops cancels all that live on it at the same time. Where the order counts cancel the supervisor first.
//!
//! No child keeps it from ending: one that has not ended 5 seconds after it was killed, because it blocks its thread, is
//! logged and left behind. A pause of the whole program, such as by `SIGSTOP`, counts as one of these seconds at most.
//!
//! # For those who know Erlang
//!
//! It is what `supervisor` is there, but for this:
//!
//! - There is a backoff; [`Backoff::none`] is what Erlang does.
//! - It is started as soon as it is spawned, and no child says that it is ready: [`SupervisorHandle::ready`] waits until
//!   all were started.
//! - It goes on with everything else while a child has its time to end. So a failure in the meantime is dealt with then, and
//!   what is asked of it is answered.
//! - A child that was restarted by hand and does not start is tried again; there it stays down.
//! - A child that is removed is shut down first, so there are no children that were terminated and are still known.
//! - `simple_one_for_one` and `DynamicSupervisor` are [`Supervisor::dynamic`]; [`SupervisorHandle::add`] takes any number of
//!   children that differ.
//! - There are no significant children: a supervisor goes on when its children are done.

mod backoff;
mod children;
mod dynamic;
mod error;
mod handle;
mod intensity;
mod recovering;
mod run;
mod running;
mod schedule;
mod spec;

use std::collections::HashSet;
use std::time::Duration;

pub use self::backoff::Backoff;
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(super) use self::dynamic::Which;
pub use self::dynamic::{DynamicChild, DynamicSpec, StartedChild};
pub use self::error::{ControlError, DownReason, SpecError, TooManyRestarts};
pub use self::handle::{ChildInfo, ChildState, LastExit, SupervisorHandle};
pub use self::spec::{ChildSpec, Restart, Shutdown};

use self::intensity::Intensity;
use self::run::Run;
pub(super) use self::running::Supervisors;
use super::{Process, ProcessContext};
use crate::error::CallError;
use crate::payload::Payload;
use futures_core::future::BoxFuture;

/// Which children are started again when one has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// That one: the children do not depend on each other.
    OneForOne,
    /// All: they depend on each other.
    OneForAll,
    /// That one, and those behind it: each depends on those before it.
    RestForOne,
}

/// A process that starts others, and starts them again when they fail: see [the module](self).
///
/// Registered, it can be started several times; each process of it has children of its own.
#[derive(Debug)]
pub struct Supervisor {
    children: Children,
    intensity: Intensity,
    backoff: Backoff,
    handle: SupervisorHandle,
}

/// The children that a supervisor begins with.
#[derive(Debug)]
enum Children {
    Static(Strategy, Vec<ChildSpec>),
    Dynamic(Box<DynamicSpec>),
}

impl Supervisor {
    /// A supervisor without children, which gives up after more than 3 restarts within 5 seconds, and has the default
    /// [`Backoff`].
    pub fn builder(strategy: Strategy) -> SupervisorBuilder {
        let (intensity, backoff) = (Intensity::default(), Backoff::default());
        SupervisorBuilder { strategy, children: Vec::new(), intensity, backoff }
    }

    /// A supervisor without children, which are started through its handle, each as `spec` says.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the id in `spec` is empty, or a number makes no sense.
    pub fn dynamic(spec: DynamicSpec) -> Result<Self, SpecError> {
        spec.check()?;
        let (intensity, backoff) = (spec.intensity, spec.backoff);
        let children = Children::Dynamic(Box::new(spec));
        Ok(Self { children, intensity, backoff, handle: SupervisorHandle::new() })
    }

    /// What asks it when it runs. It is to be taken before the supervisor is registered.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        self.handle.clone()
    }
}

impl Process for Supervisor {
    /// Runs it, with the payload `null`: what its children are given is said where it is built.
    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async move {
            if payload != Payload::default() {
                return Err(CallError::invalid(
                    "a supervisor takes no payload; give it to its children, where the supervisor is built",
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
    intensity: Intensity,
    backoff: Backoff,
}

impl SupervisorBuilder {
    /// Adds a child, behind those there are.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Gives up after more than so many restarts within `window`. With 0 the first child that has to be started again ends
    /// the supervisor.
    pub const fn with_intensity(mut self, restarts: u32, window: Duration) -> Self {
        self.intensity = Intensity { restarts, window };
        self
    }

    /// Waits for other times before a restart.
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if it cannot be as it was said: two children have one id, or a number makes no sense.
    pub fn build(self) -> Result<Supervisor, SpecError> {
        let Self { strategy, children, intensity, backoff } = self;
        let mut ids = HashSet::new();
        for ChildSpec { id, .. } in &children {
            if id.is_empty() {
                return Err(SpecError::EmptyId);
            }
            if !ids.insert(id) {
                return Err(SpecError::DuplicateId { id: id.clone() });
            }
        }
        intensity.check()?;
        backoff.check()?;
        let children = Children::Static(strategy, children);
        Ok(Supervisor { children, intensity, backoff, handle: SupervisorHandle::new() })
    }
}
