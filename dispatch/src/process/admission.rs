//! Who may live on a host: the protocol between those that start processes there, those that end, and whoever stops it.
//!
//! - All of it is one word: whether the host is closed, how many have a place, and how many are ending. So no process is
//!   admitted behind the back of whoever closes the host, and never one too many.
//! - Who starts a process has it admitted, then makes it appear where it is looked for, and then looks whether the host is
//!   closed. Who stops the host closes it, and then looks what there is. So one of the two sees the other.
//! - A process that ends gives its place back before anybody is told: who starts another one then finds room. It leaves
//!   when all are told, and whoever stops the host waits for that.

use super::sync::{AtomicU64, Ordering};

/// The state of a host. All of its changes and looks are in one order.
pub(super) struct Admission(AtomicU64);

const CLOSED: u64 = 1;
const PLACE: u64 = 1 << 1;
const ENDING: u64 = 1 << 32;
/// How many can be counted.
const MOST: u64 = (ENDING - 1) / PLACE;

/// Why a host has no place for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    Full,
    Closed,
}

impl Admission {
    pub(super) fn open() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Gives a place, if less than `limit` are given.
    pub(super) fn admit(&self, limit: usize) -> Result<(), NoPlace> {
        let limit = u64::try_from(limit).unwrap_or(MOST).min(MOST);
        let mut state = self.0.load(Ordering::SeqCst);
        loop {
            if state & CLOSED != 0 {
                return Err(NoPlace::Closed);
            }
            if state % ENDING / PLACE >= limit {
                return Err(NoPlace::Full);
            }
            match self.0.compare_exchange(state, state + PLACE, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
    }

    /// Makes what was admitted appear where it is looked for; then says whether it may go on.
    pub(super) fn appear(&self, appear: impl FnOnce()) -> Result<(), NoPlace> {
        appear();
        if self.0.load(Ordering::SeqCst) & CLOSED == 0 { Ok(()) } else { Err(NoPlace::Closed) }
    }

    /// A place is free again. Whoever had it is still waited for.
    pub(super) fn vacate(&self) {
        self.0.fetch_add(ENDING - PLACE, Ordering::SeqCst);
    }

    /// Who had a place is waited for no more. Says whether that was the last, of a host that is closed.
    pub(super) fn leave(&self) -> bool {
        self.0.fetch_sub(ENDING, Ordering::SeqCst) == ENDING | CLOSED
    }

    /// Admits nobody from now on.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Whether nobody is there.
    pub(super) fn is_idle(&self) -> bool {
        self.0.load(Ordering::SeqCst) & !CLOSED == 0
    }
}
