//! A vector whose first elements live inline.

use std::{array, fmt, iter, vec};

/// The first `N` elements are inline, those after them on the heap: growing past `N` moves nothing.
pub(crate) struct InlineVec<T, const N: usize> {
    len: usize,
    inline: [Option<T>; N],
    spilled: Vec<T>,
}

impl<T, const N: usize> InlineVec<T, N> {
    pub(crate) const fn new() -> Self {
        Self { len: 0, inline: [const { None }; N], spilled: Vec::new() }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { spilled: Vec::with_capacity(capacity.saturating_sub(N)), ..Self::new() }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        match self.inline.get_mut(self.len) {
            Some(slot) => *slot = Some(element),
            None => self.spilled.push(element),
        }
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        match self.inline.get_mut(self.len) {
            Some(slot) => slot.take(),
            None => self.spilled.pop(),
        }
    }

    /// Removes the element at `index`, keeping the order of the others.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        self.len -= 1;
        if index >= N {
            return Some(self.spilled.remove(index - N));
        }
        let removed = self.inline[index].take();
        self.inline[index..].rotate_left(1);
        if !self.spilled.is_empty() {
            self.inline[N - 1] = Some(self.spilled.remove(0));
        }
        removed
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.inline.iter().flatten().chain(&self.spilled)
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.inline.iter_mut().flatten().chain(&mut self.spilled)
    }

    pub(crate) fn into_iter(self) -> IntoIter<T, N> {
        self.inline.into_iter().flatten().chain(self.spilled)
    }
}

pub(crate) type IntoIter<T, const N: usize> =
    iter::Chain<iter::Flatten<array::IntoIter<Option<T>, N>>, vec::IntoIter<T>>;

impl<T: Clone, const N: usize> Clone for InlineVec<T, N> {
    fn clone(&self) -> Self {
        Self { len: self.len, inline: self.inline.clone(), spilled: self.spilled.clone() }
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for InlineVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::InlineVec;

    /// Every state of a short history equals a plain vector's.
    #[test]
    fn behaves_like_a_vector_on_both_sides_of_the_inline_limit() {
        for total in 0..9 {
            for removed in 0..10 {
                let mut model: Vec<usize> = (0..total).collect();
                let mut ours = InlineVec::<usize, 4>::new();
                for &element in &model {
                    ours.push(element);
                }

                let expected = (removed < total).then(|| model.remove(removed));
                assert_eq!(ours.remove(removed), expected);
                assert_eq!(ours.iter().copied().collect::<Vec<_>>(), model);
                assert_eq!(ours.iter().rev().count(), model.len());
                assert_eq!(ours.len(), model.len());

                assert_eq!(ours.pop(), model.pop());
                ours.push(77);
                model.push(77);
                assert_eq!(ours.clone().into_iter().collect::<Vec<_>>(), model);
            }
        }
    }
}
