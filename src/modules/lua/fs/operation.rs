//! What is done in a root, on a thread that may block.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{File, FileType, Metadata, OpenOptions};
use frame_dispatch::lua::mlua::{self, IntoLua, Lua, Value};
use frame_dispatch::{CallError, ErrorKind};

use super::error::failed;
use super::path::{BeneathRoot, bytes_of};
use crate::files::{self, OpenError, Opened};
use crate::fs_root::Root;

/// How many entries of a directory are listed at most.
const MOST_ENTRIES: usize = 10_000;

/// What something needs of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Access {
    Read,
    Write,
}

/// Which bytes of a file are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) offset: u64,
    /// All that follow, without.
    pub(super) length: Option<u64>,
    /// How many that may be.
    pub(super) largest: u64,
}

/// Opens a file, and nothing but a file.
fn open_file(root: &Root, path: &BeneathRoot, options: &mut OpenOptions) -> Result<File, CallError> {
    match files::open(root.directory(), path.as_path(), options) {
        Ok(Opened::File(file)) => Ok(file),
        Ok(Opened::Directory(_)) => Err(failed(path, io::Error::from(io::ErrorKind::IsADirectory))),
        Err(error) => Err(failed(path, error)),
    }
}

/// Opens a file to be read, or to be written from its beginning. Returns how many bytes it has then.
pub(super) fn open(
    root: &Root,
    path: &BeneathRoot,
    access: Access,
) -> Result<(std::fs::File, u64), CallError> {
    let file = match access {
        Access::Read => open_file(root, path, OpenOptions::new().read(true))?,
        Access::Write => {
            let file = open_file(root, path, OpenOptions::new().write(true).create(true))?;
            // It is known only now that it is a file.
            file.set_len(0).map_err(|error| failed(path, error))?;
            file
        }
    };
    let length = file.metadata().map_err(|error| failed(path, error))?.len();
    Ok((file.into_std(), length))
}

pub(super) fn read(root: &Root, path: &BeneathRoot, part: Part) -> Result<Contents, CallError> {
    let mut file = open_file(root, path, OpenOptions::new().read(true))?;
    let length = file.metadata().map_err(|error| failed(path, error))?.len();
    let wanted = length.saturating_sub(part.offset).min(part.length.unwrap_or(u64::MAX));
    let too_large = |wanted: u64| {
        let message = format!(
            "{} has {wanted} bytes to be read, and {} are the most at once; read it in parts, with an offset and a length",
            path.shown(),
            part.largest
        );
        CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
    };
    if wanted > part.largest {
        return Err(too_large(wanted));
    }
    let mut contents = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    file.seek(SeekFrom::Start(part.offset)).map_err(|error| failed(path, error))?;
    // It may have grown meanwhile, and some say that they are empty and are not.
    let most = part.length.unwrap_or(u64::MAX).min(part.largest.saturating_add(1));
    file.take(most).read_to_end(&mut contents).map_err(|error| failed(path, error))?;
    let read = contents.len() as u64;
    if read > part.largest { Err(too_large(read)) } else { Ok(Contents(contents)) }
}

pub(super) fn write(root: &Root, path: &BeneathRoot, data: &[u8]) -> Result<(), CallError> {
    let mut file = open_file(root, path, OpenOptions::new().write(true).create(true))?;
    // It is known only now that it is a file.
    file.set_len(0).and_then(|()| file.write_all(data)).map_err(|error| failed(path, error))
}

pub(super) fn append(root: &Root, path: &BeneathRoot, data: &[u8]) -> Result<(), CallError> {
    let mut file = open_file(root, path, OpenOptions::new().append(true).create(true))?;
    file.write_all(data).map_err(|error| failed(path, error))
}

pub(super) fn list(root: &Root, path: &BeneathRoot) -> Result<Vec<DirectoryEntry>, CallError> {
    let directory =
        files::open_directory(root.directory(), path.as_path()).map_err(|error| failed(path, error))?;
    let mut entries = Vec::new();
    for entry in directory.entries().map_err(|error| failed(path, error))? {
        let entry = entry.map_err(|error| failed(path, error))?;
        if entries.len() == MOST_ENTRIES {
            let message = format!(
                "{} has more than {MOST_ENTRIES} entries, which are the most that are listed",
                path.shown()
            );
            return Err(CallError::new(ErrorKind::Exhausted, message).with_retryable(false));
        }
        // What is gone since is not listed.
        let Ok(file_type) = entry.file_type() else { continue };
        entries.push(DirectoryEntry { name: bytes_of(&entry.file_name()), kind: kind(file_type) });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

pub(super) fn stat(root: &Root, path: &BeneathRoot) -> Result<Stat, CallError> {
    let metadata = files::metadata(root.directory(), path.as_path());
    metadata.map(Stat).map_err(|error| failed(path, error))
}

pub(super) fn exists(root: &Root, path: &BeneathRoot) -> Result<bool, CallError> {
    match files::metadata(root.directory(), path.as_path()) {
        Ok(_) => Ok(true),
        Err(OpenError::System(error))
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed(path, error)),
    }
}

pub(super) fn mkdir(root: &Root, path: &BeneathRoot) -> Result<(), CallError> {
    // The root is there. The library would make it, and fail.
    if path.is_root() {
        return Ok(());
    }
    root.directory().create_dir_all(path.as_path()).map_err(|error| failed(path, error))
}

pub(super) fn remove(root: &Root, path: &BeneathRoot) -> Result<(), CallError> {
    let path_inside = not_the_root(path)?;
    let removed = match root.directory().remove_file_or_symlink(path_inside) {
        Err(error) if is_directory(&error) => root.directory().remove_dir(path_inside),
        removed => removed,
    };
    removed.map_err(|error| failed(path, error))
}

pub(super) fn rename(root: &Root, from: &BeneathRoot, to: &BeneathRoot) -> Result<(), CallError> {
    let renamed = root.directory().rename(not_the_root(from)?, root.directory(), not_the_root(to)?);
    renamed.map_err(|error| {
        // The system does not say which of the two it is about.
        let missing = error.kind() == io::ErrorKind::NotFound;
        let is_there = missing && root.directory().symlink_metadata(from.as_path()).is_ok();
        failed(if is_there || !missing { to } else { from }, error)
    })
}

fn not_the_root(path: &BeneathRoot) -> Result<&Path, CallError> {
    if path.is_root() {
        return Err(CallError::invalid("the root itself can be neither removed nor moved"));
    }
    Ok(path.as_path())
}

/// Whether what is no file is a directory. POSIX has another word for it than Linux.
fn is_directory(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::IsADirectory {
        return true;
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    if crate::files::errno(error) == Some(rustix::io::Errno::PERM) {
        return true;
    }
    false
}

/// What is in a file.
pub(super) struct Contents(pub(super) Vec<u8>);

impl IntoLua for Contents {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(&self.0).map(Value::String)
    }
}

/// Something in a directory.
pub(super) struct DirectoryEntry {
    name: Vec<u8>,
    kind: &'static str,
}

impl IntoLua for DirectoryEntry {
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
