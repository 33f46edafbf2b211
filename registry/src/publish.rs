//! How a change of the overlay is published: the protocol between registering, unregistering and resolving.
//!
//! - The **gate** is one number that says whether there is anything to resolve at all. It is all that the empty
//!   path reads.
//! - The **snapshot** is the whole merged table, replaced as one; `None` while nothing is registered.
//! - Writers hold the lock. They publish the snapshot first and open the gate after it, so that who sees the gate
//!   open sees what it was opened for.
//! - Removing the last resolver leaves the gate open. The next resolve finds nothing to do and closes it: under
//!   the lock, and only after it has looked once more, for a resolver may have been registered in between. It
//!   does not wait for the lock; if a writer has it, some later resolve will close the gate.
//! - Before anything was ever registered the gate is neither open nor closed, and the first resolve that finds nothing
//!   closes it, unless it was opened in the meantime.

use std::ops::Deref;
use std::sync::{Arc, TryLockError};

use super::sync::{AtomicUsize, Mutex, Ordering, SnapshotCell};

/// Whether there may be something to resolve.
pub(crate) struct Gate(AtomicUsize);

impl Gate {
    const CLOSED: usize = 0;
    /// Nothing has been registered yet, and nobody has looked at the base.
    const UNKNOWN: usize = 1;
    const OPEN: usize = 2;

    pub(crate) const fn closed() -> Self {
        Self(AtomicUsize::new(Self::CLOSED))
    }

    pub(crate) const fn unknown() -> Self {
        Self(AtomicUsize::new(Self::UNKNOWN))
    }

    /// Closes a gate through which nothing was ever registered. It needs no lock: registering leaves another state.
    pub(crate) fn close_if_unknown(&self) {
        let _ = self.0.compare_exchange(Self::UNKNOWN, Self::CLOSED, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Zero if the gate is closed.
    #[inline]
    pub(crate) fn read(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, state: usize) {
        // A swap rather than a store, so that all changes of the gate read the one before: loom takes a store to be able
        // to come before a compare-and-exchange that did not see it.
        self.0.swap(state, Ordering::AcqRel);
    }
}

/// The current snapshot, and the lock of those who replace it.
pub(crate) struct Published<T> {
    snapshot: SnapshotCell<T>,
    writer: Mutex<()>,
}

impl<T> Published<T> {
    pub(crate) fn nothing() -> Self {
        Self { snapshot: SnapshotCell::empty(), writer: Mutex::new(()) }
    }

    /// The current snapshot. Never waits.
    #[inline]
    pub(crate) fn load(&self) -> impl Deref<Target = Option<Arc<T>>> {
        self.snapshot.load()
    }

    /// Publishes what `change` makes of the current snapshot, then opens the gate.
    pub(crate) fn add<E>(
        &self,
        gate: &Gate,
        change: impl FnOnce(Option<&T>) -> Result<T, E>,
    ) -> Result<(), E> {
        let lock = lock(&self.writer);
        let next = change(self.snapshot.load().as_deref())?;
        let replaced = self.snapshot.swap(Some(Arc::new(next)));
        gate.set(Gate::OPEN);
        drop(lock);
        // Outside the lock: this may run the destructor of somebody's resolver.
        drop(replaced);
        Ok(())
    }

    /// Publishes what `change` leaves of the current snapshot. The gate stays as it is.
    pub(crate) fn remove(&self, change: impl FnOnce(&T) -> Option<T>) {
        let lock = lock(&self.writer);
        let next = self.snapshot.load().as_deref().and_then(change);
        let replaced = self.snapshot.swap(next.map(Arc::new));
        drop(lock);
        drop(replaced);
    }

    /// Closes the gate if nothing is published. Never waits: while a writer is at work it does nothing.
    pub(crate) fn close_if_nothing(&self, gate: &Gate) {
        let _lock = match self.writer.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.snapshot.load().is_none() {
            gate.set(Gate::CLOSED);
        }
    }
}

/// A panic in `change` leaves the snapshot as it was, so a poisoned lock says nothing.
fn lock(writer: &Mutex<()>) -> impl Sized {
    writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
