//! The permits that a chain of calls holds, so that no call waits for its own callers.

use std::iter::successors;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::pid::Pid;

/// Identifies a limit that calls hold permits of, such as a pool. No two limits have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitId(u64);

impl LimitId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The mailbox of a process. A process that waits for the chain of calls holds it, because it receives nothing meanwhile.
    pub(crate) const fn mailbox_of(process: Pid) -> Self {
        // Numbers of PIDs and of other limits both count up from zero, and neither gets as far as this bit.
        Self(process.number() | 1 << 63)
    }
}

/// The permits that a unit and its callers hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldPermits(Option<Arc<Link>>);

#[derive(Debug)]
struct Link {
    limit: LimitId,
    /// One that is acquired and released with it.
    second: Option<LimitId>,
    /// False once the permit is released: a context can outlive its call.
    is_held: AtomicBool,
    outer: Option<Arc<Link>>,
}

/// Marks a permit as held until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Link>);

impl HeldPermits {
    /// Adds a permit of `limit` and one of `second`, which count until the mark is dropped.
    pub(crate) fn with(self, limit: LimitId, second: Option<LimitId>) -> (Self, Hold) {
        let link = Arc::new(Link { limit, second, is_held: AtomicBool::new(true), outer: self.0 });
        (Self(Some(Arc::clone(&link))), Hold(link))
    }

    /// Returns whether one of the permits is of `limit`.
    pub(crate) fn contains(&self, limit: LimitId) -> bool {
        successors(self.0.as_deref(), |link| link.outer.as_deref())
            .filter(|link| link.limit == limit || link.second == Some(limit))
            .any(|link| link.is_held.load(Ordering::Acquire))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_held.store(false, Ordering::Release);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // In a loop, however long the chain is.
        let mut outer = self.outer.take();
        while let Some(mut last_user) = outer.and_then(Arc::into_inner) {
            outer = last_user.outer.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_counts_until_its_mark_is_dropped() {
        let (outer, inner, second) = (LimitId::next(), LimitId::next(), LimitId::next());
        let none = HeldPermits::default();
        let (first, first_hold) = none.clone().with(outer, None);
        let (both, hold_of_both) = first.clone().with(inner, Some(second));
        assert!(both.contains(outer) && both.contains(inner) && both.contains(second));
        assert!(first.contains(outer) && !first.contains(inner) && !none.contains(outer));
        drop(first_hold);
        assert!(!both.contains(outer) && both.contains(inner) && both.contains(second));
        drop(hold_of_both);
        assert!(!both.contains(inner) && !both.contains(second));
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut permits = HeldPermits::default();
        for _ in 0..1_000_000 {
            permits = permits.with(LimitId::next(), None).0;
        }
        drop(permits);
    }
}
