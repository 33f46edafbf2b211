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
use crate::option::{FrameOption, type_name_of};
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
pub const fn linked_resolver(parts: ResolverParts) -> LinkedResolver {
    let ResolverParts { name, order, module, file, line, covers, run } = parts;
    LinkedResolver { name, order, module, location: Location::new(file, line), covers, run }
}

/// What `#[frame_option]` knows of its static.
#[derive(Debug)]
pub struct OptionParts {
    pub name: &'static str,
    pub kind: OptionKind,
    pub doc: &'static str,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
    pub parser: Option<Parser>,
    pub covered_by: Option<&'static &'static LinkedResolver>,
}

#[must_use]
pub const fn frame_option<T: FrameValue>(parts: OptionParts) -> FrameOption<T> {
    let OptionParts { name, kind, doc, module, file, line, parser, covered_by } = parts;
    let location = Location::new(file, line);
    let type_name = type_name_of::<T>;
    FrameOption::declare(DeclaredOption { name, kind, doc, module, location, type_name, parser, covered_by })
}

#[must_use]
pub const fn listed_option(option: &'static DeclaredOption, file: &'static str, line: u32) -> ListedOption {
    ListedOption { option, location: Location::new(file, line) }
}

/// The `T` of the `FrameOption<T>` that a static under `#[frame_option]` has as its type.
#[diagnostic::on_unimplemented(
    message = "the type of a frame option is `FrameOption<T>`, not `{Self}`",
    label = "write `FrameOption<T>`, where `T` is the type of the option's values"
)]
pub trait IsDeclaration {
    /// The type itself. The compiler takes a `Checked` of a type that is not a declaration for whatever it should
    /// be, so that this trait is the only one to complain.
    type Checked;
}

impl<T> IsDeclaration for FrameOption<T> {
    type Checked = Self;
}

/// Its argument, which is a `T`.
#[must_use]
pub const fn same<T>(value: T) -> T {
    value
}

/// Reads a `T` from text.
#[derive(Debug)]
pub struct Reader<T>(PhantomData<T>);

/// Says at compile time whether the values of an option of type `D` can be read from text:
/// `DeclaredReader::<D>::PARSER` is the inherent constant where its bounds hold, and that of [`NoReader`] where they
/// do not, be it that `D` is not the type of an option at all.
#[derive(Debug)]
pub struct DeclaredReader<D>(PhantomData<D>);

#[cfg(feature = "json")]
impl<T: FrameValue + serde::de::DeserializeOwned> DeclaredReader<FrameOption<T>> {
    pub const PARSER: Option<Parser> = Reader::<T>::PARSER;
}

pub trait NoReader {
    const PARSER: Option<Parser> = None;
}

impl<D> NoReader for DeclaredReader<D> {}

/// Emits its input where the linker guards the wiring, and nothing elsewhere. Decided here, for the crate that
/// expands the macro knows nothing of this crate's `cfg`s.
#[doc(hidden)]
#[macro_export]
#[cfg(link_guarded)]
macro_rules! __where_link_guarded {
    ({ $($guarded:tt)* } else { $($otherwise:tt)* }) => { $($guarded)* };
}

/// Emits its input where the linker guards the wiring, and nothing elsewhere.
#[doc(hidden)]
#[macro_export]
#[cfg(not(link_guarded))]
macro_rules! __where_link_guarded {
    ({ $($guarded:tt)* } else { $($otherwise:tt)* }) => { $($otherwise)* };
}

pub use crate::__where_link_guarded as where_link_guarded;
