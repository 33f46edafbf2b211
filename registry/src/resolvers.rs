//! A registry of resolvers: the linked table, and what was registered over it.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::context::Context;
use crate::error::{BoxError, RegisterError, ResolveError, ResolveErrorKind, WiringError};
use crate::frame::Appending;
use crate::link::{Layout, LinkedTable};
use crate::merged::{Merged, Overlay};
use crate::observe::{Observation, ObserverFn, Resolution};
use crate::option::{DeclaredOption, OptionKind};
use crate::options::Options;
use crate::pair::Pairs;
use crate::publish::{Gate, Published};
use crate::registration::Registration;
use crate::resolver::{LinkedResolver, Resolve, Resolver, ResolverInfo};

/// The resolvers that decide what goes on a frame.
///
/// [`linked`](Self::linked) are those of the program, [`empty`](Self::empty) is none; both can be added to while
/// the program runs. An app carries one registry; several may live side by side. To drop it while resolvers are
/// registered, or while registrations are held, is fine.
///
/// A library opened with `dlopen` has a copy of this crate to itself, with a table of its own: what
/// [`linked`](Self::linked) gives there is the library's. Given a reference to a registry of its host, which has to be
/// of the same compiler and the same version of this crate, it can register and resolve there; before it is closed, see
/// [`Registration::unregister_and_wait`].
///
/// ```standalone_crate
/// use frame_registry::{App, Context, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair};
/// use frame_registry::{frame_option, frame_resolver};
/// use std::convert::Infallible;
///
/// #[frame_option(name = "region")]
/// static REGION: FrameOption<String>;
/// static REGION_OF: Key<String> = Key::new("region").inherit();
///
/// #[frame_resolver(order = 100, covers(REGION))]
/// fn region(_: &Context<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
///     Ok(options.pair(&REGION, &REGION_OF))
/// }
///
/// let mut app = App::builder();
/// app.set_resolvers(FrameResolvers::linked())?;
/// let app = app.build();
///
/// let options = Options::new().with(&REGION, "eu".to_owned());
/// let mut frame = FrameBuilder::new();
/// app.resolvers().resolve(&Context::new(&app, None), &options, frame.pairs_mut())?;
/// assert_eq!(frame.seal().get(&REGION_OF).unwrap(), "eu");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FrameResolvers {
    base: Base,
    image: &'static Image,
    gate: Gate,
    /// Made when something is registered for the first time; shared with the registrations.
    overlay: OnceLock<Arc<Overlay>>,
}

/// What is there before anything is registered.
#[derive(Debug, Clone, Copy)]
enum Base {
    Linked,
    Empty,
}

impl Base {
    fn resolvers(self) -> &'static [&'static LinkedResolver] {
        match self {
            Self::Linked => LinkedTable::get().resolvers(),
            Self::Empty => &[],
        }
    }

    /// The same, unless something is wrong with the program. The table is looked up once.
    #[inline]
    fn checked_resolvers(self) -> Result<&'static [&'static LinkedResolver], WiringError> {
        let Self::Linked = self else { return Ok(&[]) };
        let table = LinkedTable::get();
        match table.checked() {
            Ok(()) => Ok(table.resolvers()),
            Err(wrong) => Err(cloned(wrong)),
        }
    }

    #[inline]
    fn covers_by_link(self, option: &DeclaredOption) -> bool {
        match self {
            Self::Linked => LinkedTable::get().covers_by_link(option),
            Self::Empty => false,
        }
    }

    fn checked(self) -> Result<(), WiringError> {
        self.checked_resolvers().map(|_| ())
    }
}

/// The code of the image that made a registry: of the program, or of a library that it opened.
///
/// A library opened with `dlopen` has a copy of this crate to itself, with statics of its own: another table, and other
/// lists of who reads a snapshot. What touches these has to be the code that they belong to, whoever calls it.
struct Image {
    resolve: fn(&FrameResolvers, &Context<'_>, &Options, &mut Pairs) -> Result<(), ResolveError>,
    register: fn(&FrameResolvers, Resolver) -> Result<Registration, RegisterError>,
    observe: fn(&FrameResolvers, Box<ObserverFn>) -> Result<Observation, WiringError>,
    check: fn(&FrameResolvers) -> Result<(), WiringError>,
    list: fn(&FrameResolvers) -> Vec<ResolverInfo>,
    layout: fn() -> Layout,
}

static IMAGE: Image = Image {
    resolve: FrameResolvers::resolve_any,
    register: FrameResolvers::register_here,
    observe: FrameResolvers::observe_here,
    check: |resolvers| resolvers.base.checked(),
    list: FrameResolvers::list,
    layout: || LinkedTable::get().layout(),
};

#[cold]
fn cloned(wrong: &WiringError) -> WiringError {
    wrong.clone()
}

#[cold]
pub(crate) fn failed(resolver: &impl Resolve, source: BoxError) -> ResolveError {
    let failed = resolver.describe();
    ResolveError::new(ResolveErrorKind::Failed {
        resolver: failed.name().to_owned(),
        location: failed.location(),
        source,
    })
}

impl FrameResolvers {
    /// The resolvers linked into the program. Nothing happens here, so that it can be the value of a `static`:
    /// the first [`resolve`](Self::resolve) checks the table.
    #[must_use]
    pub const fn linked() -> Self {
        Self { base: Base::Linked, image: &IMAGE, gate: Gate::unknown(), overlay: OnceLock::new() }
    }

    /// No resolvers, whatever is linked: for tests and for sandboxes. Options are refused until a resolver that
    /// covers them is registered.
    #[must_use]
    pub const fn empty() -> Self {
        Self { base: Base::Empty, image: &IMAGE, gate: Gate::closed(), overlay: OnceLock::new() }
    }

    /// Runs every resolver in order and appends what they make to `pairs`.
    ///
    /// It allocates nothing itself, beyond what `pairs` needs to grow, and does not wait for those who register or
    /// unregister resolvers: it sees all of them as they were, or all as they are then. (Threads that are the first to
    /// use the program's table wait for the one of them that checks it.)
    ///
    /// # Errors
    ///
    /// [`ResolveErrorKind::NotCovered`] if an option is set that no resolver reads; [`ResolveErrorKind::Failed`] at the
    /// first resolver that fails; [`ResolveErrorKind::Wiring`] if the program has duplicates that the linker missed.
    /// Everything that was appended is dropped, the newest first, and `pairs` are as they were; the same goes for
    /// a resolver that panics.
    #[inline]
    pub fn resolve(
        &self,
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        // An option that is set needs a resolver, so an empty registry lets nothing but empty options through.
        // One number says both, so that this costs no more than the load, the compare and the branch.
        if self.gate.read() | options.len() == 0 {
            return Ok(());
        }
        (self.image.resolve)(self, ctx, options, pairs)
    }

    fn resolve_any(
        &self,
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        // Kept small: what is rare, and what needs room on the stack, has a function of its own.
        if let Some(overlay) = self.overlay.get() {
            return self.resolve_merged(overlay, ctx, options, pairs);
        }
        self.resolve_base(ctx, options, pairs)
    }

    #[inline(never)]
    fn resolve_merged(
        &self,
        overlay: &Overlay,
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        match &*overlay.load() {
            Some(merged) if merged.is_observed() => self.resolve_observed(merged, ctx, options, pairs),
            Some(merged) => {
                self.base.checked()?;
                self.run(&merged.entries, ctx, options, pairs)
            }
            None => self.resolve_base(ctx, options, pairs),
        }
    }

    // Both callers are of a few lines; outlined, it saves and restores all registers a second time.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn resolve_base(
        &self,
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        let base = self.base.checked_resolvers()?;
        if base.is_empty() {
            self.close_gate();
        }
        self.run(base, ctx, options, pairs)
    }

    #[inline]
    fn run<R: Resolve>(
        &self,
        resolvers: &[R],
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        if !options.is_empty() {
            self.refuse_uncovered(resolvers, options)?;
        }
        let mut appended = Appending::to(pairs);
        for resolver in resolvers {
            if let Err(source) = resolver.run(ctx, options, appended.pairs()) {
                return Err(failed(resolver, source));
            }
        }
        appended.keep();
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn resolve_observed(
        &self,
        merged: &Merged,
        ctx: &Context<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        let checked = || {
            self.base.checked()?;
            if options.is_empty() { Ok(()) } else { self.refuse_uncovered(&merged.entries, options) }
        };
        merged.resolve_observed(checked, ctx, options, pairs)
    }

    #[inline(never)]
    fn refuse_uncovered<R: Resolve>(&self, resolvers: &[R], options: &Options) -> Result<(), ResolveError> {
        // Whatever the resolvers are, two options of one name are not told apart.
        if let Err(wrong @ WiringError::DuplicateOption { .. }) = LinkedTable::get().checked() {
            return Err(cloned(wrong).into());
        }
        for option in options.iter() {
            if !self.covers(resolvers, option) {
                let (option, location) = (option.name, option.location);
                return Err(ResolveError::new(ResolveErrorKind::NotCovered { option, location }));
            }
        }
        Ok(())
    }

    #[inline]
    fn covers<R: Resolve>(&self, resolvers: &[R], option: &DeclaredOption) -> bool {
        option.kind == OptionKind::Plain
            || self.base.covers_by_link(option)
            || resolvers.iter().any(|resolver| resolver.covers(option))
    }

    /// Whether the program is put together rightly, which is otherwise found at the first use.
    ///
    /// # Errors
    ///
    /// [`WiringError`], which every other use of the registry gives, too.
    pub fn check(&self) -> Result<(), WiringError> {
        (self.image.check)(self)
    }

    #[cold]
    fn close_gate(&self) {
        match self.overlay.get() {
            Some(overlay) => overlay.close_if_nothing(&self.gate),
            None => self.gate.close_if_unknown(),
        }
    }

    fn overlay(&self) -> &Arc<Overlay> {
        self.overlay.get_or_init(|| Arc::new(Published::nothing()))
    }

    /// Adds a resolver, until the registration is dropped or [unregistered](Registration::unregister), or for
    /// good if it is [detached](Registration::detach).
    ///
    /// Every `resolve` that begins after this returned runs it. Threads that register at once wait for each
    /// other; those that resolve do not.
    ///
    /// # Errors
    ///
    /// [`RegisterError::EmptyName`], [`RegisterError::DuplicateName`] if a resolver of this registry has the
    /// name, linked or registered, and [`RegisterError::Wiring`] if the program has duplicates that the linker
    /// missed. The registry is then as it was.
    pub fn register(&self, resolver: Resolver) -> Result<Registration, RegisterError> {
        (self.image.register)(self, resolver)
    }

    fn register_here(&self, resolver: Resolver) -> Result<Registration, RegisterError> {
        self.base.checked()?;
        if resolver.name().is_empty() {
            return Err(RegisterError::EmptyName { location: resolver.location() });
        }
        let (added, registration) = Registration::new(resolver, self.overlay());
        // Where it is refused it is dropped here, and not under the lock: its destructor may use the registry.
        let _outlives_the_lock = Arc::clone(&added);
        self.overlay().add(&self.gate, |merged| self.merged(merged).with(added))?;
        Ok(registration)
    }

    /// A copy of what is published, to change.
    fn merged(&self, published: Option<&Merged>) -> Merged {
        published.map_or_else(|| Merged::of(self.base.resolvers()), Merged::clone)
    }

    /// Tells `observer` of every [`resolve`](Self::resolve) that begins from now on, whoever calls it, also of one that
    /// fails or panics, until the observation is dropped or [stopped](Observation::stop), or for good if it is
    /// [detached](Observation::detach).
    ///
    /// It is called at the end of the resolve, on its thread, before what a failed one appended is dropped; where there
    /// are several, in the order they came. No lock is held: it may register, observe and stop observing. It keeps the
    /// resolve waiting, so it should be quick about it.
    ///
    /// An observer cannot break a resolve. If it panics, the panic hook reports that, and the resolve and the other
    /// observers go on. What an observer itself resolves, in this registry or another, no observer is told of, or there
    /// would be no end of it. In a program whose panics abort nobody is told of one.
    ///
    /// While nobody observes, a resolve pays nothing for this where nothing is registered, and one compare where something
    /// is.
    ///
    /// ```
    /// use frame_registry::{App, Context, FrameResolvers, Key, Options, Pairs, Resolution, Resolver};
    /// use std::convert::Infallible;
    /// use std::sync::{Arc, Mutex};
    ///
    /// static REGION: Key<&str> = Key::new("region");
    ///
    /// let resolvers = FrameResolvers::empty();
    /// let _region = resolvers.register(Resolver::new("region", 100, |_: &Context<'_>, _: &Options| {
    ///     Ok::<_, Infallible>([REGION.pair("eu")])
    /// }))?;
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let seen_by_observer = Arc::clone(&seen);
    /// let observation = resolvers.observe(move |resolution: &Resolution<'_>| {
    ///     for step in resolution.steps() {
    ///         let made: Vec<_> = step.pairs().map(|pair| format!("{pair:?}")).collect();
    ///         seen_by_observer.lock().unwrap().push(format!("{}: {}", step.resolver().name(), made.join(", ")));
    ///     }
    /// })?;
    ///
    /// let app = App::builder().build();
    /// resolvers.resolve(&Context::new(&app, None), &Options::new(), &mut Pairs::new())?;
    /// observation.stop();
    /// resolvers.resolve(&Context::new(&app, None), &Options::new(), &mut Pairs::new())?;
    /// assert_eq!(*seen.lock().unwrap(), [r#"region: Pair("region", "eu")"#]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`WiringError`] if the program has duplicates that the linker missed, so that nothing is ever resolved.
    pub fn observe<F>(&self, observer: F) -> Result<Observation, WiringError>
    where
        F: Fn(&Resolution<'_>) + Send + Sync + 'static,
    {
        (self.image.observe)(self, Box::new(observer))
    }

    fn observe_here(&self, observer: Box<ObserverFn>) -> Result<Observation, WiringError> {
        self.base.checked()?;
        let (added, observation) = Observation::new(observer, self.overlay());
        let Ok(()) = self
            .overlay()
            .add(&self.gate, |merged| Ok::<_, Infallible>(self.merged(merged).observed_by(added)));
        Ok(observation)
    }

    /// The resolvers in the order they run, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = ResolverInfo> + use<> {
        (self.image.list)(self).into_iter()
    }

    fn list(&self) -> Vec<ResolverInfo> {
        let merged = self.overlay.get().and_then(|overlay| overlay.load().clone());
        match merged {
            Some(merged) => merged.entries.iter().map(Resolve::describe).collect(),
            None => self.base.resolvers().iter().map(Resolve::describe).collect(),
        }
    }

    /// How the program's table came into order.
    pub fn layout(&self) -> Layout {
        (self.image.layout)()
    }
}

impl Default for FrameResolvers {
    /// [`FrameResolvers::linked`].
    fn default() -> Self {
        Self::linked()
    }
}

impl fmt::Debug for FrameResolvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameResolvers ")?;
        f.debug_list().entries(self.iter()).finish()
    }
}
