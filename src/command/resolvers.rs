//! `frame resolvers`.

use std::fmt::{self, Write};

use clap::ValueEnum;
use frame_registry::{BoxError, DeclaredOption, FrameResolvers, OptionKind, ResolverInfo, declared_options};
use serde::Serialize;

use crate::report;

/// Lists the resolvers of this program, in the order they run.
#[derive(Debug, clap::Args)]
pub(super) struct ResolversArgs {
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

impl ResolversArgs {
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

/// Options on the left, resolvers on the right, from the first that runs to the last. Options that no resolver reads,
/// because what makes calls does, are left out.
struct Dot<'a> {
    resolvers: &'a [Row],
    pub(super) options: &'a [&'static DeclaredOption],
}

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("digraph resolvers {\n    rankdir=LR;\n    node [fontname=\"sans-serif\"];\n\n")?;
        for option in self.options.iter().filter(|option| option.kind() != OptionKind::Dispatcher) {
            let (id, name) = (Quoted(["option ", option.name()]), Quoted([option.name(), ""]));
            writeln!(f, "    {id} [label={name}, shape=box, style=rounded];")?;
        }
        f.write_str("\n    subgraph {\n        rank=same;\n")?;
        for Row { name, order, .. } in self.resolvers {
            let (id, label) = (resolver(name), format!("{order}\n{name}"));
            writeln!(f, "        {id} [label={}, shape=box];", Quoted([&label, ""]))?;
        }
        for neighbours in self.resolvers.windows(2) {
            let [first, next] = neighbours else { continue };
            writeln!(f, "        {} -> {} [style=dotted];", resolver(&first.name), resolver(&next.name))?;
        }
        f.write_str("    }\n\n")?;
        for row in self.resolvers {
            for option in &row.covers {
                writeln!(f, "    {} -> {};", Quoted(["option ", option]), resolver(&row.name))?;
            }
        }
        f.write_char('}')
    }
}

/// The node of a resolver. An option can have the same name.
fn resolver(name: &str) -> Quoted<'_> {
    Quoted(["resolver ", name])
}

/// Text, of two parts, as Graphviz takes any text: between quotes, with quotes and backslashes escaped, and lines centred.
struct Quoted<'a>([&'a str; 2]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.iter().flat_map(|part| part.chars()) {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, order: i32, covers: &[&'static str]) -> Row {
        Row {
            name: name.to_owned(),
            order,
            krate: None,
            module: None,
            file: "here.rs",
            line: 1,
            covers: covers.to_vec(),
            origin: "linked",
        }
    }

    #[test]
    fn resolvers_are_chained_in_order_and_options_lead_to_who_covers_them() {
        let resolvers = [row("overlay", -5, &["network", "via"]), row("overlay 2", 7, &["network"])];
        let expected = r#"digraph resolvers {
    rankdir=LR;
    node [fontname="sans-serif"];


    subgraph {
        rank=same;
        "resolver overlay" [label="-5\noverlay", shape=box];
        "resolver overlay 2" [label="7\noverlay 2", shape=box];
        "resolver overlay" -> "resolver overlay 2" [style=dotted];
    }

    "option network" -> "resolver overlay";
    "option via" -> "resolver overlay";
    "option network" -> "resolver overlay 2";
}"#;
        assert_eq!(Dot { resolvers: &resolvers, options: &[] }.to_string(), expected);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        let shown = Dot { resolvers: &[row("a\"]; b [\\", 1, &[])], options: &[] }.to_string();
        assert!(shown.contains(r#""resolver a\"]; b [\\" [label="1\na\"]; b [\\", shape=box];"#), "{shown}");
    }
}
