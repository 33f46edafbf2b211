//! Resolvers: linked into the program, or registered while it runs.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location as Caller;
use std::sync::Arc;

use crate::app::ResolveContext;
use crate::error::BoxError;
use crate::location::Location;
use crate::option::{DeclaredOption, FrameOption, crate_of};
use crate::options::Options;
use crate::output::{IntoCause, IntoPairs, ResolverOutput};
use crate::pair::Pairs;
use crate::registration::Registered;
use crate::value::FrameValue;

/// A resolver to [`register`](crate::FrameResolvers::register) while the program runs.
///
/// ```
/// use frame_registry::{Key, Options, ResolveContext, Resolver};
/// use std::convert::Infallible;
///
/// static PLUGIN: Key<&str> = Key::new("plugin");
///
/// let resolver = Resolver::new("plugin", 300, |_: &ResolveContext<'_>, _: &Options| {
///     Ok::<_, Infallible>([PLUGIN.pair("loaded")])
/// });
/// ```
pub struct Resolver {
    name: Cow<'static, str>,
    order: i32,
    module: Option<&'static str>,
    location: Location,
    covers: Vec<&'static DeclaredOption>,
    run: Box<RunFn>,
}

type RunFn = dyn Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError> + Send + Sync;

impl Resolver {
    /// A resolver named `name` that runs as `order` says: the lowest first, ties in the order of names.
    #[track_caller]
    pub fn new<F, I, E>(name: impl Into<Cow<'static, str>>, order: i32, resolve: F) -> Self
    where
        F: Fn(&ResolveContext<'_>, &Options) -> Result<I, E> + Send + Sync + 'static,
        I: IntoPairs,
        E: IntoCause,
    {
        let caller = Caller::caller();
        Self {
            name: name.into(),
            order,
            module: None,
            location: Location::new(caller.file(), caller.line()),
            covers: Vec::new(),
            run: Box::new(move |ctx, options, pairs| resolve(ctx, options).append_to(pairs)),
        }
    }

    /// Declares that this resolver reads `option`, so that a call which sets it is not refused.
    #[must_use]
    pub fn covers<T: FrameValue>(mut self, option: &'static FrameOption<T>) -> Self {
        self.covers.push(option.declared());
        self
    }

    /// Says which module the resolver is from; usually `module_path!()`. Shown where resolvers are listed.
    #[must_use]
    pub fn in_module(mut self, module: &'static str) -> Self {
        self.module = Some(module);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn location(&self) -> Location {
        self.location
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, "Resolver", &self.name, self.order, self.location)
    }
}

/// A resolver that [`#[frame_resolver]`](macro@crate::frame_resolver) put into the program.
///
/// The layout is fixed, name and order first, so that a tool can read the table out of a program's file.
#[repr(C)]
pub struct LinkedResolver {
    pub(crate) name: &'static str,
    pub(crate) order: i32,
    pub(crate) name_hash: u32,
    pub(crate) module: &'static str,
    pub(crate) location: Location,
    pub(crate) covers: &'static [&'static dyn IsFrameOption],
    pub(crate) run: fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
}

impl fmt::Debug for LinkedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, "LinkedResolver", self.name, self.order, self.location)
    }
}

/// A static that `covers(…)` may name.
#[diagnostic::on_unimplemented(
    message = "`covers` takes frame options, and this is a `{Self}`",
    label = "not declared with `#[frame_option(name = \"…\")]`",
    note = "declare it with `#[frame_option(name = \"…\")] static NAME: FrameOption<T>;`, or leave it out of `covers(…)`"
)]
pub trait IsFrameOption: Sync {
    /// The declaration.
    fn declared(&'static self) -> &'static DeclaredOption;
}

impl<T> IsFrameOption for FrameOption<T> {
    fn declared(&'static self) -> &'static DeclaredOption {
        FrameOption::declared(self)
    }
}

/// An entry of the merged table.
#[derive(Clone)]
pub(crate) enum Entry {
    Linked(&'static LinkedResolver),
    Registered(Arc<Registered>),
}

impl Entry {
    pub(crate) fn is(&self, registered: &Registered) -> bool {
        matches!(self, Self::Registered(entry) if std::ptr::eq(Arc::as_ptr(entry), registered))
    }
}

/// What the resolve loop needs of a resolver: entries of the linked table and of the merged one alike.
pub(crate) trait Resolve {
    fn run(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) -> Result<(), BoxError>;
    fn covers(&self, option: &DeclaredOption) -> bool;
    fn describe(&self) -> ResolverInfo;
}

impl Resolve for &'static LinkedResolver {
    #[inline]
    fn run(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) -> Result<(), BoxError> {
        (self.run)(ctx, options, pairs)
    }

    fn covers(&self, option: &DeclaredOption) -> bool {
        self.covers.iter().any(|covered| covered.declared().is(option))
    }

    fn describe(&self) -> ResolverInfo {
        ResolverInfo { entry: Entry::Linked(self) }
    }
}

impl Resolve for Entry {
    #[inline]
    fn run(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) -> Result<(), BoxError> {
        match self {
            Self::Linked(resolver) => resolver.run(ctx, options, pairs),
            Self::Registered(entry) => (entry.value.run)(ctx, options, pairs),
        }
    }

    fn covers(&self, option: &DeclaredOption) -> bool {
        match self {
            Self::Linked(resolver) => resolver.covers(option),
            Self::Registered(entry) => entry.value.covers.iter().any(|covered| covered.is(option)),
        }
    }

    fn describe(&self) -> ResolverInfo {
        ResolverInfo { entry: self.clone() }
    }
}

/// Where a resolver comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is part of the program.
    Linked,
    /// It was registered while the program ran.
    Registered,
}

impl Origin {
    /// `linked` or `registered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Registered => "registered",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a resolver; see [`FrameResolvers::iter`](crate::FrameResolvers::iter).
#[derive(Clone)]
pub struct ResolverInfo {
    entry: Entry,
}

impl ResolverInfo {
    /// Its name, unique in its registry.
    pub fn name(&self) -> &str {
        match &self.entry {
            Entry::Linked(resolver) => resolver.name,
            Entry::Registered(entry) => entry.value.name(),
        }
    }

    /// Its order: the lowest runs first.
    pub fn order(&self) -> i32 {
        match &self.entry {
            Entry::Linked(resolver) => resolver.order,
            Entry::Registered(entry) => entry.value.order,
        }
    }

    /// The crate it is from. `None` for one that was registered without [`Resolver::in_module`].
    pub fn crate_name(&self) -> Option<&'static str> {
        self.module().map(crate_of)
    }

    /// The module it is from. `None` for one that was registered without [`Resolver::in_module`].
    pub fn module(&self) -> Option<&'static str> {
        match &self.entry {
            Entry::Linked(resolver) => Some(resolver.module),
            Entry::Registered(entry) => entry.value.module,
        }
    }

    /// Where its attribute stands, or where [`Resolver::new`] was called.
    pub fn location(&self) -> Location {
        match &self.entry {
            Entry::Linked(resolver) => resolver.location,
            Entry::Registered(entry) => entry.value.location,
        }
    }

    /// The options it covers.
    pub fn covers(&self) -> Vec<&'static DeclaredOption> {
        match &self.entry {
            Entry::Linked(resolver) => resolver.covers.iter().map(|option| option.declared()).collect(),
            Entry::Registered(entry) => entry.value.covers.clone(),
        }
    }

    /// Whether it covers `option`.
    pub(crate) fn is_covering(&self, option: &DeclaredOption) -> bool {
        self.entry.covers(option)
    }

    /// Whether it was linked or registered.
    pub fn origin(&self) -> Origin {
        match &self.entry {
            Entry::Linked(_) => Origin::Linked,
            Entry::Registered(_) => Origin::Registered,
        }
    }
}

impl fmt::Debug for ResolverInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, self.origin().as_str(), self.name(), self.order(), self.location())
    }
}

fn debug(f: &mut fmt::Formatter<'_>, kind: &str, name: &str, order: i32, location: Location) -> fmt::Result {
    let mut shown = f.debug_struct(kind);
    shown.field("name", &name).field("order", &order);
    shown.field("location", &format_args!("{location}")).finish_non_exhaustive()
}
