//! Forms of several parts, as scripts describe them.

use frame_dispatch::lua::mlua;
use frame_dispatch::{CallContext, CallError};
use frame_net::http::multipart::{Form, Part};
use frame_net::http::{Body, HeaderValue};
use mlua::{Lua, Table, Value};

use super::pairs::{only_list, sorted_names, text};
use super::upload;
use crate::modules::connect;
use crate::modules::lua::fs::{self, Access, Opening};
use crate::modules::lua::members::{Members, invalid, shown, utf8};

/// What a part takes beside what it is given: its boundary, and the names of its headers.
const AROUND: usize = 200;

/// Reads the option `multipart`. What is in it, except for files, has at most `limit` bytes.
pub(super) fn read(lua: &Lua, ctx: &CallContext, table: &Table, limit: usize) -> mlua::Result<Parts> {
    let mut parts = PartReader { ctx, parts: Vec::new(), bytes: 0, limit };
    if table.raw_len() > 0 {
        only_list(table, "multipart")?;
        for (index, part) in (1..).zip(table.sequence_values::<Value>()) {
            let place = format!("`multipart[{index}]`");
            let Value::Table(part) = part? else {
                let expected = "{ name = \"…\", body = \"…\" }";
                return Err(invalid(format!("{place} is a part, such as `{expected}`")));
            };
            let known = ["body", "content_type", "file", "file_name", "name"];
            let part = Members::new(Some(part), &place, &known)?;
            let name = part.string("name")?;
            let name = name.ok_or_else(|| invalid(format!("{place} has a `name`; it is missing")))?;
            let name = utf8(&name, &format!("the name of {place}"))?;
            parts.part(lua, name, &part, &place)?;
        }
        return Ok(parts.done());
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
    Ok(parts.done())
}

/// The parts of a form, in their order. Files are still to be opened.
pub(super) struct Parts {
    parts: Vec<Described>,
    bytes: usize,
}

struct Described {
    name: String,
    content: Content,
    file_name: Option<String>,
    content_type: Option<HeaderValue>,
}

enum Content {
    Bytes(Vec<u8>),
    File(Opening),
}

impl Parts {
    /// Whether a part is a file.
    pub(super) fn has_file(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.content, Content::File(_)))
    }

    /// How many bytes they take, without those of files.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The form, once all files are open.
    pub(super) async fn open(self) -> Result<Form, CallError> {
        let mut form = Form::new();
        for Described { name, content, file_name, content_type } in self.parts {
            let body = match content {
                Content::Bytes(bytes) => Body::from(bytes),
                Content::File(opening) => upload::of_file(opening.await?),
            };
            let mut part = Part::stream(body);
            if let Some(file_name) = file_name {
                part = part.file_name(file_name);
            }
            if let Some(content_type) = content_type {
                part = part.content_type(content_type).map_err(connect::of_http)?;
            }
            form = form.part(name, part);
        }
        Ok(form)
    }
}

/// A form whose parts are being read.
struct PartReader<'a> {
    ctx: &'a CallContext,
    parts: Vec<Described>,
    bytes: usize,
    limit: usize,
}

impl PartReader<'_> {
    fn done(self) -> Parts {
        Parts { parts: self.parts, bytes: self.bytes }
    }

    /// A part that is described by a table, or is plain text.
    fn value(&mut self, lua: &Lua, name: String, value: Value, place: &str) -> mlua::Result<()> {
        if let Value::Table(part) = value {
            let part = Members::new(Some(part), place, &["body", "content_type", "file", "file_name"])?;
            return self.part(lua, name, &part, place);
        }
        let body = text(lua, &value, || place.to_owned())?;
        self.add(name, Content::Bytes(body.into_owned()), None, None)
    }

    fn part(&mut self, lua: &Lua, name: String, part: &Members, place: &str) -> mlua::Result<()> {
        let (body, file) = (part.value("body")?, part.string("file")?);
        let (file_name, content_type) = (part.text("file_name")?, part.string("content_type")?);
        let content = match file {
            None if body.is_nil() => {
                return Err(invalid(format!("{place} has a `body`, or a `file`; both are missing")));
            }
            None => Content::Bytes(text(lua, &body, || format!("the body of {place}"))?.into_owned()),
            Some(_) if !body.is_nil() => {
                return Err(invalid(format!("{place} has a `body`, or a `file`, and not both")));
            }
            Some(path) => {
                let file_name = match file_name {
                    Some(file_name) => file_name,
                    None => last_name(&path, place)?,
                };
                let opening = Box::pin(fs::open(self.ctx, (&path).into(), Access::Read));
                return self.add(name, Content::File(opening), Some(file_name), content_type);
            }
        };
        self.add(name, content, file_name, content_type)
    }

    fn add(
        &mut self,
        name: String,
        content: Content,
        file_name: Option<String>,
        content_type: Option<mlua::LuaString>,
    ) -> mlua::Result<()> {
        let content_type = content_type.map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        // Characters of names that are percent-encoded take three bytes.
        let names = name.len().saturating_add(file_name.as_ref().map_or(0, String::len)).saturating_mul(3);
        let body = match &content {
            Content::Bytes(bytes) => bytes.len(),
            Content::File(_) => 0,
        };
        let sizes = [names, body, content_type.len(), AROUND];
        self.bytes = sizes.into_iter().fold(self.bytes, usize::saturating_add);
        if self.bytes > self.limit {
            return Err(invalid(format!(
                "`multipart` has at most {} bytes with what is around its parts; files do not count",
                self.limit
            )));
        }
        let content_type = if content_type.is_empty() {
            None
        } else {
            let value = HeaderValue::from_bytes(&content_type).ok();
            let value = value.filter(|value| Part::bytes("").content_type(value.clone()).is_ok());
            Some(value.ok_or_else(|| {
                let name = shown(&name);
                invalid(format!("the `content_type` of the part `{name}` is not a valid header value"))
            })?)
        };
        self.parts.push(Described { name, content, file_name, content_type });
        Ok(())
    }
}

/// The name of a file without its directories.
fn last_name(path: &mlua::LuaString, place: &str) -> mlua::Result<String> {
    let bytes = path.as_bytes();
    let name = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8(name.to_vec())
        .map_err(|_| invalid(format!("{place} needs a `file_name`; the name of its `file` is not UTF-8")))
}
