//! The primitives under [`publish`](crate::publish): a seam. The model checker compiles that file with primitives
//! of its own in place of these.

use std::sync::Arc;

use arc_swap::ArcSwap;

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicU32, Ordering};

/// A cell that may hold a shared value; reads never wait for writes. An empty cell holds a shared `None`, so that a read
/// takes the same few instructions whether the cell is empty or not.
pub(crate) struct SnapshotCell<T>(ArcSwap<Option<T>>);

impl<T> SnapshotCell<T> {
    pub(crate) fn empty() -> Self {
        Self(ArcSwap::from_pointee(None))
    }

    #[inline]
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Option<T>>> {
        self.0.load()
    }

    /// Returns the value before, for the caller to drop.
    pub(crate) fn swap(&self, value: Arc<Option<T>>) -> Arc<Option<T>> {
        self.0.swap(value)
    }
}
