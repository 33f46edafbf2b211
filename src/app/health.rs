//! Whether an app is what its manifest says.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::process::EntryId;
use frame_dispatch::process::supervisor::Backoff;
use tokio::sync::watch;

use super::supervise::SupervisorDown;

/// How often it is tried to put an app back, the time that is part of the reload included. The delays in between add up to about
/// 20 seconds, for which a service manager waits for a reload.
pub(super) const ATTEMPTS: u32 = 10;

/// How long to wait before each time.
pub(super) const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).with_jitter(0.0);

/// An app is not what its manifest says: a reload failed, and so did putting back what was before. That is tried again, with
/// longer and longer delays.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.shown())]
#[non_exhaustive]
pub struct Degraded {
    /// The supervisors that do not run, though nothing above them starts them.
    pub supervisors: Vec<EntryId>,
    /// Why the app was not put back the last time.
    pub reason: String,
    /// How often that was tried.
    pub attempts: u32,
}

impl Degraded {
    fn shown(&self) -> String {
        let Self { supervisors, reason, attempts } = self;
        let lacks = match supervisors.as_slice() {
            [] => "the app is not what its manifest says".to_owned(),
            ids => {
                let ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
                format!("without {}", ids.join(", "))
            }
        };
        format!(
            "{lacks} since a reload that failed and was not undone, attempt {attempts} of {ATTEMPTS}: {reason}"
        )
    }
}

/// Nothing starts again what an app is there for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppDown {
    /// A supervisor at the top ended.
    #[error(transparent)]
    Supervisor(#[from] SupervisorDown),
    /// The app was not put back after a reload that failed.
    #[error("the app was not put back after a reload that failed, in {attempts} attempts: {reason}")]
    NotRestored {
        /// Why not, the last time.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Whether an app is degraded, with each change.
pub(crate) type Health = watch::Receiver<Option<Arc<Degraded>>>;
