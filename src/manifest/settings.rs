//! Sections that another crate says how to read: `[clearnet]`, `[limits]` and `[http]`.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::problem::Problem;
use super::reader::Table;
use super::reader::{Value, unknown};

/// A section, as its type reads it, or else as it is by default. What is wrong with several members is said of each.
pub(super) fn section<T: DeserializeOwned + Default>(document: &Table<'_>, name: &str) -> T {
    let Some(value) = document.get(name) else { return T::default() };
    let Ok(table) = value.table("it", "{}") else { return T::default() };
    let Ok(mut members) = table.json() else { return T::default() };
    loop {
        let error = match serde_path_to_error::deserialize(Json::Object(members.clone())) {
            Ok(settings) => return settings,
            Err(error) => error,
        };
        let (problem, culprit) = problem(&value, &table, &error);
        document.reader.report(problem);
        // Without it the others can be read; an error that names none was the last.
        if culprit.is_none_or(|name| members.remove(&name).is_none()) {
            return T::default();
        }
    }
}

/// An error of a type, at its place; and the member that it is in.
fn problem(
    value: &Value<'_>,
    table: &Table<'_>,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> (Problem, Option<String>) {
    let message = error.inner().to_string();
    if let Some((name, known)) = unknown_field(&message)
        && let Some((key, _)) = table.entries().find(|(key, _)| key.text == name)
    {
        let problem =
            table.reader.problem(key.span, format_args!("`[{}]` has no member `{name}`", value.name));
        return (unknown(problem, name, &known, "it has"), Some(name.to_owned()));
    }
    let culprit = error.path().iter().next().and_then(|segment| match segment {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        _ => None,
    });
    let span = value.at(error.path());
    (table.reader.problem(span, format_args!("`{}.{}`: {message}", value.name, error.path())), culprit)
}

/// What serde says of a member that a type does not have: its name, and those that it has.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut names = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    Some((names.next()?, names.collect()))
}
