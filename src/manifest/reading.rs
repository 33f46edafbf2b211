//! From a file to a manifest with its problems: opens the file, parses it, and reads the sections in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use frame_net::NetworkId;
use frame_net::http::HttpConfig;
use frame_registry::Options;

use super::function::{Role, function};
use super::ids::{check_http_networks, section, section_of};
use super::model::Manifest;
use super::places::Places;
use super::problem::{Problem, Problems, SourceFile};
use super::reader::{Reader, Table, size_text};
use super::syntax::{self, SECTIONS, Syntax};
use super::{sections, supervisor};
use crate::files;

/// What was read of a manifest, and what is wrong with it.
#[derive(Debug)]
pub struct Reading {
    /// All of it, if nothing is wrong. Otherwise what can be looked at further: the functions, processes and networks
    /// that are right by themselves, with no options, as these may name what is not there, and nothing else. None where
    /// the file could not be read.
    pub manifest: Option<Manifest>,
    /// What is wrong, in no order.
    pub problems: Vec<Problem>,
    /// How many more problems there are: only so many are kept that a report of them has an end.
    pub omitted: usize,
    /// What the manifest is called in reports.
    name: String,
}

/// Reads a manifest, all of it.
///
/// # Errors
///
/// Everything that is wrong with it. It has to be a regular file: to wait for the other end of a pipe could take for ever.
pub fn read(path: &Path) -> Result<Manifest, Problems> {
    examine(path).into_result()
}

/// Reads a manifest as far as that can be done.
pub fn examine(path: &Path) -> Reading {
    examine_from(path, files::open_regular)
}

/// The path by which a manifest is read from standard input.
pub(crate) const STDIN: &str = "/dev/stdin";

/// Reads a manifest as far as that can be done: also one that comes from standard input, whose paths begin at the working
/// directory. That waits until its other end is closed.
pub(crate) fn examine_once(path: &Path) -> Reading {
    if path == Path::new(STDIN) { examine_from(path, |path| File::open(path)) } else { examine(path) }
}

fn examine_from(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> Reading {
    let name = path.display().to_string();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && path != Path::new(STDIN) => parent,
        _ => Path::new("."),
    };
    let refused = |message: &str, help: &str| Reading::refused(&name, message, help);
    let bytes = match open(path).and_then(|file| files::read_at_most(file, LARGEST)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let message = format!("the manifest is larger than {}", size_text(LARGEST));
            return refused(&message, "put payloads and scripts into files of their own");
        }
        Err(error) => {
            let message = format!("the manifest cannot be read: {error}");
            return refused(&message, "give the path of a manifest, such as `app.toml`");
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Manifest::parse(&name, &text, directory),
        // Not shown: what is a secret in it is not known.
        Err(error) => {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = bytes[..at].split(|&byte| byte == b'\n').count();
            let message =
                format!("the manifest is no text in UTF-8: the first byte that is none is in line {line}");
            refused(&message, "save it as UTF-8")
        }
    }
}

/// The largest manifest, in bytes.
const LARGEST: u64 = 1 << 20;

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
        if let Some(at) = syntax::too_many_tables(text) {
            let line = text[..at].matches('\n').count() + 1;
            let message = format!(
                "the manifest has more than {} tables, lists and dots; those in line {line} are too many",
                syntax::MOST_BRACKETS
            );
            return Reading::refused(name, &message, "put payloads and scripts into files of their own");
        }
        let Syntax { document, file, mut problems, omitted, is_whole } = Syntax::parse(name, text);
        let reader = Reader::new(file, directory.to_owned(), is_whole, &problems);
        let mut manifest = read_sections(&Table::new(&reader, &document, 0..0, "the manifest"));
        let (further, more) = reader.into_problems();
        problems.extend(further);
        if !problems.is_empty() {
            without_references(&mut manifest);
        }
        let omitted = omitted.saturating_add(more);
        Reading { manifest: Some(manifest), problems, omitted, name: name.to_owned() }
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
    /// Of a manifest of which nothing was read, and nothing is shown.
    fn refused(name: &str, message: &str, help: &str) -> Self {
        let file = Arc::new(SourceFile::new(name, ""));
        let problem = Problem::new(&file, 0..0, message).with_help(help);
        Self { manifest: None, problems: vec![problem], omitted: 0, name: name.to_owned() }
    }

    /// The manifest, if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// Everything that is.
    pub fn into_result(self) -> Result<Manifest, Problems> {
        match self.manifest {
            Some(manifest) if self.problems.is_empty() => Ok(manifest),
            _ => Err(Problems::sorted(self.problems, self.omitted, &self.name)),
        }
    }

    /// The same, with what else is wrong with what was read.
    #[must_use]
    pub fn with_problems(mut self, problems: Problems) -> Self {
        let (problems, omitted) = problems.into_parts();
        self.problems.extend(problems);
        self.omitted = self.omitted.saturating_add(omitted);
        self
    }
}

/// Reads all sections, as far as that can be done.
fn read_sections(document: &Table<'_>) -> Manifest {
    check_section_names(document);
    let networks = section(document, "networks", "a network", sections::network);
    let processes =
        section(document, "processes", "a process", |table| function(table, Role::Process, &networks.known));
    let hosts = section(document, "hosts", "a host", sections::host);
    let supervisors = section(document, "supervisors", "a supervisor", |table| {
        Ok(supervisor::read(table, &networks.known))
    });
    let base = sections::fs(document);
    let secrets = section_of(document, "secrets", "a secret", |value, table| {
        sections::secret(value, table, base.as_ref().map(|base| &*base.value))
    });
    let (clearnet, _) = sections::settings(document, "clearnet", sections::CLEARNET);
    let (limits, _) = sections::settings(document, "limits", &[]);
    let (http, http_identity): (HttpConfig, _) = sections::settings(document, "http", sections::HTTP);
    check_http_networks(document, &networks.known);
    let (otlp, collector) = sections::otlp(document).unzip();
    Manifest {
        file: Arc::clone(&document.reader.file),
        directory: document.reader.directory.clone(),
        app: sections::app(document, &networks.known),
        clearnet,
        limits,
        http: http.in_directory(&document.reader.directory),
        http_identity,
        http_places: document
            .get("http")
            .map(|value| Places::of(&value, value.key.clone()))
            .unwrap_or_default(),
        layout: Places::of_all(document),
        places: places(document),
        audit: sections::audit(document, base.as_ref().map(|base| &*base.value)),
        base,
        otlp,
        collector,
        functions: section(document, "functions", "a function", |table| {
            function(table, Role::Function, &networks.known)
        })
        .entries,
        supervisors: supervisor::checked(document.reader, &supervisors, &hosts, &processes),
        networks: networks.entries,
        secrets: secrets.entries,
        hosts: hosts.entries,
        processes: processes.entries,
        #[cfg(feature = "wasm")]
        wasm: sections::wasm(document),
    }
}

/// Reports members of the manifest that are no section. After a header that is not valid its settings are read as such members, and
/// not reported again.
fn check_section_names(document: &Table<'_>) {
    if document.reader.is_whole {
        document.only(SECTIONS);
        return;
    }
    document.only_where(SECTIONS, |value| value.members().next().is_some());
}

/// Where the settings of networks are.
fn places(document: &Table<'_>) -> BTreeMap<NetworkId, Places> {
    let networks =
        document.get("networks").into_iter().flat_map(|section| section.members().collect::<Vec<_>>());
    networks
        .filter_map(|(id, network)| Some((id.parse().ok()?, Places::of(&network, network.key.clone()))))
        .collect()
}
