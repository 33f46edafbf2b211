//! What the macros expand to. Not for use by hand.

use std::marker::PhantomData;

pub use linkme;

pub use crate::context::Context;
pub use crate::error::BoxError;
pub use crate::link::{ListedOption, OPTIONS, RESOLVERS};
pub use crate::option::{DeclaredOption, OptionKind, Parser};
pub use crate::options::Options;
pub use crate::output::{ContextArgument, OptionsArgument, ResolverOutput};
pub use crate::pair::Pairs;
pub use crate::resolver::{IsFrameOption, LinkedResolver};

use crate::location::Location;
use crate::option::FrameOption;
use crate::value::FrameValue;

/// What `#[frame_resolver]` knows of its function.
#[allow(missing_debug_implementations)]
pub struct ResolverParts {
    pub name: &'static str,
    pub order: i32,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
    pub covers: &'static [&'static dyn IsFrameOption],
    pub run: fn(&Context<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
}

#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the macros make it for this call")]
pub const fn linked_resolver(parts: ResolverParts) -> LinkedResolver {
    let ResolverParts { name, order, module, file, line, covers, run } = parts;
    LinkedResolver { name, order, module, location: Location::new(file, line), covers, run }
}

/// What `#[frame_option]` knows of its static.
#[derive(Debug)]
pub struct OptionParts {
    pub name: &'static str,
    pub type_name: &'static str,
    pub kind: OptionKind,
    pub empty_is_unset: bool,
    pub doc: &'static str,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
    pub parser: Option<Parser>,
    pub covered_by: Option<&'static &'static LinkedResolver>,
}

#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the macros make it for this call")]
pub const fn frame_option<T: FrameValue>(parts: OptionParts) -> FrameOption<T> {
    let OptionParts { name, type_name, kind, empty_is_unset, doc, module, file, line, parser, covered_by } =
        parts;
    let location = Location::new(file, line);
    FrameOption::declare(DeclaredOption {
        name,
        kind,
        doc,
        module,
        location,
        type_name,
        empty_is_unset,
        parser,
        covered_by,
    })
}

#[must_use]
pub const fn listed_option<T>(
    option: &'static FrameOption<T>,
    file: &'static str,
    line: u32,
) -> ListedOption {
    ListedOption { option: option.declared(), location: Location::new(file, line) }
}

/// What a static under `#[frame_option]` has as its type.
#[diagnostic::on_unimplemented(
    message = "the type of a frame option is `FrameOption<T>`, not `{Self}`",
    label = "write `FrameOption<T>`, where `T` is the type of the option's values"
)]
pub trait IsDeclaration {
    /// `A`. In place of that of a type which is not a declaration, the compiler takes whatever fits, so that the
    /// missing trait stays the only error.
    type Same<A>;
}

impl<T> IsDeclaration for FrameOption<T> {
    type Same<A> = A;
}

/// Its argument, if `D` is the type of a declaration. One function for all that needs this, because the compiler
/// shows an error once only if the function that asks for the trait is the same, too.
#[must_use]
pub const fn checked<D, A>(value: A) -> D::Same<A>
where
    D: IsDeclaration<Same<A> = A>,
{
    value
}

/// Says at compile time whether the values of an option of type `D` can be read from text:
/// `DeclaredReader::<D>::PARSER` is the inherent constant where its bounds hold, and that of [`NoReader`] where they
/// do not, be it that `D` is not the type of an option at all.
#[derive(Debug)]
pub struct DeclaredReader<D>(PhantomData<D>);

pub trait NoReader {
    const PARSER: Option<Parser> = None;
}

impl<D> NoReader for DeclaredReader<D> {}

/// Emits the first part where the linker guards the wiring, and the second elsewhere. Decided here, for the crate that
/// expands the macro knows nothing of this crate's `cfg`s.
#[doc(hidden)]
#[macro_export]
#[cfg(link_guarded)]
macro_rules! __where_link_guarded {
    ({ $($guarded:tt)* } else { $($otherwise:tt)* }) => { $($guarded)* };
}

/// Emits the first part where the linker guards the wiring, and the second elsewhere.
#[doc(hidden)]
#[macro_export]
#[cfg(not(link_guarded))]
macro_rules! __where_link_guarded {
    ({ $($guarded:tt)* } else { $($otherwise:tt)* }) => { $($otherwise)* };
}

pub use crate::__where_link_guarded as where_link_guarded;
