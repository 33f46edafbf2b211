//! Forms of several parts, as scripts describe them.

use frame_dispatch::lua::mlua;
use frame_net::http::multipart::{Form, Part};
use mlua::{Lua, Table, Value};

use super::pairs::{only_list, sorted_names, text};
use crate::modules::lua::members::{Members, invalid, shown, utf8};

/// What a part takes beside what it is given: its boundary, and the names of its headers.
const AROUND: usize = 200;

/// Reads the option `multipart`, whose body has at most `limit` bytes.
pub(super) fn read(lua: &Lua, table: &Table, limit: usize) -> mlua::Result<Form> {
    let mut parts = Parts { form: Form::new(), bytes: 0, limit };
    if table.raw_len() > 0 {
        only_list(table, "multipart")?;
        for (index, part) in (1..).zip(table.sequence_values::<Value>()) {
            let place = format!("`multipart[{index}]`");
            let Value::Table(part) = part? else {
                let expected = "{ name = \"…\", body = \"…\" }";
                return Err(invalid(format!("{place} is a part, such as `{expected}`")));
            };
            let known = ["body", "content_type", "file_name", "name"];
            let part = Members::new(Some(part), &place, &known)?;
            let name = part.string("name")?;
            let name = name.ok_or_else(|| invalid(format!("{place} has a `name`; it is missing")))?;
            let name = utf8(&name, &format!("the name of {place}"))?;
            parts.part(lua, name, &part, &place)?;
        }
        return Ok(parts.form);
    }
    for name in sorted_names(table, "multipart", limit)? {
        let value = table.raw_get::<Value>(lua.create_string(&name)?)?;
        let name = String::from_utf8(name)
            .map_err(|_| invalid("the names in `multipart` have to be text in UTF-8"))?;
        let place = format!("`multipart.{}`", shown(&name));
        match value {
            Value::Table(list) if list.raw_len() > 0 => {
                only_list(&list, &place)?;
                for (index, value) in (1..).zip(list.sequence_values::<Value>()) {
                    parts.value(lua, name.clone(), value?, &format!("element {index} of {place}"))?;
                }
            }
            value => parts.value(lua, name, value, &place)?,
        }
    }
    Ok(parts.form)
}

/// A form whose parts are being read.
struct Parts {
    form: Form,
    bytes: usize,
    limit: usize,
}

impl Parts {
    /// A part that is described by a table, or is plain text.
    fn value(&mut self, lua: &Lua, name: String, value: Value, place: &str) -> mlua::Result<()> {
        if let Value::Table(part) = value {
            let part = Members::new(Some(part), place, &["body", "content_type", "file_name"])?;
            return self.part(lua, name, &part, place);
        }
        let body = text(lua, &value, || place.to_owned())?;
        self.push(name, &body, None, None)
    }

    fn part(&mut self, lua: &Lua, name: String, part: &Members, place: &str) -> mlua::Result<()> {
        let body = part.value("body")?;
        if body.is_nil() {
            return Err(invalid(format!("{place} has a `body`; it is missing")));
        }
        let body = text(lua, &body, || format!("the body of {place}"))?;
        self.push(name, &body, part.text("file_name")?, part.string("content_type")?)
    }

    fn push(
        &mut self,
        name: String,
        body: &[u8],
        file_name: Option<String>,
        content_type: Option<mlua::LuaString>,
    ) -> mlua::Result<()> {
        let content_type = content_type.map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        // Characters of names that are percent-encoded take three bytes.
        let names = name.len().saturating_add(file_name.as_ref().map_or(0, String::len)).saturating_mul(3);
        let sizes = [names, body.len(), content_type.len(), AROUND];
        self.bytes = sizes.into_iter().fold(self.bytes, usize::saturating_add);
        if self.bytes > self.limit {
            return Err(invalid(format!(
                "`multipart` has at most {} bytes with what is around its parts",
                self.limit
            )));
        }
        let mut part = Part::bytes(body.to_vec());
        if let Some(file_name) = file_name {
            part = part.file_name(file_name);
        }
        if !content_type.is_empty() {
            let refused = |_| {
                let name = shown(&name);
                invalid(format!("the `content_type` of the part `{name}` is not a valid header value"))
            };
            part = part.content_type(content_type).map_err(refused)?;
        }
        let form = std::mem::take(&mut self.form);
        self.form = form.part(name, part);
        Ok(())
    }
}
