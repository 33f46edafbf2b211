//! Coroutines of scripts, and the one that a script itself runs in.
//!
//! A coroutine yields for one of three [reasons](Suspension). What the script yields is for whatever resumed the coroutine.
//! All else is passed outwards, coroutine by coroutine, to the driver of the VM. When that resumes the outermost coroutine, each
//! continues as if nothing had happened.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::ptr;

use mlua::ffi::{self, lua_KContext, lua_State};
use mlua::{Function, Lua, Table};

use super::preempt::{self, Suspension};
use super::protect;

/// How the script's own coroutine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It is done.
    Done,
    /// It is suspended.
    Suspended(Suspension),
    /// It failed outside of the script.
    Failed,
}

/// Puts the library into `library`, and returns what runs or resumes the script's own coroutine. That is called with the
/// function to run and its arguments, or with nothing to go on, and returns [`Stopped`] as a number, and two values.
pub(super) fn install(lua: &Lua, library: &Table) -> mlua::Result<Function> {
    let stock: Table = lua.globals().raw_get("coroutine")?;
    for name in ["create", "status"] {
        library.raw_set(name, stock.raw_get::<Function>(name)?)?;
    }
    // SAFETY: Each is called by Lua only, and follows the rules for a C function.
    unsafe {
        library.raw_set("close", lua.create_c_function(close)?)?;
        library.raw_set("isyieldable", lua.create_c_function(is_yieldable)?)?;
        library.raw_set("resume", lua.create_c_function(resume)?)?;
        library.raw_set("running", lua.create_c_function(running)?)?;
        library.raw_set("wrap", lua.create_c_function(wrap)?)?;
        library.raw_set("yield", lua.create_c_function(yield_)?)?;
        lua.exec_raw((), |state| {
            ffi::lua_newthread(state);
            ffi::lua_pushcclosure(state, run_main, 1);
        })
    }
}

impl Stopped {
    /// Of the number that [`run_main`] returns.
    pub(super) fn from_number(number: i32) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Suspended(Suspension::Interrupted),
            2 => Self::Suspended(Suspension::Waiting),
            _ => Self::Failed,
        }
    }
}

/// Runs or resumes the script's own coroutine, which is its upvalue.
unsafe extern "C-unwind" fn run_main(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let main = ffi::lua_tothread(state, ffi::lua_upvalueindex(1));
        let given = ffi::lua_gettop(state);
        if ffi::lua_checkstack(main, given) == 0 {
            ffi::luaL_error(state, c"stack overflow".as_ptr());
        }
        ffi::lua_xmove(state, main, given);
        preempt::set_main(main);
        let mut count = 0;
        let status = resume_thread(main, state, (given - 1).max(0), &raw mut count);
        let (stopped, count) = match status {
            ffi::LUA_OK => (0, count),
            ffi::LUA_YIELD => match preempt::suspension() {
                Suspension::Interrupted => (1, count),
                Suspension::Waiting => (2, count),
                Suspension::Script => (3, count),
            },
            _ => (3, 1),
        };
        ffi::lua_settop(state, 0);
        ffi::lua_pushinteger(state, stopped);
        let kept = if matches!(stopped, 1 | 2) { 0 } else { count.min(2) };
        ffi::lua_xmove(main, state, kept);
        ffi::lua_settop(state, 3);
        3
    }
}

/// `lua_resume`, during which `co` is the coroutine that the clock interrupts.
unsafe fn resume_thread(co: *mut lua_State, from: *mut lua_State, given: c_int, count: *mut c_int) -> c_int {
    let outer = preempt::switch_to(co);
    // SAFETY: As the caller says.
    let status = unsafe { ffi::lua_resume(co, from, given, count) };
    preempt::switch_to(outer);
    status
}

unsafe fn check_thread(state: *mut lua_State) -> *mut lua_State {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = ffi::lua_tothread(state, 1);
        if co.is_null() {
            protect::type_error(state, 1, c"coroutine");
        }
        co
    }
}

/// What came of resuming a coroutine.
#[derive(Clone, Copy)]
enum Resumed {
    /// So many values, on the stack of who resumed it.
    Values(c_int),
    /// The error, on that stack.
    Failed,
    /// What the C function has to return.
    Return(c_int),
}

/// Resumes `co` with `given` values, which are on the stack of `state`. `next` is called to go on, where a suspension was
/// passed outwards.
unsafe fn resume_with(
    state: *mut lua_State,
    co: *mut lua_State,
    given: c_int,
    next: ffi::lua_KFunction,
) -> Resumed {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if ffi::lua_checkstack(co, given) == 0 {
            push(state, c"too many arguments to resume");
            return Resumed::Failed;
        }
        ffi::lua_xmove(state, co, given);
        let mut count = 0;
        let status = preempt::pinned_by(state, || resume_thread(co, state, given, &raw mut count));
        match status {
            ffi::LUA_YIELD if preempt::suspension() != Suspension::Script => {}
            ffi::LUA_OK | ffi::LUA_YIELD => {
                if ffi::lua_checkstack(state, count + 1) == 0 {
                    ffi::lua_pop(co, count);
                    push(state, c"too many results to resume");
                    return Resumed::Failed;
                }
                ffi::lua_xmove(co, state, count);
                return Resumed::Values(count);
            }
            status => {
                if preempt::has_ended() {
                    return Resumed::Return(preempt::end(state));
                }
                ffi::lua_xmove(co, state, 1);
                protect::recover(state, status);
                return Resumed::Failed;
            }
        }
        if ffi::lua_isyieldable(state) != 0 {
            return Resumed::Return(ffi::lua_yieldk(state, 0, 0, Some(next)));
        }
        // In a function that C code calls back. Only a host function that waits gets here: the hook suspends nothing there.
        preempt::with_shared(|shared| shared.host.cancel());
        close_thread(co, state);
        if preempt::has_ended() {
            return Resumed::Return(preempt::end(state));
        }
        push(state, protect::ACROSS_C);
        Resumed::Failed
    }
}

unsafe fn push(state: *mut lua_State, text: &CStr) {
    // SAFETY: One slot is there.
    unsafe { ffi::lua_pushstring(state, text.as_ptr()) };
}

unsafe extern "C-unwind" fn resume(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = check_thread(state);
        resumed(state, resume_with(state, co, ffi::lua_gettop(state) - 1, resume_on))
    }
}

unsafe extern "C-unwind" fn resume_on(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor. The coroutine is where `resume` found it.
    unsafe {
        let co = ffi::lua_tothread(state, 1);
        resumed(state, resume_with(state, co, 0, resume_on))
    }
}

unsafe fn resumed(state: *mut lua_State, resumed: Resumed) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let (is_ok, count) = match resumed {
            Resumed::Return(count) => return count,
            Resumed::Values(count) => (true, count),
            Resumed::Failed => (false, 1),
        };
        ffi::lua_pushboolean(state, is_ok.into());
        ffi::lua_insert(state, -(count + 1));
        count + 1
    }
}

unsafe extern "C-unwind" fn wrap(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
        let co = ffi::lua_newthread(state);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_xmove(state, co, 1);
        ffi::lua_pushcclosure(state, call_wrapped, 1);
    }
    1
}

unsafe extern "C-unwind" fn call_wrapped(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = ffi::lua_tothread(state, ffi::lua_upvalueindex(1));
        wrapped(state, co, resume_with(state, co, ffi::lua_gettop(state), wrapped_on))
    }
}

unsafe extern "C-unwind" fn wrapped_on(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = ffi::lua_tothread(state, ffi::lua_upvalueindex(1));
        wrapped(state, co, resume_with(state, co, 0, wrapped_on))
    }
}

unsafe fn wrapped(state: *mut lua_State, co: *mut lua_State, resumed: Resumed) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        match resumed {
            Resumed::Return(count) | Resumed::Values(count) => count,
            Resumed::Failed => {
                let status = ffi::lua_status(co);
                if status != ffi::LUA_OK && status != ffi::LUA_YIELD {
                    // It failed, so its variables are closed, and an error of a handler takes the place of the first.
                    let status = close_thread(co, state);
                    if preempt::has_ended() {
                        return preempt::end(state);
                    }
                    ffi::lua_xmove(co, state, 1);
                    protect::recover(state, status);
                }
                if ffi::lua_type(state, -1) == ffi::LUA_TSTRING && status != ffi::LUA_ERRMEM {
                    ffi::luaL_where(state, 1);
                    ffi::lua_insert(state, -2);
                    ffi::lua_concat(state, 2);
                }
                ffi::lua_error(state)
            }
        }
    }
}

/// `lua_closethread`, during which `co` is the coroutine that the clock interrupts.
unsafe fn close_thread(co: *mut lua_State, from: *mut lua_State) -> c_int {
    let outer = preempt::switch_to(co);
    // SAFETY: As the caller says.
    let status = unsafe { ffi::lua_closethread(co, from) };
    preempt::switch_to(outer);
    status
}

unsafe extern "C-unwind" fn close(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = check_thread(state);
        let is_running = ptr::eq(co, state);
        if is_running || (ffi::lua_status(co) == ffi::LUA_OK && is_active(co)) {
            let kind = if is_running { c"running" } else { c"normal" };
            return ffi::luaL_error(state, c"cannot close a %s coroutine".as_ptr(), kind.as_ptr());
        }
        let status = close_thread(co, state);
        if preempt::has_ended() {
            return preempt::end(state);
        }
        if status == ffi::LUA_OK {
            ffi::lua_pushboolean(state, 1);
            return 1;
        }
        ffi::lua_pushboolean(state, 0);
        ffi::lua_xmove(co, state, 1);
        protect::recover(state, status);
        2
    }
}

/// Returns whether a thread that has not yielded runs a function.
unsafe fn is_active(co: *mut lua_State) -> bool {
    let mut activation = std::mem::MaybeUninit::<ffi::lua_Debug>::uninit();
    // SAFETY: It is written to, and not read.
    unsafe { ffi::lua_getstack(co, 0, activation.as_mut_ptr()) != 0 }
}

unsafe extern "C-unwind" fn yield_(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if preempt::is_main(state) {
            // Without a place, as Lua raises it.
            push(state, c"attempt to yield from outside a coroutine");
            ffi::lua_error(state);
        }
        if ffi::lua_isyieldable(state) != 0 {
            preempt::set_suspension(Suspension::Script);
        }
        // It raises where the coroutine cannot yield.
        ffi::lua_yieldk(state, ffi::lua_gettop(state), 0, None)
    }
}

unsafe extern "C-unwind" fn is_yieldable(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let co = ffi::lua_tothread(state, 1);
        let co = if co.is_null() { state } else { co };
        let is_yieldable = !preempt::is_main(co) && ffi::lua_isyieldable(co) != 0;
        ffi::lua_pushboolean(state, is_yieldable.into());
    }
    1
}

unsafe extern "C-unwind" fn running(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let is_main = preempt::is_main(state);
        ffi::lua_pushthread(state);
        ffi::lua_pushboolean(state, is_main.into());
    }
    2
}
