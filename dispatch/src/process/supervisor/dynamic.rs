//! Children that are started and stopped while their supervisor runs, all from one specification.

use std::sync::Arc;
use std::time::Duration;

use frame_registry::{Frame, Options};

use super::super::spawn::Spawn;
use super::super::spawn_hosts;
use super::backoff::Backoff;
use super::error::{ControlError, SpecError};
use super::intensity::Intensity;
use super::spec::{ChildSpec, Restart};
use crate::context::CallContext;
use crate::payload::Payload;
use crate::pid::Pid;

/// What a dynamic [`Supervisor`](super::Supervisor) starts: one specification for all of its children.
///
/// It has no children at first. [`SupervisorHandle::start_child`](super::SupervisorHandle::start_child) starts one, any number of
/// times, and [`stop_child`](super::SupervisorHandle::stop_child) stops one. Each child is on its own: its failure restarts no other.
///
/// ```
/// use std::time::Duration;
///
/// use frame_dispatch::process::supervisor::{ChildSpec, DynamicChild, DynamicSpec, Restart, Supervisor};
/// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
/// use frame_dispatch::Functions;
/// use frame_registry::{App, Options};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let functions = Functions::new(App::builder().build());
/// let processes = ProcessManager::new(functions.clone());
/// processes.register_host("app:rooms".parse()?, HostConfig::default())?;
/// processes.register("app:room".parse()?, Options::new(), async |mut ctx: ProcessContext| {
///     ctx.receive().await;
/// })?;
///
/// let room = Spawn::new("app:rooms".parse()?, "app:room".parse()?);
/// let rooms = DynamicSpec::new(ChildSpec::new("room", room).with_restart(Restart::Transient))
///     .with_max_children(100)
///     .with_intensity(10, Duration::from_secs(60));
/// let supervisor = Supervisor::dynamic(rooms)?;
/// let handle = supervisor.handle();
/// processes.register("app:lobby".parse()?, Options::new(), supervisor)?;
///
/// let root = functions.root();
/// processes.spawn(&root, Spawn::new("app:rooms".parse()?, "app:lobby".parse()?))?;
/// handle.ready().await;
/// let room = DynamicChild::new().with_payload(json!({ "topic": "rust" })).with_name("room rust");
/// let room = handle.start_child(&root, room).await?;
/// assert_eq!(processes.whereis("room rust"), Some(room.pid));
/// handle.stop_child(room.pid).await?;
/// assert!(handle.children().await?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct DynamicSpec {
    pub(super) template: ChildSpec,
    pub(super) max_children: usize,
    pub(super) intensity: Intensity,
    pub(super) backoff: Backoff,
}

impl DynamicSpec {
    /// Creates a specification: each child is started as `template` says, and has an id that begins with that of `template`. Any
    /// number of them may run, and the supervisor gives up after more than 3 restarts within 5 seconds.
    pub fn new(template: ChildSpec) -> Self {
        let (intensity, backoff) = (Intensity::default(), Backoff::default());
        Self { template, max_children: usize::MAX, intensity, backoff }
    }

    /// Sets how many children there may be. A child that waits for its restart counts.
    pub const fn with_max_children(mut self, max: usize) -> Self {
        self.max_children = max;
        self
    }

    /// Sets how many restarts there may be within `window`, of all children together. After more of them the supervisor gives up.
    /// A child that a script or a component started counts for itself: it is removed after more, and the supervisor goes on.
    pub const fn with_intensity(mut self, restarts: u32, window: Duration) -> Self {
        self.intensity = Intensity { restarts, window };
        self
    }

    /// Sets how long a child that fails in a row waits for its restart.
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    pub(super) fn check(&self) -> Result<(), SpecError> {
        if self.template.id.is_empty() {
            return Err(SpecError::EmptyId);
        }
        self.intensity.check()?;
        self.backoff.check()
    }

    /// The process of a child that was asked for.
    pub(super) fn start(&self, child: &DynamicChild) -> Spawn {
        let mut start = self.template.start.clone();
        if let Some(payload) = &child.payload {
            start.payload = payload.clone();
        }
        if !child.options.is_empty() {
            start.options = start.options.merged_under(&child.options);
        }
        if child.name.is_some() {
            start.name.clone_from(&child.name);
        }
        start
    }
}

/// How one child of a dynamic supervisor differs from its [specification](DynamicSpec), each time it is started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct DynamicChild {
    pub(super) payload: Option<Payload>,
    pub(super) options: Options,
    pub(super) name: Option<String>,
    pub(super) restart: Option<Restart>,
}

impl DynamicChild {
    /// Creates a child that is as the specification says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the payload.
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Sets options, over those of the specification.
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets the name that its process has among all processes.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets after which ends it is restarted.
    pub const fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = Some(restart);
        self
    }
}

/// A child that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedChild {
    /// Its id in its supervisor, which it keeps when it is restarted.
    pub id: Arc<str>,
    /// Its process.
    pub pid: Pid,
}

/// The unit that starts a child.
pub(super) struct Starter {
    /// The frame that the child's inherits from.
    pub(super) frame: Option<Frame>,
    pub(super) unit: Option<Pid>,
    /// Set if it is a script or a component that is not trusted.
    pub(super) guest: Option<CallContext>,
}

impl Starter {
    pub(super) fn native(ctx: &CallContext) -> Self {
        Self { frame: ctx.parent().cloned(), unit: ctx.unit(), guest: None }
    }

    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(super) fn guest(ctx: &CallContext) -> Self {
        Self { guest: Some(ctx.clone()), ..Self::native(ctx) }
    }

    /// Refuses a guest that may not start processes where the children live.
    pub(super) fn check(&self, spec: &DynamicSpec) -> Result<(), ControlError> {
        let host = &spec.template.start.host;
        match &self.guest {
            Some(ctx) if !spawn_hosts::may_spawn(ctx, host) => {
                Err(ControlError::NotGranted { host: host.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A child that is to be removed.
pub(super) struct Remove {
    pub(super) child: Which,
    /// The unit that asks, if it is a guest: it has to have started the child.
    pub(super) guest: Option<Pid>,
}

/// A child, as it is asked for.
pub(in crate::process) enum Which {
    Id(Arc<str>),
    Process(Pid),
}

impl Which {
    /// There is no such child.
    pub(in crate::process) fn unknown(self) -> ControlError {
        match self {
            Self::Id(id) => ControlError::UnknownChild { id },
            Self::Process(pid) => ControlError::UnknownProcess { pid },
        }
    }
}
