//! Which processes are admitted to a host: the protocol between a spawn, an end, and the stop of the host.
//!
//! - The whole state is one word: whether the host is closed, how many permits are issued, and how many processes are ending. So no
//!   process is admitted unnoticed by a stop, and never one too many.
//! - A spawn is admitted, then publishes the process where it is looked up, and then checks whether the host is closed. A stop
//!   closes the host, and then looks at all published processes. So one of the two sees the other.
//! - A process that ends releases its permit before its exit is delivered, so that a receiver of the exit finds room for another
//!   process. It leaves the host when the exit has been delivered, and a stop waits for that.
//!
//! `tests/processes_loom.rs` compiles this file with loom's primitives.

use super::sync::{AtomicU64, Ordering};

/// The state of a host. Its operations are sequentially consistent.
pub(super) struct Admission(AtomicU64);

const CLOSED: u64 = 1;
const PERMIT: u64 = 1 << 1;
const ENDING: u64 = 1 << 32;
/// The most permits that can be counted.
const MAX_PERMITS: u64 = (ENDING - 1) / PERMIT;

/// The reason for which a host does not admit a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    Full,
    Closed,
}

impl Admission {
    pub(super) fn open() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Issues a permit, if fewer than `limit` are issued.
    pub(super) fn admit(&self, limit: usize) -> Result<(), NotAdmitted> {
        let limit = u64::try_from(limit).unwrap_or(MAX_PERMITS).min(MAX_PERMITS);
        let mut state = self.0.load(Ordering::SeqCst);
        loop {
            if state & CLOSED != 0 {
                return Err(NotAdmitted::Closed);
            }
            if state % ENDING / PERMIT >= limit {
                return Err(NotAdmitted::Full);
            }
            match self.0.compare_exchange(state, state + PERMIT, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
    }

    /// Publishes an admitted process by calling `publish`. Fails if the host has been closed meanwhile.
    pub(super) fn publish(&self, publish: impl FnOnce()) -> Result<(), NotAdmitted> {
        publish();
        if self.0.load(Ordering::SeqCst) & CLOSED == 0 { Ok(()) } else { Err(NotAdmitted::Closed) }
    }

    /// Releases a permit. Its process still has to [leave](Self::leave).
    pub(super) fn release(&self) {
        self.0.fetch_add(ENDING - PERMIT, Ordering::SeqCst);
    }

    /// Notes that a process which released its permit has left. Returns whether it was the last one of a closed host.
    pub(super) fn leave(&self) -> bool {
        self.0.fetch_sub(ENDING, Ordering::SeqCst) == ENDING | CLOSED
    }

    /// Admits no process from now on.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Returns whether no process is on the host.
    pub(super) fn is_idle(&self) -> bool {
        self.0.load(Ordering::SeqCst) & !CLOSED == 0
    }
}
