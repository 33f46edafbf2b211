//! The clock functions of the library `os`, in UTC. The rest of that library reaches outside the VM and is left out.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mlua::ffi::{self, lua_State};
use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, StdLib, Table, Value};

use super::bridge;
use super::shared::Shared;

/// The longest format that `os.date` takes, in bytes.
const LONGEST_FORMAT: usize = 1024;

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Puts the functions into `library`.
pub(super) fn install(lua: &Lua, library: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    lua.load_std_libs(StdLib::OS)?;
    let stock: Table = lua.globals().raw_get("os")?;
    let date: Function = stock.raw_get("date")?;
    lua.globals().raw_set("os", Value::Nil)?;

    let this = Arc::clone(shared);
    let clock =
        bridge::function(lua, shared, move |lua, _| this.watch.elapsed().as_secs_f64().into_lua_multi(lua))?;
    library.raw_set("clock", clock)?;
    let fields = date.clone();
    let time = bridge::function(lua, shared, move |lua, arguments| {
        let time = match Option::<Table>::from_lua_args(arguments, 1, Some("time"), lua)? {
            Some(table) => time_of(&table, &fields)?,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed()),
        };
        time.into_lua_multi(lua)
    })?;
    library.raw_set("time", time)?;
    // SAFETY: The closure has the upvalue that it reads.
    let date: Function = unsafe { lua.exec_raw(date, |state| ffi::lua_pushcclosure(state, date_in_utc, 1)) }?;
    library.raw_set("date", date)
}

/// Lua's own `os.date`, its upvalue, with a format that asks for UTC.
unsafe extern "C-unwind" fn date_in_utc(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor. The upvalue is a C function.
    unsafe {
        let mut length = 0;
        let format = ffi::luaL_optlstring(state, 1, c"%c".as_ptr(), &raw mut length);
        if length > LONGEST_FORMAT {
            return ffi::luaL_argerror(state, 1, c"format too long".as_ptr());
        }
        if *format.cast::<u8>() != b'!' {
            ffi::lua_settop(state, 2);
            ffi::lua_pushfstring(state, c"!%s".as_ptr(), format);
            ffi::lua_replace(state, 1);
        }
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(date) => date(state),
            None => 0,
        }
    }
}

/// The time that a table describes, whose fields may be out of range, as seconds since 1970. Puts them into their ranges.
fn time_of(table: &Table, date: &Function) -> mlua::Result<i64> {
    let field = |name: &str, default: Option<i64>| {
        match table.get::<Value>(name)? {
            Value::Nil => default.ok_or_else(|| format!("field '{name}' missing in date table")),
            Value::Integer(value) => Ok(value),
            Value::Number(value) if value.fract() == 0.0 && value.abs() < 1e15 =>
            {
                #[allow(clippy::cast_possible_truncation, reason = "it is an integer in range")]
                Ok(value as i64)
            }
            Value::String(text) => {
                text.to_string_lossy().trim().parse().map_err(|_| format!("field '{name}' is not an integer"))
            }
            _ => Err(format!("field '{name}' is not an integer")),
        }
        .map_err(mlua::Error::runtime)
        .and_then(|value| {
            let is_in_range = i32::try_from(value).is_ok();
            let error = || mlua::Error::runtime(format!("field '{name}' is out-of-bound"));
            is_in_range.then_some(value).ok_or_else(error)
        })
    };
    let months = field("year", None)? * 12 + field("month", None)? - 1;
    let days = days_before_month(months) + field("day", None)? - 1;
    let seconds = field("hour", Some(12))? * 60 * 60 + field("min", Some(0))? * 60 + field("sec", Some(0))?;
    let time = days * SECONDS_A_DAY + seconds;
    let normal: Table = date.call(("!*t", time))?;
    for pair in normal.pairs::<Value, Value>() {
        let (name, value) = pair?;
        table.set(name, value)?;
    }
    Ok(time)
}

/// The days between 1970 and a month, counted from year 0. By the proleptic Gregorian calendar, whose 400 years have 146 097
/// days.
fn days_before_month(months: i64) -> i64 {
    // Years begin in March here, so that a leap day is a year's last.
    let months = months - 2;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}
