//! Declared options.

use std::fmt;
use std::marker::PhantomData;

use crate::__private::DeclaredReader;
use crate::link;
use crate::location::Location;
use crate::options::OptionValue;
use crate::resolver::LinkedResolver;
use crate::value::{FrameValue, Value};

/// An option that a call may be given, declared with [`#[frame_option]`](macro@crate::frame_option).
///
/// ```
/// use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
/// use std::convert::Infallible;
///
/// /// Whose work this is.
/// #[frame_option(name = "tenant")]
/// pub static TENANT: FrameOption<String>;
///
/// static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
///
/// #[frame_resolver(order = 10, covers(TENANT))]
/// fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
///     Ok(options.pair(&TENANT, &TENANT_KEY))
/// }
///
/// let mut options = Options::new();
/// options.set(&TENANT, "acme".to_owned());
/// assert_eq!(options.get(&TENANT).unwrap(), "acme");
/// ```
pub struct FrameOption<T: 'static> {
    declared: DeclaredOption,
    value: PhantomData<fn() -> T>,
}

impl<T> FrameOption<T> {
    pub(crate) const fn declare(declared: DeclaredOption) -> Self {
        Self { declared, value: PhantomData }
    }
}

impl<T: FrameValue> FrameOption<T> {
    /// A value for this option, to collect into [`Options`](crate::Options).
    #[must_use]
    pub fn value(&'static self, value: T) -> OptionValue {
        OptionValue::new(self.declared(), Value::new(value))
    }
}

impl<T> FrameOption<T> {
    /// The name that the option has in text, unique in the program.
    pub const fn name(&self) -> &'static str {
        self.declared.name
    }

    /// The declaration, without its type.
    #[inline]
    pub const fn declared(&self) -> &DeclaredOption {
        &self.declared
    }
}

impl<T> fmt::Debug for FrameOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.declared.fmt(f)
    }
}

/// Who reads an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A resolver linked into the program; without one the program does not link.
    Linked,
    /// A resolver, which may be registered later: `#[frame_option(…, runtime)]`.
    Runtime,
    /// A dispatcher or an interceptor, itself: `#[frame_option(…, dispatcher)]`.
    Dispatcher,
}

impl OptionKind {
    /// `linked`, `runtime` or `dispatcher`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Runtime => "runtime",
            Self::Dispatcher => "dispatcher",
        }
    }
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a declared option beside its type.
pub struct DeclaredOption {
    pub(crate) name: &'static str,
    pub(crate) kind: OptionKind,
    pub(crate) doc: &'static str,
    pub(crate) module: &'static str,
    pub(crate) location: Location,
    pub(crate) type_name: &'static str,
    pub(crate) empty_is_unset: bool,
    pub(crate) is_secret: bool,
    pub(crate) parser: Option<Parser>,
    #[cfg_attr(not(feature = "json"), allow(dead_code, reason = "there is nothing to write it as"))]
    pub(crate) writer: Option<Writer>,
    pub(crate) equality: Option<Equality>,
    pub(crate) narrowing: Option<Narrowing>,
    /// The linked resolver that covers it, where the linker vouches for one.
    pub(crate) covered_by: Option<&'static &'static LinkedResolver>,
}

/// Reads an option's value from text.
#[derive(Debug, Clone, Copy)]
pub struct Parser {
    #[cfg(feature = "json")]
    pub(crate) parse: fn(&serde_json::Value) -> Result<Value, serde_json::Error>,
}

/// Writes an option's value as text.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    #[cfg(feature = "json")]
    pub(crate) write: fn(&Value) -> Result<serde_json::Value, serde_json::Error>,
}

/// Compares an option's values.
#[derive(Debug, Clone, Copy)]
pub struct Equality {
    pub(crate) are_equal: fn(&Value, &Value) -> bool,
}

/// Narrows an option's value by a later one.
#[derive(Debug, Clone, Copy)]
pub struct Narrowing {
    pub(crate) narrowed: fn(&Value, &Value) -> Option<Value>,
}

/// A value of an option that the values of further layers narrow, where others would take its place.
///
/// Where [`Options::merged_under`](crate::Options::merged_under) finds such an option on both sides, the merged value is
/// what both allow. So no layer can widen what another has set, trusted or not.
///
/// ```
/// use frame_registry::{FrameOption, Narrow, Options, frame_option};
///
/// /// The most that a call may cost.
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// pub struct Budget(pub u32);
///
/// impl Narrow for Budget {
///     fn narrowed_by(&self, by: &Self) -> Self {
///         Self(self.0.min(by.0))
///     }
/// }
///
/// #[frame_option(name = "budget", dispatcher)]
/// pub static BUDGET: FrameOption<Budget>;
///
/// let preset = Options::new().with(&BUDGET, Budget(10));
/// let call = Options::new().with(&BUDGET, Budget(50));
/// assert_eq!(preset.merged_under(&call).get(&BUDGET), Some(&Budget(10)));
/// ```
pub trait Narrow: Sized {
    /// Returns what both `self` and `by` allow.
    #[must_use]
    fn narrowed_by(&self, by: &Self) -> Self;
}

impl<T: FrameValue + Narrow> DeclaredReader<FrameOption<T>> {
    /// Narrows one by another.
    pub const NARROWING: Option<Narrowing> = Some(Narrowing {
        narrowed: |value, by| Some(Value::new(value.get::<T>()?.narrowed_by(by.get::<T>()?))),
    });
}

impl<T: FrameValue + PartialEq> DeclaredReader<FrameOption<T>> {
    /// Compares two of them.
    pub const EQUALITY: Option<Equality> =
        Some(Equality { are_equal: |one, other| one.get::<T>() == other.get::<T>() });
}

impl DeclaredOption {
    /// The name that the option has in text.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Who reads it.
    pub const fn kind(&self) -> OptionKind {
        self.kind
    }

    /// Its documentation comment, without the marks of a comment and the indentation of all lines.
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The type of its values, as the declaration writes it.
    pub const fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Whether it can be given as text: whether its type implements `serde::de::DeserializeOwned`.
    pub const fn is_text(&self) -> bool {
        self.parser.is_some()
    }

    /// Whether an empty string is as good as no option if a script or a component gives it, and refused otherwise:
    /// `#[frame_option(…, empty_is_unset)]`.
    pub const fn empty_is_unset(&self) -> bool {
        self.empty_is_unset
    }

    /// Whether its values are hidden, in `Debug` and in errors: `#[frame_option(…, secret)]`.
    pub const fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Whether its values are hidden: also where it is another option of the name that is secret, which may be taken for
    /// this one if the linker missed that there are two.
    pub(crate) fn is_hidden(&self) -> bool {
        self.is_secret
            || link::options().iter().any(|listed| listed.is_secret && listed.option.name == self.name)
    }

    /// The crate that declares it.
    pub fn crate_name(&self) -> &'static str {
        crate_of(self.module)
    }

    /// The module that declares it.
    pub const fn module(&self) -> &'static str {
        self.module
    }

    /// Where it is declared.
    pub const fn location(&self) -> Location {
        self.location
    }

    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for DeclaredOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameOption")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("type", &self.type_name)
            .field("declared", &format_args!("{}", self.location))
            .finish_non_exhaustive()
    }
}

/// Every option declared in the program, by name.
///
/// ```
/// # use frame_registry::{FrameOption, declared_options, frame_option};
/// # use std::time::Duration;
/// /// How long the call may take.
/// #[frame_option(name = "timeout", dispatcher)]
/// pub static TIMEOUT: FrameOption<Duration>;
///
/// assert!(declared_options().iter().any(|option| option.name() == "timeout"));
/// ```
pub fn declared_options() -> Vec<&'static DeclaredOption> {
    let mut options: Vec<_> = link::options().iter().map(|listed| listed.option).collect();
    options.sort_unstable_by_key(|option| (option.name, option.location.file, option.location.line));
    options
}

/// The crate that a module path begins with.
pub(crate) fn crate_of(module: &str) -> &str {
    module.split_once("::").map_or(module, |(name, _)| name)
}
