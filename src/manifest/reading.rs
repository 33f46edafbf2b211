//! From a file to a manifest.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use frame_registry::Options;

use super::document;
use super::model::Manifest;
use super::problem::{Problem, Problems, SourceFile};
use super::reader::{Reader, Table};
use super::syntax::Syntax;

/// What was read of a manifest, and what is wrong with it.
#[derive(Debug)]
pub struct Reading {
    /// All of it, if nothing is wrong. Otherwise what can be looked at further: the functions, processes and networks
    /// that are right by themselves, with no options, as these may name what is not there, and nothing else. None where
    /// the file could not be read.
    pub manifest: Option<Manifest>,
    /// What is wrong, in no order.
    pub problems: Vec<Problem>,
    /// What the manifest is called in reports.
    name: String,
}

/// Reads a manifest, all of it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<Manifest, Problems> {
    examine(path).into_result()
}

/// Reads a manifest as far as that can be done.
pub fn examine(path: &Path) -> Reading {
    let name = path.display().to_string();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let refused = |text: String, at: usize, message: &str, help: &str| {
        let file = Arc::new(SourceFile::new(&name, text));
        let problem = Problem::new(&file, at..at, message).with_help(help);
        Reading { manifest: None, problems: vec![problem], name: name.clone() }
    };
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let help = "give the path of a manifest, such as `app.toml`";
            return refused(String::new(), 0, &format!("the manifest cannot be read: {error}"), help);
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Manifest::parse(&name, &text, directory),
        // Not shown: what is a secret in it is not known.
        Err(error) => {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = String::from_utf8_lossy(&bytes[..at]).matches('\n').count() + 1;
            let message =
                format!("the manifest is no text in UTF-8: the first byte that is none is in line {line}");
            refused(String::new(), 0, &message, "save it as UTF-8")
        }
    }
}

/// The largest manifest, in bytes.
const LARGEST: u64 = 1 << 20;

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is longer than {LARGEST} bytes")));
    }
    Ok(bytes)
}

impl Manifest {
    /// Reads the text of a manifest as far as that can be done. `name` is what it is called in reports, and `directory` is
    /// where the paths in it begin.
    ///
    /// ```
    /// use std::path::Path;
    /// use frame_runtime::manifest::Manifest;
    ///
    /// let reading = Manifest::parse("app.toml", "[http]\nmax_redirect = 3\n", Path::new("."));
    /// let problems = reading.into_result().unwrap_err().to_string();
    /// assert!(problems.starts_with("app.toml:2:1: unknown key `max_redirect` (did you mean `max_redirects`?)"));
    /// ```
    pub fn parse(name: &str, text: &str, directory: &Path) -> Reading {
        let Syntax { document, file, mut problems, is_whole } = Syntax::parse(name, text);
        let reader = Reader::new(file, directory.to_owned(), is_whole);
        let mut manifest = document::read(&Table::new(&reader, &document, 0..0, "the manifest"));
        let lines = |problem: &Problem| {
            let at = |offset| problem.file.position(offset).0;
            at(problem.span.start)..=at(problem.span.end)
        };
        // What else is wrong with a line that is no TOML follows from that.
        let broken: Vec<_> = problems.iter().map(lines).collect();
        let follows = |problem: &Problem| broken.iter().any(|broken| broken.contains(lines(problem).start()));
        problems.extend(reader.into_problems().into_iter().filter(|problem| !follows(problem)));
        if !problems.is_empty() {
            without_references(&mut manifest);
        }
        Reading { manifest: Some(manifest), problems, name: name.to_owned() }
    }
}

/// Leaves what does not depend on what could not be read.
fn without_references(manifest: &mut Manifest) {
    manifest.app.options = Options::new();
    manifest.app.given.clear();
    for function in manifest.functions.values_mut().chain(manifest.processes.values_mut()) {
        function.value.options = Options::new();
    }
    manifest.supervisors.clear();
}

impl Reading {
    /// The manifest, if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// Everything that is.
    pub fn into_result(self) -> Result<Manifest, Problems> {
        match self.manifest {
            Some(manifest) if self.problems.is_empty() => Ok(manifest),
            _ => Err(Problems::sorted(self.problems, &self.name)),
        }
    }

    /// The same, with what else is wrong with what was read.
    #[must_use]
    pub fn with_problems(mut self, problems: impl IntoIterator<Item = Problem>) -> Self {
        self.problems.extend(problems);
        self
    }
}
