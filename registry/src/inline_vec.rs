//! A vector whose first elements live inline.

use std::{array, iter, mem, slice, vec};

/// Up to `N` elements are inline; more of them are all on the heap.
///
/// Room is an `Option` that is `None`, on the heap too, so that pushing is to find the slot and to write it.
#[derive(Clone)]
pub(crate) struct InlineVec<T, const N: usize> {
    // Both in one word, to be written as one when a list is made.
    len: u32,
    marked: u32,
    slots: Slots<T, N>,
}

/// Nothing hands out a pinned element.
impl<T, const N: usize> Unpin for InlineVec<T, N> {}

#[derive(Clone)]
enum Slots<T, const N: usize> {
    Inline([Option<T>; N]),
    /// As long as there is room.
    Heap(Vec<Option<T>>),
}

impl<T, const N: usize> InlineVec<T, N> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { len: 0, marked: 0, slots: Slots::Inline(array::from_fn(|_| None)) }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        if capacity <= N {
            return Self::new();
        }
        Self { len: 0, marked: 0, slots: Slots::Heap((0..capacity).map(|_| None).collect()) }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) const fn count(&self) -> u32 {
        self.len
    }

    /// How many of the first elements the owner of the list has marked; 0 at first. Removing an element takes the mark
    /// from those that come after it.
    #[inline]
    pub(crate) const fn marked(&self) -> usize {
        self.marked as usize
    }

    #[inline]
    pub(crate) fn mark_all(&mut self) {
        self.marked = self.len;
    }

    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        // The element does not go through `grow`: it would have to be in memory for that, to be read again at once.
        let slot = match self.slot(self.len()) {
            Some(slot) => slot,
            None => grow(self),
        };
        // Nothing is there to drop.
        mem::forget(slot.replace(element));
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.marked = self.marked.min(self.len);
        self.slot(self.len())?.take()
    }

    /// Removes the element at `index`, keeping the order of the others.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let removed = self.slot(index)?.take()?;
        let len = self.len();
        // Moves the empty slot to the end.
        self.slots_mut()[index..len].rotate_left(1);
        self.len -= 1;
        self.marked = u32::try_from(index).map_or(self.marked, |index| self.marked.min(index));
        Some(removed)
    }

    #[inline]
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.slots().iter().flatten()
    }

    /// As [`iter`](Self::iter), but only forwards: it ends at the first slot that is room, and looks at no other.
    #[inline]
    pub(crate) fn forwards(&self) -> impl Iterator<Item = &T> {
        self.slots().iter().map_while(Option::as_ref)
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.slots_mut().iter_mut().flatten()
    }

    pub(crate) fn into_iter(self) -> IntoIter<T, N> {
        let (inline, heap) = match self.slots {
            Slots::Inline(slots) => (slots, Vec::new()),
            Slots::Heap(slots) => (array::from_fn(|_| None), slots),
        };
        inline.into_iter().chain(heap).flatten()
    }

    /// The slots with an element.
    #[inline]
    pub(crate) fn filled(&self) -> &[Option<T>] {
        &self.slots()[..self.len()]
    }

    /// The slots, those that are room included.
    #[inline]
    fn slots(&self) -> &[Option<T>] {
        match &self.slots {
            Slots::Inline(slots) => slots,
            Slots::Heap(slots) => slots,
        }
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Option<T>] {
        match &mut self.slots {
            Slots::Inline(slots) => slots,
            Slots::Heap(slots) => slots,
        }
    }

    #[inline]
    fn slot(&mut self, index: usize) -> Option<&mut Option<T>> {
        // Not of `slots_mut`: each arm by itself is half as many instructions.
        match &mut self.slots {
            Slots::Inline(slots) => slots.get_mut(index),
            Slots::Heap(slots) => slots.get_mut(index),
        }
    }
}

/// Makes room for more, and returns the first slot of it.
///
/// A C function does not unwind, which spares every caller that pushes what an iterator makes the code to drop an
/// iterator half done. Nothing here does unwind: an allocation that fails ends the program in any case.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "it is not for C")]
extern "C" fn grow<T, const N: usize>(list: &mut InlineVec<T, N>) -> &mut Option<T> {
    let filled = list.len();
    // A longer list does not fit into memory, so this is never reached.
    assert!(u32::try_from(filled * 2).is_ok(), "a list has at most `u32::MAX` elements");
    match &mut list.slots {
        Slots::Inline(inline) => {
            let mut slots = Vec::with_capacity(N * 2);
            slots.extend(inline.iter_mut().map(Option::take));
            slots.resize_with(N * 2, || None);
            list.slots = Slots::Heap(slots);
        }
        Slots::Heap(slots) => slots.resize_with(filled * 2, || None),
    }
    &mut list.slots_mut()[filled]
}

pub(crate) type Iter<'a, T> = iter::Flatten<slice::Iter<'a, Option<T>>>;

pub(crate) type IntoIter<T, const N: usize> =
    iter::Flatten<iter::Chain<array::IntoIter<Option<T>, N>, vec::IntoIter<Option<T>>>>;

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
