//! One key with its value, and lists of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fmt, mem};

use crate::boundary::Boundary;
#[cfg(feature = "json")]
use crate::boundary::Propagated;
use crate::inline_vec::{self, InlineVec};
use crate::key::{ForkFn, Key, OnFork, RawKey};
use crate::value::{FrameValue, Value};

/// A [`Key`] with its value; made with [`Key::pair`]. Cloning it does not clone the value.
///
/// A pair is not [`Unpin`], which makes lists of pairs cheaper to drop; [`Pairs`] and frames are.
#[derive(Clone)]
pub struct Pair {
    key: &'static RawKey,
    value: Value,
}

impl Pair {
    #[inline]
    pub(crate) fn new(key: &'static RawKey, value: Value) -> Self {
        Self { key, value }
    }

    /// The name of the pair's key.
    pub fn name(&self) -> &'static str {
        self.key.name()
    }

    /// The value, if this is a pair of `key`.
    #[inline]
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.is(key.raw()).then(|| self.value.get()).flatten()
    }

    /// The value, if it is one of `T`, whatever the key. So several crates can put values of one type on a frame, each under
    /// a key of its own.
    #[inline]
    pub fn value<T: FrameValue>(&self) -> Option<&T> {
        self.value.get()
    }

    /// Whether both are of one key: of the two, the one that is set later wins.
    pub fn is_of_key_of(&self, other: &Self) -> bool {
        self.is(other.key)
    }

    #[inline]
    pub(crate) fn is(&self, key: &RawKey) -> bool {
        std::ptr::eq(self.key, key)
    }

    /// The value as JSON, if the key is [`public`](Key::public).
    ///
    /// # Errors
    ///
    /// What the value's `Serialize` fails with. For a key that is [secret](Key::secret), the name of the key alone.
    #[cfg(feature = "json")]
    pub fn public(&self) -> Option<serde_json::Result<serde_json::Value>> {
        self.key.to_json(&self.value)
    }

    /// Whether a fork of a frame gets this pair, or what [`Fork`](crate::Fork) makes of it.
    pub fn is_inherited(&self) -> bool {
        self.key.is_inherited()
    }

    /// What happens to the pair where its frame is carried to another node; `None` if its key is not
    /// [declared](macro@crate::frame_key), so that this is not known.
    pub fn boundary(&self) -> Option<Boundary> {
        self.key.boundary()
    }

    /// The value, to be serialized in any format, if the key [propagates](Boundary::Propagates).
    /// [`DeclaredKey::deserialize_pair`](crate::DeclaredKey::deserialize_pair) reads it.
    #[cfg(feature = "json")]
    pub fn propagated(&self) -> Option<Propagated<'_>> {
        Propagated::of(self.key, &self.value)
    }

    /// What `Debug` shows of the value: `<secret>` for a key that is marked so.
    pub fn shown(&self) -> &dyn fmt::Debug {
        if self.key.is_secret() { &Secret } else { self.value.as_debug() }
    }
}

/// Stands for a value that is not shown.
pub(crate) struct Secret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.name()).field(self.shown()).finish()
    }
}

/// Pairs in the order they were added; of two with the same key the later one wins.
///
/// The first [`Pairs::INLINE`] live inline, so that an ordinary frame is one allocation.
///
/// ```
/// use frame_registry::{Key, Pairs};
///
/// static REGION: Key<&str> = Key::new("region");
///
/// let mut pairs = Pairs::new();
/// pairs.push(REGION.pair("eu"));
/// pairs.push(REGION.pair("us"));
/// assert_eq!(pairs.get(&REGION), Some(&"us"));
/// assert_eq!(pairs.len(), 2);
/// ```
#[derive(Clone)]
pub struct Pairs {
    list: InlineVec<Pair, { Pairs::INLINE }>,
}

impl Pairs {
    /// How many pairs are held without an allocation for them.
    pub const INLINE: usize = 8;

    /// No pairs. Does not allocate.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { list: InlineVec::new() }
    }

    /// No pairs, with room for `capacity` of them.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { list: InlineVec::with_capacity(capacity) }
    }

    /// Adds a pair behind the others.
    #[inline]
    pub fn push(&mut self, pair: Pair) {
        self.list.push(pair);
    }

    /// The value of the last pair of `key`.
    #[inline]
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.list.iter().rev().find_map(|pair| pair.get(key))
    }

    /// How many pairs there are, those that a later one outdoes included.
    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs, in the order they were added.
    pub fn iter(&self) -> Iter<'_> {
        Iter { list: self.list.iter() }
    }

    /// Removes every pair of `key`, and returns the last.
    pub(crate) fn remove(&mut self, key: &RawKey) -> Option<Pair> {
        let mut removed = None;
        while let Some(index) = self.list.iter().position(|pair| pair.is(key)) {
            removed = self.list.remove(index);
        }
        removed
    }

    /// Adds to `child`, which is empty, what a fork gets of these pairs, which are of distinct keys.
    #[inline]
    pub(crate) fn fork_into(&self, child: &mut Self) {
        for pair in self.list.forwards() {
            match pair.key.on_fork() {
                OnFork::Stay => {}
                OnFork::Copy => child.push(pair.clone()),
                OnFork::Ask(fork) => child.push_forked(pair, fork),
            }
        }
        child.list.mark_all();
    }

    #[inline(never)]
    fn push_forked(&mut self, Pair { key, value }: &Pair, fork: ForkFn) {
        if let Some(value) = fork(value) {
            self.push(Pair { key, value });
        }
    }

    /// Drops the pairs after the first `len`, the newest first, whether or not dropping one of them panics. Returns what
    /// the first panic was, if there was one.
    #[cold]
    #[inline(never)]
    pub(crate) fn roll_back(&mut self, len: usize) -> Option<Box<dyn Any + Send>> {
        let mut first = None;
        while self.len() > len {
            // The pair is off the list before it is dropped, so a panic leaves nothing half done.
            let pair = self.list.pop();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(pair))) {
                match first {
                    None => first = Some(panic),
                    // The panic hook has reported it. Dropping what was thrown could panic again.
                    Some(_) => mem::forget(panic),
                }
            }
        }
        first
    }

    /// Whether all pairs are of distinct keys. Those that are marked are, and are not compared again.
    #[inline]
    pub(crate) fn is_distinct(&self) -> bool {
        let pairs = self.list.filled();
        (self.list.marked()..pairs.len()).all(|index| match (&pairs[index], &pairs[..index]) {
            (Some(pair), earlier) => !earlier.iter().flatten().any(|earlier| earlier.is(pair.key)),
            (None, _) => true,
        })
    }

    /// Drops every pair that is outdone by a later one with the same key.
    #[cold]
    pub(crate) fn remove_outdone(&mut self) {
        for index in (0..self.len()).rev() {
            if self.is_outdone(index) {
                self.list.remove(index);
            }
        }
    }

    fn is_outdone(&self, index: usize) -> bool {
        let mut from = self.list.forwards().skip(index);
        from.next().is_some_and(|pair| from.any(|later| later.is(pair.key)))
    }
}

impl Default for Pairs {
    #[inline]
    fn default() -> Self {
        Self::new()
    }
}

impl Extend<Pair> for Pairs {
    #[inline]
    fn extend<I: IntoIterator<Item = Pair>>(&mut self, pairs: I) {
        let mut pairs = pairs.into_iter();
        // The first by itself: of an `Option`, which most resolvers make, the compiler sees that there is no other.
        if let Some(first) = pairs.next() {
            self.push(first);
            for other in pairs {
                self.push(other);
            }
        }
    }
}

impl FromIterator<Pair> for Pairs {
    fn from_iter<I: IntoIterator<Item = Pair>>(pairs: I) -> Self {
        let mut list = Self::new();
        list.extend(pairs);
        list
    }
}

impl<'a> IntoIterator for &'a Pairs {
    type Item = &'a Pair;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The pairs of a [`Pairs`] or of a [`Frame`](crate::Frame).
#[derive(Clone)]
pub struct Iter<'a> {
    list: inline_vec::Iter<'a, Pair>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Pair;

    fn next(&mut self) -> Option<&'a Pair> {
        self.list.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.list.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.list.next_back()
    }
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl IntoIterator for Pairs {
    type Item = Pair;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { list: self.list.into_iter() }
    }
}

/// The pairs of a [`Pairs`], by value.
#[derive(Clone, Debug)]
pub struct IntoIter {
    list: inline_vec::IntoIter<Pair, { Pairs::INLINE }>,
}

// As an iterator of a list, it pins nothing either.
impl Unpin for IntoIter {}

impl Iterator for IntoIter {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        self.list.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.list.size_hint()
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|pair| (pair.name(), pair.shown()))).finish()
    }
}
