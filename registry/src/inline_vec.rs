//! A vector whose first elements live inline.

use std::{array, iter, mem, vec};

/// The first `N` elements are inline, those after them on the heap: growing past `N` moves nothing.
///
/// Room is an `Option` that is `None`, on the heap too, so that pushing is to find the slot and to write it.
pub(crate) struct InlineVec<T, const N: usize> {
    len: usize,
    inline: [Option<T>; N],
    /// As long as there is room.
    spilled: Vec<Option<T>>,
}

impl<T, const N: usize> InlineVec<T, N> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { len: 0, inline: array::from_fn(|_| None), spilled: Vec::new() }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let room = iter::repeat_with(|| None).take(capacity.saturating_sub(N));
        Self { spilled: room.collect(), ..Self::new() }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        if self.slot(self.len).is_none() {
            grow(self);
        }
        // The element does not go through `grow`: it would have to be in memory for that, to be read again at once.
        let Some(slot) = self.slot(self.len) else { no_room() };
        // Nothing is there to drop.
        mem::forget(slot.replace(element));
        self.len += 1;
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match self.inline.get(index) {
            Some(slot) => slot.as_ref(),
            None => self.spilled.get(index - N)?.as_ref(),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.slot(self.len)?.take()
    }

    /// Removes the element at `index`, keeping the order of the others.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let removed = self.slot(index)?.take()?;
        for later in index + 1..self.len {
            let moved = self.slot(later).and_then(Option::take);
            if let Some(slot) = self.slot(later - 1) {
                *slot = moved;
            }
        }
        self.len -= 1;
        Some(removed)
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        let (inline, spilled) = self.filled();
        self.inline[..inline].iter().chain(&self.spilled[..spilled]).flatten()
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        let (inline, spilled) = self.filled();
        self.inline[..inline].iter_mut().chain(&mut self.spilled[..spilled]).flatten()
    }

    pub(crate) fn into_iter(self) -> IntoIter<T, N> {
        self.inline.into_iter().chain(self.spilled).flatten()
    }

    /// How many slots are filled inline, and how many on the heap.
    #[inline]
    fn filled(&self) -> (usize, usize) {
        (self.len.min(N), self.len.saturating_sub(N))
    }

    #[inline]
    fn slot(&mut self, index: usize) -> Option<&mut Option<T>> {
        match index.checked_sub(N) {
            None => self.inline.get_mut(index),
            Some(index) => self.spilled.get_mut(index),
        }
    }
}

/// Makes room for more.
///
/// A C function does not unwind, which spares every caller that pushes what an iterator makes the code to drop an
/// iterator half done. Nothing here does unwind: an allocation that fails ends the program in any case.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "it is not for C")]
extern "C" fn grow<T, const N: usize>(list: &mut InlineVec<T, N>) {
    let room = (list.spilled.len() * 2).max(N);
    list.spilled.resize_with(room, || None);
}

/// Ends the program: [`grow`] has made room.
#[cold]
#[inline(never)]
extern "C" fn no_room() -> ! {
    unreachable!("there is room")
}

pub(crate) type IntoIter<T, const N: usize> =
    iter::Flatten<iter::Chain<array::IntoIter<Option<T>, N>, vec::IntoIter<Option<T>>>>;

impl<T: Clone, const N: usize> Clone for InlineVec<T, N> {
    fn clone(&self) -> Self {
        Self { len: self.len, inline: self.inline.clone(), spilled: self.spilled.clone() }
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
