//! One time limit over everything that a request does.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// A point in time that is set once and passed on from step to step.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    at: Instant,
    pub(super) limit: Duration,
}

/// The time limit passed.
#[derive(Debug)]
pub(super) struct Passed;

impl TimeLimit {
    /// `limit` from now.
    pub(super) fn after(limit: Duration) -> Self {
        /// A clock does not go on for ever: longer than this is not to be added to it.
        const LONGEST: Duration = Duration::from_hours(24 * 365);
        Self { at: Instant::now() + limit.min(LONGEST), limit }
    }

    /// Waits for `event`, unless the limit passes before it is there. What passed is passed, even if the event is
    /// there at once: data that never stop coming must not go on for ever.
    pub(super) async fn bound<T>(self, event: impl Future<Output = T>) -> Result<T, Passed> {
        if Instant::now() >= self.at {
            return Err(Passed);
        }
        timeout_at(self.at, event).await.map_err(|_| Passed)
    }
}
