//! Shares a number of things among units.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::unit::Unit;

/// Lends out `total` things. A unit gets one more only while it has less than are free (the dynamic threshold of Choudhury
/// and Hahne), so that however many units take what they can, one more finds room. Where there are many units, what is
/// free is little: the last of it is for units that have few, and the less of it there is, the fewer they may have.
pub(super) struct Limiter {
    what: Limited,
    total: usize,
    per_unit: usize,
    /// A unit that has fewer gets one of the last, too: the fewer it has, the closer to the end.
    few: usize,
    table: Mutex<Table>,
}

/// One part of so many is the last.
const LAST: usize = 16;

#[derive(Default)]
struct Table {
    held: usize,
    /// Those that hold something.
    units: HashMap<Unit, usize>,
}

impl Limiter {
    pub(super) fn new(what: Limited, total: usize, per_unit: usize) -> Self {
        let few = match what {
            Limited::Connections => 4,
            Limited::Lookups => 1,
        };
        Self { what, total, per_unit, few, table: Mutex::default() }
    }

    /// How many of `free` a unit may have that has `held`. The rest is kept for units that have fewer: if many of them took
    /// the last, as soon as they have few, they would leave nothing to one that has none.
    fn threshold(&self, free: usize, held: usize) -> usize {
        let kept = self.total / LAST * held.min(self.few) / self.few;
        free.saturating_sub(kept)
    }

    #[cfg(any(feature = "http", test))]
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    pub(super) fn acquire(self: &Arc<Self>, unit: &Unit) -> Result<Permit, LimitReached> {
        let mut table = self.table();
        let free = self.total.saturating_sub(table.held);
        let entry = table.units.entry(unit.clone());
        let held = match &entry {
            Entry::Occupied(held) => *held.get(),
            Entry::Vacant(_) => 0,
        };
        let refused = |whose, limit| LimitReached { what: self.what, whose, limit, held };
        if held >= self.per_unit {
            return Err(refused(Whose::Unit, self.per_unit));
        }
        if free == 0 {
            return Err(refused(Whose::All, self.total));
        }
        if held >= self.threshold(free, held) {
            return Err(refused(Whose::Share, self.total));
        }
        *entry.or_insert(0) += 1;
        table.held += 1;
        drop(table);
        let held = Held { limiter: Arc::clone(self), unit: unit.clone(), is_released: OnceLock::new() };
        Ok(Permit(Arc::new(held)))
    }

    /// Returns how many others have to give back before `unit` gets one more, if that helps.
    pub(super) fn missing(&self, unit: &Unit) -> Option<usize> {
        let table = self.table();
        let held = table.units.get(unit).copied().unwrap_or(0);
        let free = self.total.saturating_sub(table.held);
        (held < self.per_unit).then(|| (held + 1).saturating_sub(self.threshold(free, held)))
    }

    fn release(&self, unit: &Unit) {
        let mut table = self.table();
        table.held -= 1;
        if let Some(held) = table.units.get_mut(unit) {
            *held -= 1;
            if *held == 0 {
                table.units.remove(unit);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the things, until the last clone is dropped, or it is [released](Self::release).
#[derive(Clone)]
pub(crate) struct Permit(
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "held until it is dropped; only the HTTP client gives one back earlier")
    )]
    Arc<Held>,
);

struct Held {
    limiter: Arc<Limiter>,
    unit: Unit,
    is_released: OnceLock<()>,
}

impl Permit {
    /// Gives it back before all clones are dropped: what it stands for is being closed.
    #[cfg(feature = "http")]
    pub(crate) fn release(&self) {
        self.0.release();
    }
}

impl Held {
    fn release(&self) {
        if self.is_released.set(()).is_ok() {
            self.limiter.release(&self.unit);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limited {
    /// Connections, listeners and sockets for datagrams.
    Connections,
    /// Names that are being looked up.
    Lookups,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Lookups => "lookups",
        })
    }
}

/// Whose limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whose {
    /// What one unit may have.
    Unit,
    /// What is left to one unit while others have so much.
    Share,
    /// What all units may have.
    All,
}

/// A limit was reached. The same succeeds once something was given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct LimitReached {
    /// What is limited.
    pub what: Limited,
    /// Whose limit it is.
    pub whose: Whose,
    /// The limit: for [`Whose::Share`] that of all.
    pub limit: usize,
    /// How many the unit has.
    pub held: usize,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, whose, limit, held } = self;
        let (one, many) = match what {
            Limited::Connections => ("connection", "connections"),
            Limited::Lookups => ("lookup", "lookups"),
        };
        let what = if *held == 1 { one } else { many };
        match whose {
            Whose::Unit => write!(f, "this unit has {held} {what}, which is the limit for one unit"),
            Whose::Share => {
                write!(f, "this unit has {held} {what}, which is its share of {limit} at present")
            }
            Whose::All if *limit == 1 => write!(f, "the only {one} of all units is in use"),
            Whose::All => write!(f, "all {limit} {many} are in use"),
        }?;
        f.write_str("; close some, or try again later")
    }
}

#[cfg(test)]
mod tests;
