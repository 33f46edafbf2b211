//! Tables `options`.

use frame_net::{NETWORK, NetworkKind};
use frame_registry::{DeclaredOption, OptionError, OptionKind, Options, declared_options};
use serde_json::{Map, Value as Json};

use super::document::{Known, check_network};
use super::reader::{Read, Reported, Table, Value, list};

/// Whom options are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// Functions and processes.
    Everything,
    Function,
    Process,
}

/// The member `options` of a table, and the same as it is written.
pub(super) fn options(
    table: &Table<'_>,
    taker: Taker,
    networks: &Known<NetworkKind>,
) -> Read<(Options, Map<String, Json>)> {
    let table = table.optional("options", |value| value.table("`options`", "{ timeout = \"2s\" }"))?;
    let (mut options, mut given) = (Options::new(), Map::new());
    let Some(table) = table else { return Ok((options, given)) };
    let mut is_right = Ok(());
    for (name, value) in table.entries() {
        let read = value.option().and_then(|json| {
            options.set_json(name.text, &json).map_err(|error| {
                let is_name = matches!(error, OptionError::Unknown { .. });
                let span = if is_name { name.span.clone() } else { value.span.clone() };
                let problem = match &error {
                    // Its message names a type of Rust.
                    OptionError::WrongType { option, .. } => {
                        table.reader.problem(span, format_args!("invalid value for the option `{option}`"))
                    }
                    _ => table.reader.problem(span, &error),
                };
                table.reader.report(match &error {
                    OptionError::Unknown { .. } if table.reader.is_full() => problem,
                    OptionError::Unknown { .. } => problem.with_help(available()),
                    OptionError::WrongType { source, .. } => problem.with_help(source),
                    _ => problem,
                })
            })?;
            if taker == Taker::Process {
                refuse_plain(&options, name.text, &value)?;
            }
            given.insert(name.text.to_owned(), json);
            Ok(())
        });
        is_right = is_right.and(read);
    }
    if let Some(id) = options.get(&NETWORK) {
        is_right = is_right.and(check_network(&table, NETWORK.name(), id, networks));
    }
    is_right.map(|()| (options, given))
}

/// What reads a dispatcher option stands around calls, and a process is none.
fn refuse_plain(options: &Options, name: &str, value: &Value<'_>) -> Result<(), Reported> {
    if !options.iter().any(|option| option.name() == name && option.kind() == OptionKind::Dispatcher) {
        return Ok(());
    }
    let problem = value.problem(format_args!("`{name}` is an option of calls, and a process is not called"));
    let problem = match name {
        "timeout" => problem.with_help("take it out; `limits.time` is how long a process may live"),
        "retry" => problem.with_help("take it out; a supervisor starts a process again"),
        _ => problem.with_help("take it out"),
    };
    Err(value.reader.report(problem))
}

fn available() -> String {
    let names: Vec<_> =
        declared_options().into_iter().filter(|option| option.is_text()).map(DeclaredOption::name).collect();
    format!("available options: {}; see `frame options`", list(names))
}
