//! Basic functions that differ from Lua's own.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::ptr;

use mlua::ffi::{self, lua_KContext, lua_State};
use mlua::{Function, Lua, Table};

use super::compile;
use super::convert::Marks;
use super::preempt;

/// The longest source that `load` takes, in bytes. It cannot be suspended while it compiles.
const LONGEST_CHUNK: usize = 64 << 10;

/// Puts the functions into `base`, and returns the functions of `log`. `log` takes a level, a message and fields.
pub(super) fn install(lua: &Lua, base: &Table, marks: &Marks, log: &Function) -> mlua::Result<Table> {
    let stock = lua.globals();
    for name in [
        "assert",
        "error",
        "getmetatable",
        "ipairs",
        "next",
        "pairs",
        "rawequal",
        "rawget",
        "rawlen",
        "rawset",
        "select",
        "tonumber",
        "tostring",
        "type",
    ] {
        base.raw_set(name, stock.raw_get::<Function>(name)?)?;
    }
    let levels = lua.create_table()?;
    // SAFETY: Each is called by Lua only, follows the rules for a C function, and has the upvalues that it reads.
    unsafe {
        let checked: Function =
            lua.exec_raw(("__gc", "__mode"), |state| ffi::lua_pushcclosure(state, setmetatable, 2))?;
        base.raw_set("setmetatable", checked)?;
        base.raw_set("load", lua.create_c_function(load)?)?;
        let with = |f, values: (Table,)| {
            lua.exec_raw::<Function>(values, |state| ffi::lua_pushcclosure(state, f, 1))
        };
        base.raw_set("array", with(array, (marks.array.clone(),))?)?;
        base.raw_set("bytes", with(bytes, (marks.bytes.clone(),))?)?;
        let logs = |f, level: &str| {
            lua.exec_raw::<Function>((log, level), |state| ffi::lua_pushcclosure(state, f, 2))
        };
        base.raw_set("print", logs(print, "info")?)?;
        base.raw_set("warn", logs(warn, "warn")?)?;
        for level in ["trace", "debug", "info", "warn", "error"] {
            levels.raw_set(level, logs(log_at, level)?)?;
        }
    }
    Ok(levels)
}

/// Raises `text`, with the place of the function that called this one.
unsafe fn fail(state: *mut lua_State, text: &CStr) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe { ffi::luaL_error(state, c"%s".as_ptr(), text.as_ptr()) }
}

/// Without `__gc`, which would run with hooks switched off, and without weak keys, whose collection takes quadratic time. The
/// upvalues are the names of these two.
unsafe extern "C-unwind" fn setmetatable(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let kind = ffi::lua_type(state, 2);
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        if kind != ffi::LUA_TNIL && kind != ffi::LUA_TTABLE {
            super::protect::type_error(state, 2, c"nil or table");
        }
        ffi::lua_settop(state, 2);
        if kind == ffi::LUA_TTABLE {
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
            if ffi::lua_rawget(state, 2) != ffi::LUA_TNIL {
                return fail(
                    state,
                    c"a metatable with __gc is not allowed; use __close, or clean up before the script returns",
                );
            }
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
            if ffi::lua_rawget(state, 2) == ffi::LUA_TSTRING {
                let mut length = 0;
                let mode = ffi::lua_tolstring(state, -1, &raw mut length);
                if std::slice::from_raw_parts(mode.cast::<u8>(), length).contains(&b'k') {
                    return fail(
                        state,
                        c"a metatable with weak keys is not allowed; weak values are (__mode = \"v\")",
                    );
                }
            }
            ffi::lua_settop(state, 2);
        }
        if ffi::luaL_getmetafield(state, 1, c"__metatable".as_ptr()) != ffi::LUA_TNIL {
            return fail(state, c"cannot change a protected metatable");
        }
        ffi::lua_setmetatable(state, 1);
        1
    }
}

unsafe extern "C-unwind" fn load(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let has_environment = ffi::lua_isnone(state, 4) == 0;
        ffi::lua_settop(state, 4);
        // Where the source is: what the reader returned so far, if there is one.
        ffi::lua_pushboolean(state, has_environment.into());
        if ffi::lua_isstring(state, 1) != 0 {
            ffi::lua_pushvalue(state, 1);
            return load_text(state);
        }
        ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
        ffi::lua_pushstring(state, c"".as_ptr());
        read_on(state)
    }
}

/// Calls the reader for the next part of the source. The source so far is the sixth value on the stack.
unsafe fn read_on(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_pushvalue(state, 1);
        let status = ffi::lua_pcallk(state, 0, 1, 0, 0, Some(part_read));
        part_read(state, status, 0)
    }
}

unsafe extern "C-unwind" fn part_read(state: *mut lua_State, status: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if status != ffi::LUA_OK && status != ffi::LUA_YIELD {
            if preempt::has_ended() {
                return preempt::end(state);
            }
            super::protect::recover(state, status);
            ffi::lua_pushnil(state);
            ffi::lua_insert(state, -2);
            return 2;
        }
        if ffi::lua_isstring(state, -1) == 0 && ffi::lua_isnil(state, -1) == 0 {
            ffi::lua_pushnil(state);
            ffi::lua_pushstring(state, c"reader function must return a string".as_ptr());
            return 2;
        }
        let mut length = 0;
        let is_end = ffi::lua_isnil(state, -1) != 0 || {
            ffi::lua_tolstring(state, -1, &raw mut length);
            length == 0
        };
        if is_end {
            ffi::lua_pop(state, 1);
            return load_text(state);
        }
        ffi::lua_concat(state, 2);
        ffi::lua_tolstring(state, -1, &raw mut length);
        if length > LONGEST_CHUNK {
            return load_text(state);
        }
        if preempt::has_ended() {
            return preempt::end(state);
        }
        read_on(state)
    }
}

/// Compiles the sixth value on the stack; before it are the source or the reader, the name, the mode, the environment and
/// whether that was given.
unsafe fn load_text(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let mut length = 0;
        let source = ffi::lua_tolstring(state, 6, &raw mut length);
        if length > LONGEST_CHUNK {
            ffi::lua_pushnil(state);
            ffi::lua_pushfstring(
                state,
                c"the source is longer than %d bytes, the most that load takes".as_ptr(),
                c_int::try_from(LONGEST_CHUNK).unwrap_or(c_int::MAX),
            );
            return 2;
        }
        let default =
            if ffi::lua_type(state, 1) == ffi::LUA_TFUNCTION { c"=(load)".as_ptr() } else { source };
        let name = ffi::luaL_optlstring(state, 2, default, ptr::null_mut());
        let mode = ffi::luaL_optlstring(state, 3, c"bt".as_ptr(), ptr::null_mut());
        if !CStr::from_ptr(mode).to_bytes().contains(&b't') {
            ffi::lua_pushnil(state);
            ffi::lua_pushfstring(state, c"attempt to load a text chunk (mode is '%s')".as_ptr(), mode);
            return 2;
        }
        let source = std::slice::from_raw_parts(source.cast(), length);
        let status = compile::compile_pieces(state, source, CStr::from_ptr(name), &mut preempt::has_to_end);
        if status != ffi::LUA_OK {
            if preempt::has_ended() {
                return preempt::end(state);
            }
            ffi::lua_pushnil(state);
            ffi::lua_insert(state, -2);
            return 2;
        }
        if ffi::lua_toboolean(state, 5) != 0 {
            ffi::lua_pushvalue(state, 4);
            if ffi::lua_setupvalue(state, -2, 1).is_null() {
                ffi::lua_pop(state, 1);
            }
        }
        1
    }
}

unsafe extern "C-unwind" fn array(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if ffi::lua_isnoneornil(state, 1) != 0 {
            ffi::lua_settop(state, 0);
            ffi::lua_createtable(state, 0, 0);
        }
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(state, 1);
        if ffi::luaL_getmetafield(state, 1, c"__metatable".as_ptr()) != ffi::LUA_TNIL {
            ffi::lua_getmetatable(state, 1);
            if ffi::lua_rawequal(state, -1, ffi::lua_upvalueindex(1)) == 0 {
                return fail(state, c"cannot change a protected metatable");
            }
            ffi::lua_settop(state, 1);
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_setmetatable(state, 1);
        1
    }
}

unsafe extern "C-unwind" fn bytes(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TSTRING);
        ffi::lua_createtable(state, 1, 0);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rawseti(state, -2, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_setmetatable(state, -2);
        1
    }
}

/// Logs the message on top of the stack, and the fields that are the second argument if `has_fields`.
unsafe fn log(state: *mut lua_State, has_fields: bool) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, -2);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, -2);
        if has_fields {
            ffi::lua_pushvalue(state, 2);
        } else {
            ffi::lua_pushnil(state);
        }
        ffi::lua_call(state, 3, 0);
        0
    }
}

unsafe extern "C-unwind" fn log_at(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_settop(state, 2);
        ffi::luaL_tolstring(state, 1, ptr::null_mut());
        log(state, true)
    }
}

/// Joins the arguments as text and logs them.
unsafe fn log_all(state: *mut lua_State, separator: &CStr) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let count = ffi::lua_gettop(state);
        ffi::luaL_checkstack(state, 2 * count + 4, ptr::null());
        ffi::lua_pushstring(state, c"".as_ptr());
        for index in 1..=count {
            ffi::luaL_tolstring(state, index, ptr::null_mut());
            if index < count {
                ffi::lua_pushstring(state, separator.as_ptr());
            }
        }
        ffi::lua_concat(state, ffi::lua_gettop(state) - count);
        log(state, false)
    }
}

unsafe extern "C-unwind" fn print(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe { log_all(state, c"\t") }
}

unsafe extern "C-unwind" fn warn(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_checkany(state, 1);
        // Control messages, such as `@on`, are for an interpreter.
        if ffi::lua_gettop(state) == 1 && ffi::lua_type(state, 1) == ffi::LUA_TSTRING {
            let mut length = 0;
            let text = ffi::lua_tolstring(state, 1, &raw mut length);
            if std::slice::from_raw_parts(text.cast::<u8>(), length).starts_with(b"@") {
                return 0;
            }
        }
        log_all(state, c"")
    }
}
