//! What the functions of a VM share: the call that runs, the limits, and how much memory is left.

use std::sync::atomic::{AtomicUsize, Ordering};

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use super::bridge::HostCall;
use super::convert::{self, ConvertError, Marks, PayloadSize};
use super::fault::Failures;
use super::watch::Watch;
use crate::payload::Payload;

/// What all functions of a VM share.
pub(super) struct Shared {
    pub(super) watch: Watch,
    pub(super) host: HostCall,
    pub(super) marks: Marks,
    pub(super) failures: Failures,
    /// How many bytes of memory the VM has.
    pub(super) memory: usize,
    /// How many bytes a payload has at most, as JSON.
    pub(super) payload: usize,
    /// How much memory was used after [`room`](Self::room) last collected.
    collected: AtomicUsize,
}

impl Shared {
    pub(super) fn new(lua: &Lua, memory: usize, payload: usize) -> mlua::Result<Self> {
        Ok(Self {
            watch: Watch::default(),
            host: HostCall::default(),
            marks: Marks::new(lua)?,
            failures: Failures::new(lua)?,
            memory,
            payload,
            collected: AtomicUsize::new(0),
        })
    }

    /// Returns roughly how much memory the VM has left. Collects garbage if that seems to be little, but not again until
    /// a good part of the memory was allocated. So the result does not tell whether something fits.
    pub(super) fn room(&self, lua: &Lua) -> mlua::Result<usize> {
        let used = lua.used_memory();
        let collected = self.collected.load(Ordering::Relaxed);
        let is_worth_it = used < collected || used - collected >= self.memory / 8;
        if self.left(lua) < self.memory / 2 && is_worth_it {
            lua.gc_collect()?;
            self.collected.store(lua.used_memory(), Ordering::Relaxed);
        }
        Ok(self.left(lua))
    }

    /// Returns whether so many bytes fit into the VM. Collects garbage first if they do not fit as it is.
    pub(super) fn fits(&self, lua: &Lua, bytes: usize) -> bool {
        bytes <= self.left(lua) || (lua.gc_collect().is_ok() && bytes <= self.left(lua))
    }

    /// Returns whether so many bytes fit into the VM, and leave the script room to do something with them: as much again, or an
    /// eighth of all its memory.
    pub(super) fn has_room(&self, lua: &Lua, bytes: usize) -> bool {
        self.fits(lua, bytes.saturating_add(bytes.min(self.memory / 8)))
    }

    fn left(&self, lua: &Lua) -> usize {
        self.memory.saturating_sub(lua.used_memory()).saturating_sub(self.failures.bytes())
    }

    /// A payload for a script, if there is [room](Self::has_room).
    pub(super) fn give(&self, lua: &Lua, payload: &Payload) -> mlua::Result<Option<Value>> {
        if self.has_room(lua, convert::bytes_in_vm(payload)) {
            return convert::give(lua, payload).map(Some);
        }
        Ok(None)
    }

    /// A payload of a script. `name` is what it is called in errors, `largest` how many bytes it may have.
    pub(super) fn take(
        &self,
        lua: &Lua,
        value: &Value,
        name: &'static str,
        largest: usize,
    ) -> Result<Payload, ConvertError> {
        self.sized(lua, name, largest, |size| self.take_sized(lua, value, size))
    }

    /// Several payloads, in a table with the keys 1 to n: together they have at most `largest` bytes.
    pub(super) fn take_all(
        &self,
        lua: &Lua,
        values: &Table,
        name: &'static str,
        largest: usize,
    ) -> Result<Vec<Payload>, ConvertError> {
        let length = convert::length_of_list(values, name)?;
        self.sized(lua, name, largest, |size| {
            let mut payloads = Vec::new();
            for index in 1..=length {
                size.add(size_of::<Payload>())?;
                payloads.push(self.take_sized(lua, &values.raw_get(index)?, size)?);
            }
            Ok(payloads)
        })
    }

    fn take_sized(&self, lua: &Lua, value: &Value, size: &mut PayloadSize) -> Result<Payload, ConvertError> {
        if let Value::Table(table) = value
            && table.metatable().as_ref() == Some(&self.marks.bytes)
        {
            let bytes: mlua::LuaString = table.raw_get(1)?;
            let bytes = bytes.as_bytes();
            size.add_bytes(bytes.len())?;
            return Ok(Payload::Bytes(bytes.to_vec()));
        }
        convert::take_json(lua, value, size, &self.watch).map(Payload::Json)
    }

    /// JSON of a script.
    pub(super) fn take_json(
        &self,
        lua: &Lua,
        value: &Value,
        name: &'static str,
        largest: usize,
    ) -> Result<Json, ConvertError> {
        self.sized(lua, name, largest, |size| convert::take_json(lua, value, size, &self.watch))
    }

    /// The text of JSON of a script.
    pub(super) fn take_text(
        &self,
        lua: &Lua,
        value: &Value,
        name: &'static str,
        largest: usize,
    ) -> Result<Vec<u8>, ConvertError> {
        self.sized(lua, name, largest, |size| convert::take_text(lua, value, size, &self.watch))
    }

    /// Converts within the memory that is left. If that is not enough, collects garbage and converts once more.
    fn sized<T>(
        &self,
        lua: &Lua,
        name: &'static str,
        largest: usize,
        convert: impl Fn(&mut PayloadSize) -> Result<T, ConvertError>,
    ) -> Result<T, ConvertError> {
        match convert(&mut PayloadSize::new(name, largest, self.left(lua))) {
            Err(ConvertError::NoRoom(_)) => {
                lua.gc_collect()?;
                convert(&mut PayloadSize::new(name, largest, self.left(lua)))
            }
            converted => converted,
        }
    }
}
