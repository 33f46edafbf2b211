//! Values between Lua and the host.
//!
//! | JSON | Lua |
//! |---|---|
//! | `null` | `nil` as a whole payload, `null` inside one; both become `null` |
//! | number | an integer if it is one and fits, else a float; a payload with a whole number that does not fit is refused |
//! | array | a table marked with `array`, also where it is empty; a table with the keys 1 to n becomes one |
//! | object | a table with strings for keys; an empty table becomes one |

mod give;
mod take;

use mlua::ffi;
use mlua::{Lua, Table, Value};

pub(super) use self::give::{bytes_in_vm, decode, give, is_quick, too_large_integer};
pub(super) use self::take::{PayloadSize, length_of_list, take_json, take_text};

/// How deep tables and arrays are nested at most.
const DEPTH: usize = 128;
/// How many values are converted between two looks at the clock.
const VALUES: usize = 1024;

/// What the metatables of [`Marks`] are kept under, in the registry.
static ARRAY: u8 = 0;
static BYTES: u8 = 0;

/// The metatables that mark a table as something. No script can reach them.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) array: Table,
    pub(super) bytes: Table,
}

impl Marks {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Self> {
        let mark = |name: &str, key: *const u8| {
            let mark = lua.create_table()?;
            mark.raw_set("__metatable", name)?;
            mark.raw_set("__name", name)?;
            // SAFETY: It takes the table off the stack.
            #[allow(unsafe_code)]
            unsafe {
                lua.exec_raw::<()>(&mark, |state| {
                    ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, key.cast());
                })
            }?;
            Ok::<_, mlua::Error>(mark)
        };
        Ok(Self { array: mark("array", &raw const ARRAY)?, bytes: mark("bytes", &raw const BYTES)? })
    }
}

/// A value that cannot be a payload.
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
    /// Reading it failed, or the call has ended.
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

/// Returns the type of a value for an error, with its article.
pub(super) const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Table(_) => "a table",
        Value::Function(_) => "a function",
        Value::Thread(_) => "a coroutine",
        Value::Error(_) => "an error",
        Value::LightUserData(_) | Value::UserData(_) | Value::Other(_) => "a userdata",
    }
}
