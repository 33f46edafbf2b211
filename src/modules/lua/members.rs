//! Tables of named settings that scripts give.

use std::time::Duration;

use frame_dispatch::CallError;
use frame_dispatch::lua::Values;
use frame_dispatch::lua::mlua::{self, Table, Value};
use frame_net::SecretId;
use frame_registry::text;

/// The members of a table, of which all are known: one that is misspelt is not one that is left out. A table that was
/// not given has none.
pub(crate) struct Members {
    table: Option<Table>,
}

impl Members {
    /// The members of `table`, which is called `what` in errors.
    pub(crate) fn new(table: Option<Table>, what: &str, known: &[&str]) -> mlua::Result<Self> {
        for pair in table.iter().flat_map(|table| table.pairs::<Value, Value>()) {
            let (key, _) = pair?;
            let Value::String(name) = &key else {
                let kind = Values::type_of(&key);
                return Err(invalid(format!("{what} has named members, and none under {kind}")));
            };
            let name = name.to_string_lossy();
            if known.contains(&name.as_str()) {
                continue;
            }
            let right = match text::nearest(&name, known.iter().copied()) {
                Some(member) => format!("did you mean `{member}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            return Err(invalid(format!("{what} has no member `{}`; {right}", shown(&name))));
        }
        Ok(Self { table })
    }

    /// A member as it is; `nil` where it is left out.
    pub(crate) fn value(&self, name: &str) -> mlua::Result<Value> {
        self.table.as_ref().map_or(Ok(Value::Nil), |table| table.raw_get(name))
    }

    pub(crate) fn string(&self, name: &str) -> mlua::Result<Option<mlua::LuaString>> {
        match self.value(name)? {
            Value::Nil => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(unfit(name, "a string", &other)),
        }
    }

    /// A string of text.
    pub(crate) fn text(&self, name: &str) -> mlua::Result<Option<String>> {
        self.string(name)?.map(|text| utf8(&text, &format!("`{name}`"))).transpose()
    }

    pub(crate) fn table(&self, name: &str) -> mlua::Result<Option<Table>> {
        match self.value(name)? {
            Value::Nil => Ok(None),
            Value::Table(table) => Ok(Some(table)),
            other => Err(unfit(name, "a table", &other)),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> mlua::Result<Option<bool>> {
        match self.value(name)? {
            Value::Nil => Ok(None),
            Value::Boolean(value) => Ok(Some(value)),
            other => Err(unfit(name, "`true` or `false`", &other)),
        }
    }

    /// A number of something, 0 or more.
    pub(crate) fn count(&self, name: &str) -> mlua::Result<Option<u64>> {
        match self.value(name)? {
            Value::Nil => Ok(None),
            value => match value.as_integer().and_then(|count| u64::try_from(count).ok()) {
                Some(count) => Ok(Some(count)),
                None => Err(unfit(name, "an integer, 0 or more", &value)),
            },
        }
    }

    /// A time, which is a number of seconds above 0.
    pub(crate) fn seconds(&self, name: &str) -> mlua::Result<Option<Duration>> {
        let expected = "a number of seconds, more than 0";
        let seconds = match self.value(name)? {
            Value::Nil => return Ok(None),
            #[allow(clippy::cast_precision_loss, reason = "of so many seconds a few more or less are none")]
            Value::Integer(seconds) => seconds as f64,
            Value::Number(seconds) => seconds,
            other => return Err(unfit(name, expected, &other)),
        };
        if seconds > 0.0 {
            return Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)));
        }
        Err(invalid(format!("`{name}` is {expected}; it is {seconds}")))
    }
}

/// A call of a function that it does not take.
pub(crate) fn invalid(message: impl Into<String>) -> mlua::Error {
    Values::raise(CallError::invalid(message))
}

fn unfit(name: &str, expected: &str, given: &Value) -> mlua::Error {
    let given = match given {
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        other => Values::type_of(other).to_owned(),
    };
    invalid(format!("`{name}` is {expected}; it is {given}"))
}

/// The text of a string of a script, which is `what`. What is not UTF-8 is refused: replaced by other characters, two
/// strings could become one.
pub(crate) fn utf8(string: &mlua::LuaString, what: &str) -> mlua::Result<String> {
    let text = string.to_str().map_err(|_| invalid(format!("{what} has to be text in UTF-8")))?;
    Ok(text.to_owned())
}

/// A name of a script's in an error.
pub(crate) fn shown(name: &str) -> String {
    text::excerpt(name, 40)
}

/// The secret that a request is to carry.
pub(crate) fn secret(options: &Members) -> mlua::Result<Option<SecretId>> {
    let Some(id) = options.text("secret")? else { return Ok(None) };
    // It is not shown, because the secret itself may stand here.
    let invalid = |_| invalid("`secret` is the id of a secret, such as \"app:stripe\"");
    id.parse().map(Some).map_err(invalid)
}
