//! Specifications of children: what they are, and when they are restarted and how they are shut down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::Options;
use serde::{Deserialize, Serialize};

use super::error::SpecError;
use super::restarts::RestartPolicy;
use crate::payload::Payload;
use crate::process::{ExitReason, Spawn};

/// The specification of a child of a supervisor: a process that is started, and restarted when it ends unexpectedly.
///
/// ```
/// # use std::time::Duration;
/// use frame_dispatch::process::Spawn;
/// use frame_dispatch::process::supervisor::{ChildSpec, Restart, Shutdown};
///
/// let spawn = Spawn::new("app:workers".parse()?, "app:import".parse()?).with_name("import");
/// let import = ChildSpec::new("import", spawn)
///     .with_restart(Restart::Transient)
///     .with_shutdown(Shutdown::Within(Duration::from_secs(30)));
/// assert_eq!(import.id(), "import");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChildSpec {
    pub(crate) id: Arc<str>,
    pub(crate) spawn: Spawn,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
}

impl ChildSpec {
    /// Creates a [permanent](Restart::Permanent) child that has 5 seconds to shut down. `id` identifies it in its supervisor. A name
    /// among all processes is part of `spawn`.
    ///
    /// Each start of the child uses `spawn`: its payload, options, pairs, name and messages.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, spawn: Spawn) -> Self {
        Self {
            id: id.into(),
            spawn: spawn.with_owner().with_link().with_monitor(),
            restart: Restart::default(),
            shutdown: Shutdown::default(),
        }
    }

    /// Sets after which exits it is restarted.
    #[must_use]
    pub const fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how it is shut down.
    #[must_use]
    pub const fn with_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Returns its id in its supervisor.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// After which exits a child is restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// After every exit.
    #[default]
    Permanent,
    /// After a failure: every exit except a [normal](ExitReason::Normal) one and that of a process which ended because it was
    /// [cancelled](ExitReason::Cancelled). If it ended with a linked process, the exit of that one counts.
    Transient,
    /// Never. It is removed from its supervisor when it has ended.
    Temporary,
}

impl Restart {
    /// Returns whether a child with this exit is restarted.
    pub fn is_due(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => has_failed(reason),
            Self::Temporary => false,
        }
    }

    /// Returns the value with this [name](Self::as_str).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Permanent, Self::Transient, Self::Temporary]
            .into_iter()
            .find(|restart| restart.as_str() == name)
    }

    /// Returns its name: `permanent`, `transient` or `temporary`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

fn has_failed(reason: &ExitReason) -> bool {
    match reason {
        ExitReason::Normal | ExitReason::Cancelled(_) => false,
        ExitReason::LinkDown(link) => has_failed(&link.reason),
        _ => true,
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a child is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shutdown {
    /// It is cancelled, and terminated if it has not ended within this time.
    Within(Duration),
    /// It is terminated immediately.
    AtOnce,
    /// It is cancelled, without a time limit. This is for a child that is a supervisor, which shuts down its own children, each
    /// within its time. A child that does not end delays everything else.
    Unlimited,
}

impl Default for Shutdown {
    /// Within 5 seconds.
    fn default() -> Self {
        Self::Within(Duration::from_secs(5))
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within(time) => write!(f, "within {}", humantime::format_duration(*time)),
            Self::AtOnce => f.write_str("at once"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// The specification of all children of a dynamic [`Supervisor`](super::Supervisor).
///
/// The supervisor has no children at first. [`SupervisorHandle::start_child`](super::SupervisorHandle::start_child) starts one, any
/// number of times, and [`stop_child`](super::SupervisorHandle::stop_child) stops one. The failure of a child restarts no other.
///
/// ```
/// use std::time::Duration;
///
/// use frame_dispatch::process::supervisor::{
///     ChildSpec, DynamicChild, DynamicSpec, Restart, RestartPolicy, Supervisor,
/// };
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
///     .with_restart_policy(RestartPolicy::default().with_intensity(10, Duration::from_secs(60)));
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
    pub(crate) template: ChildSpec,
    pub(crate) max_children: usize,
    pub(crate) restart_policy: RestartPolicy,
}

impl DynamicSpec {
    /// Creates a specification: each child is started from `template`, and its id begins with that of `template`. The number of
    /// children is not limited, and the [`RestartPolicy`] is the default.
    pub fn new(template: ChildSpec) -> Self {
        Self { template, max_children: usize::MAX, restart_policy: RestartPolicy::default() }
    }

    /// Sets the most children. A child that waits for its restart counts.
    pub const fn with_max_children(mut self, max: usize) -> Self {
        self.max_children = max;
        self
    }

    /// Sets the restart policy. Restarts of all children count together. Those of a child that was started by a script or a component
    /// count separately: the child is removed after too many, and the supervisor goes on.
    pub const fn with_restart_policy(mut self, policy: RestartPolicy) -> Self {
        self.restart_policy = policy;
        self
    }

    pub(crate) fn check(&self) -> Result<(), SpecError> {
        if self.template.id.is_empty() {
            return Err(SpecError::EmptyId);
        }
        self.restart_policy.check()
    }

    /// Returns the process of a child.
    pub(crate) fn spawn(&self, child: &DynamicChild) -> Spawn {
        let mut spawn = self.template.spawn.clone();
        if let Some(payload) = &child.payload {
            spawn.payload = payload.clone();
        }
        if !child.options.is_empty() {
            spawn.options = spawn.options.merged_under(&child.options);
        }
        if child.name.is_some() {
            spawn.name.clone_from(&child.name);
        }
        spawn
    }
}

/// How one child of a dynamic supervisor differs from its [specification](DynamicSpec), each time it is started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct DynamicChild {
    pub(crate) payload: Option<Payload>,
    pub(crate) options: Options,
    pub(crate) name: Option<String>,
    pub(crate) restart: Option<Restart>,
}

impl DynamicChild {
    /// Creates a child that does not differ from the specification.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the payload.
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Sets options, which take precedence over those of the specification.
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets the name that its process has among all processes.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets after which exits it is restarted.
    pub const fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = Some(restart);
        self
    }
}
