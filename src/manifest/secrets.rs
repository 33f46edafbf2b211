//! `[secrets]`.

use frame_net::read_settings;
use frame_net::secrets::SecretConfig;
use serde_json::{Value as Json, json};

use super::hash::sha256;
use super::places::{Places, PointAt};
use super::reader::{Read, Reported, Table, Value};

/// A secret. Its value is read when the app is made.
pub(super) fn secret(value: &Value<'_>, table: &Table<'_>) -> Read<(SecretConfig, Json)> {
    // That of a variable in `env` would be the secret.
    let env = table.optional("env", Value::json);
    let settings = table.settings_without(&["env"]);
    let (env, mut settings) = (env?, settings?);
    settings.extend(env.map(|env| ("env".to_owned(), env)));
    // A hash, as something secret may be there by mistake, and an identity is shown.
    let identity = json!(sha256(Json::Object(settings.clone()).to_string().as_bytes()));
    let config = read_settings(&settings, SecretConfig::SYNONYMS).map_err(|errors| {
        let places = Places::of(value, value.key.clone());
        for problem in places.problems(&value.reader.file, "a secret", PointAt::Key, &errors) {
            value.reader.report(problem);
        }
        Reported
    })?;
    Ok((config, identity))
}
