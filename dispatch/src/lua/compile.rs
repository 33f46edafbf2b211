//! Compiles sources in pieces, between which it can be given up.
//!
//! Nothing interrupts Lua's compiler, and the work for some sources grows with their square: a list of operands with `or` in
//! between is walked for each of them. But it asks for its source, and what it asks can raise an error.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlua::ffi::{self, lua_State};

/// How many bytes the compiler is given at once.
const PIECE: usize = 512;

struct Pieces<'a> {
    rest: &'a [u8],
    is_given_up: &'a mut dyn FnMut() -> bool,
}

/// Compiles a source, which is text, and pushes the function or an error. Returns the status. `is_given_up` is asked before
/// each piece.
///
/// # Safety
///
/// As for `lua_load`.
pub(super) unsafe fn load(
    state: *mut lua_State,
    source: &[u8],
    name: &CStr,
    is_given_up: &mut dyn FnMut() -> bool,
) -> c_int {
    let mut pieces = Pieces { rest: source, is_given_up };
    // SAFETY: The pieces outlive the call. Bytecode, which can break out of Lua, is refused.
    unsafe { ffi::lua_load(state, next_piece, (&raw mut pieces).cast(), name.as_ptr(), c"t".as_ptr()) }
}

unsafe extern "C-unwind" fn next_piece(
    state: *mut lua_State,
    data: *mut c_void,
    size: *mut usize,
) -> *const c_char {
    // SAFETY: It is called with the pieces above. Where the error jumps out, there is nothing with a destructor.
    unsafe {
        let pieces: &mut Pieces<'_> = &mut *data.cast();
        if catch_unwind(AssertUnwindSafe(|| (pieces.is_given_up)())).unwrap_or(true) {
            ffi::lua_pushstring(state, c"the source takes too long to compile".as_ptr());
            ffi::lua_error(state);
        }
        let (piece, rest) = pieces.rest.split_at(pieces.rest.len().min(PIECE));
        pieces.rest = rest;
        *size = piece.len();
        piece.as_ptr().cast()
    }
}
