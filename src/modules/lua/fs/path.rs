//! What a script names a file by, and what it writes into one.

use std::path::{Component, Path, PathBuf};

use frame_dispatch::lua::mlua::{self, FromLua, Lua, Value};
use frame_dispatch::{CallError, ErrorKind};
use frame_registry::text::excerpt;

/// How long a path may be, in bytes: as much as Linux takes.
const LONGEST: usize = 4096;

/// A path that only goes down from a root.
#[derive(Debug)]
pub(super) struct BeneathRoot {
    /// Names only; none for the root itself.
    path: PathBuf,
}

impl BeneathRoot {
    fn new(bytes: &[u8]) -> Result<Self, CallError> {
        let invalid =
            |what: &str| Err(CallError::invalid(format!("the path {}: {what}", shown_bytes(bytes))));
        let denied = |what: &str| {
            Err(CallError::new(ErrorKind::Denied, format!("the path {}: {what}", shown_bytes(bytes))))
        };
        if bytes.is_empty() {
            return Err(CallError::invalid("the path is empty; `.` is the root"));
        }
        if bytes.len() > LONGEST {
            return invalid(&format!("it has {} bytes, and the longest has {LONGEST}", bytes.len()));
        }
        if bytes.contains(&0) {
            return invalid("it has a NUL in it, which no name has");
        }
        let Some(given) = native(bytes) else {
            return invalid("it is no UTF-8, which every name is on this system");
        };
        let mut path = PathBuf::new();
        for component in given.components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir => (),
                Component::ParentDir => return denied("it has `..` in it; write it from the root down"),
                Component::RootDir | Component::Prefix(_) => {
                    return denied("it is absolute; write it relative to the root, without a `/` in front");
                }
            }
        }
        Ok(Self { path })
    }

    /// For what opens it.
    pub(super) fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { &self.path }
    }

    /// Whether it is the root itself.
    pub(super) fn is_root(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// For messages: in quotes, in one line, and short.
    pub(super) fn shown(&self) -> String {
        shown_bytes(self.as_path().as_os_str().as_encoded_bytes())
    }
}

/// A path as a script gives it. One that is none fails the call that it is given to, and not as an argument of the wrong
/// type does.
pub(in super::super) struct Given(Result<BeneathRoot, CallError>);

impl Given {
    pub(super) fn path(self) -> Result<BeneathRoot, CallError> {
        self.0
    }
}

/// The root itself.
impl Default for Given {
    fn default() -> Self {
        Self(Ok(BeneathRoot { path: PathBuf::new() }))
    }
}

impl From<&mlua::LuaString> for Given {
    fn from(path: &mlua::LuaString) -> Self {
        Self(BeneathRoot::new(&path.as_bytes()))
    }
}

impl FromLua for Given {
    fn from_lua(value: Value, lua: &Lua) -> mlua::Result<Self> {
        Ok(Self::from(&mlua::LuaString::from_lua(value, lua)?))
    }
}

/// What is written.
pub(super) struct Bytes(pub(super) Vec<u8>);

impl FromLua for Bytes {
    fn from_lua(value: Value, lua: &Lua) -> mlua::Result<Self> {
        Ok(Self(mlua::LuaString::from_lua(value, lua)?.as_bytes().to_vec()))
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere there are bytes that are no path")]
fn native(bytes: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn native(bytes: &[u8]) -> Option<&Path> {
    std::str::from_utf8(bytes).ok().map(Path::new)
}

/// The bytes that a script names something by.
#[cfg(unix)]
pub(super) fn bytes_of(name: &std::ffi::OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().to_vec()
}

#[cfg(not(unix))]
pub(super) fn bytes_of(name: &std::ffi::OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
}

fn shown_bytes(bytes: &[u8]) -> String {
    const LONGEST_SHOWN: usize = 120;
    // A byte more, so that it shows that the text is cut.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_SHOWN + 1)]);
    format!("\"{}\"", excerpt(&text, LONGEST_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_down_only() {
        for (given, path) in
            [("a", "a"), ("a/b", "a/b"), ("./a//b/./", "a/b"), (".", "."), ("./", "."), ("...", "...")]
        {
            assert_eq!(BeneathRoot::new(given.as_bytes()).unwrap().as_path(), Path::new(path), "{given}");
        }
        for given in ["..", "../a", "a/..", "a/../b", "a/../../b", "./..", "a/b/..", "/", "/a", "//a", "/.."]
        {
            let error = BeneathRoot::new(given.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{given}: {error}");
            assert!(error.message().contains(given), "{error}");
        }
        for given in ["", "a\0b", "\0", &"x".repeat(LONGEST + 1)] {
            assert_eq!(
                BeneathRoot::new(given.as_bytes()).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{given:?}"
            );
        }
    }

    #[test]
    fn a_path_is_shown_in_one_short_line() {
        let shown = shown_bytes(&[b"a\n\x1b\xff".as_slice(), &[b'x'; 200]].concat());
        assert!(shown.starts_with(r#""a\n\u{1b}�xxx"#) && shown.ends_with("x…\""), "{shown}");
        assert!(shown.len() < 150);
    }
}
