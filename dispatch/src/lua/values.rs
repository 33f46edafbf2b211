//! What a module of the host has of the VM that it is in.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use mlua::{Lua, Value};

use super::convert;
use super::fault;
use super::host::Refusal;
use super::json;
use super::shared::Shared;
use crate::error::CallError;

/// Values between scripts and a [module](super::LuaModule), with the conventions and the limits of payloads, and what the
/// module keeps for the call that runs. Cloning it is one reference count.
///
/// What goes wrong is raised as a failed call is.
#[derive(Clone)]
pub struct Values {
    shared: Arc<Shared>,
}

impl Values {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// A script's value as the text of JSON. `name` is what it is called in errors.
    ///
    /// # Errors
    ///
    /// If it is no JSON, larger than a [payload](super::LuaConfig::payload) can be, or needs more memory than the script
    /// has left.
    pub fn encode(&self, lua: &Lua, value: &Value, name: &'static str) -> mlua::Result<Vec<u8>> {
        let text = self.shared.take_text(lua, value, name, self.shared.payload);
        Ok(text.map_err(Refusal::from)?)
    }

    /// The text of JSON as a value for a script. `name` is what it is called in errors.
    ///
    /// # Errors
    ///
    /// If it is no JSON, nested too deeply, or the script has no room for it.
    pub fn decode(&self, lua: &Lua, text: &[u8], name: &str) -> mlua::Result<Value> {
        json::decode(lua, &self.shared, text, name)
    }

    /// Bytes as a string for a script. `name` is what they are called in errors.
    ///
    /// # Errors
    ///
    /// If the script has no room for them.
    pub fn string(&self, lua: &Lua, bytes: &[u8], name: &str) -> mlua::Result<mlua::LuaString> {
        if !self.shared.has_room(lua, bytes.len()) {
            return Err(fault::raise(fault::no_room(name)));
        }
        lua.create_string(bytes)
    }

    /// The table that a script sees of a failed call where it catches it, for functions that return failures.
    ///
    /// # Errors
    ///
    /// If the script has no room for it.
    pub fn failure(&self, lua: &Lua, error: CallError) -> mlua::Result<Value> {
        fault::give(lua, &self.shared, Arc::new(error.shortened()))
    }

    /// How many bytes of memory the script has left.
    ///
    /// # Errors
    ///
    /// Lua's, if a finalizer fails as what is no longer used is collected.
    pub fn room(&self, lua: &Lua) -> mlua::Result<usize> {
        self.shared.room(lua)
    }

    /// What the module keeps for the call that runs: one `T`, made when it is first asked for. It is dropped when the call
    /// ends, in whatever way; who holds it longer keeps it.
    ///
    /// # Errors
    ///
    /// If no call runs.
    pub fn of_call<T: Default + Any + Send + Sync>(&self) -> mlua::Result<Arc<T>> {
        self.shared.watch.of_call()
    }

    /// Returns the type of a value for an error, with its article: `a number`, `nil`.
    pub const fn type_of(value: &Value) -> &'static str {
        convert::type_of(value)
    }

    /// An error that is raised as a failed call.
    pub fn raise(error: CallError) -> mlua::Error {
        fault::raise(error)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}
