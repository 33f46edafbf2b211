//! Names and values in tables: queries and forms.

use std::borrow::Cow;

use frame_dispatch::lua::{Values, mlua};
use mlua::{Lua, Table, Value};

use crate::modules::lua::members::{invalid, shown};

/// How many pairs there are at most. Each takes memory of the host beside its bytes.
const MAX_PAIRS: usize = 65_536;

/// A name and a value.
type Pair = (Vec<u8>, Vec<u8>);

/// Reads `table`, which is called `what`, into pairs in the order in which they are sent. They have at most `limit` bytes,
/// percent-encoded.
///
/// A table of names is sorted by them, since its own order is another in each VM; each name has a value, or a list of
/// values. A list of pairs keeps its order.
pub(super) fn read(lua: &Lua, table: &Table, what: &'static str, limit: usize) -> mlua::Result<Vec<Pair>> {
    let mut reader = PairReader { pairs: Vec::new(), what, limit, bytes: 0 };
    if table.raw_len() > 0 {
        reader.list(lua, table)?;
    } else {
        reader.names(lua, table)?;
    }
    Ok(reader.pairs)
}

struct PairReader {
    pairs: Vec<Pair>,
    /// What the table is called in errors.
    what: &'static str,
    /// How many bytes they may have together, percent-encoded.
    limit: usize,
    bytes: usize,
}

impl PairReader {
    fn list(&mut self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        let what = self.what;
        only_list(table, what)?;
        for (index, pair) in (1..).zip(table.sequence_values::<Value>()) {
            let expected =
                |found: &str| invalid(format!("`{what}[{index}]` is a pair, {{ name, value }}; {found}"));
            let pair = match pair? {
                Value::Table(pair) => pair,
                other => return Err(expected(&format!("it is {}", Values::type_of(&other)))),
            };
            if pair.raw_len() != 2 {
                return Err(expected(&format!("it has {} elements", pair.raw_len())));
            }
            let place = |part: &str| format!("the {part} in `{what}[{index}]`");
            let (name, value) = (pair.raw_get::<Value>(1)?, pair.raw_get::<Value>(2)?);
            let name = text(lua, &name, || place("name"))?;
            let value = text(lua, &value, || place("value"))?;
            self.push(&name, &value)?;
        }
        Ok(())
    }

    fn names(&mut self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        let names = sorted_names(table, self.what, self.limit)?;
        for name in names {
            let value = table.raw_get::<Value>(lua.create_string(&name)?)?;
            let place = format!("`{}.{}`", self.what, shown(&String::from_utf8_lossy(&name)));
            let Value::Table(list) = value else {
                let value = text(lua, &value, || place)?;
                self.push(&name, &value)?;
                continue;
            };
            only_list(&list, &place)?;
            for (index, value) in (1..).zip(list.sequence_values::<Value>()) {
                let value = text(lua, &value?, || format!("element {index} of {place}"))?;
                self.push(&name, &value)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> mlua::Result<()> {
        let bytes = encoded_len(name).saturating_add(encoded_len(value)).saturating_add("=&".len());
        self.bytes = self.bytes.saturating_add(bytes);
        if self.pairs.len() == MAX_PAIRS {
            return Err(invalid(format!("`{}` has at most {MAX_PAIRS} pairs", self.what)));
        }
        if self.bytes > self.limit {
            return Err(invalid(format!(
                "`{}` has at most {} bytes, percent-encoded",
                self.what, self.limit
            )));
        }
        self.pairs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// The names of a table that has nothing else, in their order. Together they have at most `limit` bytes.
pub(super) fn sorted_names(table: &Table, what: &str, limit: usize) -> mlua::Result<Vec<Vec<u8>>> {
    let (mut names, mut bytes) = (Vec::new(), 0_usize);
    for pair in table.pairs::<Value, Value>() {
        let (name, _) = pair?;
        let Value::String(name) = &name else {
            let kind = Values::type_of(&name);
            return Err(invalid(format!(
                "`{what}` has names, or is a list of pairs; there is {kind} in the place of a name"
            )));
        };
        bytes = bytes.saturating_add(name.as_bytes().len()).saturating_add(1);
        if bytes > limit {
            return Err(invalid(format!("the names in `{what}` have at most {limit} bytes")));
        }
        names.push(name.as_bytes().to_vec());
    }
    names.sort_unstable();
    Ok(names)
}

/// Refuses a list that has names or gaps: some of it would be left out.
pub(super) fn only_list(table: &Table, what: &str) -> mlua::Result<()> {
    let (len, mut found) = (table.raw_len(), 0);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        let is_index = key.as_integer().and_then(|index| usize::try_from(index).ok());
        if !is_index.is_some_and(|index| (1..=len).contains(&index)) {
            let what = if what.starts_with('`') { what.to_owned() } else { format!("`{what}`") };
            return Err(invalid(format!("{what} is a list; it has something under another key, too")));
        }
        found += 1;
    }
    if found == len { Ok(()) } else { Err(invalid(format!("`{what}` is a list; it has gaps"))) }
}

/// The text of a value that has one.
pub(super) fn text(
    lua: &Lua,
    value: &Value,
    place: impl FnOnce() -> String,
) -> mlua::Result<Cow<'static, [u8]>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec().into()),
        Value::Boolean(true) => Ok(Cow::Borrowed(b"true")),
        Value::Boolean(false) => Ok(Cow::Borrowed(b"false")),
        Value::Integer(_) | Value::Number(_) => {
            let text = lua.coerce_string(value.clone())?;
            Ok(text.map(|text| text.as_bytes().to_vec()).unwrap_or_default().into())
        }
        other => {
            let kind = Values::type_of(other);
            Err(invalid(format!("{} is a string, a number or a boolean; it is {kind}", place())))
        }
    }
}

/// How many bytes it has as it is sent.
fn encoded_len(text: &[u8]) -> usize {
    let of = |byte: &u8| {
        let is_itself = byte.is_ascii_alphanumeric() || b"*-._ ".contains(byte);
        if is_itself { 1 } else { 3 }
    };
    text.iter().map(of).sum()
}
