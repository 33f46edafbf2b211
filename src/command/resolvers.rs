//! `frame resolvers`.

mod dot;

use clap::ValueEnum;
use frame_registry::{BoxError, FrameResolvers, ResolverInfo, declared_options};
use serde::Serialize;

use self::dot::Dot;
use crate::report;

/// Lists the resolvers of this program, in the order they run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the resolvers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// A table, for people.
    #[default]
    Table,
    /// One JSON object, for programs.
    Json,
    /// A graph for Graphviz: which options lead to which resolvers, in the order they run.
    Dot,
}

#[derive(Serialize)]
struct List {
    layout: &'static str,
    resolvers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    order: i32,
    #[serde(rename = "crate")]
    krate: Option<&'static str>,
    module: Option<&'static str>,
    file: &'static str,
    line: u32,
    covers: Vec<&'static str>,
    origin: &'static str,
}

impl From<ResolverInfo> for Row {
    fn from(resolver: ResolverInfo) -> Self {
        Self {
            name: resolver.name().to_owned(),
            order: resolver.order(),
            krate: resolver.crate_name(),
            module: resolver.module(),
            file: resolver.location().file(),
            line: resolver.location().line(),
            covers: resolver.covers().iter().map(|option| option.name()).collect(),
            origin: resolver.origin().as_str(),
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<(), BoxError> {
        let resolvers = FrameResolvers::linked();
        let layout = resolvers.layout().as_str();
        let list = List { layout, resolvers: resolvers.iter().map(Row::from).collect() };
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&list)?)?,
            Format::Dot => report::print(&Dot { resolvers: &list.resolvers, options: &declared_options() })?,
            Format::Table => {
                let rows = list.resolvers.into_iter().map(|row| {
                    let place = format!("{}:{}", row.file, row.line);
                    let module = row.module.unwrap_or_default().to_owned();
                    vec![
                        row.order.to_string(),
                        row.name,
                        row.covers.join(", "),
                        module,
                        place,
                        row.origin.to_owned(),
                    ]
                });
                let header = ["order", "name", "covers", "module", "defined at", "origin"];
                report::print(&report::table(&header, rows))?;
                report::print(&format_args!("sorted at: {layout}"))?;
            }
        }
        // Listed all the same: the list is what shows where they are.
        Ok(resolvers.check()?)
    }
}
