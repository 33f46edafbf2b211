//! What an overlay network is called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// The name of an overlay network: `namespace:name`. Cloning it is one reference count.
///
/// Both parts are of ASCII letters, digits, `.`, `_` and `-`, and the whole has at most [`NetworkId::MAX_LEN`]
/// bytes. Case counts.
///
/// ```
/// use frame_net::NetworkId;
///
/// let id: NetworkId = "app:tor".parse()?;
/// assert_eq!((id.namespace(), id.name()), ("app", "tor"));
///
/// let error = "tor".parse::<NetworkId>().unwrap_err();
/// assert_eq!(error.to_string(), "network id \"tor\" has no namespace; write `namespace:name`, such as `app:tor`");
/// # Ok::<(), frame_net::NetworkIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct NetworkId(Arc<str>);

impl NetworkId {
    /// The longest an id can be, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The part before the colon.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The part behind the colon.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    /// Both parts, with the colon.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or_default()
    }
}

impl FromStr for NetworkId {
    type Err = NetworkIdError;

    fn from_str(text: &str) -> Result<Self, NetworkIdError> {
        if text.len() > Self::MAX_LEN {
            return Err(NetworkIdError::TooLong { len: text.len() });
        }
        let given = || text.to_owned();
        let (namespace, name) =
            text.split_once(':').ok_or_else(|| NetworkIdError::NoNamespace { given: given() })?;
        for (part, called) in [(namespace, "namespace"), (name, "name")] {
            if part.is_empty() {
                return Err(NetworkIdError::EmptyPart { given: given(), part: called });
            }
            let allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
            if let Some(character) = part.chars().find(|&character| !allowed(character)) {
                return Err(NetworkIdError::Character { given: given(), part: called, character });
            }
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for NetworkId {
    type Error = NetworkIdError;

    fn try_from(text: String) -> Result<Self, NetworkIdError> {
        text.parse()
    }
}

impl Serialize for NetworkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({self})")
    }
}

/// A text is no [`NetworkId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkIdError {
    /// There is no colon in it.
    #[error("network id {given:?} has no namespace; write `namespace:name`, such as `app:tor`")]
    NoNamespace {
        /// The text.
        given: String,
    },
    /// There is nothing before the colon, or nothing behind it.
    #[error("network id {given:?} has an empty {part}; write `namespace:name`, such as `app:tor`")]
    EmptyPart {
        /// The text.
        given: String,
        /// `namespace` or `name`.
        part: &'static str,
    },
    /// A part has a character that an id cannot have.
    #[error(
        "network id {given:?} has {character:?} in its {part}; use letters, digits, `.`, `_` and `-` of ASCII, \
         and one `:` between namespace and name"
    )]
    Character {
        /// The text.
        given: String,
        /// `namespace` or `name`.
        part: &'static str,
        /// The first such character.
        character: char,
    },
    /// It is longer than [`NetworkId::MAX_LEN`].
    #[error("a network id of {len} bytes is too long; at most {} are allowed", NetworkId::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> NetworkIdError {
        text.parse::<NetworkId>().unwrap_err()
    }

    #[test]
    fn takes_what_the_grammar_allows() {
        for text in ["a:b", "app:tor", "A.b_c-1:x.Y_z-2", "-:."] {
            assert_eq!(text.parse::<NetworkId>().unwrap().to_string(), text);
        }
        let longest = format!("a:{}", "b".repeat(NetworkId::MAX_LEN - 2));
        assert_eq!(longest.parse::<NetworkId>().unwrap().name().len(), NetworkId::MAX_LEN - 2);
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(matches!(error(""), NetworkIdError::NoNamespace { .. }));
        assert!(matches!(error("tor"), NetworkIdError::NoNamespace { .. }));
        assert!(matches!(error(":tor"), NetworkIdError::EmptyPart { part: "namespace", .. }));
        assert!(matches!(error("app:"), NetworkIdError::EmptyPart { part: "name", .. }));
        assert!(matches!(error("a:b:c"), NetworkIdError::Character { part: "name", character: ':', .. }));
        assert!(matches!(error(" a:b"), NetworkIdError::Character { part: "namespace", character: ' ', .. }));
        assert!(matches!(error("a:b\0"), NetworkIdError::Character { character: '\0', .. }));
        assert!(matches!(error("a:tör"), NetworkIdError::Character { character: 'ö', .. }));
        let long = format!("a:{}", "b".repeat(NetworkId::MAX_LEN));
        assert_eq!(error(&long), NetworkIdError::TooLong { len: NetworkId::MAX_LEN + 2 });
    }

    #[test]
    fn is_a_string_in_json_and_nothing_else() {
        let id: NetworkId = serde_json::from_str("\"app:tor\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"app:tor\"");
        for json in ["3", "null", "[\"app:tor\"]", "\"\"", "\"tor\"", "true", "{}"] {
            assert!(serde_json::from_str::<NetworkId>(json).is_err(), "{json}");
        }
    }
}
