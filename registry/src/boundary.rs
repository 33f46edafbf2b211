//! What happens to pairs at the boundary of a node: keys that are declared, and their values on the wire.

use std::fmt;

#[cfg(feature = "json")]
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _};
#[cfg(feature = "json")]
use serde::ser::{Serialize, Serializer};

use crate::error::WiringError;
#[cfg(feature = "json")]
use crate::json::{LONGEST_NAME, hint};
use crate::key::{Key, RawKey};
use crate::location::Location;
use crate::option::crate_of;
#[cfg(feature = "json")]
use crate::pair::Pair;
#[cfg(feature = "json")]
use crate::text;
#[cfg(feature = "json")]
use crate::value::{FrameValue, Value};

/// Every key that is declared in the program.
#[linkme::distributed_slice]
pub static KEYS: [ListedKey];

/// An entry of the list of declared keys.
#[allow(missing_debug_implementations)]
pub struct ListedKey {
    key: &'static RawKey,
    /// The entry's own, as that of an option is.
    location: Location,
}

impl ListedKey {
    pub(crate) const fn new<T>(key: &'static Key<T>, location: Location) -> Self {
        Self { key: key.raw(), location }
    }

    /// The error that `other` has the same name.
    fn twin(&self, other: &Self) -> WiringError {
        let (first, second) = (self.location.min(other.location), self.location.max(other.location));
        WiringError::DuplicateKey { name: self.key.name(), first, second }
    }
}

/// What happens to the pairs of a key where a frame is carried to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Boundary {
    /// They go with it: `#[frame_key(…, propagates)]`.
    Propagates,
    /// They are left out, because their values mean nothing there: `#[frame_key(…, stays)]`.
    Stays,
}

impl Boundary {
    /// `propagates` or `stays`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Propagates => "propagates",
            Self::Stays => "stays",
        }
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a declared key beside its name.
pub(crate) struct Declaration {
    pub(crate) type_name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) module: &'static str,
    pub(crate) location: Location,
    pub(crate) wire: Option<Wire>,
}

impl Declaration {
    pub(crate) const fn boundary(&self) -> Boundary {
        if self.wire.is_some() { Boundary::Propagates } else { Boundary::Stays }
    }
}

/// How the values of a key that propagates are written and read.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    #[cfg(feature = "json")]
    serialize: fn(&Value) -> Option<&dyn erased_serde::Serialize>,
    #[cfg(feature = "json")]
    deserialize: fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Value, erased_serde::Error>,
}

/// What the values of a key that propagates are: any [`FrameValue`] that serde writes and reads.
#[cfg(feature = "json")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot propagate to another node",
    label = "`{Self}` does not implement `Serialize` and `DeserializeOwned`, or is not a `FrameValue`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or write `stays` in place of `propagates`",
    note = "a `FrameValue` is `Debug`, `Send` and `Sync`, such as an `Arc` in place of an `Rc`"
)]
pub trait Propagate: FrameValue + Serialize + DeserializeOwned {}

#[cfg(feature = "json")]
#[diagnostic::do_not_recommend]
impl<T: FrameValue + Serialize + DeserializeOwned> Propagate for T {}

#[cfg(feature = "json")]
impl Wire {
    pub(crate) const fn of<T: Propagate>() -> Self {
        Self {
            serialize: |value| value.get::<T>().map(|value| value as &dyn erased_serde::Serialize),
            deserialize: |deserializer| erased_serde::deserialize::<T>(deserializer).map(Value::new),
        }
    }
}

/// A key that is declared with [`#[frame_key]`](macro@crate::frame_key), without its type.
#[derive(Clone, Copy)]
pub struct DeclaredKey {
    key: &'static RawKey,
    declaration: &'static Declaration,
}

impl DeclaredKey {
    pub(crate) fn of(key: &'static RawKey) -> Option<Self> {
        Some(Self { key, declaration: key.declaration()? })
    }

    /// The name that the key has on the wire.
    pub fn name(&self) -> &'static str {
        self.key.name()
    }

    /// What happens to its pairs where a frame is carried to another node.
    pub const fn boundary(&self) -> Boundary {
        self.declaration.boundary()
    }

    /// Whether a fork of a frame has a pair of this key if the frame does.
    pub const fn is_inherited(&self) -> bool {
        self.key.is_inherited()
    }

    /// Its documentation comment, without the marks of a comment and the indentation of all lines.
    pub const fn doc(&self) -> &'static str {
        self.declaration.doc
    }

    /// The type of its values, as the declaration writes it.
    pub const fn type_name(&self) -> &'static str {
        self.declaration.type_name
    }

    /// The crate that declares it.
    pub fn crate_name(&self) -> &'static str {
        crate_of(self.declaration.module)
    }

    /// The module that declares it.
    pub const fn module(&self) -> &'static str {
        self.declaration.module
    }

    /// Where it is declared.
    pub const fn location(&self) -> Location {
        self.declaration.location
    }

    /// Deserializes a value that [`Pair::propagated`] serialized, as a pair of this key. Any format will do.
    ///
    /// The key is also a [`DeserializeSeed`], for a value inside of a larger message.
    ///
    /// # Errors
    ///
    /// A value that is not one of the key's type, and any value of a key that [stays](Boundary::Stays).
    #[cfg(feature = "json")]
    pub fn deserialize_pair<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Pair, D::Error> {
        let Some(wire) = self.declaration.wire else {
            return Err(D::Error::custom(format_args!("key `{}` stays on its node", self.name())));
        };
        let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(deserializer);
        match (wire.deserialize)(&mut erased) {
            Ok(value) => Ok(Pair::new(self.key, value)),
            // serde quotes what it read.
            Err(_) if self.key.is_secret() => {
                Err(D::Error::custom(format_args!("the value of key `{}` is not valid", self.name())))
            }
            Err(error) => Err(D::Error::custom(format_args!("key `{}`: {error}", self.name()))),
        }
    }
}

#[cfg(feature = "json")]
impl<'de> DeserializeSeed<'de> for DeclaredKey {
    type Value = Pair;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pair, D::Error> {
        self.deserialize_pair(deserializer)
    }
}

impl fmt::Debug for DeclaredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeclaredKey")
            .field("name", &self.name())
            .field("boundary", &format_args!("{}", self.boundary().as_str()))
            .field("type", &self.type_name())
            .field("declared", &format_args!("{}", self.location()))
            .finish_non_exhaustive()
    }
}

/// The value of a pair whose key propagates, to be serialized; see [`Pair::propagated`].
#[cfg(feature = "json")]
#[derive(Clone, Copy)]
pub struct Propagated<'a> {
    key: &'static RawKey,
    value: &'a dyn erased_serde::Serialize,
}

/// The error of a value whose key is secret.
#[cfg(feature = "json")]
pub(crate) fn hidden<E: serde::ser::Error>(key: &RawKey) -> E {
    E::custom(format_args!(
        "the value of key `{}` cannot be written; the error is hidden, because the key is secret",
        key.name()
    ))
}

#[cfg(feature = "json")]
impl<'a> Propagated<'a> {
    pub(crate) fn of(key: &'static RawKey, value: &'a Value) -> Option<Self> {
        let wire = key.declaration()?.wire?;
        (wire.serialize)(value).map(|value| Self { key, value })
    }
}

/// # Errors
///
/// What the value or the format fails with. For a key that is [secret](Key::secret), the name of the key alone.
#[cfg(feature = "json")]
impl Serialize for Propagated<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let result = erased_serde::serialize(self.value, serializer);
        // The type may quote its value.
        result.map_err(|error| if self.key.is_secret() { hidden(self.key) } else { error })
    }
}

/// The value may be a secret.
#[cfg(feature = "json")]
impl fmt::Debug for Propagated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Propagated").finish_non_exhaustive()
    }
}

/// Every key that is declared in the program, by name.
///
/// ```
/// use frame_registry::{Boundary, Key, declared_keys, frame_key};
///
/// /// The region that work stays in.
/// #[frame_key(name = "region", propagates, inherit)]
/// pub static REGION: Key<String>;
///
/// assert!(declared_keys().iter().any(|key| key.name() == "region" && key.boundary() == Boundary::Propagates));
/// ```
pub fn declared_keys() -> Vec<DeclaredKey> {
    let mut keys: Vec<_> =
        KEYS.static_slice().iter().filter_map(|listed| DeclaredKey::of(listed.key)).collect();
    keys.sort_unstable_by_key(|key| (key.name(), key.location()));
    keys
}

/// The key that is declared with the wire name `name`.
///
/// ```
/// # use frame_registry::{Key, declared_key, frame_key};
/// #[frame_key(name = "customer", propagates, inherit)]
/// pub static CUSTOMER: Key<String>;
///
/// assert_eq!(declared_key("customer")?.type_name(), "String");
/// let error = declared_key("costumer").unwrap_err();
/// assert_eq!(error.to_string(), "no key has the wire name `costumer`; did you mean `customer`?");
/// # Ok::<(), frame_registry::KeyError>(())
/// ```
///
/// # Errors
///
/// [`KeyError::Unknown`] if no crate of the program declares such a key, and [`KeyError::Wiring`] if two keys of the
/// program have one name.
#[cfg(feature = "json")]
pub fn declared_key(name: &str) -> Result<DeclaredKey, KeyError> {
    let keys = KEYS.static_slice();
    let mut named = keys.iter().filter(|listed| listed.key.name() == name);
    let (one, other) = (named.next(), named.next());
    if let (Some(one), Some(other)) = (one, other) {
        return Err(one.twin(other).into());
    }
    one.and_then(|listed| DeclaredKey::of(listed.key)).ok_or_else(|| KeyError::Unknown {
        name: text::excerpt(name, LONGEST_NAME),
        suggestion: text::nearest(name, keys.iter().map(|listed| listed.key.name())),
    })
}

/// Checks that every key of the program has a name of its own, where the linker did not. Programs declare a few keys, so
/// each is compared with each.
pub(crate) fn check() -> Result<(), WiringError> {
    let mut rest = KEYS.static_slice();
    while let Some((one, others)) = rest.split_first() {
        if let Some(other) = others.iter().find(|other| other.key.name() == one.key.name()) {
            return Err(one.twin(other));
        }
        rest = others;
    }
    Ok(())
}

/// A wire name stands for no key.
#[cfg(feature = "json")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No crate of the program declares the key.
    #[error("no key has the wire name `{name}`{}", hint(*.suggestion))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The declared name nearest to it.
        suggestion: Option<&'static str>,
    },
    /// Two keys of the program have one name, and the linker missed it.
    #[error(transparent)]
    Wiring(#[from] WiringError),
}
