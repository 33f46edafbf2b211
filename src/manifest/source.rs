//! The files that functions are in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::hash::sha256;
use super::model::{Engine, Source};
use super::reader::{Read, Reported, Value};
use super::units::size_text;
use crate::files;

/// The longest script, in bytes, which is that of the engine.
const LONGEST_SCRIPT: u64 = 1 << 20;
/// The largest component, in bytes: those that carry an interpreter have some ten million.
const LARGEST_COMPONENT: u64 = 256 << 20;
/// How large all files together can be, in bytes. They are in memory for as long as the app runs.
const LARGEST_TOTAL: u64 = 1 << 30;

/// The files that were read for one manifest. A file that many functions name is read and kept once.
#[derive(Default)]
pub(super) struct Sources {
    files: RefCell<HashMap<(PathBuf, Kind), Content>>,
    /// How many bytes they have.
    total: Cell<u64>,
    /// The names of the files beside those that were not found.
    neighbours: RefCell<HashMap<PathBuf, Rc<[String]>>>,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Script,
    Component,
}

#[derive(Clone)]
struct Content {
    bytes: Arc<[u8]>,
    text: Option<Arc<str>>,
    hash: Arc<str>,
    is_quotable: bool,
}

/// Reads the file that a manifest names.
pub(super) fn source(value: &Value<'_>, engine: Option<Engine>) -> Read<Source> {
    let path = value.str("\"greet.lua\"")?;
    let file = value.reader.directory.join(path);
    let kind = if engine == Some(Engine::Lua) { Kind::Script } else { Kind::Component };
    let sources = &value.reader.sources;
    let content = sources.read(&file, kind, &value.reader.directory);
    let content = content.map_err(|error| refused(value, path, &file, kind, &error))?;
    let Content { bytes, text, hash, is_quotable } = content;
    if kind == Kind::Script && text.is_none() {
        let problem = value.problem(format_args!("`{path}` is no text in UTF-8"));
        return Err(value.reader.report(problem.with_help("a script is given as its source")));
    }
    Ok(Source { path: path.to_owned(), span: value.span.clone(), bytes, text, hash, is_quotable })
}

impl Sources {
    fn read(&self, file: &Path, kind: Kind, directory: &Path) -> io::Result<Content> {
        let key = (file.to_owned(), kind);
        if let Some(content) = self.files.borrow().get(&key) {
            return Ok(content.clone());
        }
        let limit = match kind {
            Kind::Script => LONGEST_SCRIPT,
            Kind::Component => LARGEST_COMPONENT,
        };
        let (opened, is_quotable) = files::open_regular_beneath(directory, file)?;
        let bytes = files::read_at_most(opened, limit.min(LARGEST_TOTAL - self.total.get()))?;
        self.total.set(self.total.get() + bytes.len() as u64);
        let hash = sha256(&bytes).into();
        let content = match kind {
            Kind::Component => Content { bytes: bytes.into(), text: None, hash, is_quotable },
            Kind::Script => match String::from_utf8(bytes) {
                Ok(text) => {
                    let text: Arc<str> = text.into();
                    Content { bytes: Arc::clone(&text).into(), text: Some(text), hash, is_quotable }
                }
                Err(error) => Content { bytes: error.into_bytes().into(), text: None, hash, is_quotable },
            },
        };
        self.files.borrow_mut().insert(key, content.clone());
        Ok(content)
    }

    /// The names of files in a directory, in order.
    fn names_in(&self, directory: &Path) -> Rc<[String]> {
        let mut known = self.neighbours.borrow_mut();
        let names = known.entry(directory.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(directory).into_iter().flatten().take(1000);
            let mut names: Vec<_> =
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
            names.sort_unstable();
            names.into()
        });
        Rc::clone(names)
    }
}

fn refused(value: &Value<'_>, path: &str, file: &Path, kind: Kind, error: &io::Error) -> Reported {
    let directory = value.reader.directory.display();
    let problem = match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = value.problem(format_args!("there is no file `{path}`"));
            let problem = match neighbour(value, file) {
                Some(near) => problem.with_label(format_args!("did you mean `{near}`?")),
                None => problem,
            };
            problem.with_help(format_args!("paths begin at the directory of the manifest, `{directory}`"))
        }
        io::ErrorKind::IsADirectory => {
            value.problem(format_args!("`{path}` is a directory")).with_help("name a file in it")
        }
        io::ErrorKind::FileTooLarge if kind == Kind::Script => value
            .problem(format_args!("`{path}` is larger than {}", size_text(LONGEST_SCRIPT)))
            .with_help("split it into several functions"),
        io::ErrorKind::FileTooLarge => value.problem(format_args!(
            "`{path}` is larger than {}, or all sources together than {}",
            size_text(LARGEST_COMPONENT),
            size_text(LARGEST_TOTAL)
        )),
        _ => value.problem(format_args!("`{path}` cannot be read: {error}")),
    };
    value.reader.report(problem)
}

/// The file beside one that does not exist whose name is nearest. Names are shown only of what is beneath the manifest.
fn neighbour(value: &Value<'_>, file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let parent = file.parent()?.canonicalize().ok()?;
    if !parent.starts_with(value.reader.directory.canonicalize().ok()?) {
        return None;
    }
    let names = value.reader.sources.names_in(&parent);
    value.reader.nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}
