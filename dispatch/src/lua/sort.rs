//! `table.sort`: Lua's own for few elements that are quick to compare, and otherwise a merge sort which can be suspended
//! between two comparisons, and in the comparison function or the metamethods of the script.

#![allow(unsafe_code)]

use std::ffi::c_int;

use mlua::ffi::{self, lua_Integer, lua_KContext, lua_State};

use super::preempt::{self, has_to_end};
use super::table::{is_plain, stock};

/// How many elements Lua's own function sorts, and how long they are if they are strings. It takes it some milliseconds.
const FEW: lua_Integer = if cfg!(test) { 4 } else { 4096 };
const SHORT: usize = 1024;
/// How many steps are between two looks at the clock.
const STEPS: u32 = if cfg!(test) { 2 } else { 256 };

// Where values are on the stack.
const TABLE: c_int = 1;
const LESS: c_int = 2;
/// The elements: the table itself if it is plain, else a copy.
const ELEMENTS: c_int = 3;
const SCRATCH: c_int = 4;
const STATE: c_int = 5;
/// The next element of the left and of the right run.
const LEFT: c_int = 6;
const RIGHT: c_int = 7;

/// Where the sort is. It is in the memory of the VM, because the sort can be abandoned anywhere.
struct Sort {
    count: lua_Integer,
    /// How long sorted runs are.
    width: lua_Integer,
    /// The two runs that are merged begin at `first` and `middle`, the second ends at `last`.
    first: lua_Integer,
    middle: lua_Integer,
    last: lua_Integer,
    /// The next element of either, and the next place in the output. Nothing is merged if `out` is 0.
    left: lua_Integer,
    right: lua_Integer,
    out: lua_Integer,
    /// The elements are in the scratch table.
    is_swapped: bool,
    has_less: bool,
    steps: u32,
}

pub(super) unsafe extern "C-unwind" fn sort(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let is_plain = is_plain(state, TABLE);
        if !is_plain {
            if ffi::lua_getmetatable(state, TABLE) == 0 {
                ffi::luaL_checktype(state, TABLE, ffi::LUA_TTABLE);
            }
            ffi::lua_pop(state, 1);
        }
        let count = ffi::luaL_len(state, TABLE);
        if count < 2 {
            return 0;
        }
        if count >= lua_Integer::from(c_int::MAX) {
            return ffi::luaL_argerror(state, TABLE, c"array too big".as_ptr());
        }
        let has_less = ffi::lua_isnoneornil(state, LESS) == 0;
        if has_less {
            ffi::luaL_checktype(state, LESS, ffi::LUA_TFUNCTION);
        }
        ffi::lua_settop(state, LESS);
        if is_plain && !has_less && count <= FEW && are_quick(state, count) {
            return stock(state);
        }
        let has_less = has_less || use_metamethods(state, count);
        if is_plain {
            ffi::lua_pushvalue(state, TABLE);
        } else {
            ffi::lua_createtable(state, 0, 0);
        }
        ffi::lua_createtable(state, if is_plain { c_int::try_from(count).unwrap_or(0) } else { 0 }, 0);
        let sort: *mut Sort = ffi::lua_newuserdatauv(state, size_of::<Sort>(), 0).cast();
        sort.write(Sort {
            count,
            width: 1,
            first: 1,
            middle: 1,
            last: 0,
            left: 0,
            right: 0,
            out: 0,
            is_swapped: false,
            has_less,
            steps: 0,
        });
        ffi::lua_settop(state, RIGHT);
        if !is_plain {
            for index in 1..=count {
                ffi::lua_geti(state, TABLE, index);
                ffi::lua_rawseti(state, ELEMENTS, index);
                if index % lua_Integer::from(STEPS) == 0 && has_to_end() {
                    return preempt::end(state);
                }
            }
        }
        go_on(state)
    }
}

/// Returns whether all elements are numbers, or all are short strings.
unsafe fn are_quick(state: *mut lua_State, count: lua_Integer) -> bool {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        (1..=count).all(|index| {
            let is_quick = match ffi::lua_rawgeti(state, TABLE, index) {
                ffi::LUA_TNUMBER => true,
                ffi::LUA_TSTRING => ffi::lua_rawlen(state, -1) <= SHORT,
                _ => false,
            };
            ffi::lua_pop(state, 1);
            is_quick
        })
    }
}

/// Compares by a function in Lua, if any element has a metamethod for that. Only from there it can be suspended.
unsafe fn use_metamethods(state: *mut lua_State, count: lua_Integer) -> bool {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        for index in 1..=count {
            ffi::lua_geti(state, TABLE, index);
            let has_metamethod = !matches!(ffi::lua_type(state, -1), ffi::LUA_TNUMBER | ffi::LUA_TSTRING)
                && ffi::luaL_getmetafield(state, -1, c"__lt".as_ptr()) != ffi::LUA_TNIL;
            ffi::lua_settop(state, LESS);
            if has_metamethod {
                ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
                ffi::lua_replace(state, LESS);
                return true;
            }
            if index % lua_Integer::from(STEPS) == 0 && has_to_end() {
                preempt::end(state);
            }
        }
        false
    }
}

unsafe extern "C-unwind" fn resumed(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe { go_on(state) }
}

unsafe extern "C-unwind" fn compared(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor. The result is on top of the stack.
    unsafe {
        let is_less = ffi::lua_toboolean(state, -1) != 0;
        ffi::lua_pop(state, 1);
        take(state, &mut *ffi::lua_touserdata(state, STATE).cast(), is_less);
        go_on(state)
    }
}

/// Sorts, from wherever it is.
unsafe fn go_on(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor. The state is on the stack, which keeps it.
    unsafe {
        let sort: &mut Sort = &mut *ffi::lua_touserdata(state, STATE).cast();
        loop {
            sort.steps += 1;
            if sort.steps >= STEPS {
                sort.steps = 0;
                preempt::pause(state, 0, resumed, || ());
            }
            if sort.out == 0 {
                if !begin(state, sort) {
                    return finish(state, sort);
                }
            } else if sort.left < sort.middle && sort.right <= sort.last {
                let is_less = if sort.has_less {
                    ffi::lua_pushvalue(state, LESS);
                    ffi::lua_pushvalue(state, RIGHT);
                    ffi::lua_pushvalue(state, LEFT);
                    ffi::lua_callk(state, 2, 1, 0, Some(compared));
                    let is_less = ffi::lua_toboolean(state, -1) != 0;
                    ffi::lua_pop(state, 1);
                    is_less
                } else {
                    ffi::lua_compare(state, RIGHT, LEFT, ffi::LUA_OPLT) != 0
                };
                take(state, sort, is_less);
            } else if sort.left < sort.middle {
                take(state, sort, false);
            } else if sort.right <= sort.last {
                take(state, sort, true);
            } else {
                sort.out = 0;
                sort.first = sort.last + 1;
            }
        }
    }
}

impl Sort {
    const fn source(&self) -> c_int {
        if self.is_swapped { SCRATCH } else { ELEMENTS }
    }

    const fn target(&self) -> c_int {
        if self.is_swapped { ELEMENTS } else { SCRATCH }
    }
}

/// Begins to merge the next two runs. Returns whether there are any.
unsafe fn begin(state: *mut lua_State, sort: &mut Sort) -> bool {
    if sort.first > sort.count {
        sort.is_swapped = !sort.is_swapped;
        sort.first = 1;
        sort.width *= 2;
    }
    if sort.width >= sort.count {
        return false;
    }
    sort.middle = (sort.first + sort.width).min(sort.count + 1);
    sort.last = (sort.first + 2 * sort.width - 1).min(sort.count);
    (sort.left, sort.right, sort.out) = (sort.first, sort.middle, sort.first);
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_rawgeti(state, sort.source(), sort.left);
        ffi::lua_replace(state, LEFT);
        ffi::lua_rawgeti(state, sort.source(), sort.right);
        ffi::lua_replace(state, RIGHT);
    }
    true
}

/// Moves the next element of the right or the left run to the output.
unsafe fn take(state: *mut lua_State, sort: &mut Sort, from_right: bool) {
    let (slot, next) = if from_right { (RIGHT, &mut sort.right) } else { (LEFT, &mut sort.left) };
    *next += 1;
    let next = *next;
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_pushvalue(state, slot);
        ffi::lua_rawseti(state, sort.target(), sort.out);
        ffi::lua_rawgeti(state, sort.source(), next);
        ffi::lua_replace(state, slot);
    }
    sort.out += 1;
}

/// Copies the elements to where they belong, unless they are there.
unsafe fn finish(state: *mut lua_State, sort: &Sort) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if sort.source() == SCRATCH || ffi::lua_rawequal(state, TABLE, ELEMENTS) == 0 {
            for index in 1..=sort.count {
                ffi::lua_rawgeti(state, sort.source(), index);
                ffi::lua_seti(state, TABLE, index);
                if index % lua_Integer::from(STEPS) == 0 && has_to_end() {
                    return preempt::end(state);
                }
            }
        }
        0
    }
}
