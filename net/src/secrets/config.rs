//! Secrets as text.

use std::path::{Path, PathBuf};

use http::{HeaderName, header};
use serde::{Deserialize, Deserializer};

use super::host::SecretHost;
use super::secret::StoredSecret;
use super::source::{SecretSource, SecretSourceError, is_variable};
use super::template::{HeaderTemplate, TemplateError, check_name};

/// A secret, as a configuration file describes it: where its value is, and where it may be sent. It has no value.
///
/// | setting | |
/// |---|---|
/// | `env`, or `file` | The environment variable, or the file, that has the value. |
/// | `hosts` | The [servers](SecretHost) that it may be sent to, one at least. |
/// | `header` | The header that carries it; `authorization` unless given. |
/// | `template` | What that header says, with `{}` for the value; `Bearer {}` in `authorization`, and `{}` in others, unless given. |
///
/// ```
/// use frame_net::secrets::SecretConfig;
/// use serde_json::json;
///
/// let config: SecretConfig = serde_json::from_value(json!({
///     "env": "STRIPE_KEY",
///     "hosts": ["api.stripe.com"],
///     "header": "authorization",
///     "template": "Bearer {}",
/// }))?;
/// assert_eq!(config.hosts().len(), 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretConfig {
    source: SecretSource,
    hosts: Vec<SecretHost>,
    header: HeaderName,
    template: HeaderTemplate,
}

impl SecretConfig {
    /// What other programs call a setting.
    pub const SYNONYMS: &[(&str, &str)] = &[
        ("value", "env"),
        ("key", "env"),
        ("token", "env"),
        ("secret", "env"),
        ("variable", "env"),
        ("path", "file"),
        ("host", "hosts"),
        ("domains", "hosts"),
        ("name", "header"),
        ("format", "template"),
        ("prefix", "template"),
    ];

    /// Where its value is.
    pub const fn source(&self) -> &SecretSource {
        &self.source
    }

    /// The servers that it may be sent to.
    pub fn hosts(&self) -> &[SecretHost] {
        &self.hosts
    }

    /// The header that carries it.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Reads the value. The path of a file begins at `directory`.
    ///
    /// # Errors
    ///
    /// [`SecretSourceError`], which shows nothing of the value.
    pub fn load(&self, directory: &Path) -> Result<StoredSecret, SecretSourceError> {
        let read = self.source.read(directory)?;
        let secret = StoredSecret::new(&*read.value, self.hosts.iter().cloned());
        let setting = self.source.setting();
        let secret = secret.map_err(|source| SecretSourceError::Value { setting, source })?;
        Ok(secret.with_remark(read.remark).with(self.header.clone(), &self.template))
    }
}

/// Each setting is read by a type of its own, so that an error is placed at it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    env: Option<Variable>,
    file: Option<PathBuf>,
    hosts: Vec<SecretHost>,
    header: Option<Header>,
    template: Option<Template>,
}

impl<'de> Deserialize<'de> for SecretConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |why: &str| Err(serde::de::Error::custom(why));
        let Given { env, file, hosts, header, template } = Given::deserialize(deserializer)?;
        let source = match (env, file) {
            (Some(Variable(name)), None) => SecretSource::Env(name),
            (None, Some(path)) if path.as_os_str().is_empty() => {
                return wrong("`file` is empty; give the path of the file that has the secret in it");
            }
            (None, Some(path)) => SecretSource::File(path),
            (Some(_), Some(_)) => return wrong("`env` and `file` both say where the secret is; remove one"),
            (None, None) => {
                return wrong("the secret has no value; add `env` with a variable, or `file` with a path");
            }
        };
        if hosts.is_empty() {
            return wrong(
                "`hosts` is empty, so the secret could be sent nowhere; add a host, such as \"api.example\"",
            );
        }
        let header = header.map_or(header::AUTHORIZATION, |Header(name)| name);
        let template = match template {
            Some(Template(template)) => template,
            None if header == header::AUTHORIZATION => HeaderTemplate::bearer(),
            None => HeaderTemplate::alone(),
        };
        Ok(Self { source, hosts, header, template })
    }
}

struct Variable(String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !is_variable(&name) {
            // The secret itself may stand here.
            return Err(serde::de::Error::custom(
                "`env` is the name of an environment variable, of letters, digits and `_`, such as `STRIPE_KEY`",
            ));
        }
        Ok(Self(name))
    }
}

struct Header(HeaderName);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?.parse().map_err(|_| TemplateError::Name);
        name.and_then(check_name).map(Self).map_err(serde::de::Error::custom)
    }
}

struct Template(HeaderTemplate);

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::read_settings;

    fn config(settings: &Value) -> Result<SecretConfig, String> {
        let errors = read_settings(settings.as_object().unwrap(), SecretConfig::SYNONYMS);
        errors.map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_template_follows_from_the_header() {
        let line = |settings: &Value| {
            // A variable that is set wherever tests run.
            let mut settings = settings.clone();
            settings["env"] = json!("PATH");
            settings["hosts"] = json!(["api.example"]);
            let secret = config(&settings).unwrap().load(Path::new(".")).unwrap();
            let path = std::env::var("PATH").unwrap();
            (secret.header().to_string(), secret.line().to_str().unwrap().replace(&path, "…"))
        };
        let is = |header: &str, line: &str| (header.to_owned(), line.to_owned());
        assert_eq!(line(&json!({})), is("authorization", "Bearer …"));
        assert_eq!(line(&json!({ "header": "X-Api-Key" })), is("x-api-key", "…"));
        assert_eq!(line(&json!({ "template": "token {}" })), is("authorization", "token …"));
        assert_eq!(line(&json!({ "header": "cookie", "template": "s={}; a" })), is("cookie", "s=…; a"));
    }

    #[test]
    fn what_is_wrong_is_placed_and_not_shown() {
        let cases = [
            (json!({ "hosts": ["a.example"] }), "`env` with a variable"),
            (json!({ "env": "A", "file": "31337", "hosts": ["a.example"] }), "remove one"),
            (json!({ "file": "", "hosts": ["a.example"] }), "`file` is empty"),
            (json!({ "env": "A", "hosts": [] }), "`hosts` is empty"),
            (json!({ "env": "A" }), "missing key `hosts`"),
            (json!({ "env": "A", "hosts": "31337.example" }), "`hosts`"),
            (json!({ "env": "A", "hosts": ["a.example", "*"] }), "`hosts[1]`: `*` would send"),
            (json!({ "value": "31337", "hosts": ["a.example"] }), "unknown key `value`; did you mean `env`?"),
            (
                json!({ "env": "sk-live-31337", "hosts": ["a.example"] }),
                "the name of an environment variable",
            ),
            (json!({ "env": 31337, "hosts": ["a.example"] }), "`env`"),
            (json!({ "env": "A", "hosts": ["a.example"], "template": "Bearer 31337" }), "one `{}`"),
            (json!({ "env": "A", "hosts": ["a.example"], "header": "a b 31337" }), "not a valid name"),
            (json!({ "env": "A", "hosts": ["a.example"], "header": "host" }), "cannot be `host`"),
        ];
        for (settings, expected) in cases {
            let error = config(&settings).unwrap_err();
            assert!(error.contains(expected) && !error.contains("31337"), "{settings}: {error}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_sent_is_refused_when_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), "31337\n31337\n").unwrap();
        let config = config(&json!({ "file": "key", "hosts": ["a.example"] })).unwrap();
        let error = config.load(directory.path()).unwrap_err();
        assert_eq!(error.setting(), "file");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("LineBreak") && !shown.contains("31337"), "{shown}");
    }
}
