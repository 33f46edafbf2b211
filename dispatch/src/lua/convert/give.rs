//! Values for scripts, made of payloads and of the text of JSON.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::{fmt, ptr};

use mlua::ffi::{self, lua_Integer, lua_State};
use mlua::{IntoLua, Lua, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::{ARRAY, DEPTH, VALUES};
use crate::error::CallError;
use crate::lua::fault;
use crate::lua::shared::Shared;
use crate::payload::Payload;
use crate::script::clock;

/// A payload for a script.
pub(in crate::lua) fn give(lua: &Lua, payload: &Payload) -> mlua::Result<Value> {
    match payload {
        Payload::Json(Json::Null) => Ok(Value::Nil),
        // SAFETY: It pushes one value. No frame that an error of Lua jumps over has a destructor.
        Payload::Json(json) => unsafe { lua.exec_raw((), |state| push(state, json, 0)) },
        Payload::Bytes(bytes) => lua.create_string(bytes).map(Value::String),
    }
}

/// The first whole number in a payload that no integer of Lua can hold: as a float it would be another number.
pub(in crate::lua) fn too_large_integer(payload: &Payload) -> Option<u64> {
    let mut left: Vec<_> = payload.as_json().into_iter().collect();
    while let Some(json) = left.pop() {
        match json {
            Json::Number(number) if !number.is_i64() && number.is_u64() => return number.as_u64(),
            Json::Array(items) => left.extend(items),
            Json::Object(members) => left.extend(members.values()),
            _ => (),
        }
    }
    None
}

/// Returns whether a payload takes next to no time to convert.
pub(in crate::lua) fn is_quick(payload: &Payload) -> bool {
    const SHORT: usize = 4 << 10;
    match payload {
        Payload::Json(Json::Null | Json::Bool(_) | Json::Number(_)) => true,
        Payload::Json(Json::String(text)) => text.len() <= SHORT,
        Payload::Json(Json::Array(_) | Json::Object(_)) => false,
        Payload::Bytes(bytes) => bytes.len() <= SHORT,
    }
}

unsafe fn push_text(state: *mut lua_State, text: &str) {
    // SAFETY: There is a slot, as below.
    unsafe { ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len()) };
}

/// Pushes JSON, and raises an error of Lua if it is nested too deeply.
unsafe fn push(state: *mut lua_State, json: &Json, depth: usize) {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        // For the value, a key, a metatable and what an error takes.
        ffi::luaL_checkstack(state, 4, ptr::null());
        match json {
            Json::Null => ffi::lua_pushlightuserdata(state, ptr::null_mut()),
            Json::Bool(value) => ffi::lua_pushboolean(state, (*value).into()),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => ffi::lua_pushinteger(state, integer),
                None => ffi::lua_pushnumber(state, number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => push_text(state, text),
            Json::Array(_) | Json::Object(_) if depth >= DEPTH => {
                let most = c_int::try_from(DEPTH).unwrap_or(c_int::MAX);
                ffi::luaL_error(state, c"the JSON is nested more than %d levels deep".as_ptr(), most);
            }
            Json::Array(items) => {
                ffi::lua_createtable(state, c_int::try_from(items.len()).unwrap_or(c_int::MAX), 0);
                let mut index: lua_Integer = 0;
                for (before, item) in items.iter().enumerate() {
                    index += 1;
                    if before.is_multiple_of(VALUES) {
                        clock::reach();
                    }
                    push(state, item, depth + 1);
                    ffi::lua_rawseti(state, -2, index);
                }
                ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, (&raw const ARRAY).cast());
                ffi::lua_setmetatable(state, -2);
            }
            Json::Object(members) => {
                ffi::lua_createtable(state, 0, c_int::try_from(members.len()).unwrap_or(c_int::MAX));
                for (index, (name, member)) in members.iter().enumerate() {
                    if index.is_multiple_of(VALUES) {
                        clock::reach();
                    }
                    push_text(state, name);
                    push(state, member, depth + 1);
                    ffi::lua_rawset(state, -3);
                }
            }
        }
    }
}

/// How much memory a payload takes in a VM at most, as Lua counts it.
pub(in crate::lua) fn bytes_in_vm(payload: &Payload) -> usize {
    match payload {
        Payload::Json(json) => json_in_vm(json, 0),
        Payload::Bytes(bytes) => text_in_vm(bytes.len()),
    }
}

/// What is nested too deeply to be given fits nowhere.
fn json_in_vm(json: &Json, depth: usize) -> usize {
    // Of the tables of Lua 5.4 on 64 bits: the table, what an array has for an item, and what a hash has for a member.
    const TABLE: usize = 56;
    const ITEM: usize = 16;
    const MEMBER: usize = 24;
    if depth > DEPTH {
        return usize::MAX;
    }
    let nested = |json: &Json| json_in_vm(json, depth + 1);
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text_in_vm(text.len()),
        Json::Array(items) => {
            items.iter().map(nested).fold(TABLE + ITEM * items.len(), usize::saturating_add)
        }
        Json::Object(members) => {
            let table = TABLE + MEMBER * members.len().next_power_of_two();
            let members =
                members.iter().map(|(name, json)| nested(json).saturating_add(text_in_vm(name.len())));
            members.fold(table, usize::saturating_add)
        }
    }
}

/// A string, and its places in the table of the short ones, which doubles as it grows.
const fn text_in_vm(length: usize) -> usize {
    const STRING: usize = 25;
    const PLACES: usize = 16;
    length.saturating_add(STRING + PLACES)
}

/// Reads the text of JSON as a value. It is made as it is read, so that Lua counts what a text makes the host allocate.
pub(in crate::lua) fn decode(lua: &Lua, shared: &Shared, text: &[u8], name: &str) -> mlua::Result<Value> {
    let read = JsonReader { lua, shared, count: Cell::new(0), failed: RefCell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = JsonSeed(&read).deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match (value, read.failed.into_inner()) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => {
            Err(fault::raise(CallError::invalid(format!("{name} is not valid JSON: {error}"))))
        }
    }
}

/// What reads the text.
struct JsonReader<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    count: Cell<usize>,
    /// Why it was given up, if the text is not to blame.
    failed: RefCell<Option<mlua::Error>>,
}

impl JsonReader<'_> {
    /// `value`, unless it is none.
    fn made<T, E: serde::de::Error>(&self, value: mlua::Result<T>) -> Result<T, E> {
        value.map_err(|error| {
            let shown = E::custom(&error);
            self.failed.replace(Some(error));
            shown
        })
    }

    fn begin<E: serde::de::Error>(&self) -> Result<(), E> {
        self.count.set(self.count.get() + 1);
        if self.count.get().is_multiple_of(VALUES) { self.made(self.shared.watch.check()) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct JsonSeed<'a>(&'a JsonReader<'a>);

impl<'de> DeserializeSeed<'de> for JsonSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.begin()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "as Lua reads a number that is no integer of its own")]
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.made(text.into_lua(self.0.lua))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self(read) = self;
        let table = read.made(read.lua.create_table())?;
        while let Some(item) = items.next_element_seed(self)? {
            read.made(table.raw_push(item))?;
        }
        read.made(table.set_metatable(Some(read.shared.marks.array.clone())))?;
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Self(read) = self;
        let table = read.made(read.lua.create_table())?;
        // A name is a string whatever is in it: of the seeds only this one reads a string.
        while let Some(name) = members.next_key_seed(self)? {
            if !name.is_string() {
                return Err(A::Error::custom("the name of a member is a string"));
            }
            read.made(table.raw_set(name, members.next_value_seed(self)?))?;
        }
        Ok(Value::Table(table))
    }
}
