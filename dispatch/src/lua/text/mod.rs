//! The string library. Lua's own functions are used where their work is bounded by the length of a string. The others are in
//! Rust.

#![allow(unsafe_code)]

mod search;

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::slice;

use mlua::ffi::{self, lua_CFunction, lua_State};
use mlua::{Function, Lua, Table};

use super::preempt;
use super::table::stock;

pub(super) use self::search::reset;

/// The longest format that the functions for binary data take. Each of its bytes can be an option that takes a while.
const LONGEST_FORMAT: usize = 64 << 10;

/// How many values `format` takes. A number takes it some microseconds.
const MOST_FORMATTED: c_int = 10_000;

/// How many bytes `%q` of `format` quotes in one call. Each can take as long as a number.
const MOST_QUOTED: usize = 1 << 20;

/// Puts the library into `library`.
pub(super) fn install(lua: &Lua, library: &Table) -> mlua::Result<()> {
    let own: Table = lua.globals().raw_get("string")?;
    for name in ["byte", "char", "len", "lower", "reverse", "sub", "upper"] {
        library.raw_set(name, own.raw_get::<Function>(name)?)?;
    }
    // SAFETY: Each is called by Lua only, follows the rules for a C function, and has the upvalue that it reads.
    unsafe {
        let bounded: [(&str, lua_CFunction); 4] =
            [("format", format), ("pack", with_format), ("packsize", with_format), ("unpack", with_format)];
        for (name, function) in bounded {
            let own: Function = own.raw_get(name)?;
            let function: Function =
                lua.exec_raw(own, move |state| ffi::lua_pushcclosure(state, function, 1))?;
            library.raw_set(name, function)?;
        }
        library.raw_set("rep", lua.create_c_function(rep)?)?;
    }
    search::install(lua, library)
}

/// The bytes of a string that is on the stack, and stays there while they are used.
unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: Lua does not move a string. The caller has checked that it is one.
    unsafe {
        let mut length = 0;
        let bytes = ffi::lua_tolstring(state, index, &raw mut length);
        slice::from_raw_parts(bytes.cast(), length)
    }
}

unsafe fn check_bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: As above.
    unsafe {
        let mut length = 0;
        let bytes = ffi::luaL_checklstring(state, index, &raw mut length);
        slice::from_raw_parts(bytes.cast(), length)
    }
}

unsafe fn push(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: One slot is there.
    unsafe { ffi::lua_pushlstring(state, bytes.as_ptr().cast(), bytes.len()) };
}

/// Raises an error, with the place of the function that called this one.
unsafe fn fail(state: *mut lua_State, message: &str) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_where(state, 1);
        push(state, message.as_bytes());
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

unsafe extern "C-unwind" fn rep(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let text = check_bytes(state, 1);
        let count = ffi::luaL_checkinteger(state, 2);
        let separator = if ffi::lua_isnoneornil(state, 3) == 0 { check_bytes(state, 3) } else { b"" };
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 || text.len() + separator.len() == 0 {
            ffi::lua_pushstring(state, c"".as_ptr());
            return 1;
        }
        let memory = preempt::with_shared(|shared| shared.memory).unwrap_or(usize::MAX);
        let length = (text.len() + separator.len()).checked_mul(count).map(|length| length - separator.len());
        let Some(length) = length.filter(|length| *length <= memory) else {
            return ffi::luaL_error(state, c"resulting string too large".as_ptr());
        };
        if length <= ffi::LUAL_BUFFERSIZE {
            let mut buffer = MaybeUninit::<ffi::luaL_Buffer>::uninit();
            let bytes: *mut u8 = ffi::luaL_buffinitsize(state, buffer.as_mut_ptr(), length).cast();
            bytes.write_bytes(0, length);
            repeat(slice::from_raw_parts_mut(bytes, length), text, separator);
            ffi::luaL_pushresultsize(buffer.as_mut_ptr(), length);
            return 1;
        }
        if push_repeated(state, text, separator, length) != ffi::LUA_OK {
            preempt::with_shared(|shared| shared.watch.note_exhausted());
            ffi::lua_error(state);
        }
        1
    }
}

/// Fills `result` with `text`, over and over, and separators in between.
fn repeat(result: &mut [u8], text: &[u8], separator: &[u8]) {
    let (first, rest) = result.split_at_mut(text.len());
    first.copy_from_slice(text);
    if rest.is_empty() {
        return;
    }
    rest[..separator.len()].copy_from_slice(separator);
    // The whole is made of ever larger parts.
    let mut filled = text.len() + separator.len();
    while filled < result.len() {
        let part = filled.min(result.len() - filled);
        result.copy_within(..part, filled);
        filled += part;
    }
}

/// Pushes a long string, or else an error, and returns the status. The string is made outside the VM, whose memory need not
/// hold it twice, and pushed where an error of Lua does not leave it behind.
unsafe fn push_repeated(state: *mut lua_State, text: &[u8], separator: &[u8], length: usize) -> c_int {
    unsafe extern "C-unwind" fn push_bytes(state: *mut lua_State) -> c_int {
        // SAFETY: It is called below, with a slice that outlives the call.
        unsafe {
            let bytes: *const &[u8] = ffi::lua_touserdata(state, 1).cast();
            push(state, *bytes);
        }
        1
    }
    let mut result = vec![0; length];
    repeat(&mut result, text, separator);
    let bytes: &[u8] = &result;
    // SAFETY: What could raise is called in protected mode. Pushing these two takes no memory.
    unsafe {
        ffi::lua_pushcfunction(state, push_bytes);
        ffi::lua_pushlightuserdata(state, (&raw const bytes).cast_mut().cast());
        ffi::lua_pcall(state, 1, 1, 0)
    }
}

/// Lua's own function, which is the upvalue, for a format that is not too long.
unsafe extern "C-unwind" fn with_format(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if check_bytes(state, 1).len() > LONGEST_FORMAT {
            return ffi::luaL_argerror(state, 1, c"format too long".as_ptr());
        }
        stock(state)
    }
}

/// Lua's own `format`, which is the upvalue, for as much as it formats without being interrupted.
unsafe extern "C-unwind" fn format(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let count = ffi::lua_gettop(state);
        if count > MOST_FORMATTED {
            return ffi::luaL_error(state, c"too many values to format".as_ptr());
        }
        let format = check_bytes(state, 1);
        if memchr::memchr(b'q', format).is_some() {
            let mut quoted = 0;
            for index in quoted_values(format).take_while(|index| *index <= count) {
                quoted += ffi::lua_rawlen(state, index);
                if ffi::lua_type(state, index) == ffi::LUA_TSTRING && quoted > MOST_QUOTED {
                    return ffi::luaL_argerror(state, index, c"string too long to be quoted".as_ptr());
                }
            }
        }
        stock(state)
    }
}

/// The arguments of `format` that are formatted with `%q`.
fn quoted_values(format: &[u8]) -> impl Iterator<Item = c_int> {
    let mut rest = format.iter();
    let mut index: c_int = 1;
    std::iter::from_fn(move || {
        loop {
            rest.find(|byte| **byte == b'%')?;
            // Flags, width and precision, which `%q` has none of, are before the letter.
            match rest.find(|byte| !b"-+ #0123456789.".contains(byte))? {
                b'%' => {}
                letter => {
                    index = index.saturating_add(1);
                    if *letter == b'q' {
                        return Some(index);
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_quoted_are_found() {
        let found = |format: &str| quoted_values(format.as_bytes()).collect::<Vec<_>>();
        assert_eq!(found("%q"), [2]);
        assert_eq!(found("%s %% %5.2f %q%-10s%q%"), [4, 6]);
        assert_eq!(found("q %%q %d"), [] as [c_int; 0]);
    }
}
