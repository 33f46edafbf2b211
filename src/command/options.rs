//! `frame options`.

use frame_registry::{BoxError, DeclaredOption, FrameResolvers, declared_options};
use serde::Serialize;

use super::Format;
use crate::report;

/// Lists the options that calls may be given, by name.
#[derive(Debug, clap::Args)]
pub(super) struct OptionsArgs {
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct List {
    options: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    kind: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
    /// Whether it can be given as text.
    text: bool,
    /// Whether an empty string is as good as no option.
    empty_is_unset: bool,
    doc: &'static str,
    #[serde(rename = "crate")]
    krate: &'static str,
    module: &'static str,
    file: &'static str,
    line: u32,
    covered_by: Vec<String>,
}

impl Row {
    fn new(option: &'static DeclaredOption, resolvers: &FrameResolvers) -> Self {
        let covers = |other: &&DeclaredOption| std::ptr::eq(*other, option);
        let covering = resolvers.iter().filter(|resolver| resolver.covers().iter().any(covers));
        Self {
            name: option.name(),
            kind: option.kind().as_str(),
            type_name: option.type_name(),
            text: option.is_text(),
            empty_is_unset: option.empty_is_unset(),
            doc: option.doc(),
            krate: option.crate_name(),
            module: option.module(),
            file: option.location().file(),
            line: option.location().line(),
            covered_by: covering.map(|resolver| resolver.name().to_owned()).collect(),
        }
    }
}

impl OptionsArgs {
    pub(super) fn run(self) -> Result<(), BoxError> {
        let resolvers = FrameResolvers::linked();
        let list = List {
            options: declared_options().into_iter().map(|option| Row::new(option, &resolvers)).collect(),
        };
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&list)?)?,
            Format::Table => {
                let rows = list.options.into_iter().map(|row| {
                    let place = format!("{}:{}", row.file, row.line);
                    let (kind, type_name) = (row.kind.to_owned(), row.type_name.to_owned());
                    // The first paragraph says what it is, and those behind it how to use it.
                    let what = row.doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
                    vec![row.name.to_owned(), kind, type_name, row.covered_by.join(", "), place, what]
                });
                let header = ["name", "kind", "type", "covered by", "declared at", "what it is"];
                report::print(&report::table(&header, rows))?;
            }
        }
        // Listed all the same: the list is what shows where they are.
        Ok(resolvers.check()?)
    }
}
