//! Sections that another crate says how to read: `[clearnet]`, `[limits]` and `[http]`.

use frame_net::{DirectDriver, Driver, read_settings};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::hash::sha256;
use super::places::{Places, PointAt};
use super::reader::Table;
use super::variables;

/// What other programs call a setting of `[clearnet]`.
pub(super) const CLEARNET: &[(&str, &str)] = DirectDriver::SYNONYMS;

/// What other programs call a setting of `[http]`.
pub(super) const HTTP: &[(&str, &str)] = &[
    ("connections_per_host", "max_connections_per_host"),
    ("deadline", "time_limit"),
    ("default_headers", "headers"),
    ("timeout", "time_limit"),
    ("redirects", "max_redirects"),
    ("keep_alive", "idle_timeout"),
    ("keepalive", "idle_timeout"),
    ("max_body", "max_response_body"),
    ("max_headers", "max_response_headers"),
    ("pool_size", "max_idle"),
];

/// A section, as its type reads it, or else as it is by default; and what it is besides how it is written. What is wrong
/// with several members is said of each.
pub(super) fn section<T: DeserializeOwned + Default>(
    document: &Table<'_>,
    name: &str,
    synonyms: &[(&str, &str)],
) -> (T, Json) {
    let absent = || (T::default(), Json::Null);
    let Some(value) = document.get(name) else { return absent() };
    let Ok(table) = value.table("it", "{}") else { return absent() };
    let settings = if variables::are_replaced_in(name) { table.settings() } else { table.options() };
    let Ok(settings) = settings else { return absent() };
    match read_settings(&settings, synonyms) {
        // A hash, as values of variables may be secret.
        Ok(read) => (read, sha256(Json::Object(settings).to_string().as_bytes()).into()),
        Err(errors) => {
            let places = Places::of(&value, value.span.clone());
            let owner = format!("`[{name}]`");
            for problem in places.problems(&document.reader.file, &owner, PointAt::Value, &errors) {
                document.reader.report(problem);
            }
            absent()
        }
    }
}
