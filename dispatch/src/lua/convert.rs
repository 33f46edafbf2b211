//! Values between Lua and the host.
//!
//! | JSON | Lua |
//! |---|---|
//! | `null` | `nil` as a whole payload, `null` inside one; both become `null` |
//! | number | an integer if it is one and fits, else a float |
//! | array | a table marked with `array`, also where it is empty; a table with the keys 1 to n becomes one |
//! | object | a table with strings for keys; an empty table becomes one |

use mlua::{IntoLua, Lua, Table, Value};
use serde_json::{Map, Number, Value as Json};
use std::fmt::Write as _;
use std::os::raw::c_void;

use super::bridge::HostCall;
use super::fault::Failures;
use super::watch::Watch;
use crate::payload::Payload;
use crate::script::clock;

/// How deep tables and arrays are nested at most.
const DEPTH: usize = 128;
/// How many values are converted between two looks at the clock.
const VALUES: usize = 1024;

/// The metatables that mark a table as something. No script can reach them.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) array: Table,
    pub(super) bytes: Table,
}

/// A value that is no payload.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    /// It is the wrong kind of value.
    #[error("{path} is {what}")]
    Unfit { path: String, what: String },
    /// It is too large.
    #[error("{0}")]
    TooLarge(String),
    /// There is not enough memory left for it.
    #[error("{0}")]
    NoRoom(String),
    /// Reading it failed, or the call is over.
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

impl Marks {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Self> {
        let mark = |name: &str| {
            let mark = lua.create_table()?;
            mark.raw_set("__metatable", name)?;
            mark.raw_set("__name", name)?;
            Ok::<_, mlua::Error>(mark)
        };
        Ok(Self { array: mark("array")?, bytes: mark("bytes")? })
    }

    /// A payload for a script.
    pub(super) fn give(&self, lua: &Lua, payload: &Payload) -> mlua::Result<Value> {
        match payload {
            Payload::Json(Json::Null) => Ok(Value::Nil),
            Payload::Json(json) => self.give_json(lua, json),
            Payload::Bytes(bytes) => lua.create_string(bytes).map(Value::String),
        }
    }

    /// JSON for a script.
    pub(super) fn give_json(&self, lua: &Lua, json: &Json) -> mlua::Result<Value> {
        self.give_nested(lua, json, 0)
    }

    fn give_nested(&self, lua: &Lua, json: &Json, depth: usize) -> mlua::Result<Value> {
        if depth > DEPTH {
            return Err(mlua::Error::runtime(format!("the JSON is nested more than {DEPTH} levels deep")));
        }
        match json {
            Json::Null => Ok(Value::NULL),
            Json::Bool(value) => Ok(Value::Boolean(*value)),
            Json::Number(number) => Ok(give_number(number)),
            Json::String(text) => text.as_str().into_lua(lua),
            Json::Array(items) => {
                let table = lua.create_table_with_capacity(items.len(), 0)?;
                for (index, item) in items.iter().enumerate() {
                    if index.is_multiple_of(VALUES) {
                        clock::reach();
                    }
                    table.raw_set(index + 1, self.give_nested(lua, item, depth + 1)?)?;
                }
                table.set_metatable(Some(self.array.clone()))?;
                Ok(Value::Table(table))
            }
            Json::Object(members) => {
                let table = lua.create_table_with_capacity(0, members.len())?;
                for (index, (name, member)) in members.iter().enumerate() {
                    if index.is_multiple_of(VALUES) {
                        clock::reach();
                    }
                    table.raw_set(name.as_str(), self.give_nested(lua, member, depth + 1)?)?;
                }
                Ok(Value::Table(table))
            }
        }
    }

    /// A payload of a script. `name` is what it is called in errors, `largest` how many bytes it may have.
    pub(super) fn take(
        &self,
        value: &Value,
        name: &'static str,
        largest: usize,
        watch: &Watch,
        room: usize,
    ) -> Result<Payload, ConvertError> {
        self.take_sized(value, &mut Size::new(name, largest, room), watch)
    }

    /// Several payloads, in a table with the keys 1 to n: together they have at most `largest` bytes.
    pub(super) fn take_all(
        &self,
        values: &Table,
        name: &'static str,
        largest: usize,
        watch: &Watch,
        room: usize,
    ) -> Result<Vec<Payload>, ConvertError> {
        let mut size = Size::new(name, largest, room);
        let length = values.raw_len();
        let mut count = 0;
        for pair in values.pairs::<Value, Value>() {
            let (key, _) = pair?;
            count += 1;
            let index = key.as_integer().and_then(|key| usize::try_from(key).ok());
            if index.is_none_or(|index| index == 0 || index > length) {
                let what = format!("no list, which has the keys 1 to n only, but has {}", shown(&key));
                return Err(ConvertError::Unfit { path: name.to_owned(), what });
            }
        }
        if count < length {
            let what = format!("a list with {count} of the keys 1 to {length}: fill the gaps with null");
            return Err(ConvertError::Unfit { path: name.to_owned(), what });
        }
        let mut payloads = Vec::new();
        for index in 1..=length {
            size.add(size_of::<Payload>())?;
            payloads.push(self.take_sized(&values.raw_get(index)?, &mut size, watch)?);
        }
        Ok(payloads)
    }

    fn take_sized(&self, value: &Value, size: &mut Size, watch: &Watch) -> Result<Payload, ConvertError> {
        if let Value::Table(table) = value
            && table.metatable().as_ref() == Some(&self.bytes)
        {
            let bytes: mlua::LuaString = table.raw_get(1)?;
            let bytes = bytes.as_bytes();
            size.add_bytes(bytes.len())?;
            return Ok(Payload::Bytes(bytes.to_vec()));
        }
        self.walk(value, size, watch).map(Payload::Json)
    }

    /// JSON of a script.
    pub(super) fn take_json(
        &self,
        value: &Value,
        name: &'static str,
        largest: usize,
        watch: &Watch,
        room: usize,
    ) -> Result<Json, ConvertError> {
        self.walk(value, &mut Size::new(name, largest, room), watch)
    }

    fn walk(&self, value: &Value, size: &mut Size, watch: &Watch) -> Result<Json, ConvertError> {
        Walk { marks: self, watch, size, path: Vec::new(), open: Vec::new() }.take(value)
    }
}

/// How much memory a payload takes in a VM at most, as Lua counts it.
fn bytes_in_vm(payload: &Payload) -> usize {
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

fn give_number(number: &Number) -> Value {
    match number.as_i64() {
        Some(integer) => Value::Integer(integer),
        None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
    }
}

fn too_large(name: &str, largest: usize) -> ConvertError {
    ConvertError::TooLarge(format!("{name} is larger than {largest} bytes"))
}

/// What was converted so far.
struct Size {
    name: &'static str,
    largest: usize,
    text: usize,
    /// How much memory is left to the script: what it makes the host allocate counts, too.
    room: usize,
    memory: usize,
    values: usize,
}

impl Size {
    const fn new(name: &'static str, largest: usize, room: usize) -> Self {
        Self { name, largest, text: 0, room, memory: 0, values: 0 }
    }

    /// Bytes that are no text.
    fn add_bytes(&mut self, bytes: usize) -> Result<(), ConvertError> {
        self.text = self.text.saturating_add(bytes);
        self.memory = self.memory.saturating_add(bytes);
        if self.text > self.largest || self.memory > self.room {
            return Err(too_large(self.name, self.largest.min(self.room)));
        }
        Ok(())
    }

    /// A value, or a key, of so many bytes as text.
    fn add(&mut self, bytes: usize) -> Result<(), ConvertError> {
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

enum Step {
    Index(usize),
    Key(String),
}

struct Walk<'a> {
    marks: &'a Marks,
    watch: &'a Watch,
    size: &'a mut Size,
    path: Vec<Step>,
    /// The tables that the current one is in.
    open: Vec<*const c_void>,
}

impl Walk<'_> {
    fn take(&mut self, value: &Value) -> Result<Json, ConvertError> {
        self.size.values += 1;
        if self.size.values.is_multiple_of(VALUES) {
            self.watch.check()?;
        }
        match value {
            Value::Nil => self.sized(4, Json::Null),
            value if value.is_null() => self.sized(4, Json::Null),
            Value::Boolean(value) => self.sized(5, Json::Bool(*value)),
            Value::Integer(value) => self.sized(8, Json::from(*value)),
            Value::Number(value) => {
                let Some(number) = Number::from_f64(*value) else {
                    return Err(self.unfit(format!("{value}, which JSON has no number for")));
                };
                self.sized(8, Json::Number(number))
            }
            Value::String(text) => {
                self.size.add(text.as_bytes().len() + 2)?;
                self.text(text).map(Json::String)
            }
            Value::Table(table) => self.table(table),
            value => {
                let kind = value.type_name();
                Err(self
                    .unfit(format!("a {kind}, which is no JSON; return a table, string, number or boolean")))
            }
        }
    }

    fn sized(&mut self, bytes: usize, json: Json) -> Result<Json, ConvertError> {
        self.size.add(bytes)?;
        Ok(json)
    }

    fn text(&self, text: &mlua::LuaString) -> Result<String, ConvertError> {
        match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.unfit(
                "a string that is not UTF-8, so no JSON; give bytes(s) as the whole payload, or encode it",
            )),
        }
    }

    fn table(&mut self, table: &Table) -> Result<Json, ConvertError> {
        let pointer = table.to_pointer();
        if self.open.contains(&pointer) {
            return Err(self.unfit("a table that contains itself"));
        }
        if self.open.len() >= DEPTH {
            return Err(self.unfit(format!("nested more than {DEPTH} levels deep")));
        }
        let mark = table.metatable();
        if mark.as_ref() == Some(&self.marks.bytes) {
            return Err(self.unfit("bytes, which are a whole payload, and no part of JSON"));
        }
        self.size.add(2)?;
        self.open.push(pointer);
        let length = table.raw_len();
        let json = if length > 0 || mark.as_ref() == Some(&self.marks.array) {
            self.array(table, length)
        } else {
            self.object(table)
        };
        self.open.pop();
        json
    }

    fn array(&mut self, table: &Table, length: usize) -> Result<Json, ConvertError> {
        let mut count = 0;
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair?;
            count += 1;
            let index = key.as_integer().and_then(|key| usize::try_from(key).ok());
            if index.is_none_or(|index| index == 0 || index > length) {
                return Err(self.unfit(format!(
                    "a table with the keys 1 to {length} and also {}: neither an array nor an object",
                    shown(&key)
                )));
            }
            if count % VALUES == 0 {
                self.watch.check()?;
            }
        }
        if count < length {
            return Err(self
                .unfit(format!("a table with {count} of the keys 1 to {length}: fill the gaps with null")));
        }
        let mut items = Vec::new();
        for index in 1..=length {
            self.path.push(Step::Index(index));
            items.push(self.take(&table.raw_get(index)?)?);
            self.path.pop();
        }
        Ok(Json::Array(items))
    }

    fn object(&mut self, table: &Table) -> Result<Json, ConvertError> {
        let mut members = Map::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Value::String(name) = &key else {
                return Err(self.unfit(format!(
                    "a table with the key {}: an object has strings for keys, an array the keys 1 to n",
                    shown(&key)
                )));
            };
            // What a map keeps a member with.
            self.size.add(name.as_bytes().len() + 4 + size_of::<String>())?;
            let name = self.text(name)?;
            self.path.push(Step::Key(name.clone()));
            members.insert(name, self.take(&value)?);
            self.path.pop();
        }
        Ok(Json::Object(members))
    }

    fn unfit(&self, what: impl Into<String>) -> ConvertError {
        const LONGEST: usize = 200;
        let mut path = self.size.name.to_owned();
        for step in &self.path {
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Key(key) => write!(path, ".{key}"),
            };
            if path.len() > LONGEST {
                path.truncate(path.floor_char_boundary(LONGEST));
                path.push('…');
                break;
            }
        }
        ConvertError::Unfit { path, what: what.into() }
    }
}

/// A key in an error.
fn shown(key: &Value) -> String {
    match key {
        Value::String(text) => {
            let text: String = text.to_string_lossy().chars().take(40).collect();
            format!("{text:?}")
        }
        Value::Integer(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Boolean(value) => value.to_string(),
        other => format!("of type {}", other.type_name()),
    }
}

/// What natives share: the call that runs, the marks, the failures, and the limits.
pub(super) struct Shared {
    pub(super) watch: Watch,
    pub(super) host: HostCall,
    pub(super) marks: Marks,
    pub(super) failures: Failures,
    pub(super) memory: usize,
    pub(super) payload: usize,
}

impl Shared {
    /// How much memory a VM has left. Where that seems to be little, what is no longer used is collected first.
    pub(super) fn room(&self, lua: &Lua) -> mlua::Result<usize> {
        let room = self.left(lua);
        if room >= self.memory / 2 {
            return Ok(room);
        }
        lua.gc_collect()?;
        Ok(self.left(lua))
    }

    /// Whether so many bytes fit into a VM, and leave the script room to do something with them: as much again, or an eighth
    /// of all its memory. Where they do not seem to, what is no longer used is collected first.
    pub(super) fn has_room(&self, lua: &Lua, bytes: usize) -> bool {
        let with_reserve = bytes.saturating_add(bytes.min(self.memory / 8));
        with_reserve <= self.left(lua) || (lua.gc_collect().is_ok() && with_reserve <= self.left(lua))
    }

    /// A payload for a script, if there is [room](Self::has_room).
    pub(super) fn give(&self, lua: &Lua, payload: &Payload) -> mlua::Result<Option<Value>> {
        if self.has_room(lua, bytes_in_vm(payload)) {
            return self.marks.give(lua, payload).map(Some);
        }
        Ok(None)
    }

    fn left(&self, lua: &Lua) -> usize {
        self.memory.saturating_sub(lua.used_memory()).saturating_sub(self.failures.bytes())
    }
}
