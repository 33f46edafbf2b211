//! The protocol between threads that run guest code and the clock that ends their slices.
//!
//! - A slice has a number. The clock marks the number that it has seen at two ticks, under a lock that a slice takes to begin
//!   and to end. So a mark, or the signal that follows it, is about the slice that runs, or is seen to be late.
//! - A thread enters its slice, and then looks whether the clock is parked. The clock says that it is, and then looks for
//!   slices. So one of the two sees the other.
//! - A thread takes itself off the table before it ends, under the lock that the clock holds while it signals threads.

use std::sync::{PoisonError, TryLockError};

use super::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

/// The slices of one thread. `R` is what runs in one.
pub(super) struct Slices<R> {
    /// The number of the current slice. Only the thread itself changes it, where a slice begins or ends.
    number: AtomicU64,
    /// The number of the last slice that was used up.
    due: AtomicU64,
    inside: Mutex<Inside<R>>,
}

struct Inside<R> {
    /// What runs in the slice that the thread is inside of, if any.
    running: Option<R>,
    /// The number of the slice that the clock saw at its last tick.
    seen: u64,
}

impl<R> Slices<R> {
    pub(super) fn new() -> Self {
        Self {
            number: AtomicU64::new(1),
            due: AtomicU64::new(0),
            inside: Mutex::new(Inside { running: None, seen: 0 }),
        }
    }

    /// Ends the current slice and begins the next, if there is one. Returns what ran.
    pub(super) fn switch(&self, next: Option<R>) -> Option<R> {
        let mut inside = lock(&self.inside);
        // Nothing else writes to it.
        self.number.store(self.number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::mem::replace(&mut inside.running, next)
    }

    /// Returns whether the current slice has been used up, to the thread itself.
    #[cfg(feature = "lua")]
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) == self.number.load(Ordering::Relaxed)
    }

    /// Looks at the thread, and calls `signal` if its slice has been used up. Returns whether it has run guest code since the
    /// last tick.
    pub(super) fn tick(&self, signal: impl FnOnce(&mut R)) -> bool {
        // A slice begins or ends where the lock is held. The thread may have the lowest priority, so the clock does not wait.
        let mut inside = match self.inside.try_lock() {
            Ok(inside) => inside,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let number = self.number.load(Ordering::Relaxed);
        if inside.seen != number {
            inside.seen = number;
            return true;
        }
        let Some(running) = &mut inside.running else { return false };
        // Before the signal, whose receiver looks at it.
        self.due.store(number, Ordering::Relaxed);
        signal(running);
        true
    }
}

/// The threads that a clock looks at.
pub(super) struct Threads<T>(Mutex<Vec<Arc<T>>>);

impl<T> Threads<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn add(&self, thread: &Arc<T>) {
        lock(&self.0).push(Arc::clone(thread));
    }

    /// Removes a thread. The clock has sent its signals by then, and sends no more.
    pub(super) fn remove(&self, thread: &Arc<T>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, thread));
    }

    /// Looks at all threads. Returns whether `tick` is true for any.
    pub(super) fn tick(&self, mut tick: impl FnMut(&T) -> bool) -> bool {
        let mut has_run = false;
        for thread in lock(&self.0).iter() {
            has_run |= tick(thread);
        }
        has_run
    }
}

/// Whether the clock is parked.
pub(super) struct Parking(AtomicBool);

impl Parking {
    /// The clock is parked, or was not started.
    pub(super) fn parked() -> Self {
        Self(AtomicBool::new(true))
    }

    /// Returns whether the clock has to be woken, to a thread that has just entered a slice.
    pub(super) fn is_parked(&self) -> bool {
        // The lock of the slices orders this against `park`: either that sees the slice, or this sees the flag.
        self.0.load(Ordering::Relaxed)
    }

    /// Lets the clock go on. The caller then wakes its thread.
    pub(super) fn leave(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Parks the clock with `sleep` until a slice begins, unless `tick` sees one.
    pub(super) fn park(&self, tick: impl FnOnce() -> bool, sleep: impl Fn()) {
        self.0.store(true, Ordering::SeqCst);
        if tick() {
            self.0.store(false, Ordering::SeqCst);
            return;
        }
        while self.0.load(Ordering::Acquire) {
            sleep();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
