//! Configuration that must not be shown.

use std::env::{self, VarError};
use std::fmt;

use serde::de::Error;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::settings;

/// A text that is not shown: not in `Debug`, and not in an error about a configuration that has something else in
/// its place. Its memory is overwritten when it is dropped; what a parser read it from, and the environment, are not.
///
/// A configuration has it as a string, or names the environment variable that holds it. Only that name is ever
/// serialised: to serialise a secret that is a string is an error.
///
/// ```
/// use frame_net::Secret;
///
/// let given: Secret = serde_json::from_str(r#""xyzzy""#)?;
/// assert_eq!((given.expose(), format!("{given:?}").as_str()), ("xyzzy", "<secret>"));
///
/// let error = serde_json::from_str::<Secret>(r#"{ "env": "NOT_SET_ANYWHERE" }"#).unwrap_err();
/// assert!(error.to_string().starts_with("the environment variable `NOT_SET_ANYWHERE` is not set"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    /// The environment variable that it was read from.
    variable: Option<Box<str>>,
}

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.into()), variable: None }
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.text
    }

    fn from_environment(name: &str) -> Result<Self, SecretError> {
        let is_name = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(SecretError::NotAName);
        }
        match env::var(name) {
            Ok(text) if text.is_empty() => Err(SecretError::Empty { name: name.to_owned() }),
            Ok(text) => Ok(Self { variable: Some(name.into()), ..Self::new(text) }),
            Err(VarError::NotPresent) => Err(SecretError::NotSet { name: name.to_owned() }),
            // The error of the standard library shows the value.
            Err(VarError::NotUnicode(_)) => Err(SecretError::NotUnicode { name: name.to_owned() }),
        }
    }
}

/// Compares the texts, wherever they come from.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Why there is no secret in an environment variable.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    // Whoever puts the secret itself here gets an error that does not show it.
    #[error(
        "`env` takes the name of an environment variable, of letters, digits and `_`, such as `TOR_PASSWORD`"
    )]
    NotAName,
    #[error("the environment variable `{name}` is not set, and a secret is to be in it")]
    NotSet { name: String },
    #[error("the environment variable `{name}` is empty, and a secret is to be in it")]
    Empty { name: String },
    #[error("the environment variable `{name}` is not UTF-8, and a secret is to be in it")]
    NotUnicode { name: String },
}

/// Writes the name of the environment variable that the secret was read from. Any other secret is not written.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(variable) = &self.variable else { return Err(S::Error::custom(NOT_WRITTEN)) };
        let mut members = serializer.serialize_map(Some(1))?;
        members.serialize_entry("env", variable)?;
        members.end()
    }
}

/// Why a secret in plain text is not serialised.
pub(crate) const NOT_WRITTEN: &str =
    "a secret in plain text is not written; put it into an environment variable, and name that with `env`";

/// Returns whether a setting of this name holds a secret, by the words in it.
pub(crate) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["password", "passphrase", "passwd", "secret", "token", "psk", "priv", "credential"];
    let name = name.to_ascii_lowercase();
    let is_key = name.ends_with("key") && !name.contains("public");
    is_key || WORDS.iter().any(|word| name.contains(word))
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            env: String,
        }

        // Derived code would quote what stands in the wrong place.
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::new(text)),
            members @ Value::Object(_) => {
                let Given { env } = settings::nested(members)?;
                Self::from_environment(&env).map_err(D::Error::custom)
            }
            _ => Err(D::Error::custom(
                "a secret is a string, or `env` with the name of an environment variable",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(value: &Value) -> Result<Secret, String> {
        Secret::deserialize(value).map_err(|error| error.to_string())
    }

    #[test]
    fn is_read_from_the_environment() {
        // A variable that is set wherever tests run.
        let read = secret(&json!({ "env": "PATH" })).unwrap();
        assert_eq!(read.expose(), std::env::var("PATH").unwrap());
        let error = secret(&json!({ "env": "NOT_SET_ANYWHERE" })).unwrap_err();
        assert!(error.contains("`NOT_SET_ANYWHERE` is not set"), "{error}");
    }

    #[test]
    fn what_stands_in_its_place_is_not_quoted() {
        let wrong = [
            json!(31337),
            json!(-31337),
            json!(31337.5),
            json!(["31337"]),
            json!(true),
            json!(null),
            json!({ "env": 31337 }),
            json!({ "env": "" }),
            json!({ "env": "not a name: 31337" }),
            json!({ "env": "A", "other": "31337" }),
            json!({}),
        ];
        for value in wrong {
            let error = secret(&value).unwrap_err();
            assert!(!error.contains("31337"), "{value}: {error}");
        }
    }
}
