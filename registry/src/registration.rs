//! The hold on a registered resolver.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::resolver::Resolver;
use crate::resolvers::Overlay;

/// A registered resolver, which unregisters when this is dropped.
///
/// It does not keep the registry alive: where that is gone already there is nothing left to do.
#[must_use = "the resolver is unregistered when its registration is dropped; call `.detach()` to keep it for good"]
pub struct Registration {
    overlay: Weak<Overlay>,
    resolver: Weak<Registered>,
    gone: Arc<Gone>,
    /// Of the image that the registry is of, see `Image`.
    remove: fn(&Weak<Overlay>, &Weak<Registered>),
}

impl Registration {
    /// Removes the resolver: a `resolve` that begins after this returned does not run it.
    ///
    /// One that has begun before may still be running it. Who is about to unload the resolver's code calls
    /// [`unregister_and_wait`](Self::unregister_and_wait).
    pub fn unregister(self) {
        drop(self);
    }

    /// Removes the resolver and waits until nothing can run it any more and it is dropped: what there is to wait for
    /// before its code is unloaded.
    ///
    /// A [`ResolverInfo`](crate::ResolverInfo) of it counts as a user. Called from within the resolver itself, it
    /// can only time out.
    ///
    /// What came out of the resolver is not waited for. Pairs of keys that the code declares, and so the frames that
    /// carry them, options that it declares, and errors that it made all point into it: whoever unloads it has seen to it
    /// that they are gone. Both sides use one allocator, as they do unless one of them declares a `#[global_allocator]`.
    ///
    /// # Errors
    ///
    /// [`StillInUse`] if that takes longer than `timeout`. The resolver is removed, but its code must stay.
    pub fn unregister_and_wait(self, timeout: Duration) -> Result<(), StillInUse> {
        let gone = Arc::clone(&self.gone);
        drop(self);
        gone.wait(timeout)
    }

    /// Keeps the resolver for as long as the registry lives.
    pub fn detach(mut self) {
        self.overlay = Weak::new();
    }

    /// The resolver's name; `None` if the registry is gone.
    pub fn name(&self) -> Option<String> {
        self.resolver.upgrade().map(|registered| registered.resolver.name().to_owned())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        (self.remove)(&self.overlay, &self.resolver);
    }
}

fn remove(overlay: &Weak<Overlay>, resolver: &Weak<Registered>) {
    if let (Some(overlay), Some(resolver)) = (overlay.upgrade(), resolver.upgrade()) {
        overlay.remove(|merged| merged.without(&resolver));
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.name()).finish()
    }
}

/// A resolver was unregistered, but something still runs it or refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the resolver is unregistered, but still in use; its code must not be unloaded yet")]
pub struct StillInUse;

/// A resolver that is registered, or was and is still run by somebody who began before.
pub(crate) struct Registered {
    /// Dropped before `_gone` tells.
    pub(crate) resolver: Resolver,
    _gone: TellGone,
}

impl Registered {
    pub(crate) fn new(resolver: Resolver, overlay: &Arc<Overlay>) -> (Arc<Self>, Registration) {
        let gone = Arc::new(Gone::default());
        let registered = Arc::new(Self { resolver, _gone: TellGone(Arc::clone(&gone)) });
        let registration = Registration {
            overlay: Arc::downgrade(overlay),
            resolver: Arc::downgrade(&registered),
            gone,
            remove,
        };
        (registered, registration)
    }
}

/// Whether a resolver has been dropped.
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
