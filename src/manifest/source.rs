//! The files that functions are in.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use frame_registry::nearest;

use super::model::{Engine, Source};
use super::reader::{Read, Reported, Value};
use super::units::size_text;

/// The longest script, in bytes, which is that of the engine.
const LONGEST_SCRIPT: u64 = 1 << 20;
/// The largest component, in bytes: those that carry an interpreter have some ten million.
const LARGEST_COMPONENT: u64 = 256 << 20;

/// Reads the file that a manifest names.
pub(super) fn source(value: &Value<'_>, engine: Option<Engine>) -> Read<Source> {
    let path = value.str("\"greet.lua\"")?;
    let file = value.reader.directory.join(path);
    let limit = if engine == Some(Engine::Lua) { LONGEST_SCRIPT } else { LARGEST_COMPONENT };
    let bytes = read(&file, limit).map_err(|error| refused(value, path, &file, limit, &error))?;
    if engine == Some(Engine::Lua) && std::str::from_utf8(&bytes).is_err() {
        let problem = value.problem(format_args!("`{path}` is no text in UTF-8"));
        return Err(value.reader.report(problem.with_help("a script is given as its source")));
    }
    Ok(Source { path: path.to_owned(), span: value.span.clone(), bytes })
}

/// Reads a file that is one, and no longer than `limit`. Opening anything else, such as a pipe, could wait for ever.
fn read(path: &Path, limit: u64) -> io::Result<Arc<[u8]>> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

fn refused(value: &Value<'_>, path: &str, file: &Path, limit: u64, error: &io::Error) -> Reported {
    let directory = value.reader.directory.display();
    let problem = match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = value.problem(format_args!("there is no file `{path}`"));
            let problem = match neighbour(file) {
                Some(near) => problem.with_label(format_args!("did you mean `{near}`?")),
                None => problem,
            };
            problem.with_help(format_args!("paths begin at the directory of the manifest, `{directory}`"))
        }
        io::ErrorKind::IsADirectory => {
            value.problem(format_args!("`{path}` is a directory")).with_help("name a file in it")
        }
        io::ErrorKind::FileTooLarge => value
            .problem(format_args!("`{path}` is larger than {}", size_text(limit)))
            .with_help("split it into several functions"),
        _ => value.problem(format_args!("`{path}` cannot be read: {error}")),
    };
    value.reader.report(problem)
}

/// The file beside one that does not exist whose name is nearest.
fn neighbour(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let names: Vec<_> = fs::read_dir(file.parent()?)
        .ok()?
        .take(1000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    nearest(name, names).map(str::to_owned)
}
