//! `[secrets]`.

use std::path::Path;

use frame_net::read_settings;
use frame_net::secrets::{SecretConfig, SecretSource};
use serde_json::{Value as Json, json};

use super::fs::is_below;
use super::hash::sha256;
use super::places::{Places, PointAt};
use super::reader::{Read, Reported, Table, Value};

/// A secret. Its value is read when the app is made. Its file may not be below `base`, where scripts may be given files.
pub(super) fn secret(
    value: &Value<'_>,
    table: &Table<'_>,
    base: Option<&Path>,
) -> Read<(SecretConfig, Json)> {
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
    check_base(table, &config, base)?;
    Ok((config, identity))
}

/// Refuses a file that scripts could read.
fn check_base(table: &Table<'_>, config: &SecretConfig, base: Option<&Path>) -> Read<()> {
    let SecretSource::File(file) = config.source() else { return Ok(()) };
    let checked = table.optional("file", |value| {
        if !is_below(base, &value.reader.directory.join(file)) {
            return Ok(());
        }
        let why = "the secret is below the base directory of `[fs]`, where scripts may be given files";
        let help = "put it into a directory that is not below `base`";
        Err(value.reader.report(value.problem(why).with_help(help)))
    });
    checked.map(drop)
}
