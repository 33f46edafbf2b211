//! What a script is given.

use std::time::UNIX_EPOCH;

use cap_std::fs::{FileType, Metadata};
use frame_dispatch::lua::mlua::{self, IntoLua, Lua, Value};

/// What is in a file.
pub(super) struct Contents(pub(super) Vec<u8>);

impl IntoLua for Contents {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(&self.0).map(Value::String)
    }
}

/// Something in a directory.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: &'static str,
}

impl IntoLua for Entry {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let table = lua.create_table_with_capacity(0, 2)?;
        table.raw_set("name", lua.create_string(&self.name)?)?;
        table.raw_set("kind", self.kind)?;
        Ok(Value::Table(table))
    }
}

/// What there is to say of a file.
pub(super) struct Stat(pub(super) Metadata);

impl IntoLua for Stat {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let table = lua.create_table_with_capacity(0, 3)?;
        table.raw_set("kind", kind(self.0.file_type()))?;
        table.raw_set("size", self.0.len())?;
        let modified = self.0.modified().ok().map(|time| {
            let time = time.into_std();
            match time.duration_since(UNIX_EPOCH) {
                Ok(since) => since.as_secs_f64(),
                Err(before) => -before.duration().as_secs_f64(),
            }
        });
        table.raw_set("modified", modified)?;
        Ok(Value::Table(table))
    }
}

/// What something is, in a word.
pub(super) fn kind(file_type: FileType) -> &'static str {
    if file_type.is_file() {
        "file"
    } else if file_type.is_dir() {
        "directory"
    } else if file_type.is_symlink() {
        "link"
    } else {
        "other"
    }
}
