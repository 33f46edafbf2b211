//! Frames: what a spawned unit reads its surroundings from.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::{fmt, mem};

use crate::key::Key;
use crate::pair::{Iter, Pair, Pairs};
use crate::value::FrameValue;

/// A sealed, shared, immutable set of pairs. Cloning it is one reference count.
///
/// A frame holds no reference to the frame it was forked from: what it inherits, it carries.
///
/// ```
/// use frame_registry::{Frame, Key};
///
/// static REGION: Key<&str> = Key::new("region").inherit();
/// static PASSWORD: Key<&str> = Key::new("password").secret();
///
/// let frame: Frame = [REGION.pair("eu"), PASSWORD.pair("xyzzy")].into_iter().collect();
/// assert_eq!(frame.get(&REGION), Some(&"eu"));
/// assert_eq!(format!("{frame:?}"), r#"Frame {"region": "eu", "password": <secret>}"#);
/// ```
#[derive(Clone)]
pub struct Frame {
    pairs: Arc<Pairs>,
}

impl Frame {
    /// A builder for a frame without a parent.
    #[must_use]
    pub fn builder() -> FrameBuilder {
        FrameBuilder::new()
    }

    /// The value of `key`.
    #[inline]
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.pairs.get(key)
    }

    /// The pair of `key`: what to push where another frame shall have the same value.
    pub fn pair<T: FrameValue>(&self, key: &Key<T>) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.is(key.raw()))
    }

    /// The value of the [`public`](Key::public) key of this name, as JSON; of several, the one that was set last.
    ///
    /// # Errors
    ///
    /// What the value's `Serialize` fails with.
    #[cfg(feature = "json")]
    pub fn public(&self, name: &str) -> Option<serde_json::Result<serde_json::Value>> {
        self.iter().rev().filter(|pair| pair.name() == name).find_map(Pair::public)
    }

    /// The pairs, one a key, in the order they were last set.
    pub fn iter(&self) -> Iter<'_> {
        self.pairs.iter()
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// A builder for a child frame, with the pairs that forks inherit.
    #[must_use]
    pub fn fork(&self) -> FrameBuilder {
        let mut child = FrameBuilder::new();
        self.pairs.fork_into(child.pairs_mut());
        child
    }
}

impl<'a> IntoIterator for &'a Frame {
    type Item = &'a Pair;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Pair> for Frame {
    fn from_iter<I: IntoIterator<Item = Pair>>(pairs: I) -> Self {
        FrameBuilder { pairs: Arc::new(pairs.into_iter().collect()) }.seal()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frame ")?;
        self.pairs.fmt(f)
    }
}

/// The one owner that may still write to a frame. [`seal`](Self::seal) makes the [`Frame`] of it, and by taking
/// the builder makes a later write impossible.
pub struct FrameBuilder {
    /// Where the frame will have them, so that sealing moves nothing. Shared with nothing before that.
    pairs: Arc<Pairs>,
}

impl FrameBuilder {
    /// A builder for a frame without a parent.
    #[must_use]
    pub fn new() -> Self {
        // The only constructor of an `Arc` that makes the value in place.
        Self { pairs: Arc::default() }
    }

    /// Sets `key` to `value`.
    #[inline]
    pub fn set<T: FrameValue>(&mut self, key: &'static Key<T>, value: T) -> &mut Self {
        self.push(key.pair(value))
    }

    /// Sets one pair.
    #[inline]
    pub fn push(&mut self, pair: Pair) -> &mut Self {
        self.pairs_mut().push(pair);
        self
    }

    /// Removes `key`, such as one that the parent's frame hands down; returns its pair if it had one.
    ///
    /// ```
    /// use frame_registry::{Frame, Key};
    ///
    /// static TOKEN: Key<u32> = Key::new("token").inherit();
    ///
    /// let parent: Frame = [TOKEN.pair(7)].into_iter().collect();
    /// let mut child = parent.fork();
    /// assert_eq!(child.remove(&TOKEN).unwrap().get(&TOKEN), Some(&7));
    /// assert!(child.seal().get(&TOKEN).is_none());
    /// ```
    pub fn remove<T: FrameValue>(&mut self, key: &Key<T>) -> Option<Pair> {
        self.pairs_mut().remove(key.raw())
    }

    /// Sets all the pairs, or none: where the iterator panics, or ends in an error, the builder is as it was.
    ///
    /// # Errors
    ///
    /// The first error among `pairs`.
    pub fn try_extend<E>(
        &mut self,
        pairs: impl IntoIterator<Item = Result<Pair, E>>,
    ) -> Result<&mut Self, E> {
        let mut added = Appending::to(self.pairs_mut());
        for pair in pairs {
            match pair {
                Ok(pair) => added.pairs().push(pair),
                Err(error) => {
                    added.undo();
                    return Err(error);
                }
            }
        }
        added.keep();
        Ok(self)
    }

    /// Sets all the pairs, or none: where the iterator panics the builder is as it was.
    pub fn extend(&mut self, pairs: impl IntoIterator<Item = Pair>) -> &mut Self {
        let mut added = Appending::to(self.pairs_mut());
        added.pairs().extend(pairs);
        added.keep();
        self
    }

    /// The value that `key` has so far.
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.pairs.get(key)
    }

    /// The pairs so far, to hand to [`FrameResolvers::resolve`](crate::FrameResolvers::resolve).
    #[inline]
    pub fn pairs_mut(&mut self) -> &mut Pairs {
        Arc::get_mut(&mut self.pairs)
            .unwrap_or_else(|| unreachable!("a builder shares its pairs with nothing"))
    }

    /// The frame. Of several pairs with one key it keeps the last and drops the others.
    #[must_use]
    pub fn seal(mut self) -> Frame {
        if !self.pairs.is_distinct() {
            self.pairs_mut().remove_outdone();
        }
        Frame { pairs: self.pairs }
    }
}

impl Clone for FrameBuilder {
    fn clone(&self) -> Self {
        Self { pairs: Arc::new(Pairs::clone(&self.pairs)) }
    }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FrameBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameBuilder ")?;
        self.pairs.fmt(f)
    }
}

/// Pairs that are being appended, until they are [kept](Self::keep) or [undone](Self::undo). If neither happens a panic
/// is on its way, and dropping this undoes them, too.
pub(crate) struct Appending<'a> {
    pairs: &'a mut Pairs,
    kept: usize,
}

impl<'a> Appending<'a> {
    #[inline]
    pub(crate) fn to(pairs: &'a mut Pairs) -> Self {
        let kept = pairs.len();
        Self { pairs, kept }
    }

    #[inline]
    pub(crate) fn pairs(&mut self) -> &mut Pairs {
        self.pairs
    }

    #[inline]
    pub(crate) fn keep(self) {
        mem::forget(self);
    }

    /// Drops the pairs that were appended, the newest first, and leaves those that were there before.
    ///
    /// # Panics
    ///
    /// If dropping a pair panics, after all of them were dropped.
    pub(crate) fn undo(self) {
        let undone = self.pairs.roll_back(self.kept);
        mem::forget(self);
        if let Some(panic) = undone {
            resume_unwind(panic);
        }
    }
}

impl Drop for Appending<'_> {
    // So that this is two values, and need not be in memory for a call.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn drop(&mut self) {
        // The first panic goes on; a second one would end the program.
        mem::forget(self.pairs.roll_back(self.kept));
    }
}
