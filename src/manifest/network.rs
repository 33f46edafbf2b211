//! `[networks]`.

use frame_net::{Drivers, NetworkConfig};
use serde_json::{Value as Json, json};

use super::hash::sha256;
use super::reader::{Read, Table, Value};

/// A network. Its settings are for its driver to read, when it is made.
pub(super) fn network(table: &Table<'_>) -> Read<(NetworkConfig, Json)> {
    let kind = table.required("kind", "\"socks5\"").and_then(|value| {
        let kind = value.str("\"socks5\"")?;
        let drivers = Drivers::standard();
        let kinds: Vec<_> = drivers.kinds().collect();
        if kinds.contains(&kind) {
            return Ok(kind);
        }
        let problem = value.problem(format_args!("unknown kind of network `{kind}`"));
        let problem = table.reader.with_suggestion(problem, kind, kinds.into_iter(), "available kinds:");
        Err(table.reader.report(problem))
    });
    let selectable = table.or("selectable", false, Value::bool);
    let settings = table.settings_without(&["kind", "selectable"]);
    let (kind, selectable, settings) = (kind?, selectable?, settings?);
    // A hash, as settings may be secret, and an identity is shown.
    let hash = sha256(Json::Object(settings.clone()).to_string().as_bytes());
    let identity = json!({ "kind": kind, "selectable": selectable, "settings": hash });
    Ok((NetworkConfig::new(kind, settings).with_selectable(selectable), identity))
}
