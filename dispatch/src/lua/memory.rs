//! Notes why memory ran out. Lua says "not enough memory" also where functions call each other until no memory is left.
//! It has unwound the stack by the time that a script or the host sees the error.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use mlua::Lua;
use mlua::ffi::{self, lua_Alloc, lua_Debug};

use super::preempt;

/// About how many bytes a call takes on the stack, with what Lua knows of it.
const CALL: usize = 150;

/// The allocator of `mlua`, which counts and limits what a VM uses. It is the same for all.
static STOCK: OnceLock<lua_Alloc> = OnceLock::new();

/// Has the failures of the VM's allocator noted. [`release`] has to be called before the VM is closed.
pub(super) fn watch(lua: &Lua) {
    // SAFETY: The allocator is called with the data that the one before it was called with.
    lua.exec_raw_lua(|raw| unsafe {
        let mut data = ptr::null_mut();
        let stock = ffi::lua_getallocf(raw.state(), &raw mut data);
        if ptr::fn_addr_eq(*STOCK.get_or_init(|| stock), stock) {
            ffi::lua_setallocf(raw.state(), allocate, data);
        }
    });
}

/// Gives the VM back the allocator that it was made with, by which `mlua` knows it when it closes the VM.
pub(super) fn release(lua: &Lua) {
    // SAFETY: As above.
    lua.exec_raw_lua(|raw| unsafe {
        let mut data = ptr::null_mut();
        ffi::lua_getallocf(raw.state(), &raw mut data);
        if let Some(stock) = STOCK.get() {
            ffi::lua_setallocf(raw.state(), *stock, data);
        }
    });
}

/// The allocator, with a look at where the script is when it fails.
unsafe extern "C" fn allocate(data: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    let Some(stock) = STOCK.get() else { return ptr::null_mut() };
    // SAFETY: Lua calls this as it would call the other.
    let block = unsafe { stock(data, block, old, new) };
    if block.is_null() && new > 0 {
        note_failure();
    }
    block
}

#[cold]
fn note_failure() {
    let state = preempt::running();
    if state.is_null() {
        return;
    }
    preempt::with_shared(|shared| {
        let deep = c_int::try_from(shared.memory / 4 / CALL).unwrap_or(c_int::MAX);
        let mut activation = std::mem::MaybeUninit::<lua_Debug>::uninit();
        // SAFETY: The coroutine is the one that runs, whose calls are linked in a list at any time; this only walks it.
        let is_deep = unsafe { ffi::lua_getstack(state, deep, activation.as_mut_ptr()) != 0 };
        shared.watch.note_overflow(is_deep);
    });
}
