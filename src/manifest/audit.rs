//! `[audit]`.

use std::io;
use std::path::Path;

use serde_json::json;

use super::fs::is_below;
use super::model::Given;
use super::reader::{Read, Table, Value};
use crate::audit::AuditConfig;

const EXAMPLE: &str = "\"audit.log\"";

/// The audit log, if there is to be one. Its file may not be below `base`, where scripts may be given files.
pub(super) fn audit(document: &Table<'_>, base: Option<&Path>) -> Option<Given<AuditConfig>> {
    let table = document.optional("audit", |value| value.table("`[audit]`", "{ file = \"audit.log\" }"));
    let table = table.ok()??;
    table.only(&["file", "required", "sync"]);
    let file = table.required("file", EXAMPLE).and_then(|value| {
        let path = value.filled(EXAMPLE, "give the path of a file")?;
        let path = value.reader.directory.join(path);
        check_directory(&value, &path)?;
        check_base(&value, &path, base)?;
        Ok((path, value.span))
    });
    let required = table.or("required", false, Value::bool);
    let sync = table.or("sync", false, Value::bool);
    let ((file, span), required, sync) = (file.ok()?, required.ok()?, sync.ok()?);
    let identity = json!([file.display().to_string(), required, sync]);
    Some(Given { value: AuditConfig { file, required, sync }, span, identity })
}

/// Refuses a file whose directory is not there. Whether it can be written is seen when it is opened.
fn check_directory(value: &Value<'_>, path: &Path) -> Read<()> {
    let directory = directory(path);
    let shown = directory.display();
    let why = match directory.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => format!("`{shown}` is not a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("there is no directory `{shown}`"),
        Err(error) => format!("`{shown}` cannot be used: {error}"),
    };
    let help =
        format!("make it, or give a file in another; paths begin at `{}`", value.reader.directory.display());
    Err(value.reader.report(value.problem(why).with_help(help)))
}

/// Refuses a file that scripts could write to.
fn check_base(value: &Value<'_>, path: &Path, base: Option<&Path>) -> Read<()> {
    if !is_below(base, path) {
        return Ok(());
    }
    let why = "the audit log is below the base directory of `[fs]`, where scripts may be given files";
    Err(value.reader.report(value.problem(why).with_help("put it into a directory that is not below `base`")))
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
