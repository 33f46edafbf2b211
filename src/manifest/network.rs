//! `[networks]`.

use frame_net::{Drivers, NetworkConfig};
use serde_json::{Value as Json, json};

use super::hash::sha256;
use super::reader::{Read, Table, Value, unknown};

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
        Err(table.reader.report(unknown(problem, kind, &kinds, "available kinds:")))
    });
    let selectable = table.or("selectable", false, Value::bool);
    let settings = table.settings_without(&["kind", "selectable"]);
    let (kind, selectable, settings) = (kind?, selectable?, settings?);
    // A hash, as settings may be secret, and an identity is shown.
    let hash = sha256(Json::Object(settings.clone()).to_string().as_bytes());
    let identity = json!({ "kind": kind, "selectable": selectable, "settings": hash });
    Ok((NetworkConfig::new(kind, settings).with_selectable(selectable), identity))
}
