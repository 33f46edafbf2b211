//! Sections whose members have ids, and references to these ids.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use frame_net::{NetworkId, NetworkKind};
use frame_registry::{Id, IdKind};
use serde_json::Value as Json;

use super::model::Given;
use super::problem::Problem;
use super::reader::{self, Read, Reader, Table, Value};
use super::variables;

/// The ids of a section, and where they are: those of what is wrong, too, so that who refers to it is not blamed.
pub(crate) type Known<K> = BTreeMap<Id<K>, Range<usize>>;

/// A section whose members have ids.
pub(crate) struct Section<K, T> {
    pub(crate) entries: BTreeMap<Id<K>, Given<T>>,
    pub(crate) known: Known<K>,
}

/// Reads the members of a section, each with its id, and what it is besides how it is written.
pub(crate) fn section<K: IdKind, T>(
    document: &Table<'_>,
    name: &'static str,
    what: &'static str,
    read: impl Fn(&Table<'_>) -> Read<(T, Json)>,
) -> Section<K, T> {
    section_of(document, name, what, |_, table| read(table))
}

/// The same, where a member is read with its name.
pub(crate) fn section_of<K: IdKind, T>(
    document: &Table<'_>,
    name: &'static str,
    what: &'static str,
    read: impl Fn(&Value<'_>, &Table<'_>) -> Read<(T, Json)>,
) -> Section<K, T> {
    let mut section = Section { entries: BTreeMap::new(), known: BTreeMap::new() };
    let example = format!("{{ {:?} = {{ … }} }}", K::EXAMPLE);
    let Ok(Some(table)) = document.optional(name, |value| value.table("the section", &example)) else {
        return section;
    };
    for (name, value) in table.entries() {
        if let Some(inner) = unquoted_id::<K>(name.text, &value) {
            let id = format!("{}:{inner}", name.text);
            // What refers to it is right.
            section.known.extend(id.parse().ok().map(|id| (id, name.span.clone())));
            let message = format!("{} `{}.{inner}` is not an id", K::NOUN, name.text);
            let help = format_args!("write the id in quotes, with a colon: `\"{id}\"`");
            document.reader.report(document.reader.problem(name.span, message).with_help(help));
            continue;
        }
        let id = reader::id::<K>(document.reader, name.text, name.span.clone());
        let read = value.table(what, "{ … }").and_then(|table| read(&value, &table));
        let Ok(id) = id else { continue };
        section.known.insert(id.clone(), name.span.clone());
        if let Ok((value, identity)) = read {
            section.entries.insert(id, Given { value, span: name.span, identity });
        }
    }
    section
}

/// The name in an id that was written without quotes, as in `[functions.app.greet]`, which is a table in a table. One that
/// has members of its own is reported for those.
fn unquoted_id<'t, K: IdKind>(namespace: &str, value: &Value<'t>) -> Option<&'t str> {
    let mut members = value.members();
    let (name, inner) = members.next()?;
    let is_only = members.next().is_none() && inner.members().next().is_some();
    let is_id = || format!("{namespace}:{name}").parse::<Id<K>>().is_ok();
    (is_only && is_id()).then_some(name)
}

/// Reports networks that nothing in `[http]` can be about: it would hold for no server, and say so nowhere.
pub(crate) fn check_http_networks(document: &Table<'_>, known: &Known<NetworkKind>) {
    let Some(http) = document.get("http") else { return };
    for (index, rule) in elements(&http, "tls").iter().enumerate() {
        check_networks_of(rule, format_args!("tls[{index}]"), known);
    }
    for (name, header) in member(&http, "headers").iter().flat_map(Value::members) {
        check_networks_of(&header, format_args!("headers.{name}"), known);
        for (index, header) in header.elements().iter().enumerate() {
            check_networks_of(header, format_args!("headers.{name}[{index}]"), known);
        }
    }
}

/// Reports those of the member `networks` that there are not.
fn check_networks_of(value: &Value<'_>, what: fmt::Arguments<'_>, known: &Known<NetworkKind>) {
    for network in elements(value, "networks") {
        let Some(written) = network.text_as_written() else { continue };
        // A missing value or an invalid id was reported where it was read.
        let id = variables::resolve(written).ok().and_then(|text| text.parse::<NetworkId>().ok());
        if id.is_some_and(|id| !known.contains_key(&id)) {
            let problem = network.problem(format_args!("unknown network `{written}` in `{what}.networks`"));
            value.reader.report_missing(with_networks(value.reader, problem, written, known));
        }
    }
}

fn member<'t>(value: &Value<'t>, name: &str) -> Option<Value<'t>> {
    value.members().find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// The elements of a list that is a member; none of anything else.
fn elements<'t>(value: &Value<'t>, name: &str) -> Vec<Value<'t>> {
    member(value, name).map(|value| value.elements()).unwrap_or_default()
}

/// Completes a problem with a network that there is not: with those that there are.
fn with_networks(reader: &Reader, problem: Problem, id: &str, known: &Known<NetworkKind>) -> Problem {
    if known.is_empty() {
        return problem.with_help(format_args!("no networks are configured; add `[networks.\"{id}\"]`"));
    }
    reader.with_suggestion(problem, id, known.keys().map(Id::as_str), "available networks:")
}

/// Reports an id that nothing has.
pub(crate) fn check_network(
    table: &Table<'_>,
    name: &str,
    id: &NetworkId,
    known: &Known<NetworkKind>,
) -> Read<()> {
    if known.contains_key(id) {
        return Ok(());
    }
    let span = table.get(name).map_or_else(|| table.span.clone(), |value| value.span);
    let problem = table.reader.problem(span, format_args!("unknown network `{id}` (from option `{name}`)"));
    Err(table.reader.report_missing(with_networks(table.reader, problem, id.as_str(), known)))
}
