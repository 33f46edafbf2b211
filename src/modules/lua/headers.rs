//! Tables of headers that scripts give.

use std::collections::HashSet;

use frame_dispatch::lua::Values;
use frame_dispatch::lua::mlua::{self, Table, Value};
use frame_net::http::{HeaderName, HeaderValue};

use super::members::{invalid, shown};

/// How many bytes the headers of a request have at most, names and values. They are memory of the host.
const LARGEST: usize = 64 << 10;

/// Names of headers, in lower case.
pub(super) type Names = HashSet<Vec<u8>>;

/// Reads a list of names of headers, which is called `what`. They have at most as many bytes as headers.
pub(super) fn names(list: &Table, what: &str) -> mlua::Result<Names> {
    let (mut names, mut bytes) = (Names::new(), 0_usize);
    for name in list.sequence_values::<Value>() {
        let name = match name? {
            Value::String(name) => name,
            other => {
                let kind = Values::type_of(&other);
                return Err(invalid(format!("`{what}` is a list of names of headers; there is {kind}")));
            }
        };
        // A list can name one large string many times.
        bytes = bytes.saturating_add(name.as_bytes().len()).saturating_add(1);
        if bytes > LARGEST {
            return Err(invalid(format!("the names in `{what}` have at most {LARGEST} bytes")));
        }
        names.insert(name.as_bytes().to_ascii_lowercase());
    }
    Ok(names)
}

/// Reads a table of headers: a name with a string, or with a list of them. The values of those that `sensitive` names are
/// marked so.
pub(super) fn read(headers: &Table, sensitive: &Names) -> mlua::Result<Vec<(HeaderName, HeaderValue)>> {
    let (mut pairs, mut names) = (Vec::new(), 0_usize);
    for pair in headers.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let Value::String(name) = name else {
            let example = "headers = { accept = \"text/html\" }";
            return Err(invalid(format!("a header has a string for its name, as in `{example}`")));
        };
        // Each name that is kept takes a place among the few references to values that a VM can have.
        names = names.saturating_add(name.as_bytes().len());
        if names > LARGEST {
            return Err(too_large());
        }
        pairs.push((name, value));
    }
    // The order of a table is another in each VM: servers would recognize one.
    pairs.sort_by_cached_key(|(name, _)| {
        let name = name.as_bytes();
        (name.to_ascii_lowercase(), name.to_vec())
    });
    let mut reader = HeaderReader { headers: Vec::new(), bytes: 0, sensitive };
    for (name, value) in &pairs {
        match value {
            Value::Table(values) => {
                for value in values.sequence_values::<Value>() {
                    reader.add(name, &value?)?;
                }
            }
            value => reader.add(name, value)?,
        }
    }
    Ok(reader.headers)
}

fn too_large() -> mlua::Error {
    invalid(format!("the headers of a request have at most {LARGEST} bytes"))
}

struct HeaderReader<'a> {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// How many bytes they have so far.
    bytes: usize,
    sensitive: &'a Names,
}

impl HeaderReader<'_> {
    fn add(&mut self, name: &mlua::LuaString, value: &Value) -> mlua::Result<()> {
        // Before anything is copied.
        self.bytes = self.bytes.saturating_add(name.as_bytes().len());
        self.bytes = self.bytes.saturating_add(value.as_string().map_or(0, |value| value.as_bytes().len()));
        if self.bytes > LARGEST {
            return Err(too_large());
        }
        let shown = shown(&name.to_string_lossy());
        let name = HeaderName::from_bytes(&name.as_bytes())
            .map_err(|_| invalid(format!("no header can be called `{shown}`")))?;
        let Value::String(value) = value else {
            let kind = Values::type_of(value);
            return Err(invalid(format!(
                "the header `{shown}` is a string, or a list of strings; there is {kind}"
            )));
        };
        let mut value = HeaderValue::from_bytes(&value.as_bytes())
            .map_err(|_| invalid(format!("the value of the header `{shown}` is not a valid header value")))?;
        value.set_sensitive(self.sensitive.contains(name.as_str().as_bytes()));
        self.headers.push((name, value));
        Ok(())
    }
}
