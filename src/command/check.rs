//! `frame check`.

use std::path::PathBuf;
use std::sync::Arc;

use frame_dispatch::lua::{LuaEngine, LuaError};

use super::{Failure, Format};
use crate::exit::Exit;
use crate::manifest::{Limits, Manifest, Problem, SourceFile, Summary, examine};
use crate::report;

/// Says everything that is wrong with the manifest of an app, or else what it would run.
///
/// Nothing is run, and nothing is connected to. Ends with the code 2 where something is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The manifest.
    #[arg(value_name = "MANIFEST", default_value = "app.toml")]
    manifest: PathBuf,
    /// How to print it. What is wrong is a report on standard error, or a JSON object with the member `problems`.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut reading = examine(&self.manifest);
        // What could be read is looked at further in any case, so that everything is said at once.
        let further = reading.manifest.as_ref().map_or_else(Vec::new, compile);
        reading.problems.extend(further);
        let manifest = match (reading.into_result(), self.format) {
            (Ok(manifest), _) => manifest,
            (Err(problems), Format::Json) => {
                report::print(&serde_json::to_string_pretty(&problems.to_json())?)?;
                return Ok(Exit::Usage);
            }
            (Err(problems), Format::Table) => return Err(Failure::of_manifest(&problems)),
        };
        let summary = Summary(&manifest);
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&summary.to_json())?)?,
            Format::Table => report::print(&summary.to_string().trim_end())?,
        }
        Ok(Exit::Done)
    }
}

/// What is wrong with what has a source: for now, with scripts.
fn compile(manifest: &Manifest) -> Vec<Problem> {
    let Ok(engine) = LuaEngine::builder().build() else { return Vec::new() };
    let functions = manifest.functions.values().chain(manifest.processes.values());
    let problems = functions.filter_map(|function| {
        let (source, limits) = (&function.value.source, &function.value.limits);
        let Limits::Lua(config) = limits else { return None };
        let text = str::from_utf8(&source.bytes).ok()?;
        match engine.function(&source.path, text, config.clone()) {
            Ok(_) => None,
            Err(LuaError::Syntax { message }) => {
                let path = manifest.directory.join(&source.path).display().to_string();
                Some(Problem::of_script(&Arc::new(SourceFile::new(path, text)), &message))
            }
            Err(error) => Some(Problem::new(&manifest.file, source.span.clone(), report::chain(&error))),
        }
    });
    problems.collect()
}
