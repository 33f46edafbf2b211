//! What a child is, and how it is kept up and shut down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::super::exit::ExitReason;
use super::super::spawn::Spawn;

/// A child of a supervisor: a process that is started, and started again when it ends as it should not.
///
/// ```
/// # use std::time::Duration;
/// use frame_dispatch::process::Spawn;
/// use frame_dispatch::process::supervisor::{ChildSpec, Restart, Shutdown};
///
/// let start = Spawn::new("app:workers".parse()?, "app:import".parse()?).with_name("import");
/// let import = ChildSpec::new("import", start)
///     .with_restart(Restart::Transient)
///     .with_shutdown(Shutdown::Within(Duration::from_secs(30)));
/// assert_eq!(import.id(), "import");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChildSpec {
    pub(super) id: Arc<str>,
    pub(super) start: Spawn,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
}

impl ChildSpec {
    /// A [permanent](Restart::Permanent) child that has 5 seconds to shut down. `id` is what it is called in its supervisor,
    /// where no other has it; a name among all processes is given to `start`.
    ///
    /// What `start` says is said again at each start: its payload, options, pairs, name and messages.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, start: Spawn) -> Self {
        Self {
            id: id.into(),
            start: start.with_owner().with_link().with_monitor(),
            restart: Restart::default(),
            shutdown: Shutdown::default(),
        }
    }

    /// The same, restarted after other ends.
    #[must_use]
    pub const fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The same, shut down another way.
    #[must_use]
    pub const fn with_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// What it is called in its supervisor.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// After which ends a child is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// After every end.
    #[default]
    Permanent,
    /// Where it failed: after every end but a [normal](ExitReason::Normal) one, and that of a process which was
    /// [cancelled](ExitReason::Cancelled) by somebody and obeyed. Where a linked process took it along, the end of that
    /// one counts.
    Transient,
    /// Never. When it has ended, the supervisor has no such child any more.
    Temporary,
}

impl Restart {
    /// Whether a child that ended so is started again.
    pub fn is_due(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => has_failed(reason),
            Self::Temporary => false,
        }
    }

    /// The one that has this [name](Self::as_str).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Permanent, Self::Transient, Self::Temporary]
            .into_iter()
            .find(|restart| restart.as_str() == name)
    }

    /// Its name in text: `permanent`, `transient` or `temporary`.
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
    /// It is cancelled, and killed when it has not ended within this time.
    Within(Duration),
    /// It is killed at once, without being asked.
    AtOnce,
    /// It is cancelled, and has as long as it takes. That is for a child that is a supervisor, which shuts down its own
    /// children, each within its time; a child that does not end holds up everything else.
    Unlimited,
}

impl Default for Shutdown {
    /// Within 5 seconds.
    fn default() -> Self {
        Self::Within(Duration::from_secs(5))
    }
}
