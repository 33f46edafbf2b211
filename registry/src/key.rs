//! Frame keys.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(feature = "json")]
use crate::boundary::hidden;
use crate::boundary::{Boundary, Declaration};
use crate::pair::Pair;
use crate::value::{FrameValue, Value};

/// A typed key of a [`Frame`](crate::Frame) or an [`App`](crate::App).
///
/// A key is a `static`, and its identity is that static's address: two keys of the same name are two keys.
/// A key in a `const` would be another key at each use, so it does not compile where a key is used.
///
/// ```
/// use frame_registry::{FrameBuilder, Key};
///
/// static REGION: Key<String> = Key::new("region").inherit();
/// static ATTEMPT: Key<u32> = Key::new("attempt");
///
/// let mut builder = FrameBuilder::new();
/// builder.set(&REGION, "eu".to_owned()).set(&ATTEMPT, 1);
/// let frame = builder.seal();
///
/// let child = frame.fork().seal();
/// assert_eq!(child.get(&REGION).unwrap(), "eu");
/// assert_eq!(child.get(&ATTEMPT), None);
/// ```
///
/// ```compile_fail,E0716
/// # use frame_registry::{FrameBuilder, Key};
/// const REGION: Key<u32> = Key::new("region");
/// FrameBuilder::new().set(&REGION, 1);
/// ```
///
/// Values are small standard types (stored inline), `'static` references ([`pair_static`](Self::pair_static)) or
/// shared behind an [`Arc`]: cloning a pair never clones the value.
///
/// A key made with [`Key::new`] is for one node: a pair that is [inherited](Self::inherit) under it cannot follow a call to
/// another node. Declare a key with [`#[frame_key]`](macro@crate::frame_key) to choose whether its pairs do.
pub struct Key<T: 'static> {
    raw: RawKey,
    value: PhantomData<fn() -> T>,
}

/// A value that decides itself what a forked frame gets in its place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not decide what a forked frame gets in its place",
    note = "implement `frame_registry::Fork` for it, or write `inherit` to copy the pair"
)]
pub trait Fork: Sized {
    /// The value for the child frame; `None` leaves the key off it.
    fn fork(&self) -> Option<Self>;
}

impl<T: FrameValue> Key<T> {
    /// A key that stays on the frame it was set on. `name` is for people: it shows in `Debug` and in errors.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { raw: RawKey::new(name), value: PhantomData }
    }

    /// Asks the value, through [`Fork`], what a fork of the frame gets.
    ///
    /// ```
    /// use frame_registry::{Fork, FrameBuilder, Key};
    ///
    /// /// How many levels of calls may still follow.
    /// #[derive(Debug)]
    /// struct Depth(u32);
    ///
    /// impl Fork for Depth {
    ///     fn fork(&self) -> Option<Self> {
    ///         self.0.checked_sub(1).map(Depth)
    ///     }
    /// }
    ///
    /// static DEPTH: Key<Depth> = Key::new("depth").inherit_forked();
    ///
    /// let mut builder = FrameBuilder::new();
    /// builder.set(&DEPTH, Depth(1));
    /// let child = builder.seal().fork().seal();
    /// assert_eq!(child.get(&DEPTH).unwrap().0, 0);
    /// assert!(child.fork().seal().get(&DEPTH).is_none());
    /// ```
    #[must_use]
    pub const fn inherit_forked(mut self) -> Self
    where
        T: Fork,
    {
        self.raw.on_fork = OnFork::Ask(|value| value.get::<T>()?.fork().map(Value::new));
        self
    }

    /// Lets a function in another language, a script or a component, read the value by the key's name, as JSON. What a
    /// key does not say this of, no script sees.
    ///
    /// ```
    /// use frame_registry::{Frame, Key};
    /// use serde_json::json;
    ///
    /// static TENANT: Key<String> = Key::new("tenant").inherit().public();
    /// static TOKEN: Key<String> = Key::new("token");
    ///
    /// let frame: Frame = [TENANT.pair("acme".to_owned()), TOKEN.pair("xyzzy".to_owned())].into_iter().collect();
    /// assert_eq!(frame.public("tenant").unwrap()?, json!("acme"));
    /// assert!(frame.public("token").is_none());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub const fn public(mut self) -> Self
    where
        T: serde::Serialize,
    {
        self.raw.to_json =
            Some(|value| value.get::<T>().map_or(Ok(serde_json::Value::Null), serde_json::to_value));
        self
    }

    /// A pair of this key and `value`. Allocates unless `T` is a small standard type, such as a number, a
    /// `&'static str` or a `Duration`.
    #[inline]
    #[must_use]
    pub fn pair(&'static self, value: T) -> Pair {
        Pair::new(&self.raw, Value::new(value))
    }

    /// A pair of this key and a value that lives as long as the program. Does not allocate.
    #[inline]
    #[must_use]
    pub fn pair_static(&'static self, value: &'static T) -> Pair {
        Pair::new(&self.raw, Value::borrowed(value))
    }

    /// A pair of this key and a value that is shared already. Does not allocate.
    #[inline]
    #[must_use]
    pub fn pair_shared(&'static self, value: Arc<T>) -> Pair {
        Pair::new(&self.raw, Value::shared(value))
    }
}

impl<T> Key<T> {
    pub(crate) const fn declare(name: &'static str, declaration: Declaration) -> Self {
        let mut raw = RawKey::new(name);
        raw.declaration = Some(declaration);
        Self { raw, value: PhantomData }
    }

    /// A key of any type, for a declaration that is an error already.
    pub(crate) const fn refused(name: &'static str) -> Self {
        Self { raw: RawKey::new(name), value: PhantomData }
    }

    /// Copies the pair to every fork of the frame.
    #[must_use]
    pub const fn inherit(mut self) -> Self {
        self.raw.on_fork = OnFork::Copy;
        self
    }

    /// Hides the value where a frame is shown with `Debug`, and in errors.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.raw.secret = true;
        self
    }

    /// The name given to [`Key::new`] or [`#[frame_key]`](macro@crate::frame_key).
    pub const fn name(&self) -> &'static str {
        self.raw.name
    }

    /// Whether a fork of a frame has a pair of this key if the frame does, be it a copy or what [`Fork`] makes.
    pub const fn is_inherited(&self) -> bool {
        self.raw.is_inherited()
    }

    /// What happens to pairs of this key at the boundary of a node; `None` unless it is declared with
    /// [`#[frame_key]`](macro@crate::frame_key).
    pub const fn boundary(&self) -> Option<Boundary> {
        self.raw.boundary()
    }

    pub(crate) const fn raw(&self) -> &RawKey {
        &self.raw
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.raw.name).finish()
    }
}

/// A key without its type: what a [`Pair`] refers to, and whose address is the key's identity.
pub(crate) struct RawKey {
    name: &'static str,
    secret: bool,
    on_fork: OnFork,
    #[cfg(feature = "json")]
    to_json: Option<fn(&Value) -> serde_json::Result<serde_json::Value>>,
    declaration: Option<Declaration>,
    /// Never read. A type with interior mutability is not promoted to a `'static` temporary, which is what keeps
    /// a key in a `const` from compiling.
    _not_promotable: AtomicBool,
}

#[derive(Clone, Copy)]
pub(crate) enum OnFork {
    Stay,
    Copy,
    Ask(ForkFn),
}

pub(crate) type ForkFn = fn(&Value) -> Option<Value>;

impl RawKey {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            secret: false,
            on_fork: OnFork::Stay,
            #[cfg(feature = "json")]
            to_json: None,
            declaration: None,
            _not_promotable: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.secret
    }

    pub(crate) const fn is_inherited(&self) -> bool {
        !matches!(self.on_fork, OnFork::Stay)
    }

    pub(crate) const fn declaration(&self) -> Option<&Declaration> {
        self.declaration.as_ref()
    }

    pub(crate) const fn boundary(&self) -> Option<Boundary> {
        match &self.declaration {
            Some(declaration) => Some(declaration.boundary()),
            None => None,
        }
    }

    /// The value as JSON, if the key is public.
    #[cfg(feature = "json")]
    pub(crate) fn to_json(&self, value: &Value) -> Option<serde_json::Result<serde_json::Value>> {
        let written = self.to_json?(value);
        // The type may quote its value.
        Some(written.map_err(|error| if self.secret { hidden(self) } else { error }))
    }

    /// What becomes of the value in a fork.
    #[inline]
    pub(crate) fn on_fork(&self) -> OnFork {
        self.on_fork
    }
}
