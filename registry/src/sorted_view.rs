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

/// The table as the linker sorted it, if it did.
#[cfg(link_guarded)]
pub(crate) fn sorted_by_linker() -> Option<&'static [&'static LinkedResolver]> {
    type Element = &'static LinkedResolver;

    // SAFETY: the assembly above defines the symbol as two aligned words, each null or an address.
    unsafe extern "C" {
        #[allow(improper_ctypes)]
        #[link_name = "frame_registry_sorted_bounds"]
        safe static BOUNDS: [Option<NonNull<Element>>; 2];
    }

    let [start, stop] = BOUNDS;
    let (start, stop) = (start?, stop?);
    // SAFETY: both symbols are defined, so the linker took the script of `build.rs`, which puts between them the
    // sections named `.frame_resolvers.*` and nothing else. Only `#[frame_resolver]` makes such sections, each
    // one static of type `Element`; all have its size and alignment, so that no padding is between them.
    // They are part of the program and are not written after it was loaded.
    unsafe {
        let len = usize::try_from(stop.offset_from(start)).ok()?;
        Some(std::slice::from_raw_parts(start.as_ptr(), len))
    }
}

#[cfg(not(link_guarded))]
pub(crate) fn sorted_by_linker() -> Option<&'static [&'static LinkedResolver]> {
    None
}
