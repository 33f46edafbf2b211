//! What is in the overlay until whoever put it there lets go of it.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::merged::Overlay;

/// The hold on something in the overlay, which is removed when this is dropped.
///
/// It does not keep the registry alive: where that is gone already there is nothing left to do.
pub(crate) struct Hold<T> {
    overlay: Weak<Overlay>,
    held: Weak<Held<T>>,
    gone: Arc<Gone>,
    /// Of the image that the registry is of, see `Image`.
    remove: Remove<T>,
}

pub(crate) type Remove<T> = fn(&Weak<Overlay>, &Weak<Held<T>>);

impl<T> Hold<T> {
    /// What goes into `overlay`, and the hold on it.
    pub(crate) fn new(value: T, overlay: &Arc<Overlay>, remove: Remove<T>) -> (Arc<Held<T>>, Self) {
        let gone = Arc::new(Gone::default());
        let inner = Arc::new(Held { value, _gone: TellGone(Arc::clone(&gone)) });
        let hold = Self { overlay: Arc::downgrade(overlay), held: Arc::downgrade(&inner), gone, remove };
        (inner, hold)
    }

    pub(crate) fn held(&self) -> Option<Arc<Held<T>>> {
        self.held.upgrade()
    }

    pub(crate) fn release_and_wait(self, timeout: Duration) -> Result<(), StillInUse> {
        let gone = Arc::clone(&self.gone);
        drop(self);
        gone.wait(timeout)
    }

    /// Leaves it there for as long as the registry lives.
    pub(crate) fn detach(mut self) {
        self.overlay = Weak::new();
    }
}

impl<T> Drop for Hold<T> {
    fn drop(&mut self) {
        (self.remove)(&self.overlay, &self.held);
    }
}

/// It was removed, but something still runs it or refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the resolver or observer is removed, but still in use; its code must not be unloaded yet")]
pub struct StillInUse;

/// What is in the overlay, or was and is still used by somebody who began before.
pub(crate) struct Held<T> {
    /// Dropped before `_gone` tells.
    pub(crate) value: T,
    _gone: TellGone,
}

/// Whether it has been dropped.
#[derive(Default)]
struct Gone {
    is_gone: Mutex<bool>,
    changed: Condvar,
}

impl Gone {
    fn wait(&self, timeout: Duration) -> Result<(), StillInUse> {
        let is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_gone, timeout, |is_gone| !*is_gone);
        let (is_gone, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_gone { Ok(()) } else { Err(StillInUse) }
    }
}

struct TellGone(Arc<Gone>);

impl Drop for TellGone {
    fn drop(&mut self) {
        *self.0.is_gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}
