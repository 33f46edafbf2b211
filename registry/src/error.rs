//! Why a frame was not resolved, or a resolver not registered.

use std::error::Error;
use std::fmt;

use crate::link::LinkedTable;
use crate::location::Location;

/// The cause of a resolver's failure.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A frame's context could not be resolved, so the unit that the frame was for must not start.
///
/// One word, so that a caller tests a register for `Ok`. [`kind`](Self::kind) says what went wrong.
///
/// ```
/// use frame_registry::{App, FrameResolvers, Options, Pairs, ResolveContext, ResolveErrorKind, Resolver};
///
/// let app = App::builder().build();
/// let _registration = app.resolvers().register(Resolver::new("broken", 1, |_: &ResolveContext<'_>, _: &Options| {
///     Err::<[_; 0], _>("out of order")
/// }))?;
///
/// let resolved = app.resolvers().resolve(&ResolveContext::new(&app, None), &Options::new(), &mut Pairs::new());
/// let error = resolved.unwrap_err();
/// let ResolveErrorKind::Failed { resolver, source, .. } = error.kind() else { unreachable!() };
/// assert_eq!(resolver, "broken");
/// assert_eq!(source.to_string(), "out of order");
/// # Ok::<(), frame_registry::RegisterError>(())
/// ```
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct ResolveError(Box<ResolveErrorKind>);

impl ResolveError {
    #[cold]
    pub(crate) fn new(kind: ResolveErrorKind) -> Self {
        Self(Box::new(kind))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ResolveErrorKind {
        &self.0
    }
}

impl fmt::Debug for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<WiringError> for ResolveError {
    fn from(wrong: WiringError) -> Self {
        Self::new(wrong.into())
    }
}

/// What went wrong in a resolve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveErrorKind {
    /// A resolver failed; those after it did not run.
    #[error("frame resolver `{resolver}` ({location}) failed")]
    Failed {
        /// Its name.
        resolver: String,
        /// Where it is defined.
        location: Location,
        /// Why it failed.
        source: BoxError,
    },
    /// An option is set that no resolver of this registry reads, so that ignoring it could let something through
    /// that the option was to stop.
    #[error(
        "option `{option}` (declared at {location}) is set, but no resolver of this registry covers it; {}",
        remedy(option)
    )]
    NotCovered {
        /// The option's name.
        option: &'static str,
        /// Where it is declared.
        location: Location,
    },
    /// The program is put together wrongly, and the linker missed it.
    #[error("the program's resolvers are wired wrongly")]
    Wiring(#[from] WiringError),
}

/// What to do where no resolver of a registry covers the option of this name. If a linked one does, the registry is not
/// that of the program: the app was not given it.
fn remedy(option: &str) -> &'static str {
    let mut linked = LinkedTable::get().resolvers().iter().flat_map(|resolver| resolver.covers);
    if linked.any(|covered| covered.declared().name == option) {
        "a linked resolver does, so give the app those: `builder.set_resolvers(FrameResolvers::linked())`"
    } else {
        "register one with `.covers(…)`, or do not set the option"
    }
}

/// The program is put together wrongly.
///
/// The linker refuses duplicates, except under thin LTO, where it is told to allow them, and on platforms without
/// link-time guards; there they are found at the first use, and at every use after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WiringError {
    /// Two resolvers have one name.
    #[error(
        "frame resolver `{name}` is registered twice, at {first} and at {second}; give one of them another `name`"
    )]
    DuplicateResolver {
        /// The name.
        name: &'static str,
        /// One place.
        first: Location,
        /// The other.
        second: Location,
    },
    /// Two keys have one wire name.
    #[error(
        "frame key `{name}` is declared twice, at {first} and at {second}; give one of them another `name`"
    )]
    DuplicateKey {
        /// The name.
        name: &'static str,
        /// One place.
        first: Location,
        /// The other.
        second: Location,
    },
    /// Two options have one name.
    #[error(
        "frame option `{name}` is declared twice, at {first} and at {second}; give one of them another `name`"
    )]
    DuplicateOption {
        /// The name.
        name: &'static str,
        /// One place.
        first: Location,
        /// The other.
        second: Location,
    },
    /// Two linked resolvers cover one option, so that the pairs of one would hide those of the other.
    #[error(
        "frame option `{option}` is covered by two resolvers, `{}` at {first} and `{}` at {second}; \
         remove it from the `covers(…)` of one of them",
        resolvers[0],
        resolvers[1]
    )]
    DuplicateCover {
        /// The option's name.
        option: &'static str,
        /// The names of the resolvers.
        resolvers: [&'static str; 2],
        /// Where the first of them is.
        first: Location,
        /// Where the second of them is.
        second: Location,
    },
}

/// A resolver was not registered; the registry is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A resolver without a name could not be told from others.
    #[error("the resolver defined at {location} has an empty name; give it one")]
    EmptyName {
        /// Where the resolver is defined.
        location: Location,
    },
    /// The name is taken.
    #[error(
        "a frame resolver `{name}` exists already, from {existing}; give the new one another name, or unregister the other first"
    )]
    DuplicateName {
        /// The name.
        name: String,
        /// Where the resolver that has the name is defined.
        existing: Location,
    },
    /// The program is put together wrongly, and the linker missed it.
    #[error("the program's resolvers are wired wrongly")]
    Wiring(#[from] WiringError),
}
