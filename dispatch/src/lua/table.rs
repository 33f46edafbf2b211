//! Functions on tables.
//!
//! Lua's own `concat`, `move` and `sort` are used where the work is bounded by what the table holds. A table whose length or
//! whose elements its metatable makes up, or a border far past its elements, could keep these busy forever: then the work is
//! done here, with a look at the clock now and then. `insert`, `remove` and `unpack` are short, so calling Lua's own would
//! take longer than what they do.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};

use mlua::ffi::{self, lua_CFunction, lua_Integer, lua_KContext, lua_State};
use mlua::{Function, Lua, Table};

use super::preempt;
use super::sort;

/// How many elements Lua's own functions move at most. It takes them some milliseconds.
const MOST: lua_Integer = if cfg!(test) { 4 } else { 1 << 19 };
/// How many steps are between two looks at the clock.
const STEPS: lua_KContext = if cfg!(test) { 2 } else { 1024 };

/// Puts the library into `library`.
pub(super) fn install(lua: &Lua, library: &Table) -> mlua::Result<()> {
    let stock: Table = lua.globals().raw_get("table")?;
    library.raw_set("pack", stock.raw_get::<Function>("pack")?)?;
    let less = lua.load("local a, b = ... return a < b").set_name("=[frame]").into_function()?;
    let functions: [(&str, lua_CFunction); 3] = [("insert", insert), ("remove", remove), ("unpack", unpack)];
    for (name, function) in functions {
        // SAFETY: The function reads no upvalues.
        let function: Function =
            unsafe { lua.exec_raw((), move |state| ffi::lua_pushcfunction(state, function)) }?;
        library.raw_set(name, function)?;
    }
    let functions: [(&str, lua_CFunction); 3] = [("concat", concat), ("move", move_), ("sort", sort::sort)];
    for (name, function) in functions {
        let own: Function = stock.raw_get(name)?;
        // SAFETY: The closure has the upvalues that it reads.
        let function: Function =
            unsafe { lua.exec_raw((own, &less), move |state| ffi::lua_pushcclosure(state, function, 2)) }?;
        library.raw_set(name, function)?;
    }
    Ok(())
}

/// Calls Lua's own function, which is the upvalue, in the place of the running one.
pub(super) unsafe fn stock(state: *mut lua_State) -> c_int {
    // SAFETY: The upvalue is a C function, and finds the arguments where they were.
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(function) => function(state),
            None => 0,
        }
    }
}

/// Returns whether the argument has a metatable.
unsafe fn has_metatable(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let has_metatable = ffi::lua_getmetatable(state, index) != 0;
        if has_metatable {
            ffi::lua_pop(state, 1);
        }
        has_metatable
    }
}

/// Returns whether the argument is a table without a metatable.
pub(super) unsafe fn is_plain(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: There is nothing with a destructor.
    unsafe { ffi::lua_type(state, index) == ffi::LUA_TTABLE && !has_metatable(state, index) }
}

unsafe fn raw_length(state: *mut lua_State, index: c_int) -> lua_Integer {
    // SAFETY: There is nothing with a destructor.
    lua_Integer::try_from(unsafe { ffi::lua_rawlen(state, index) }).unwrap_or(lua_Integer::MAX)
}

/// What a value that is not a table needs to be used as one.
const READ: &CStr = c"__index";
const WRITE: &CStr = c"__newindex";
const LENGTH: &CStr = c"__len";

/// Checks that the argument is a table, or has the metamethods that stand for one.
unsafe fn check_table(state: *mut lua_State, index: c_int, metamethods: &[&CStr]) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if ffi::lua_type(state, index) == ffi::LUA_TTABLE {
            return;
        }
        for metamethod in metamethods {
            if ffi::luaL_getmetafield(state, index, metamethod.as_ptr()) == ffi::LUA_TNIL {
                ffi::luaL_checktype(state, index, ffi::LUA_TTABLE);
            }
            ffi::lua_pop(state, 1);
        }
    }
}

/// Returns the length of the argument, which is a table without a metatable if `is_plain`.
unsafe fn length(state: *mut lua_State, index: c_int, is_plain: bool) -> lua_Integer {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if is_plain {
            return raw_length(state, index);
        }
        check_table(state, index, &[READ, WRITE, LENGTH]);
        ffi::luaL_len(state, index)
    }
}

unsafe extern "C-unwind" fn insert(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let is_plain = is_plain(state, 1);
        let end = length(state, 1, is_plain).wrapping_add(1);
        match ffi::lua_gettop(state) {
            2 if is_plain => {
                ffi::lua_rawseti(state, 1, end);
                0
            }
            2 => {
                ffi::lua_seti(state, 1, end);
                0
            }
            3 => {
                // As unsigned numbers, one comparison is enough.
                let position = ffi::luaL_checkinteger(state, 2);
                if position.wrapping_sub(1).cast_unsigned() >= end.cast_unsigned() {
                    return ffi::luaL_argerror(state, 2, c"position out of bounds".as_ptr());
                }
                ffi::lua_pushinteger(state, end);
                insert_on(state, ffi::LUA_OK, 0)
            }
            _ => ffi::luaL_error(state, c"wrong number of arguments to 'insert'".as_ptr()),
        }
    }
}

/// Moves elements up. The fourth value on the stack is where the last one goes, and so many have been moved.
unsafe extern "C-unwind" fn insert_on(state: *mut lua_State, _: c_int, moved: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let position = ffi::lua_tointeger(state, 2);
        let mut index = ffi::lua_tointeger(state, 4).wrapping_sub(moved as lua_Integer);
        let mut moved = moved;
        while index > position {
            ffi::lua_geti(state, 1, index - 1);
            ffi::lua_seti(state, 1, index);
            index -= 1;
            moved += 1;
            if moved % STEPS == 0 {
                preempt::pause(state, moved, insert_on, || ());
            }
        }
        ffi::lua_pushvalue(state, 3);
        ffi::lua_seti(state, 1, position);
        0
    }
}

unsafe extern "C-unwind" fn remove(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let is_plain = is_plain(state, 1);
        let size = length(state, 1, is_plain);
        if is_plain && ffi::lua_gettop(state) == 1 {
            ffi::lua_rawgeti(state, 1, size);
            ffi::lua_pushnil(state);
            ffi::lua_rawseti(state, 1, size);
            return 1;
        }
        let position = ffi::luaL_optinteger(state, 2, size);
        // As unsigned numbers, one comparison is enough.
        if position != size && position.wrapping_sub(1).cast_unsigned() > size.cast_unsigned() {
            return ffi::luaL_argerror(state, 2, c"position out of bounds".as_ptr());
        }
        ffi::lua_settop(state, 1);
        ffi::lua_pushinteger(state, position);
        ffi::lua_pushinteger(state, size);
        ffi::lua_geti(state, 1, position);
        remove_on(state, ffi::LUA_OK, 0)
    }
}

/// Moves elements down. The stack has the first position, the last and the removed element, and so many have been moved.
unsafe extern "C-unwind" fn remove_on(state: *mut lua_State, _: c_int, moved: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let size = ffi::lua_tointeger(state, 3);
        let mut position = ffi::lua_tointeger(state, 2).wrapping_add(moved as lua_Integer);
        let mut moved = moved;
        while position < size {
            ffi::lua_geti(state, 1, position + 1);
            ffi::lua_seti(state, 1, position);
            position += 1;
            moved += 1;
            if moved % STEPS == 0 {
                preempt::pause(state, moved, remove_on, || ());
            }
        }
        ffi::lua_pushnil(state);
        ffi::lua_seti(state, 1, position);
        1
    }
}

unsafe extern "C-unwind" fn move_(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let first = ffi::luaL_checkinteger(state, 2);
        let last = ffi::luaL_checkinteger(state, 3);
        let to = ffi::luaL_checkinteger(state, 4);
        let into = if ffi::lua_isnoneornil(state, 5) == 0 { 5 } else { 1 };
        let is_short = last < first || last.checked_sub(first).is_some_and(|steps| steps < MOST);
        if is_short && is_plain(state, 1) && is_plain(state, into) {
            return stock(state);
        }
        check_table(state, 1, &[READ]);
        check_table(state, into, &[WRITE]);
        if last >= first {
            if first <= 0 && last >= lua_Integer::MAX + first {
                return ffi::luaL_argerror(state, 3, c"too many elements to move".as_ptr());
            }
            if to > lua_Integer::MAX - (last - first) {
                return ffi::luaL_argerror(state, 4, c"destination wrap around".as_ptr());
            }
        }
        if into == 1 {
            ffi::lua_settop(state, 4);
            ffi::lua_pushvalue(state, 1);
        } else {
            ffi::lua_settop(state, 5);
        }
        move_on(state, ffi::LUA_OK, 0)
    }
}

/// Moves elements. The stack has the arguments, and so many have been moved.
unsafe extern "C-unwind" fn move_on(state: *mut lua_State, _: c_int, moved: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let [first, last, to] = [2, 3, 4].map(|index| ffi::lua_tointeger(state, index));
        let is_same = ffi::lua_rawequal(state, 1, 5) != 0;
        let is_forward = to > last || to <= first || !is_same;
        let mut moved = moved;
        while last >= first && moved as lua_Integer <= last - first {
            let step = moved as lua_Integer;
            let offset = if is_forward { step } else { last - first - step };
            ffi::lua_geti(state, 1, first + offset);
            ffi::lua_seti(state, 5, to + offset);
            moved += 1;
            if moved % STEPS == 0 {
                preempt::pause(state, moved, move_on, || ());
            }
        }
        1
    }
}

/// Looks at the clock now and then, in a loop that cannot be suspended. Does not return if the script has to end.
unsafe fn look(state: *mut lua_State, step: lua_Integer) {
    if step % (STEPS as lua_Integer) == 0 && preempt::has_to_end() {
        // SAFETY: As the caller says: there is nothing with a destructor.
        unsafe { preempt::end(state) };
    }
}

unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let is_plain = is_plain(state, 1);
        let first = ffi::luaL_optinteger(state, 2, 1);
        let last = if ffi::lua_isnoneornil(state, 3) == 0 {
            ffi::luaL_checkinteger(state, 3)
        } else if is_plain {
            raw_length(state, 1)
        } else {
            ffi::luaL_len(state, 1)
        };
        if first > last {
            return 0;
        }
        let count = last.wrapping_sub(first).wrapping_add(1);
        let count = if (1..1_000_000).contains(&count) { c_int::try_from(count).unwrap_or(0) } else { 0 };
        if count == 0 || ffi::lua_checkstack(state, count) == 0 {
            return ffi::luaL_error(state, c"too many results to unpack".as_ptr());
        }
        for step in 0..lua_Integer::from(count) {
            if is_plain {
                ffi::lua_rawgeti(state, 1, first + step);
            } else {
                ffi::lua_geti(state, 1, first + step);
                look(state, step);
            }
        }
        count
    }
}

unsafe extern "C-unwind" fn concat(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        // It ends at the first element that is not a string, and all that are strings take memory.
        if !has_metatable(state, 1) {
            return stock(state);
        }
        check_table(state, 1, &[READ, LENGTH]);
        let mut length = 0;
        let separator = ffi::luaL_optlstring(state, 2, c"".as_ptr(), &raw mut length);
        let first = ffi::luaL_optinteger(state, 3, 1);
        let last = if ffi::lua_isnoneornil(state, 4) == 0 {
            ffi::luaL_checkinteger(state, 4)
        } else {
            ffi::luaL_len(state, 1)
        };
        let mut buffer = std::mem::MaybeUninit::<ffi::luaL_Buffer>::uninit();
        let buffer = buffer.as_mut_ptr();
        ffi::luaL_buffinit(state, buffer);
        let mut index = first;
        while index <= last {
            ffi::lua_geti(state, 1, index);
            if ffi::lua_isstring(state, -1) == 0 {
                let message = c"invalid value (%s) at index %I in table for 'concat'";
                return ffi::luaL_error(state, message.as_ptr(), ffi::luaL_typename(state, -1), index);
            }
            ffi::luaL_addvalue(buffer);
            if index == last {
                break;
            }
            ffi::luaL_addlstring(buffer, separator, length);
            look(state, index.wrapping_sub(first));
            index += 1;
        }
        ffi::luaL_pushresult(buffer);
        1
    }
}
