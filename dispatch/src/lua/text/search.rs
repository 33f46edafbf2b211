//! The functions that match patterns. Plain Lua's matcher can neither be stopped nor suspended; these can.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;

use mlua::ffi::{self, lua_Integer, lua_KContext, lua_State};
use mlua::{Function, Lua, Table};

use super::{bytes, check_bytes, fail, push};
use crate::lua::pattern::{Capture, Matcher, PatternError, PlainSearch, Progress, is_plain, split_anchor};
use crate::lua::preempt;

/// How many steps are between two looks at the clock. They take some microseconds.
const STEPS: u64 = if cfg!(test) { 3 } else { 2048 };

/// Puts the functions into `library`.
pub(super) fn install(lua: &Lua, library: &Table) -> mlua::Result<()> {
    // SAFETY: Each is called by Lua only, follows the rules for a C function, and has the upvalue that it reads.
    unsafe {
        library.raw_set("find", lua.create_c_function(find)?)?;
        library.raw_set("gmatch", lua.create_c_function(gmatch)?)?;
        let spare: Function = lua.exec_raw((), |state| {
            push_substitution(state);
            ffi::lua_pushvalue(state, -1);
            ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, ptr::from_ref(&SPARE).cast());
            ffi::lua_pushcclosure(state, gsub, 1);
        })?;
        library.raw_set("gsub", spare)?;
        library.raw_set("match", lua.create_c_function(match_)?)
    }
}

fn integer(index: usize) -> lua_Integer {
    lua_Integer::try_from(index).unwrap_or(lua_Integer::MAX)
}

/// Where to begin, from 0, of an argument that is a position from 1, or from the end where it is negative. `None` if that is
/// after the end.
unsafe fn start(state: *mut lua_State, index: c_int, length: usize) -> Option<usize> {
    // SAFETY: There is nothing with a destructor.
    let from = unsafe { ffi::luaL_optinteger(state, index, 1) };
    let start = match from {
        0 => 0,
        from if from > 0 => usize::try_from(from - 1).unwrap_or(usize::MAX),
        from => length.saturating_sub(usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    (start <= length).then_some(start)
}

unsafe fn push_capture(state: *mut lua_State, subject: &[u8], capture: Capture) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        match capture {
            Capture::Bytes(start, end) => push(state, &subject[start..end]),
            Capture::Position(position) => ffi::lua_pushinteger(state, integer(position)),
            Capture::Unfinished => {
                fail(state, PatternError::UNFINISHED_CAPTURE.message());
            }
        }
    }
}

/// Pushes all captures, or the whole match if the pattern has no captures. Returns the number of values.
unsafe fn push_captures(state: *mut lua_State, subject: &[u8], matcher: &Matcher, or_whole: bool) -> c_int {
    let count = matcher.captures().max(usize::from(or_whole));
    let values = c_int::try_from(count).unwrap_or(0);
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::luaL_checkstack(state, values, c"too many captures".as_ptr());
        for index in 0..count {
            push_capture(state, subject, matcher.capture(index).unwrap_or(Capture::Unfinished));
        }
    }
    values
}

// find and match -------------------------------------------------------------------------------------------------

/// A search for one match, of the second argument in the first.
#[derive(Clone, Copy)]
enum Search {
    Plain(PlainSearch),
    /// Finds where a match is.
    Find(Matcher),
    /// Gives what is in it.
    Match(Matcher),
}

unsafe extern "C-unwind" fn find(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let (subject, pattern) = (check_bytes(state, 1), check_bytes(state, 2));
        let Some(from) = start(state, 3, subject.len()) else {
            ffi::lua_pushnil(state);
            return 1;
        };
        let is_plain = ffi::lua_toboolean(state, 4) != 0 || is_plain(pattern);
        ffi::lua_settop(state, 2);
        if is_plain {
            return search(state, &mut Search::Plain(PlainSearch::new(from)));
        }
        let (_, is_anchored) = split_anchor(pattern);
        search(state, &mut Search::Find(Matcher::new(from, is_anchored)))
    }
}

unsafe extern "C-unwind" fn match_(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let (subject, pattern) = (check_bytes(state, 1), check_bytes(state, 2));
        let Some(from) = start(state, 3, subject.len()) else {
            ffi::lua_pushnil(state);
            return 1;
        };
        ffi::lua_settop(state, 2);
        let (_, is_anchored) = split_anchor(pattern);
        search(state, &mut Search::Match(Matcher::new(from, is_anchored)))
    }
}

unsafe extern "C-unwind" fn search_on(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor. It was saved there.
    unsafe { search(state, &mut *ffi::lua_touserdata(state, 3).cast()) }
}

unsafe fn search(state: *mut lua_State, search: &mut Search) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let (subject, pattern) = (bytes(state, 1), bytes(state, 2));
        let (unanchored, _) = split_anchor(pattern);
        loop {
            let mut steps = STEPS;
            let progress = match search {
                Search::Plain(plain) => Ok(plain.resume(subject, pattern, &mut steps)),
                Search::Find(matcher) | Search::Match(matcher) => {
                    matcher.resume(subject, unanchored, &mut steps)
                }
            };
            match progress {
                Ok(Progress::Found) => break,
                Ok(Progress::None) => {
                    ffi::lua_pushnil(state);
                    return 1;
                }
                Ok(Progress::Paused) => {}
                Err(error) => return fail(state, error.message()),
            }
            let save = || {
                if ffi::lua_gettop(state) < 3 {
                    let saved: *mut Search = ffi::lua_newuserdatauv(state, size_of::<Search>(), 0).cast();
                    saved.write(*search);
                }
            };
            preempt::pause(state, 0, search_on, save);
        }
        match search {
            Search::Plain(plain) => {
                ffi::lua_pushinteger(state, integer(plain.start() + 1));
                ffi::lua_pushinteger(state, integer(plain.start() + pattern.len()));
                2
            }
            Search::Find(matcher) => {
                ffi::lua_pushinteger(state, integer(matcher.start() + 1));
                ffi::lua_pushinteger(state, integer(matcher.end()));
                2 + push_captures(state, subject, matcher, false)
            }
            Search::Match(matcher) => push_captures(state, subject, matcher, true),
        }
    }
}

// gmatch ---------------------------------------------------------------------------------------------------------

/// The state of an iterator.
struct Matches {
    matcher: Matcher,
    is_done: bool,
}

unsafe extern "C-unwind" fn gmatch(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let subject = check_bytes(state, 1);
        check_bytes(state, 2);
        let from = start(state, 3, subject.len());
        ffi::lua_settop(state, 2);
        let matches: *mut Matches = ffi::lua_newuserdatauv(state, size_of::<Matches>(), 0).cast();
        // An anchor means nothing here.
        matches.write(Matches { matcher: Matcher::new(from.unwrap_or(0), false), is_done: from.is_none() });
        ffi::lua_pushcclosure(state, next_match, 3);
        1
    }
}

unsafe extern "C-unwind" fn next_match_on(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe { next_match(state) }
}

unsafe extern "C-unwind" fn next_match(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor. The upvalues are those of `gmatch`, and keep what is referred to.
    unsafe {
        let (subject, pattern) =
            (bytes(state, ffi::lua_upvalueindex(1)), bytes(state, ffi::lua_upvalueindex(2)));
        let matches: &mut Matches = &mut *ffi::lua_touserdata(state, ffi::lua_upvalueindex(3)).cast();
        while !matches.is_done {
            let mut steps = STEPS;
            match matches.matcher.resume(subject, pattern, &mut steps) {
                Ok(Progress::Found) => {
                    let count = push_captures(state, subject, &matches.matcher, true);
                    matches.matcher.advance();
                    return count;
                }
                Ok(Progress::None) => matches.is_done = true,
                Ok(Progress::Paused) => preempt::pause(state, 0, next_match_on, || ()),
                Err(error) => {
                    matches.is_done = true;
                    return fail(state, error.message());
                }
            }
        }
        0
    }
}

// gsub -----------------------------------------------------------------------------------------------------------

// Where values are on the stack. The last is what the buffer keeps its bytes in.
const SUBJECT: c_int = 1;
const PATTERN: c_int = 2;
const REPLACEMENT: c_int = 3;
const STATE: c_int = 4;

/// What the spare substitution of a VM is kept under, in the registry.
static SPARE: u8 = 0;

/// A substitution. It is in the memory of the VM, because it can be suspended or abandoned anywhere. Each VM keeps one, so that
/// most need no memory of their own.
struct Substitution {
    is_used: bool,
    matcher: Matcher,
    is_anchored: bool,
    is_changed: bool,
    count: lua_Integer,
    most: lua_Integer,
    /// How much of the subject is in the buffer, or replaced there.
    copied: usize,
    buffer: ffi::luaL_Buffer,
}

unsafe extern "C-unwind" fn gsub(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let (subject, pattern) = (check_bytes(state, SUBJECT), check_bytes(state, PATTERN));
        let kind = ffi::lua_type(state, REPLACEMENT);
        if !matches!(kind, ffi::LUA_TNUMBER | ffi::LUA_TSTRING | ffi::LUA_TFUNCTION | ffi::LUA_TTABLE) {
            crate::lua::protect::type_error(state, REPLACEMENT, c"string/function/table");
        }
        if kind == ffi::LUA_TNUMBER {
            check_bytes(state, REPLACEMENT);
        }
        let most = ffi::luaL_optinteger(state, 4, integer(subject.len()).saturating_add(1));
        ffi::lua_settop(state, REPLACEMENT);
        let (_, is_anchored) = split_anchor(pattern);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        let mut substitution: *mut Substitution = ffi::lua_touserdata(state, STATE).cast();
        if (*substitution).is_used {
            ffi::lua_settop(state, REPLACEMENT);
            substitution = push_substitution(state);
        }
        (*substitution).is_used = true;
        begin(state, substitution, is_anchored, most);
        substitute(state, substitution)
    }
}

unsafe fn push_substitution(state: *mut lua_State) -> *mut Substitution {
    // SAFETY: The memory is large enough.
    unsafe {
        let substitution: *mut Substitution =
            ffi::lua_newuserdatauv(state, size_of::<Substitution>(), 0).cast();
        (&raw mut (*substitution).is_used).write(false);
        substitution
    }
}

/// Makes the spare substitution of a VM usable again, where one was abandoned: when a call begins.
pub(in crate::lua) unsafe fn reset(state: *mut lua_State) {
    // SAFETY: One slot is there. Nothing uses it, because no script runs.
    unsafe {
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, ptr::from_ref(&SPARE).cast());
        let spare: *mut Substitution = ffi::lua_touserdata(state, -1).cast();
        (*spare).is_used = false;
        ffi::lua_pop(state, 1);
    }
}

/// Initialises a substitution. Not inlined: a matcher is large, and the frame of `gsub` stays while the script is called.
#[inline(never)]
unsafe fn begin(
    state: *mut lua_State,
    substitution: *mut Substitution,
    is_anchored: bool,
    most: lua_Integer,
) {
    // SAFETY: The memory is there, and large enough.
    unsafe {
        (&raw mut (*substitution).matcher).write(Matcher::new(0, is_anchored));
        (&raw mut (*substitution).is_anchored).write(is_anchored);
        (&raw mut (*substitution).is_changed).write(false);
        (&raw mut (*substitution).count).write(0);
        (&raw mut (*substitution).most).write(most);
        (&raw mut (*substitution).copied).write(0);
        ffi::luaL_buffinit(state, &raw mut (*substitution).buffer);
    }
}

unsafe extern "C-unwind" fn substitute_on(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe { substitute(state, ffi::lua_touserdata(state, STATE).cast()) }
}

/// The function that replaces returned, on top of the stack.
unsafe extern "C-unwind" fn replaced(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let substitution: *mut Substitution = ffi::lua_touserdata(state, STATE).cast();
        add_value(state, substitution);
        substitute(state, substitution)
    }
}

unsafe fn substitute(state: *mut lua_State, substitution: *mut Substitution) -> c_int {
    // SAFETY: There is nothing with a destructor. The state is on the stack, which keeps it.
    unsafe {
        let (subject, pattern) = (bytes(state, SUBJECT), bytes(state, PATTERN));
        let (pattern, _) = split_anchor(pattern);
        let buffer = &raw mut (*substitution).buffer;
        let mut steps = STEPS;
        while (*substitution).count < (*substitution).most {
            let matcher = &mut (*substitution).matcher;
            match matcher.resume(subject, pattern, &mut steps) {
                Ok(Progress::Found) => {}
                Ok(Progress::None) => break,
                Ok(Progress::Paused) => {
                    steps = STEPS;
                    preempt::pause(state, 0, substitute_on, || ());
                    continue;
                }
                Err(error) => {
                    (*substitution).is_used = false;
                    return fail(state, error.message());
                }
            }
            let start = matcher.start();
            let before = &subject[(*substitution).copied..start];
            ffi::luaL_addlstring(buffer, before.as_ptr().cast(), before.len());
            (*substitution).copied = matcher.end();
            (*substitution).count += 1;
            match ffi::lua_type(state, REPLACEMENT) {
                ffi::LUA_TFUNCTION => {
                    ffi::lua_pushvalue(state, REPLACEMENT);
                    let given = push_captures(state, subject, &(*substitution).matcher, true);
                    ffi::lua_callk(state, given, 1, 0, Some(replaced));
                    add_value(state, substitution);
                }
                ffi::LUA_TTABLE => {
                    let first = (*substitution).matcher.capture(0).unwrap_or(Capture::Unfinished);
                    push_capture(state, subject, first);
                    ffi::lua_gettable(state, REPLACEMENT);
                    add_value(state, substitution);
                }
                _ => add_text(state, substitution, &mut steps),
            }
        }
        finish(state, substitution)
    }
}

/// Appends what a function or a table returned, which is on top of the stack, and continues with the next match.
unsafe fn add_value(state: *mut lua_State, substitution: *mut Substitution) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let buffer = &raw mut (*substitution).buffer;
        if ffi::lua_toboolean(state, -1) == 0 {
            ffi::lua_pop(state, 1);
            let matcher = &(*substitution).matcher;
            let whole = &bytes(state, SUBJECT)[matcher.start()..matcher.end()];
            ffi::luaL_addlstring(buffer, whole.as_ptr().cast(), whole.len());
        } else if ffi::lua_isstring(state, -1) == 0 {
            let message = c"invalid replacement value (a %s)";
            ffi::luaL_error(state, message.as_ptr(), ffi::luaL_typename(state, -1));
        } else {
            ffi::luaL_addvalue(buffer);
            (*substitution).is_changed = true;
        }
        advance(substitution);
    }
}

/// Appends the replacement, whose `%1` are captures, and goes on to the next match.
unsafe fn add_text(state: *mut lua_State, substitution: *mut Substitution, steps: &mut u64) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let buffer = &raw mut (*substitution).buffer;
        let matcher = &(*substitution).matcher;
        let subject = bytes(state, SUBJECT);
        let mut rest = bytes(state, REPLACEMENT);
        *steps = steps.saturating_sub(rest.len() as u64 / 64);
        let add = |bytes: &[u8]| ffi::luaL_addlstring(buffer, bytes.as_ptr().cast(), bytes.len());
        while let Some(place) = memchr::memchr(b'%', rest) {
            add(&rest[..place]);
            match rest.get(place + 1) {
                Some(b'%') => add(b"%"),
                Some(b'0') => add(&subject[matcher.start()..matcher.end()]),
                Some(digit @ b'1'..=b'9') => match matcher.capture(usize::from(digit - b'1')) {
                    Some(Capture::Bytes(start, end)) => add(&subject[start..end]),
                    Some(Capture::Position(position)) => {
                        ffi::lua_pushinteger(state, integer(position));
                        ffi::luaL_addvalue(buffer);
                    }
                    Some(Capture::Unfinished) => {
                        fail(state, PatternError::UNFINISHED_CAPTURE.message());
                    }
                    None => {
                        let number = c_int::from(digit - b'0');
                        ffi::luaL_error(state, c"invalid capture index %%%d".as_ptr(), number);
                    }
                },
                _ => {
                    fail(state, PatternError::INVALID_REPLACEMENT.message());
                }
            }
            *steps = steps.saturating_sub(1);
            rest = &rest[place + 2..];
        }
        add(rest);
        (*substitution).is_changed = true;
        advance(substitution);
    }
}

unsafe fn advance(substitution: *mut Substitution) {
    // SAFETY: The caller's stack keeps it.
    unsafe {
        if (*substitution).is_anchored {
            (*substitution).most = (*substitution).count;
        } else {
            (*substitution).matcher.advance();
        }
    }
}

unsafe fn finish(state: *mut lua_State, substitution: *mut Substitution) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if (*substitution).is_changed {
            let rest = &bytes(state, SUBJECT)[(*substitution).copied..];
            let buffer = &raw mut (*substitution).buffer;
            ffi::luaL_addlstring(buffer, rest.as_ptr().cast(), rest.len());
            ffi::luaL_pushresult(buffer);
        } else {
            ffi::lua_pushvalue(state, SUBJECT);
        }
        ffi::lua_pushinteger(state, (*substitution).count);
        (*substitution).is_used = false;
        2
    }
}

// Others ---------------------------------------------------------------------------------------------------------
