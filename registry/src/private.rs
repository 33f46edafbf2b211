//! What the macros expand to. Not for use by hand.

use std::marker::PhantomData;

pub use linkme;

pub use crate::app::ResolveContext;
#[cfg(feature = "json")]
pub use crate::boundary::Propagate;
pub use crate::boundary::{KEYS, ListedKey, Wire};
pub use crate::error::BoxError;
pub use crate::link::{ListedOption, OPTIONS, RESOLVERS};
pub use crate::option::{DeclaredOption, Equality, Narrowing, OptionKind, Parser, Writer};
pub use crate::options::Options;
pub use crate::output::{ContextArgument, OptionsArgument, ResolverOutput};
pub use crate::pair::Pairs;
pub use crate::resolver::{IsFrameOption, LinkedResolver};

use crate::boundary::Declaration;
use crate::key::Key;
use crate::link::name_hash;
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
    pub run: fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
}

#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the macros make it for this call")]
pub const fn linked_resolver(parts: ResolverParts) -> LinkedResolver {
    let ResolverParts { name, order, module, file, line, covers, run } = parts;
    let location = Location::new(file, line);
    LinkedResolver { name, order, name_hash: name_hash(name), module, location, covers, run }
}

/// What `#[frame_option]` knows of its static.
#[derive(Debug)]
pub struct OptionParts {
    pub name: &'static str,
    pub type_name: &'static str,
    pub kind: OptionKind,
    pub empty_is_unset: bool,
    pub is_secret: bool,
    pub doc: &'static str,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
    pub parser: Option<Parser>,
    pub writer: Option<Writer>,
    pub equality: Option<Equality>,
    pub narrowing: Option<Narrowing>,
    pub covered_by: Option<&'static &'static LinkedResolver>,
}

#[must_use]
pub const fn frame_option<T: FrameValue>(parts: OptionParts) -> FrameOption<T> {
    refused_option(parts)
}

/// An option of any type, for a declaration that is an error already.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the macros make it for this call")]
pub const fn refused_option<T>(parts: OptionParts) -> FrameOption<T> {
    let OptionParts { name, type_name, kind, empty_is_unset, is_secret, doc, module, .. } = parts;
    let OptionParts { file, line, parser, writer, equality, narrowing, covered_by, .. } = parts;
    let location = Location::new(file, line);
    FrameOption::declare(DeclaredOption {
        name,
        kind,
        doc,
        module,
        location,
        type_name,
        empty_is_unset,
        is_secret,
        parser,
        writer,
        equality,
        narrowing,
        covered_by,
    })
}

#[must_use]
pub const fn listed_option<T>(
    option: &'static FrameOption<T>,
    is_secret: bool,
    file: &'static str,
    line: u32,
) -> ListedOption {
    ListedOption { option: option.declared(), is_secret, location: Location::new(file, line) }
}

/// What `#[frame_key]` knows of its static.
#[derive(Debug)]
pub struct KeyParts {
    pub name: &'static str,
    pub type_name: &'static str,
    pub doc: &'static str,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
    pub wire: Option<Wire>,
}

#[must_use]
pub const fn frame_key<T: FrameValue>(parts: KeyParts) -> Key<T> {
    propagating_key(parts)
}

/// A key whose [`wire`] asks more of the type than [`frame_key`] does: what the type lacks is one error.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the macros make it for this call")]
pub const fn propagating_key<T>(parts: KeyParts) -> Key<T> {
    let KeyParts { name, type_name, doc, module, file, line, wire } = parts;
    Key::declare(name, Declaration { type_name, doc, module, location: Location::new(file, line), wire })
}

/// A key of any type, for a declaration that is an error already.
#[must_use]
pub const fn refused_key<T>(name: &'static str) -> Key<T> {
    Key::refused(name)
}

#[must_use]
pub const fn listed_key<T>(key: &'static Key<T>, file: &'static str, line: u32) -> ListedKey {
    ListedKey::new(key, Location::new(file, line))
}

/// What a static under `#[frame_key]` has as its type.
#[diagnostic::on_unimplemented(
    message = "the type of a frame key is `Key<T>`, not `{Self}`",
    label = "write `Key<T>`, where `T` is the type of the key's values"
)]
pub trait IsKey {
    /// `A`; see [`IsDeclaration::Same`].
    type Same<A>;
}

impl<T> IsKey for Key<T> {
    type Same<A> = A;
}

/// Its argument, if `D` is the type of a key; as [`checked`].
#[must_use]
pub const fn checked_key<D, A>(value: A) -> D::Same<A>
where
    D: IsKey<Same<A> = A>,
{
    value
}

/// The type of a key that can propagate.
#[cfg(feature = "json")]
pub trait CanPropagate {
    const WIRE: Wire;
}

#[cfg(feature = "json")]
impl<T: Propagate> CanPropagate for Key<T> {
    const WIRE: Wire = Wire::of::<T>();
}

#[cfg(feature = "json")]
#[must_use]
pub const fn wire<D: CanPropagate, A: Copy>(_: A) -> Wire {
    D::WIRE
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

/// Says at compile time whether the values of an option of type `D` can be read from text, written as text, and compared:
/// `DeclaredReader::<D>::PARSER` is the inherent constant where its bounds hold, and that of [`NoReader`] where they
/// do not, be it that `D` is not the type of an option at all. The same goes for the other constants.
#[derive(Debug)]
pub struct DeclaredReader<D>(PhantomData<D>);

pub trait NoReader {
    const PARSER: Option<Parser> = None;
    const WRITER: Option<Writer> = None;
    const EQUALITY: Option<Equality> = None;
    const NARROWING: Option<Narrowing> = None;
}

impl<D> NoReader for DeclaredReader<D> {}

/// All that the macros emit beside the user's items. Where their path of this crate is wrong, this macro is what is not
/// found, once.
#[doc(hidden)]
#[macro_export]
macro_rules! __emit {
    ($($tokens:tt)*) => { $($tokens)* };
}

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

/// Emits the first part where the feature `json` is on, and the second elsewhere.
#[doc(hidden)]
#[macro_export]
#[cfg(feature = "json")]
macro_rules! __where_json {
    ({ $($with:tt)* } else { $($without:tt)* }) => { $($with)* };
}

/// Emits the first part where the feature `json` is on, and the second elsewhere.
#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "json"))]
macro_rules! __where_json {
    ({ $($with:tt)* } else { $($without:tt)* }) => { $($without)* };
}

pub use crate::__emit as emit;
pub use crate::__where_json as where_json;
pub use crate::__where_link_guarded as where_link_guarded;
