//! One deadline over all steps of a connection.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use serde::Deserialize;
use std::num::NonZeroU64;
use tokio::time::{Instant, timeout_at};

use crate::error::{Cause, DriverError, Step};

/// How long a connection may take where the configuration does not say.
pub(crate) const DEFAULT: Duration = Duration::from_secs(30);

/// [`DEFAULT`], for serde.
pub(crate) const fn default() -> Duration {
    DEFAULT
}

/// A point in time that is set once and passed on from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    /// How long it was away when it was set.
    pub(crate) limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        /// A clock does not go on for ever: longer than this is not to be added to it.
        const LONGEST: Duration = Duration::from_hours(24 * 365);
        Self { at: Instant::now() + limit.min(LONGEST), limit }
    }

    /// An equal share of the time that is left, for the first of `parts` that follow on each other.
    #[cfg(feature = "wireguard")]
    pub(crate) fn share(self, parts: usize) -> Self {
        let now = Instant::now();
        let left = self.at.saturating_duration_since(now);
        let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
        Self { at: now + left / parts, limit: self.limit }
    }

    /// Does `io`, unless the deadline passes before it is done.
    pub(crate) async fn bound<T>(
        self,
        step: Step,
        peer: &(impl Display + Sync),
        io: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DriverError> {
        let done = self.timeout(io).await.and_then(|done| done.map_err(Cause::Io));
        done.map_err(|cause| DriverError::new(step, peer, cause))
    }

    /// Waits for `event`, unless the deadline passes before it is there. What passed is passed, even if the event is
    /// there at once: data that never stop coming must not go on for ever. A timer costs a system call or two, so
    /// several steps do better to have one.
    pub(crate) async fn timeout<T>(self, event: impl Future<Output = T>) -> Result<T, Cause> {
        let passed = || Cause::TimedOut { limit: self.limit };
        if Instant::now() >= self.at {
            return Err(passed());
        }
        timeout_at(self.at, event).await.map_err(|_| passed())
    }
}

/// Reads a deadline in milliseconds. Zero would refuse everything.
pub(crate) fn from_millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    NonZeroU64::deserialize(deserializer).map(|millis| Duration::from_millis(millis.get()))
}
