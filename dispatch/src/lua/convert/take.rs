//! Payloads of the values of scripts.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::ptr;

use frame_registry::text::{excerpt, shorten};
use mlua::ffi::{self, lua_Integer, lua_State};
use mlua::{Lua, Table, Value};
use serde_json::{Map, Number, Value as Json};

use super::{ARRAY, BYTES, ConvertError, DEPTH, VALUES, type_of};
use crate::lua::watch::Watch;

/// JSON of a script.
pub(in crate::lua) fn take_json(
    lua: &Lua,
    value: &Value,
    size: &mut PayloadSize,
    watch: &Watch,
) -> Result<Json, ConvertError> {
    take(lua, value, size, watch, JsonTree)
}

/// The text of JSON of a script.
pub(in crate::lua) fn take_text(
    lua: &Lua,
    value: &Value,
    size: &mut PayloadSize,
    watch: &Watch,
) -> Result<Vec<u8>, ConvertError> {
    let mut text = Vec::new();
    take(lua, value, size, watch, JsonText(&mut text))?;
    Ok(text)
}

fn take<O: JsonOutput>(
    lua: &Lua,
    value: &Value,
    size: &mut PayloadSize,
    watch: &Watch,
    output: O,
) -> Result<O::Made, ConvertError> {
    let mut made = None;
    // SAFETY: The walk reads tables and checks the stack, which raises no error of Lua, so that what it holds is dropped. It
    // leaves the stack as it was.
    unsafe {
        lua.exec_raw::<()>(value, |state| {
            let mut walk = Walk { state, watch, size, output, path: Vec::new(), open: Vec::new() };
            made = Some(walk.take());
            ffi::lua_settop(state, 0);
        })?;
    }
    made.unwrap_or_else(|| Err(mlua::Error::runtime("the value was not read").into()))
}

/// How many values a table with the keys 1 to n has. `name` is what it is called in errors.
pub(in crate::lua) fn length_of_list(values: &Table, name: &str) -> Result<usize, ConvertError> {
    let unfit = |what| ConvertError::Unfit { path: name.to_owned(), what };
    let length = values.raw_len();
    let mut count = 0;
    for pair in values.pairs::<Value, Value>() {
        let (key, _) = pair?;
        count += 1;
        let index = key.as_integer().and_then(|key| usize::try_from(key).ok());
        if index.is_none_or(|index| index == 0 || index > length) {
            let key = match &key {
                Value::String(text) => shown_text(&text.as_bytes()),
                Value::Integer(value) => value.to_string(),
                Value::Number(value) => value.to_string(),
                Value::Boolean(value) => value.to_string(),
                other => type_of(other).to_owned(),
            };
            return Err(unfit(format!("no list, which has the keys 1 to n only, but has {key}")));
        }
    }
    if count < length {
        return Err(unfit(format!("a list with {count} of the keys 1 to {length}: fill the gaps with null")));
    }
    Ok(length)
}

/// What JSON is made into.
trait JsonOutput {
    type Made;
    type Items;
    type Members;

    fn null(&mut self) -> Self::Made;
    fn boolean(&mut self, value: bool) -> Self::Made;
    fn integer(&mut self, value: i64) -> Self::Made;
    /// It is finite.
    fn number(&mut self, value: Number) -> Self::Made;
    fn text(&mut self, text: &str) -> Self::Made;
    fn begin_array(&mut self) -> Self::Items;
    fn begin_item(&mut self, items: &mut Self::Items);
    fn end_item(&mut self, items: &mut Self::Items, item: Self::Made);
    fn end_array(&mut self, items: Self::Items) -> Self::Made;
    fn begin_object(&mut self) -> Self::Members;
    fn begin_member(&mut self, members: &mut Self::Members, name: &str);
    fn end_member(&mut self, members: &mut Self::Members, name: &str, member: Self::Made);
    fn end_object(&mut self, members: Self::Members) -> Self::Made;
    /// Gives up an array, to make it anew.
    fn discard(&mut self, items: Self::Items);
}

/// Makes values.
struct JsonTree;

impl JsonOutput for JsonTree {
    type Made = Json;
    type Items = Vec<Json>;
    type Members = Map<String, Json>;

    fn null(&mut self) -> Json {
        Json::Null
    }

    fn boolean(&mut self, value: bool) -> Json {
        Json::Bool(value)
    }

    fn integer(&mut self, value: i64) -> Json {
        Json::from(value)
    }

    fn number(&mut self, value: Number) -> Json {
        Json::Number(value)
    }

    fn text(&mut self, text: &str) -> Json {
        Json::String(text.to_owned())
    }

    fn begin_array(&mut self) -> Vec<Json> {
        Vec::new()
    }

    fn begin_item(&mut self, _: &mut Vec<Json>) {}

    fn end_item(&mut self, items: &mut Vec<Json>, item: Json) {
        items.push(item);
    }

    fn end_array(&mut self, items: Vec<Json>) -> Json {
        Json::Array(items)
    }

    fn begin_object(&mut self) -> Map<String, Json> {
        Map::new()
    }

    fn begin_member(&mut self, _: &mut Map<String, Json>, _: &str) {}

    fn end_member(&mut self, members: &mut Map<String, Json>, name: &str, member: Json) {
        members.insert(name.to_owned(), member);
    }

    fn end_object(&mut self, members: Map<String, Json>) -> Json {
        Json::Object(members)
    }

    fn discard(&mut self, _: Vec<Json>) {}
}

/// Writes text, in which the members of an object are sorted by name, as those of a [`Map`] are.
struct JsonText<'a>(&'a mut Vec<u8>);

/// Where a member is in the text, with its name and without a comma.
struct Member {
    name: String,
    start: usize,
    end: usize,
}

impl JsonText<'_> {
    fn write(&mut self, value: &impl serde::Serialize) {
        // Writing to memory does not fail, and numbers and text are JSON.
        let _ = serde_json::to_writer(&mut *self.0, value);
    }
}

impl JsonOutput for JsonText<'_> {
    type Made = ();
    /// Where it starts.
    type Items = usize;
    /// Where it starts, and its members.
    type Members = (usize, Vec<Member>);

    fn null(&mut self) {
        self.0.extend_from_slice(b"null");
    }

    fn boolean(&mut self, value: bool) {
        self.write(&value);
    }

    fn integer(&mut self, value: i64) {
        self.write(&value);
    }

    fn number(&mut self, value: Number) {
        self.write(&value);
    }

    fn text(&mut self, text: &str) {
        self.write(&text);
    }

    fn begin_array(&mut self) -> usize {
        self.0.push(b'[');
        self.0.len() - 1
    }

    fn begin_item(&mut self, _: &mut usize) {
        if self.0.last() != Some(&b'[') {
            self.0.push(b',');
        }
    }

    fn end_item(&mut self, _: &mut usize, (): ()) {}

    fn end_array(&mut self, _: usize) {
        self.0.push(b']');
    }

    fn begin_object(&mut self) -> (usize, Vec<Member>) {
        self.0.push(b'{');
        (self.0.len(), Vec::new())
    }

    fn begin_member(&mut self, (_, members): &mut (usize, Vec<Member>), name: &str) {
        if !members.is_empty() {
            self.0.push(b',');
        }
        members.push(Member { name: name.to_owned(), start: self.0.len(), end: 0 });
        self.write(&name);
        self.0.push(b':');
    }

    fn end_member(&mut self, (_, members): &mut (usize, Vec<Member>), _: &str, (): ()) {
        if let Some(member) = members.last_mut() {
            member.end = self.0.len();
        }
    }

    fn end_object(&mut self, (start, mut members): (usize, Vec<Member>)) {
        if !members.is_sorted_by(|one, other| one.name <= other.name) {
            members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            let unsorted = self.0.split_off(start);
            for member in &members {
                if self.0.len() > start {
                    self.0.push(b',');
                }
                self.0.extend_from_slice(&unsorted[member.start - start..member.end - start]);
            }
        }
        self.0.push(b'}');
    }

    fn discard(&mut self, start: usize) {
        self.0.truncate(start);
    }
}

fn too_large(name: &str, largest: usize) -> ConvertError {
    ConvertError::TooLarge(format!("{name} is larger than {largest} bytes"))
}

/// What was converted so far.
#[derive(Clone)]
pub(in crate::lua) struct PayloadSize {
    name: &'static str,
    largest: usize,
    text: usize,
    /// How much memory is left to the script: what it makes the host allocate counts, too.
    room: usize,
    memory: usize,
    values: usize,
}

impl PayloadSize {
    pub(in crate::lua) const fn new(name: &'static str, largest: usize, room: usize) -> Self {
        Self { name, largest, text: 0, room, memory: 0, values: 0 }
    }

    /// Bytes that are no text.
    pub(in crate::lua) fn add_bytes(&mut self, bytes: usize) -> Result<(), ConvertError> {
        self.text = self.text.saturating_add(bytes);
        self.memory = self.memory.saturating_add(bytes);
        if self.text > self.largest || self.memory > self.room {
            return Err(too_large(self.name, self.largest.min(self.room)));
        }
        Ok(())
    }

    /// A value, or a key, of so many bytes as text.
    pub(in crate::lua) fn add(&mut self, bytes: usize) -> Result<(), ConvertError> {
        self.text = self.text.saturating_add(bytes);
        self.memory = self.memory.saturating_add(bytes.saturating_add(size_of::<Json>()));
        if self.text > self.largest {
            return Err(too_large(self.name, self.largest));
        }
        if self.memory > self.room {
            return Err(ConvertError::NoRoom(format!(
                "{} needs more memory than the {} bytes that are left",
                self.name, self.room
            )));
        }
        Ok(())
    }
}

/// A step on the way to the value that is converted.
enum PathStep {
    Index(usize),
    /// A name, which stays valid while its table is on the stack.
    Name(*const str),
}

/// Converts the value on top of a stack.
struct Walk<'a, O> {
    state: *mut lua_State,
    watch: &'a Watch,
    size: &'a mut PayloadSize,
    output: O,
    path: Vec<PathStep>,
    /// The tables that the current one is in.
    open: Vec<*const c_void>,
}

impl<O: JsonOutput> Walk<'_, O> {
    fn take(&mut self) -> Result<O::Made, ConvertError> {
        self.size.values += 1;
        if self.size.values.is_multiple_of(VALUES) {
            self.watch.check()?;
        }
        // SAFETY: There is a value, and none of these raises an error.
        unsafe {
            match ffi::lua_type(self.state, -1) {
                ffi::LUA_TNIL => self.size.add(4).map(|()| self.output.null()),
                ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(self.state, -1).is_null() => {
                    self.size.add(4).map(|()| self.output.null())
                }
                ffi::LUA_TBOOLEAN => {
                    let value = ffi::lua_toboolean(self.state, -1) != 0;
                    self.size.add(5).map(|()| self.output.boolean(value))
                }
                ffi::LUA_TNUMBER if ffi::lua_isinteger(self.state, -1) != 0 => {
                    let value = ffi::lua_tointeger(self.state, -1);
                    self.size.add(8).map(|()| self.output.integer(value))
                }
                ffi::LUA_TNUMBER => {
                    let value = ffi::lua_tonumber(self.state, -1);
                    let Some(number) = Number::from_f64(value) else {
                        return Err(self.unfit(format!("{value}, which JSON has no number for")));
                    };
                    self.size.add(8).map(|()| self.output.number(number))
                }
                ffi::LUA_TSTRING => {
                    let bytes = self.bytes(-1);
                    self.size.add(bytes.len() + 2)?;
                    let text = self.utf8(&*bytes)?;
                    Ok(self.output.text(text))
                }
                ffi::LUA_TTABLE => self.table(),
                _ => {
                    let kind = self.kind(-1);
                    Err(self.unfit(format!(
                        "a {kind}, which is not valid JSON; return a table, string, number or boolean"
                    )))
                }
            }
        }
    }

    /// The bytes of the string at `index`, which has to be one: a number would be changed.
    unsafe fn bytes(&self, index: c_int) -> *const [u8] {
        let mut length = 0;
        // SAFETY: As the caller says.
        let bytes = unsafe { ffi::lua_tolstring(self.state, index, &raw mut length) };
        ptr::slice_from_raw_parts(bytes.cast(), length)
    }

    fn utf8<'t>(&self, bytes: &'t [u8]) -> Result<&'t str, ConvertError> {
        str::from_utf8(bytes).map_err(|_| {
            self.unfit(
                "a string that is not UTF-8, so no JSON; give bytes(s) as the whole payload, or encode it",
            )
        })
    }

    fn kind(&self, index: c_int) -> &'static str {
        // SAFETY: It is a name in static memory.
        let name = unsafe { std::ffi::CStr::from_ptr(ffi::luaL_typename(self.state, index)) };
        match name.to_str() {
            Ok("userdata" | "light userdata") | Err(_) => "userdata",
            Ok("function") => "function",
            Ok("thread") => "thread",
            Ok(_) => "value",
        }
    }

    /// Returns whether the metatable that is kept under `key` is that of the table on top.
    unsafe fn is_marked(&self, key: *const u8) -> bool {
        // SAFETY: There are slots, as the caller has checked. Neither raises an error.
        unsafe {
            if ffi::lua_getmetatable(self.state, -1) == 0 {
                return false;
            }
            ffi::lua_rawgetp(self.state, ffi::LUA_REGISTRYINDEX, key.cast());
            let is_marked = ffi::lua_rawequal(self.state, -1, -2) != 0;
            ffi::lua_pop(self.state, 2);
            is_marked
        }
    }

    unsafe fn table(&mut self) -> Result<O::Made, ConvertError> {
        // SAFETY: The value on top is a table. What is called raises no error.
        unsafe {
            let pointer = ffi::lua_topointer(self.state, -1);
            if self.open.contains(&pointer) {
                return Err(self.unfit("a table that contains itself"));
            }
            if self.open.len() >= DEPTH {
                return Err(self.unfit(format!("nested more than {DEPTH} levels deep")));
            }
            if ffi::lua_checkstack(self.state, 4) == 0 {
                return Err(crate::lua::fault::out_of_memory().into());
            }
            if self.is_marked(&raw const BYTES) {
                return Err(self.unfit("bytes, which are a whole payload, and no part of JSON"));
            }
            self.size.add(2)?;
            self.open.push(pointer);
            let length = ffi::lua_rawlen(self.state, -1);
            let made = if length > 0 || self.is_marked(&raw const ARRAY) {
                self.array(length)
            } else {
                self.object()
            };
            self.open.pop();
            made
        }
    }

    /// Converts a table whose keys come in their order, as they do if it is an array. Otherwise counts them first.
    unsafe fn array(&mut self, length: usize) -> Result<O::Made, ConvertError> {
        let before = self.size.clone();
        let mut items = self.output.begin_array();
        let mut index = 0;
        // SAFETY: The value on top is a table, which does not change. The key on the stack is one of it.
        unsafe {
            ffi::lua_pushnil(self.state);
            while ffi::lua_next(self.state, -2) != 0 {
                index += 1;
                let is_next = ffi::lua_isinteger(self.state, -2) != 0
                    && usize::try_from(ffi::lua_tointeger(self.state, -2)) == Ok(index);
                if !is_next {
                    ffi::lua_pop(self.state, 2);
                    *self.size = before;
                    self.output.discard(items);
                    return self.unordered_array(length);
                }
                self.item(&mut items, index)?;
                ffi::lua_pop(self.state, 1);
            }
        }
        if index < length {
            return Err(self.gaps(index, length));
        }
        Ok(self.output.end_array(items))
    }

    /// Converts the item on top.
    unsafe fn item(&mut self, items: &mut O::Items, index: usize) -> Result<(), ConvertError> {
        self.path.push(PathStep::Index(index));
        self.output.begin_item(items);
        let item = self.take()?;
        self.output.end_item(items, item);
        self.path.pop();
        Ok(())
    }

    unsafe fn unordered_array(&mut self, length: usize) -> Result<O::Made, ConvertError> {
        let mut count = 0;
        // SAFETY: As above.
        unsafe {
            ffi::lua_pushnil(self.state);
            while ffi::lua_next(self.state, -2) != 0 {
                ffi::lua_pop(self.state, 1);
                count += 1;
                let index = (ffi::lua_isinteger(self.state, -1) != 0)
                    .then(|| usize::try_from(ffi::lua_tointeger(self.state, -1)).ok())
                    .flatten();
                if index.is_none_or(|index| index == 0 || index > length) {
                    let key = self.key(-1);
                    return Err(self.unfit(format!(
                        "a table with the keys 1 to {length} and also {key}: neither an array nor an object"
                    )));
                }
                if count % VALUES == 0 {
                    self.watch.check()?;
                }
            }
            if count < length {
                return Err(self.gaps(count, length));
            }
            let mut items = self.output.begin_array();
            for index in 1..=length {
                ffi::lua_rawgeti(self.state, -1, lua_Integer::try_from(index).unwrap_or(lua_Integer::MAX));
                self.item(&mut items, index)?;
                ffi::lua_pop(self.state, 1);
            }
            Ok(self.output.end_array(items))
        }
    }

    fn gaps(&self, count: usize, length: usize) -> ConvertError {
        self.unfit(format!("a table with {count} of the keys 1 to {length}: fill the gaps with null"))
    }

    unsafe fn object(&mut self) -> Result<O::Made, ConvertError> {
        let mut members = self.output.begin_object();
        // SAFETY: As above. A name stays valid while its table is on the stack.
        unsafe {
            ffi::lua_pushnil(self.state);
            while ffi::lua_next(self.state, -2) != 0 {
                if ffi::lua_type(self.state, -2) != ffi::LUA_TSTRING {
                    let key = self.key(-2);
                    return Err(self.unfit(format!(
                        "a table with the key {key}: an object has strings for keys, an array the keys 1 to n"
                    )));
                }
                let bytes = self.bytes(-2);
                // What a map keeps a member with.
                self.size.add(bytes.len() + 4 + size_of::<String>())?;
                let name: *const str = self.utf8(&*bytes)?;
                self.path.push(PathStep::Name(name));
                self.output.begin_member(&mut members, &*name);
                let member = self.take()?;
                self.output.end_member(&mut members, &*name, member);
                self.path.pop();
                ffi::lua_pop(self.state, 1);
            }
        }
        Ok(self.output.end_object(members))
    }

    fn unfit(&self, what: impl Into<String>) -> ConvertError {
        const LONGEST: usize = 200;
        let mut path = self.size.name.to_owned();
        for step in &self.path {
            let _ = match step {
                PathStep::Index(index) => write!(path, "[{index}]"),
                // SAFETY: Its table is on the stack.
                PathStep::Name(name) => write!(path, ".{}", unsafe { &**name }),
            };
            if path.len() > LONGEST {
                break;
            }
        }
        ConvertError::Unfit { path: shorten(&path, LONGEST).into_owned(), what: what.into() }
    }

    /// A key in an error.
    unsafe fn key(&self, index: c_int) -> String {
        // SAFETY: It is there, and is converted only if it is a string.
        unsafe {
            match ffi::lua_type(self.state, index) {
                ffi::LUA_TSTRING => shown_text(&*self.bytes(index)),
                ffi::LUA_TNUMBER if ffi::lua_isinteger(self.state, index) != 0 => {
                    ffi::lua_tointeger(self.state, index).to_string()
                }
                ffi::LUA_TNUMBER => ffi::lua_tonumber(self.state, index).to_string(),
                ffi::LUA_TBOOLEAN => (ffi::lua_toboolean(self.state, index) != 0).to_string(),
                ffi::LUA_TTABLE => "of type table".to_owned(),
                _ => format!("of type {}", self.kind(index)),
            }
        }
    }
}

/// Some text in an error.
fn shown_text(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    // A byte more, so that it shows that the text is cut.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST + 1)]);
    format!("\"{}\"", excerpt(&text, LONGEST))
}
