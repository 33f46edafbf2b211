//! `frame check`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::failure::look;
use super::{Failure, Format};
use crate::exit::Exit;
use crate::manifest::{Problems, Summary, examine_once};
use crate::{app, report, threads};

/// Reports the mistakes in the manifest of an app, or else what it would run.
///
/// The first mistake of each setting is reported, in all sections at once. Nothing is run, and nothing is connected to.
/// Exits with code 2 if there is a mistake. A warning is of a part that has no effect, and does not change the exit code.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The manifest.
    #[arg(value_name = "MANIFEST", default_value = "app.toml")]
    manifest: PathBuf,
    /// How to print it. What is wrong is a report on standard error, or a JSON object with the member `problems`. Warnings are
    /// on standard error, too, or the member `warnings` of the JSON object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut reading = examine_once(&self.manifest);
        // What could be read is looked at further in any case, so that mistakes in all sections are reported at once.
        let (mut remarks, mut warnings) = (BTreeMap::new(), Vec::new());
        if let Some(manifest) = &reading.manifest {
            let runtime = threads::runtime()?;
            match runtime.block_on(app::check(manifest)) {
                Ok(plan) => {
                    remarks = plan.remarks();
                    plan.warnings().clone_into(&mut warnings);
                }
                Err(further) => reading = reading.with_problems(further),
            }
            runtime.shutdown_background();
        }
        let manifest = match (reading.into_result(), self.format) {
            (Ok(manifest), _) => manifest,
            // A list for programs is what they asked for, whatever is in it.
            (Err(problems), Format::Json) => {
                report::print(&format_args!("{:#}", problems.to_json()))?;
                return Ok(Exit::Usage);
            }
            (Err(problems), Format::Table) => return Err(Failure::of_manifest(&problems)),
        };
        let summary = Summary(&manifest, &remarks, &warnings);
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&summary.to_json())?)?,
            Format::Table => {
                if !warnings.is_empty() {
                    report::print_error(&Problems::new(warnings.clone()).render(look()).trim_end());
                }
                report::print(&summary.to_string().trim_end())?;
            }
        }
        Ok(Exit::Done)
    }
}
