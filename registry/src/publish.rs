//! How a change of the overlay is published: the protocol between registering, unregistering and resolving.
//!
//! - The **gate** is one number that says what a resolve has to do. It is all that the empty path reads, and the index
//!   of the function that does the rest.
//! - The **snapshot** is the whole merged table, replaced as one; `None` while nothing is registered.
//! - Writers hold the lock. They publish the snapshot first and open the gate after it, so that a resolve which reads
//!   an open gate finds the snapshot it was opened for.
//! - A gate at **rest** says that only the base counts: it is *closed* if the base is empty, and *base* if it is not. The
//!   base does not change, so a gate always comes to rest in the same state.
//! - Removing the last resolver leaves the gate open. The next resolve finds no snapshot and brings the gate to rest:
//!   under the lock, and only after a second look, for a resolver may have been registered in between. It does not wait
//!   for the lock; while a writer holds it, the gate is left to a later resolve.
//! - Before anything was registered or resolved the gate is *unknown*. The first resolve checks the base and brings the
//!   gate to rest, unless it was opened in the meantime.

use std::ops::Deref;
use std::sync::{Arc, TryLockError};

use super::sync::{AtomicU32, Mutex, Ordering, SnapshotCell};

/// What a resolve has to do.
pub(crate) struct Gate(AtomicU32);

/// The state of a gate while nothing is registered.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Rest {
    /// The base is empty.
    Closed = Gate::CLOSED,
    /// The base is not empty, and was checked.
    Base = Gate::BASE,
}

impl Gate {
    /// There is nothing to run. Zero, so that the empty path can look at the options in the same compare.
    pub(crate) const CLOSED: u32 = 0;
    /// The base was checked and is all there is to run.
    pub(crate) const BASE: u32 = 1;
    /// Nothing was registered yet, and the base was not looked at.
    pub(crate) const UNKNOWN: u32 = 2;
    /// There may be a snapshot.
    pub(crate) const OPEN: u32 = 3;
    /// How many states there are, a power of two.
    pub(crate) const STATES: usize = 4;

    pub(crate) const fn closed() -> Self {
        Self(AtomicU32::new(Self::CLOSED))
    }

    pub(crate) const fn unknown() -> Self {
        Self(AtomicU32::new(Self::UNKNOWN))
    }

    /// Brings a gate to rest that was never opened. It needs no lock: registering leaves another state.
    pub(crate) fn rest_if_unknown(&self, rest: Rest) {
        let _ = self.0.compare_exchange(Self::UNKNOWN, rest as u32, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The state.
    #[inline]
    pub(crate) fn read(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, state: u32) {
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
    pub(crate) fn load(&self) -> impl Deref<Target = Arc<Option<T>>> {
        self.snapshot.load()
    }

    /// Publishes what `change` makes of the current snapshot, then opens the gate.
    pub(crate) fn add<E>(
        &self,
        gate: &Gate,
        change: impl FnOnce(Option<&T>) -> Result<T, E>,
    ) -> Result<(), E> {
        let lock = lock(&self.writer);
        let next = change(self.snapshot.load().as_ref().as_ref())?;
        let replaced = self.snapshot.swap(Arc::new(Some(next)));
        gate.set(Gate::OPEN);
        drop(lock);
        // Outside the lock: this may run the destructor of somebody's resolver.
        drop(replaced);
        Ok(())
    }

    /// Publishes what `change` leaves of the current snapshot. The gate stays as it is.
    pub(crate) fn remove(&self, change: impl FnOnce(&T) -> Option<T>) {
        let lock = lock(&self.writer);
        let next = self.snapshot.load().as_ref().as_ref().and_then(change);
        let replaced = self.snapshot.swap(Arc::new(next));
        drop(lock);
        drop(replaced);
    }

    /// Brings the gate to rest if nothing is published. Never waits: while a writer holds the lock it does nothing.
    pub(crate) fn rest_if_nothing(&self, gate: &Gate, rest: Rest) {
        let _lock = match self.writer.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.snapshot.load().is_none() {
            gate.set(rest as u32);
        }
    }
}

/// A panic in `change` leaves the snapshot as it was, so a poisoned lock says nothing.
fn lock(writer: &Mutex<()>) -> impl Sized {
    writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
