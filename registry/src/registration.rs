//! The hold on a registered resolver.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::hold::{Held, Hold, StillInUse};
use crate::merged::Overlay;
use crate::resolver::Resolver;

/// A registered resolver, which unregisters when this is dropped.
///
/// It does not keep the registry alive: where that is gone already there is nothing left to do.
#[must_use = "the resolver is unregistered when its registration is dropped; call `.detach()` to keep it for good"]
pub struct Registration {
    hold: Hold<Resolver>,
}

/// A resolver that is registered, or was and is still run by somebody who began before.
pub(crate) type Registered = Held<Resolver>;

impl Registration {
    /// What goes into `overlay`, and the registration of it.
    pub(crate) fn new(resolver: Resolver, overlay: &Arc<Overlay>) -> (Arc<Registered>, Self) {
        let (registered, hold) = Hold::new(resolver, overlay, remove);
        (registered, Self { hold })
    }

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
        self.hold.release_and_wait(timeout)
    }

    /// Keeps the resolver for as long as the registry lives.
    pub fn detach(self) {
        self.hold.detach();
    }

    /// The resolver's name; `None` if the registry is gone.
    pub fn name(&self) -> Option<String> {
        self.hold.held().map(|registered| registered.value.name().to_owned())
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
