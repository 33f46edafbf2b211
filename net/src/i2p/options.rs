//! What a session is asked for beyond what every session needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret;

/// Options of a session, such as how long its tunnels are, which the bridge hands on to the router. In text an object
/// of strings, numbers and booleans.
///
/// A name consists of ASCII letters, digits, `.`, `-` and `_`; names without a lower-case letter are SAM's own
/// (`STYLE`, `ID`, …) and refused. A value consists of printable ASCII without spaces, quotes and backslashes. So
/// nothing in here can be read as another part of the request. A router ignores what it does not know.
///
/// Values are not shown: there may be keys among them.
///
/// ```
/// use frame_net::i2p::SessionOptions;
///
/// let json = r#"{ "inbound.length": 2, "i2cp.leaseSetEncType": "4,0", "i2p.streaming.profile": "bulk" }"#;
/// let options: SessionOptions = serde_json::from_str(json)?;
/// assert_eq!(options.get("inbound.length"), Some("2"));
///
/// assert!(serde_json::from_str::<SessionOptions>(r#"{ "inbound.length": "2 ID=other" }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SessionOptions(BTreeMap<Box<str>, Box<str>>);

impl SessionOptions {
    /// How long all names and values can be together, in bytes: bridges do not read lines of any length.
    pub const MAX_LEN: usize = 4096;

    /// With this option, in the place of an earlier one of its name.
    ///
    /// # Errors
    ///
    /// [`SessionOptionError`] if it could be read as something else.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, SessionOptionError> {
        check_name(name)?;
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
        if value.is_empty() || !value.bytes().all(allowed) {
            return Err(SessionOptionError::Value { name: name.into() });
        }
        self.0.insert(name.into(), value.into());
        let len: usize = self.0.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if len > Self::MAX_LEN { Err(SessionOptionError::TooLong { len }) } else { Ok(self) }
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// As they stand in a request, each with a space before it.
    pub(super) fn pairs(&self) -> Zeroizing<String> {
        let parts = self.0.iter().flat_map(|(name, value)| [" ", name, "=", value]);
        Zeroizing::new(parts.collect::<Vec<_>>().concat())
    }
}

fn check_name(name: &str) -> Result<(), SessionOptionError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(SessionOptionError::Name);
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(SessionOptionError::Reserved { name: name.into() });
    }
    Ok(())
}

/// An option whose name is that of a secret, such as `i2cp.leaseSetPrivKey`, is not written.
impl Serialize for SessionOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.keys().any(|name| secret::is_secret_name(name)) {
            return Err(S::Error::custom(secret::NOT_WRITTEN));
        }
        serializer.collect_map(&self.0)
    }
}

impl<'de> Deserialize<'de> for SessionOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error of derived code would quote what stands in the wrong place.
        let Value::Object(given) = Value::deserialize(deserializer)? else {
            let error = "session options are an object of strings, numbers and booleans";
            return Err(serde::de::Error::custom(error));
        };
        let mut options = Self::default();
        for (name, value) in given {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is) => is.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    check_name(&name).map_err(serde::de::Error::custom)?;
                    let error = format!("the session option `{name}` is a string, a number or a boolean");
                    return Err(serde::de::Error::custom(error));
                }
            };
            options = options.with(&name, &value).map_err(serde::de::Error::custom)?;
        }
        Ok(options)
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A session cannot be asked for this. No value is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionOptionError {
    /// The name has something in it that no name has.
    #[error(
        "the name of a session option is of ASCII letters, digits, `.`, `-` and `_`, such as `inbound.length`"
    )]
    Name,
    /// The name is one of SAM's own.
    #[error("`{name}` is no session option but a part of SAM itself, which this network decides on")]
    Reserved {
        /// The name.
        name: Box<str>,
    },
    /// The value has something in it that no value has, or nothing.
    #[error(
        "the value of `{name}` is of printable ASCII without spaces, quotes and backslashes, and not empty"
    )]
    Value {
        /// The name.
        name: Box<str>,
    },
    /// All options together are too long.
    #[error("all session options together have {len} bytes; at most {} are allowed", SessionOptions::MAX_LEN)]
    TooLong {
        /// How long they are.
        len: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::i2p::message::Message;

    #[test]
    fn what_could_be_read_as_something_else_is_refused() {
        let with = |name: &str, value: &str| SessionOptions::default().with(name, value);
        for name in ["", "a b", "a=b", "a\nb", "a\0", "a\"", "ä"] {
            assert_eq!(with(name, "1"), Err(SessionOptionError::Name), "{name:?}");
        }
        for name in ["ID", "STYLE", "DESTINATION", "SIGNATURE_TYPE", "FROM_PORT", "0"] {
            assert_eq!(with(name, "1"), Err(SessionOptionError::Reserved { name: name.into() }));
        }
        for value in ["", "1 ID=x", "1\nQUIT", "1\r", "\0", "\"1\"", "'", "\\", "ä", "\u{7f}"] {
            let error = with("inbound.length", value).unwrap_err();
            assert_eq!(error, SessionOptionError::Value { name: "inbound.length".into() }, "{value:?}");
        }
        let longest = "x".repeat(SessionOptions::MAX_LEN - 3);
        assert!(with("a", &longest).is_ok());
        assert!(matches!(with("a", &(longest + "x")), Err(SessionOptionError::TooLong { .. })));
        // The keys of encrypted destinations are base 64.
        assert!(with("i2cp.leaseSetPrivKey", "ab-~==").is_ok());
    }

    #[test]
    fn values_are_not_shown() {
        let options = SessionOptions::default().with("i2cp.leaseSetSecret", "31337").unwrap();
        assert_eq!(format!("{options:?}"), r#"{"i2cp.leaseSetSecret"}"#);
        let json = r#"{ "i2cp.leaseSetSecret": ["31337"] }"#;
        let error = serde_json::from_str::<SessionOptions>(json).unwrap_err().to_string();
        assert!(error.contains("leaseSetSecret") && !error.contains("31337"), "{error}");
        for json in [r#""31337""#, "31337", r#"["31337"]"#, "null"] {
            let error = serde_json::from_str::<SessionOptions>(json).unwrap_err().to_string();
            assert!(error.contains("are an object") && !error.contains("31337"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_pair_of_a_line(
            name in prop_oneof!["[A-Za-z.=_ -]{1,20}", "\\PC{1,20}", ".{1,20}"],
            value in prop_oneof!["[A-Za-z0-9.=,\"' \\\\]{1,20}", "\\PC{1,20}", "(.|\n|\r|\0){1,20}"],
        ) {
            let Ok(options) = SessionOptions::default().with(&name, &value) else { return Ok(()) };
            let line = format!("A B{} LAST=1", *options.pairs());
            prop_assert!(!line.contains(['\n', '\r', '\0']));
            let message = Message::parse(line.as_bytes()).unwrap();
            prop_assert_eq!(message.get(&name), Ok(Some(&*value)));
            prop_assert_eq!(message.get("LAST"), Ok(Some("1")));
            prop_assert_eq!(line.matches(' ').count(), 3);
        }
    }
}
