//! Reads the section that the linker sorted. The one module of this crate with `unsafe` in it.
#![allow(unsafe_code)]

#[cfg(link_guarded)]
use std::ptr::NonNull;

use crate::resolver::LinkedResolver;

// Two words, filled in by whoever loads the program: strong references to the script's symbols would not link
// where there is no script, and `extern` statics cannot be weak.
//
// Their second name is what the macros refer to from every resolver and option. It is hidden, so it is not found where
// the registry is in a shared library and the resolver outside of it, which this reader would never see.
#[cfg(link_guarded)]
std::arch::global_asm!(
    ".pushsection .data.rel.ro.frame_registry_sorted_bounds, \"aw\", %progbits",
    ".weak __frame_registry_sorted_start",
    ".hidden __frame_registry_sorted_start",
    ".weak __frame_registry_sorted_stop",
    ".hidden __frame_registry_sorted_stop",
    ".globl frame_registry_sorted_bounds",
    ".hidden frame_registry_sorted_bounds",
    ".globl frame_registry_is_in_another_library",
    ".hidden frame_registry_is_in_another_library",
    ".balign 8",
    "frame_registry_is_in_another_library:",
    "frame_registry_sorted_bounds:",
    ".quad __frame_registry_sorted_start",
    ".quad __frame_registry_sorted_stop",
    ".popsection",
);

/// The table as the linker sorted it, if it did: each of `elements` once.
#[cfg(link_guarded)]
pub(crate) fn sorted_by_linker(
    elements: &'static [LinkedResolver],
) -> Option<&'static [&'static LinkedResolver]> {
    /// What a section named `.frame_resolvers.*` holds. Read as this before it is known that nothing else is in
    /// between: a sanitizer may put padding there.
    type Element = Option<NonNull<LinkedResolver>>;

    // SAFETY: the assembly above defines the symbol as two aligned words, each null or an address.
    unsafe extern "C" {
        #[allow(improper_ctypes, reason = "two addresses")]
        #[link_name = "frame_registry_sorted_bounds"]
        safe static BOUNDS: [Option<NonNull<Element>>; 2];
    }

    let [start, stop] = BOUNDS;
    let (start, stop) = (start?, stop?);
    // Without room for padding, which must not even be looked at where a sanitizer put it.
    if stop.addr().get().checked_sub(start.addr().get())? != size_of::<Element>() * elements.len() {
        return None;
    }
    // SAFETY: both symbols are defined, so the linker took the script of `build.rs`, which puts between them the
    // sections named `.frame_resolvers.*` and nothing else. There is one word in each, and each resolver makes one such
    // section, so as many bytes as that are all of these words. They are part of the program and are not written after
    // it was loaded.
    let words = unsafe { std::slice::from_raw_parts(start.as_ptr(), elements.len()) };
    // One compare for each: what is below the table is, less its address, far above its size.
    let (table, size) = (elements.as_ptr().addr(), size_of_val(elements));
    let offset = |word: &Element| word.map_or(0, |word| word.addr().get()).wrapping_sub(table);
    if !words.iter().all(|word| offset(word) < size) {
        return None;
    }
    // SAFETY: each word is an address of the table, where only `#[frame_resolver]` refers to: to the start of an
    // element. A reference has the layout of such a word.
    Some(unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<&LinkedResolver>(), words.len()) })
}

#[cfg(not(link_guarded))]
pub(crate) fn sorted_by_linker(_: &[LinkedResolver]) -> Option<&'static [&'static LinkedResolver]> {
    None
}
