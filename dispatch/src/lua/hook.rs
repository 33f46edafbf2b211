//! Looks at the clock every so many instructions of a script.
//!
//! `mlua` has hooks, too. But an error that one of those raises first cuts the stack of the function that runs, and with
//! that runs its `__close` handlers, when hooks are off and nothing can end them. And nothing there changes how often a
//! thread comes to its hook at a price that a script could be made to pay.
//!
//! The thread that `mlua` resumes never yields from a hook: behind every yield `mlua` cuts the stack of that thread to
//! nothing, and a function that a hook has suspended needs what it has there.

use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use mlua::Lua;
use mlua::ffi::{self, lua_Debug, lua_State};

use super::watch::Watch;

/// How many instructions are between two looks, where little is in memory.
const INSTRUCTIONS: usize = 64;
/// An instruction can cost as much as copying or comparing all there is in memory. So the more there is, the fewer
/// instructions are between two looks, where more than this is.
const SMALL: usize = 1 << 20;
/// But not fewer than these.
const FEWEST: usize = 8;
/// A longer time between two looks makes them more frequent.
const SLOW: Duration = Duration::from_millis(4);

/// Its address is the key of the watch in the registry, and the error that is raised once a call is over.
static KEY: u8 = 0;

fn key() -> *mut c_void {
    ptr::from_ref(&KEY).cast_mut().cast()
}

/// Has every thread of `lua` that is made from now on come to the hook. The watch has to live as long as `lua`, which it
/// does where a function that `lua` keeps refers to it.
#[allow(unsafe_code)]
pub(super) fn install(lua: &Lua, watch: &Arc<Watch>) -> mlua::Result<()> {
    let keeper = Arc::clone(watch);
    let keeper = lua.create_function(move |_, ()| Ok(Arc::strong_count(&keeper)))?;
    lua.set_named_registry_value("frame.watch", keeper)?;
    let count = c_int::try_from(INSTRUCTIONS).unwrap_or(c_int::MAX);
    lua.exec_raw_lua(|raw| {
        let state = raw.state();
        // SAFETY: `state` is the main thread of `lua`, whose lock is held here. What is pushed is popped again, which
        // takes less than the stack that is always there. The pointer stays valid: the function in the registry, which
        // no script reaches, keeps a reference to the watch until the VM is closed. A new thread inherits the hook.
        unsafe {
            ffi::lua_pushlightuserdata(state, Arc::as_ptr(watch).cast_mut().cast());
            ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, key());
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, count);
        }
    });
    Ok(())
}

/// Has the thread that runs come to its hook at every instruction, until those prove to be quick: a string was made that is
/// so long that one instruction on it takes its time.
#[allow(unsafe_code)]
pub(super) fn alert(lua: &Lua) {
    lua.exec_raw_lua(|raw| {
        // SAFETY: It is the thread that called the function which calls this, and Lua allows a thread to be given a hook
        // at any time.
        unsafe { ffi::lua_sethook(raw.state(), Some(hook), ffi::LUA_MASKCOUNT, 1) };
    });
}

/// The hook. Suspends the thread where its slice is used up, and it can be suspended; raises where it cannot, and the
/// call is over.
///
/// # Safety
///
/// Lua calls it, with the thread that runs.
#[allow(unsafe_code)]
unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    // SAFETY: Lua leaves a hook `LUA_MINSTACK` slots. The value is the pointer that `install` put there, valid as it
    // says, or nothing. Nothing unwinds, and where `lua_yield` or `lua_error` jump out nothing is left to be dropped.
    unsafe {
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, key());
        let watch: *const Watch = ffi::lua_touserdata(state, -1).cast();
        ffi::lua_pop(state, 1);
        let Some(watch) = watch.as_ref() else { return };
        let Ok(look) = catch_unwind(std::panic::AssertUnwindSafe(|| watch.hook(state.addr()))) else {
            return;
        };
        if adapt(state, look.since) {
            watch.looked();
        }
        if !look.is_over && !look.is_due {
            return;
        }
        if ffi::lua_isyieldable(state) != 0 {
            ffi::lua_yield(state, 0);
        } else if look.is_over {
            ffi::lua_pushlightuserdata(state, key());
            ffi::lua_error(state);
        }
    }
}

/// Has a thread come to its hook as often as what is in memory, and how long it took last time, suggest. Says whether
/// anything changed, which takes as long as its stack is deep.
///
/// # Safety
///
/// The hook calls it, with its thread.
#[allow(unsafe_code)]
unsafe fn adapt(state: *mut lua_State, since: Duration) -> bool {
    // SAFETY: Counting memory changes nothing, and Lua allows a thread to be given a hook at any time, its own included.
    unsafe {
        let kilobytes = usize::try_from(ffi::lua_gc(state, ffi::LUA_GCCOUNT)).unwrap_or(0);
        let most = (INSTRUCTIONS / ((kilobytes << 10) / SMALL + 1).next_power_of_two()).max(FEWEST);
        let count = usize::try_from(ffi::lua_gethookcount(state)).unwrap_or(0);
        let next = match count {
            _ if since > SLOW => (count / 8).max(1),
            _ if count > most => most,
            _ if count < most && since < SLOW / 8 => count * 2,
            _ => count,
        };
        let next = c_int::try_from(next.max(1)).unwrap_or(1);
        let is_changed = ffi::lua_gethookcount(state) != next;
        if is_changed {
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, next);
        }
        is_changed
    }
}
