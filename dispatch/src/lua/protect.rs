//! What catches the errors of scripts: `pcall`, `xpcall` and the body of a call. None of them catches the error that ends a
//! script.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::ptr;

use mlua::ffi::{self, lua_KContext, lua_State};
use mlua::{Function, Lua, Table, Value};

use super::fault;
use super::preempt;
use super::text;

/// What Lua says where a function that C code calls back yields.
pub(super) const ACROSS_C: &CStr = c"attempt to yield across a C-call boundary";

const STACK_OVERFLOW: &CStr = c"stack overflow";

/// What makes a value for the script of an error of the host. Kept in the registry.
static RECOVER: u8 = 0;

/// Puts `pcall` and `xpcall` into `base`. `recover` makes a value for the script of an error of the host.
pub(super) fn install(lua: &Lua, base: &Table, recover: Function) -> mlua::Result<()> {
    // SAFETY: Each is called by Lua only, and follows the rules for a C function.
    unsafe {
        base.raw_set("pcall", lua.create_c_function(pcall)?)?;
        base.raw_set("xpcall", lua.create_c_function(xpcall)?)?;
        lua.exec_raw::<()>(recover, |state| {
            ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, ptr::from_ref(&RECOVER).cast());
        })?;
        // Kept alive, so that pushing it allocates nothing.
        lua.set_named_registry_value("frame.overflow", STACK_OVERFLOW)
    }
}

/// Raises that argument `index` has the wrong type.
pub(super) unsafe fn type_error(state: *mut lua_State, index: c_int, expected: &CStr) -> ! {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let found = match ffi::luaL_getmetafield(state, index, c"__name".as_ptr()) {
            ffi::LUA_TSTRING => ffi::lua_tostring(state, -1),
            _ if ffi::lua_type(state, index) == ffi::LUA_TLIGHTUSERDATA => c"light userdata".as_ptr(),
            _ => ffi::luaL_typename(state, index),
        };
        ffi::lua_pushfstring(state, c"%s expected, got %s".as_ptr(), expected.as_ptr(), found);
        ffi::luaL_argerror(state, index, ffi::lua_tostring(state, -1));
        unreachable!("luaL_argerror does not return")
    }
}

/// Makes a value for the script of the error on top of the stack, if it is one of the host's own kind.
pub(super) unsafe fn recover(state: *mut lua_State, status: c_int) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        // It is caught, whether or not a message handler has seen it.
        preempt::take_raising();
        if status == ffi::LUA_ERRMEM {
            note_exhausted(state);
        }
        if ffi::lua_type(state, -1) == ffi::LUA_TUSERDATA {
            ffi::luaL_checkstack(state, 3, ptr::null());
            ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, ptr::from_ref(&RECOVER).cast());
            ffi::lua_insert(state, -2);
            ffi::lua_call(state, 1, 1);
        }
    }
}

/// Notes that memory ran out. Where functions called each other too deeply, makes the error on top of the stack say so.
unsafe fn note_exhausted(state: *mut lua_State) {
    preempt::with_shared(|shared| shared.watch.note_exhausted());
    if preempt::with_shared(|shared| shared.watch.is_overflow()) == Some(true) {
        // SAFETY: There is nothing with a destructor.
        unsafe {
            ffi::lua_pop(state, 1);
            ffi::lua_pushstring(state, STACK_OVERFLOW.as_ptr());
        }
    }
}

unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_checkany(state, 1);
        // The first result, if there is no error.
        ffi::lua_pushboolean(state, 1);
        ffi::lua_insert(state, 1);
        let given = ffi::lua_gettop(state) - 2;
        let status = ffi::lua_pcallk(state, given, ffi::LUA_MULTRET, 0, 0, Some(caught));
        caught(state, status, 0)
    }
}

unsafe extern "C-unwind" fn xpcall(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let given = ffi::lua_gettop(state) - 2;
        ffi::luaL_checktype(state, 2, ffi::LUA_TFUNCTION);
        ffi::lua_pushvalue(state, 2);
        ffi::lua_pushcclosure(state, handle, 1);
        ffi::lua_replace(state, 2);
        ffi::lua_pushboolean(state, 1);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rotate(state, 3, 2);
        let status = ffi::lua_pcallk(state, given, ffi::LUA_MULTRET, 2, 2, Some(caught));
        caught(state, status, 2)
    }
}

/// What `pcall` and `xpcall` return. `ignored` values are at the bottom of the stack.
unsafe extern "C-unwind" fn caught(state: *mut lua_State, status: c_int, ignored: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if status == ffi::LUA_OK || status == ffi::LUA_YIELD {
            return ffi::lua_gettop(state) - c_int::try_from(ignored).unwrap_or(0);
        }
        if preempt::has_ended() {
            return preempt::end(state);
        }
        recover(state, status);
        ffi::lua_pushboolean(state, 0);
        ffi::lua_insert(state, -2);
        2
    }
}

/// The message handler of `xpcall`, with the script's own as its upvalue.
unsafe extern "C-unwind" fn handle(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        // Hooks are off where one raised the error, so that nothing would end the script's handler.
        if preempt::take_raising() || preempt::has_ended() {
            return 1;
        }
        recover(state, ffi::LUA_ERRRUN);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, 1);
        1
    }
}

/// Makes the function that a script's coroutine runs: it is given what makes the script of an environment, and the payload.
/// It returns whether the script succeeded, and its result or its error. `environment` is the metatable of environments.
pub(super) fn body(lua: &Lua, environment: &Table) -> mlua::Result<Function> {
    let trace = lua.create_function(|lua, ()| {
        // Above it are this function and the message handler.
        let trace = lua.traceback(None, 2)?.to_string_lossy();
        preempt::with_shared(|shared| shared.watch.note_trace(trace));
        Ok(())
    })?;
    // SAFETY: Both are made into closures with the upvalues that they read.
    unsafe {
        lua.exec_raw((environment, trace), |state| {
            ffi::lua_pushcclosure(state, note_failure, 1);
            ffi::lua_pushcclosure(state, run_body, 2);
        })
    }
}

unsafe extern "C-unwind" fn run_body(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_settop(state, 2);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, 1);
        text::reset(state);
        // Libraries find what a script calls global through the registry.
        ffi::lua_createtable(state, 0, 8);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_setmetatable(state, -2);
        ffi::lua_pushvalue(state, -1);
        ffi::lua_rawseti(state, ffi::LUA_REGISTRYINDEX, ffi::LUA_RIDX_GLOBALS);
        // The handler, what makes the script, the payload, the environment.
        ffi::lua_pushvalue(state, 2);
        ffi::lua_insert(state, -2);
        ffi::lua_call(state, 1, 1);
        ffi::lua_replace(state, 2);
        let status = ffi::lua_pcallk(state, 1, 1, 1, 0, Some(body_done));
        body_done(state, status, 0)
    }
}

unsafe extern "C-unwind" fn body_done(state: *mut lua_State, status: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if status == ffi::LUA_ERRMEM {
            note_exhausted(state);
        }
        let is_ok = status == ffi::LUA_OK || status == ffi::LUA_YIELD;
        ffi::lua_pushboolean(state, is_ok.into());
        ffi::lua_insert(state, -2);
        2
    }
}

/// The message handler of a script: notes where it was, and has an error that describes itself do so.
unsafe extern "C-unwind" fn note_failure(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if preempt::take_raising() || preempt::has_ended() {
            return 1;
        }
        if ffi::lua_type(state, 1) == ffi::LUA_TSTRING {
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
            ffi::lua_call(state, 0, 0);
            return 1;
        }
        if ffi::lua_type(state, 1) != ffi::LUA_TUSERDATA
            && ffi::luaL_getmetafield(state, 1, c"__tostring".as_ptr()) != ffi::LUA_TNIL
        {
            // What raises is `fault`'s to read, beside its text.
            ffi::lua_settop(state, 1);
            ffi::luaL_tolstring(state, 1, ptr::null_mut());
            let keep = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).into_owned();
                preempt::with_shared(|shared| shared.watch.note_text(text));
            };
            let mut length = 0;
            let text = ffi::lua_tolstring(state, -1, &raw mut length);
            keep(std::slice::from_raw_parts(text.cast(), length));
            ffi::lua_settop(state, 1);
        }
        1
    }
}

/// Calls `recover` for a value that a script caught.
pub(super) fn recovering(lua: &Lua) -> mlua::Result<Function> {
    lua.create_function(|lua, error: Value| {
        preempt::with_shared(|shared| fault::recover(lua, shared, error)).unwrap_or(Ok(Value::Nil))
    })
}
