//! How many records each unit makes in a second.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use frame_net::Unit;
use frame_net::audit::{Attempt, AttemptKind};

use super::AuditConfig;

/// How many units are kept before it is looked for those that have rested.
const ROOM: usize = 1024;

/// A token bucket for each unit, as the generic cell rate algorithm: it holds the tokens of one second.
pub(super) struct Rates {
    interval: Duration,
    /// How much sooner a record may come than if all came evenly.
    tolerance: Duration,
    /// When the next record of each unit would be due if all came evenly.
    due: HashMap<Unit, Due>,
    room: usize,
}

/// What peers connect to is counted apart: a peer does not decide how often a unit connects.
#[derive(Clone, Copy)]
struct Due {
    own: Instant,
    accepted: Instant,
}

impl Rates {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let interval = (Duration::from_secs(1) / per_second.get()).max(Duration::from_nanos(1));
        let tolerance = interval.saturating_mul(per_second.get() - 1);
        Self { interval, tolerance, due: HashMap::new(), room: ROOM }
    }

    /// Counts a record of `attempt`, unless its unit has made too many.
    pub(super) fn take(&mut self, attempt: &Attempt, now: Instant) -> bool {
        let due = if let Some(due) = self.due.get_mut(&attempt.unit) {
            due
        } else {
            self.make_room(now);
            self.due.entry(attempt.unit.clone()).or_insert(Due { own: now, accepted: now })
        };
        let is_accepted = attempt.kind == AttemptKind::Accept;
        let due = if is_accepted { &mut due.accepted } else { &mut due.own };
        if due.saturating_duration_since(now) > self.tolerance {
            return false;
        }
        *due = now.max(*due) + self.interval;
        true
    }

    /// Forgets units that have rested, once there are many.
    fn make_room(&mut self, now: Instant) {
        if self.due.len() >= self.room {
            self.due.retain(|_, due| due.own > now || due.accepted > now);
            self.room = ROOM.max(2 * self.due.len());
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(AuditConfig::ATTEMPTS_PER_SECOND)
    }
}
