//! Observing what resolves do: who asks for it, and what is told.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::app::ResolveContext;
use crate::error::ResolveError;
use crate::frame::Appending;
use crate::hold::{Held, Hold, StillInUse};
use crate::merged::{Merged, Overlay};
use crate::option::DeclaredOption;
use crate::options::Options;
use crate::pair::{Pair, Pairs};
use crate::resolver::{Entry, Resolve, ResolverInfo};
use crate::resolvers::failed;

/// An observer of a registry, which observes no more when this is dropped.
///
/// See [`FrameResolvers::observe`](crate::FrameResolvers::observe). It does not keep the registry alive: where that is
/// gone already there is nothing left to do.
#[must_use = "the observer is removed when its observation is dropped; call `.detach()` to keep it for good"]
pub struct Observation {
    hold: Hold<Box<ObserverFn>>,
}

pub(crate) type ObserverFn = dyn Fn(&Resolution<'_>) + Send + Sync;

/// An observer that is there, or was and is still told by somebody who began before.
pub(crate) type Observing = Held<Box<ObserverFn>>;

impl Observation {
    /// What goes into `overlay`, and the hold on it.
    pub(crate) fn new(observer: Box<ObserverFn>, overlay: &Arc<Overlay>) -> (Arc<Observing>, Self) {
        let (observing, hold) = Hold::new(observer, overlay, remove);
        (observing, Self { hold })
    }

    /// Removes the observer: it is not told of a `resolve` that begins after this returned.
    ///
    /// Of one that has begun before it may still be told. Who is about to unload the observer's code calls
    /// [`stop_and_wait`](Self::stop_and_wait).
    pub fn stop(self) {
        drop(self);
    }

    /// Removes the observer and waits until nothing can call it any more and it is dropped. Called from within the
    /// observer itself, or from a resolver, it can only time out.
    ///
    /// # Errors
    ///
    /// [`StillInUse`] if that takes longer than `timeout`. The observer is removed, but its code must stay.
    pub fn stop_and_wait(self, timeout: Duration) -> Result<(), StillInUse> {
        self.hold.release_and_wait(timeout)
    }

    /// Keeps the observer for as long as the registry lives.
    pub fn detach(self) {
        self.hold.detach();
    }
}

fn remove(overlay: &Weak<Overlay>, observer: &Weak<Observing>) {
    if let (Some(overlay), Some(observer)) = (overlay.upgrade(), observer.upgrade()) {
        overlay.remove(|merged| merged.unobserved_by(&observer));
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").finish_non_exhaustive()
    }
}

/// What one `resolve` did, as its [observers](crate::FrameResolvers::observe) are told.
#[derive(Clone, Copy)]
pub struct Resolution<'a> {
    ctx: &'a ResolveContext<'a>,
    options: &'a Options,
    pairs: &'a Pairs,
    before: usize,
    ran: &'a [Ran],
    outcome: Outcome<'a>,
    took: Duration,
}

impl<'a> Resolution<'a> {
    /// What the resolvers could read: the app, and the frame of the unit that spawns.
    pub const fn context(&self) -> &'a ResolveContext<'a> {
        self.ctx
    }

    /// The options that were set.
    pub const fn options(&self) -> &'a Options {
        self.options
    }

    /// The pairs that were there before: what a fork inherited, and what whoever spawns put there.
    pub fn before(&self) -> impl Iterator<Item = &'a Pair> + Clone + use<'a> {
        self.pairs.iter().take(self.before)
    }

    /// What each resolver did that ran, in the order they ran. Where a resolver failed or panicked it is the last.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = Step<'a>> + DoubleEndedIterator + Clone + use<'a> {
        let (options, pairs) = (self.options, self.pairs);
        self.ran.iter().map(move |ran| Step { ran, options, pairs })
    }

    /// How it ended.
    pub const fn outcome(&self) -> Outcome<'a> {
        self.outcome
    }

    /// How long it took, observing included, without what observers do when they are told.
    pub const fn took(&self) -> Duration {
        self.took
    }
}

impl fmt::Debug for Resolution<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolution")
            .field("options", self.options)
            .field("before", &self.before().collect::<Vec<_>>())
            .field("steps", &self.steps().collect::<Vec<_>>())
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// What one resolver did in a [`Resolution`].
#[derive(Clone, Copy)]
pub struct Step<'a> {
    ran: &'a Ran,
    options: &'a Options,
    pairs: &'a Pairs,
}

impl<'a> Step<'a> {
    /// The resolver.
    pub const fn resolver(&self) -> &'a ResolverInfo {
        &self.ran.resolver
    }

    /// Of the options that were set those that it covers.
    pub fn covers(&self) -> impl Iterator<Item = &'static DeclaredOption> + use<'a> {
        let resolver = &self.ran.resolver;
        self.options.iter().filter(move |option| resolver.is_covering(option))
    }

    /// The pairs that it appended. Those of a resolver that panicked while they were taken from it are dropped, as
    /// are all of a resolve that did not succeed, but not before this is told.
    pub fn pairs(&self) -> impl Iterator<Item = &'a Pair> + Clone + use<'a> {
        let Range { start, end } = self.ran.appended;
        self.pairs.iter().take(end).skip(start)
    }

    /// How long it took.
    pub const fn took(&self) -> Duration {
        self.ran.took
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("resolver", &self.resolver().name())
            .field("pairs", &self.pairs().collect::<Vec<_>>())
            .field("took", &self.took())
            .finish_non_exhaustive()
    }
}

/// How a `resolve` ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The pairs were appended.
    Resolved,
    /// It was refused, by the last of the [steps](Resolution::steps), or before any ran. What was appended is dropped.
    Refused(&'a ResolveError),
    /// The last of the steps panicked, with this message if it is text. What was appended is dropped, and the panic goes
    /// on to the caller of `resolve`.
    Panicked(Option<&'a str>),
}

/// A resolver that ran, and which of the pairs are its.
struct Ran {
    resolver: ResolverInfo,
    appended: Range<usize>,
    took: Duration,
}

/// How the resolvers ended.
enum End {
    Resolved,
    Refused(ResolveError),
    Panicked(Box<dyn Any + Send>),
}

impl End {
    fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Resolved => Outcome::Resolved,
            Self::Refused(error) => Outcome::Refused(error),
            Self::Panicked(panic) => {
                let message = panic.downcast_ref::<&str>().copied();
                Outcome::Panicked(message.or_else(|| panic.downcast_ref().map(String::as_str)))
            }
        }
    }
}

impl Merged {
    /// Whether somebody is to be told of a resolve that begins now, on this thread.
    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        !self.observers.is_empty() && !is_telling()
    }

    /// Does what a resolve does that nobody observes, and tells the observers. `checked` is whether the options are
    /// covered.
    #[cold]
    pub(crate) fn resolve_observed(
        &self,
        checked: impl FnOnce() -> Result<(), ResolveError>,
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        let (begun, before) = (Instant::now(), pairs.len());
        let mut appended = Appending::to(pairs);
        let mut ran = Vec::with_capacity(self.entries.len());
        let end = match checked() {
            Ok(()) => run(&self.entries, ctx, options, appended.pairs(), &mut ran),
            Err(refused) => End::Refused(refused),
        };
        let (took, outcome, ran) = (begun.elapsed(), end.outcome(), &ran[..]);
        let pairs = &*appended.pairs();
        tell(&self.observers, &Resolution { ctx, options, pairs, before, ran, outcome, took });
        match end {
            End::Resolved => {
                appended.keep();
                Ok(())
            }
            End::Refused(error) => {
                appended.undo();
                Err(error)
            }
            End::Panicked(panic) => resume_unwind(panic),
        }
    }
}

/// Runs the resolvers up to the first that does not succeed.
fn run(
    entries: &[Entry],
    ctx: &ResolveContext<'_>,
    options: &Options,
    pairs: &mut Pairs,
    ran: &mut Vec<Ran>,
) -> End {
    for entry in entries {
        let (begun, start) = (Instant::now(), pairs.len());
        // Nothing is looked at that a panic could have left half done: it goes on when it was told of, and the pairs are
        // dropped as it does.
        let ended = catch_unwind(AssertUnwindSafe(|| entry.run(ctx, options, pairs)));
        let took = begun.elapsed();
        ran.push(Ran { resolver: entry.describe(), appended: start..pairs.len(), took });
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return End::Refused(failed(entry, source)),
            Err(panic) => return End::Panicked(panic),
        }
    }
    End::Resolved
}

thread_local! {
    /// Whether this thread runs an observer. What that resolves is not told to observers, or there would be no end of it.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

#[cold]
#[inline(never)]
fn is_telling() -> bool {
    IS_TELLING.get()
}

/// Tells all of them, whatever one of them does.
fn tell(observers: &[Arc<Observing>], resolution: &Resolution<'_>) {
    IS_TELLING.set(true);
    for observer in observers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (observer.value)(resolution))) {
            // The panic hook has reported it. Dropping what was thrown could panic again.
            std::mem::forget(panic);
        }
    }
    IS_TELLING.set(false);
}
