//! The text of JSON as a value of Lua, which is made as it is read: what a text makes the host allocate is what Lua counts.

use std::cell::{Cell, RefCell};
use std::fmt;

use mlua::{IntoLua, Lua, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::fault;
use super::shared::Shared;
use crate::error::CallError;

/// How many values are read between two looks at the clock.
const VALUES: usize = 1024;

/// The value that `text` is, with the conventions of payloads.
pub(super) fn decode(lua: &Lua, shared: &Shared, text: &[u8], name: &str) -> mlua::Result<Value> {
    let read = Read { lua, shared, count: Cell::new(0), failed: RefCell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Seed(&read).deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match (value, read.failed.into_inner()) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(fault::raise(CallError::invalid(format!("{name} is no JSON: {error}")))),
    }
}

/// What reads the text.
struct Read<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    count: Cell<usize>,
    /// Why it was given up, if the text is not to blame.
    failed: RefCell<Option<mlua::Error>>,
}

impl Read<'_> {
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
struct Seed<'a>(&'a Read<'a>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.begin()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
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
