//! `[fs]`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::model::Given;
use super::reader::{Read, Table, Value};

/// The directory that every `fs_root` is below, if there is to be one.
pub(super) fn base(document: &Table<'_>) -> Option<Given<PathBuf>> {
    let table = document.optional("fs", |value| value.table("`[fs]`", "{ base = \"data\" }")).ok()??;
    table.only(&["base"]);
    directory(&table.required("base", "\"data\"").ok()?).ok()
}

/// Whether the file at `path` is below `base`, by its own name or by where that leads.
pub(super) fn is_below(base: Option<&Path>, path: &Path) -> bool {
    let Some(base) = base.and_then(|base| base.canonicalize().ok()) else { return false };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    [path, directory.unwrap_or(Path::new("."))]
        .iter()
        .any(|path| path.canonicalize().is_ok_and(|path| path.starts_with(&base)))
}

fn directory(value: &Value<'_>) -> Read<Given<PathBuf>> {
    let path =
        value.reader.directory.join(value.filled("\"data\"", "write `.` for the directory of the manifest")?);
    let refused = |message: String, help: &str| {
        let from = value.reader.directory.display();
        let problem = value.problem(message).with_help(format_args!("{help}; paths begin at `{from}`"));
        value.reader.report(problem)
    };
    let shown = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let identity = json!(shown.to_string());
            Ok(Given { span: value.span.clone(), identity, value: path })
        }
        Ok(_) => Err(refused(format!("`{shown}` is no directory"), "give the directory that it is in")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused(format!("there is no directory `{shown}`"), "make it, or give another"))
        }
        Err(error) => Err(refused(format!("`{shown}` cannot be used: {error}"), "give one that can be read")),
    }
}
