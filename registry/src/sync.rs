//! The primitives under [`publish`](crate::publish): a seam. The model checker compiles that file with primitives
//! of its own in place of these.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};

/// A cell that holds a shared value or none; reads never wait for writes.
pub(crate) struct SnapshotCell<T>(ArcSwapOption<T>);

impl<T> SnapshotCell<T> {
    pub(crate) fn empty() -> Self {
        Self(ArcSwapOption::empty())
    }

    #[inline]
    pub(crate) fn load(&self) -> arc_swap::Guard<Option<Arc<T>>> {
        self.0.load()
    }

    /// Gives back what was there, for the caller to drop.
    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(value)
    }
}
