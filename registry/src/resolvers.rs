//! A registry of resolvers: the linked table, and what was registered over it.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::app::ResolveContext;
use crate::error::{BoxError, RegisterError, ResolveError, ResolveErrorKind, WiringError};
use crate::frame::Appending;
use crate::link::{Layout, LinkedTable};
use crate::merged::{Merged, Overlay};
use crate::observe::{Observation, ObserverFn, Resolution};
use crate::option::OptionKind;
use crate::options::Options;
use crate::pair::Pairs;
use crate::publish::{Gate, Published, Rest};
use crate::registration::Registration;
use crate::resolver::{Entry, LinkedResolver, Resolve, Resolver, ResolverInfo};

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
/// use frame_registry::{App, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext};
/// use frame_registry::{frame_option, frame_resolver};
/// use std::convert::Infallible;
///
/// #[frame_option(name = "region")]
/// static REGION: FrameOption<String>;
/// static REGION_OF: Key<String> = Key::new("region").inherit();
///
/// #[frame_resolver(order = 100, covers(REGION))]
/// fn region(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
///     Ok(options.pair(&REGION, &REGION_OF))
/// }
///
/// let mut app = App::builder();
/// app.set_resolvers(FrameResolvers::linked())?;
/// let app = app.build();
///
/// let options = Options::new().with(&REGION, "eu".to_owned());
/// let mut frame = FrameBuilder::new();
/// app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
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

    fn checked(self) -> Result<(), WiringError> {
        match self {
            Self::Linked => LinkedTable::get().checked(),
            Self::Empty => LinkedTable::get().declarations_checked(),
        }
        .map_err(WiringError::clone)
    }
}

/// The code of the image that made a registry: of the program, or of a library that it opened.
///
/// A library opened with `dlopen` has a copy of this crate to itself, with statics of its own: another table, and other
/// lists of who reads a snapshot. What touches these has to be the code that they belong to, whoever calls it.
struct Image {
    /// What a resolve does, by the state of the gate.
    resolve: [ResolveFn; Gate::STATES],
    register: fn(&FrameResolvers, Resolver) -> Result<Registration, RegisterError>,
    observe: fn(&FrameResolvers, Box<ObserverFn>) -> Result<Observation, WiringError>,
    check: fn(&FrameResolvers) -> Result<(), WiringError>,
    list: fn(&FrameResolvers) -> Vec<ResolverInfo>,
    layout: fn() -> Layout,
}

type ResolveFn = fn(&FrameResolvers, &ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), ResolveError>;

static IMAGE: Image = Image {
    resolve: {
        let mut by_state: [ResolveFn; Gate::STATES] = [FrameResolvers::resolve_unknown; Gate::STATES];
        by_state[Gate::CLOSED as usize] = FrameResolvers::resolve_nothing;
        by_state[Gate::BASE as usize] = FrameResolvers::resolve_base;
        by_state[Gate::OPEN as usize] = FrameResolvers::resolve_open;
        by_state
    },
    register: FrameResolvers::register_here,
    observe: FrameResolvers::observe_here,
    check: |resolvers| resolvers.base.checked(),
    list: FrameResolvers::list,
    layout: || LinkedTable::get().layout(),
};

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
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        // An option that is set needs a resolver, so an empty registry lets nothing but empty options through.
        // One number says both, so that this costs no more than the load, the compare and the branch.
        if self.gate.read() | options.count() == 0 {
            return Ok(());
        }
        // Read again: to keep the number would be one instruction more on the path above.
        let state = self.gate.read() as usize % Gate::STATES;
        (self.image.resolve[state])(self, ctx, options, pairs)
    }

    /// The gate is closed: there is nothing to run, but an option may be set.
    fn resolve_nothing(
        _: &Self,
        _: &ResolveContext<'_>,
        options: &Options,
        _: &mut Pairs,
    ) -> Result<(), ResolveError> {
        refuse_uncovered::<&LinkedResolver>(&[], options)
    }

    /// The table was checked, and nothing is registered.
    fn resolve_base(
        _: &Self,
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        let table = LinkedTable::get();
        if !table.covers_all_by_link(options) {
            refuse_uncovered(table.resolvers(), options)?;
        }
        run_base(table.resolvers(), ctx, options, pairs)
    }

    /// Something may be registered.
    fn resolve_open(
        &self,
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        // The gate is opened by what makes the overlay.
        let Some(overlay) = self.overlay.get() else { return self.resolve_unknown(ctx, options, pairs) };
        match &**overlay.load() {
            Some(merged) if merged.is_observed() => self.resolve_observed(merged, ctx, options, pairs),
            Some(merged) => {
                self.refuse_uncovered_over_base(merged, options)?;
                run_merged(&merged.entries, ctx, options, pairs)
            }
            None => self.resolve_unknown(ctx, options, pairs),
        }
    }

    /// Nothing is registered, or not any more, and the gate does not say so yet.
    #[cold]
    fn resolve_unknown(
        &self,
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        self.base.checked()?;
        let resolvers = self.base.resolvers();
        let rest = if resolvers.is_empty() { Rest::Closed } else { Rest::Base };
        match self.overlay.get() {
            Some(overlay) => overlay.rest_if_nothing(&self.gate, rest),
            None => self.gate.rest_if_unknown(rest),
        }
        refuse_uncovered(resolvers, options)?;
        run_base(resolvers, ctx, options, pairs)
    }

    /// Refuses an option that no resolver covers, of the base or registered over it. The base was checked before
    /// anything was registered over it.
    #[inline]
    fn refuse_uncovered_over_base(&self, merged: &Merged, options: &Options) -> Result<(), ResolveError> {
        let covers_all = options.is_empty()
            || matches!(self.base, Base::Linked) && LinkedTable::get().covers_all_by_link(options);
        if covers_all { Ok(()) } else { refuse_uncovered(&merged.entries, options) }
    }

    #[cold]
    #[inline(never)]
    fn resolve_observed(
        &self,
        merged: &Merged,
        ctx: &ResolveContext<'_>,
        options: &Options,
        pairs: &mut Pairs,
    ) -> Result<(), ResolveError> {
        let checked = || self.refuse_uncovered_over_base(merged, options);
        merged.resolve_observed(checked, ctx, options, pairs)
    }

    /// Whether the program is put together rightly, which is otherwise found at the first use.
    ///
    /// # Errors
    ///
    /// [`WiringError`], which every other use of the registry gives, too.
    pub fn check(&self) -> Result<(), WiringError> {
        (self.image.check)(self)
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
    /// use frame_registry::{App, FrameResolvers, Key, Options, Pairs, Resolution, ResolveContext, Resolver};
    /// use std::convert::Infallible;
    /// use std::sync::{Arc, Mutex};
    ///
    /// static REGION: Key<&str> = Key::new("region");
    ///
    /// let resolvers = FrameResolvers::empty();
    /// let _region = resolvers.register(Resolver::new("region", 100, |_: &ResolveContext<'_>, _: &Options| {
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
    /// resolvers.resolve(&ResolveContext::new(&app, None), &Options::new(), &mut Pairs::new())?;
    /// observation.stop();
    /// resolvers.resolve(&ResolveContext::new(&app, None), &Options::new(), &mut Pairs::new())?;
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
        if let Some(overlay) = self.overlay.get()
            && let Some(merged) = &**overlay.load()
        {
            return merged.entries.iter().map(Resolve::describe).collect();
        }
        self.base.resolvers().iter().map(Resolve::describe).collect()
    }

    /// How the program's table came into order.
    pub fn layout(&self) -> Layout {
        (self.image.layout)()
    }
}

/// Runs `resolvers` in order. What they appended is dropped if one fails or panics.
#[inline]
fn run_base(
    resolvers: &[&'static LinkedResolver],
    ctx: &ResolveContext<'_>,
    options: &Options,
    pairs: &mut Pairs,
) -> Result<(), ResolveError> {
    let mut appended = Appending::to(pairs);
    // By index, for which the compiler keeps a register less than for an iterator.
    let mut index = 0;
    while let Some(resolver) = resolvers.get(index) {
        if let Err(source) = resolver.run(ctx, options, appended.pairs()) {
            return Err(failed_at(resolvers, index, source, appended));
        }
        index += 1;
    }
    appended.keep();
    Ok(())
}

/// Takes an index so that the loop need not keep the resolver.
#[cold]
#[inline(never)]
fn failed_at(
    resolvers: &[&'static LinkedResolver],
    index: usize,
    source: BoxError,
    appended: Appending<'_>,
) -> ResolveError {
    failed_and_undone(&resolvers[index], source, appended)
}

#[cold]
#[inline(never)]
fn failed_and_undone(resolver: &impl Resolve, source: BoxError, appended: Appending<'_>) -> ResolveError {
    let error = failed(resolver, source);
    appended.undo();
    error
}

/// As [`run_base`].
#[inline]
fn run_merged(
    entries: &[Entry],
    ctx: &ResolveContext<'_>,
    options: &Options,
    pairs: &mut Pairs,
) -> Result<(), ResolveError> {
    let mut appended = Appending::to(pairs);
    for entry in entries {
        if let Err(source) = entry.run(ctx, options, appended.pairs()) {
            return Err(failed_and_undone(entry, source, appended));
        }
    }
    appended.keep();
    Ok(())
}

/// Refuses the options if one is set that none of `resolvers` covers.
#[inline(never)]
fn refuse_uncovered<R: Resolve>(resolvers: &[R], options: &Options) -> Result<(), ResolveError> {
    if options.is_empty() {
        return Ok(());
    }
    // Whatever the resolvers are, also if none is linked: two options of one name are not told apart.
    LinkedTable::get().declarations_checked().map_err(WiringError::clone)?;
    let mut uncovered = options.iter().filter(|option| {
        option.kind != OptionKind::Dispatcher && !resolvers.iter().any(|resolver| resolver.covers(option))
    });
    match uncovered.next() {
        None => Ok(()),
        Some(option) => {
            let (option, location) = (option.name, option.location);
            Err(ResolveError::new(ResolveErrorKind::NotCovered { option, location }))
        }
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
