//! What the parts of an app are called.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

/// The name of something that an app is made of, such as a function or an overlay network: `namespace:name`. Cloning
/// it is one reference count.
///
/// Both parts are of ASCII letters, digits, `.`, `_` and `-`, and the whole has at most [`Id::MAX_LEN`] bytes. Case
/// counts. `K` says what it is the name of, so that a function's id is not taken for a network's.
///
/// ```
/// use frame_registry::{Id, IdKind};
///
/// enum Queue {}
///
/// impl IdKind for Queue {
///     const NOUN: &'static str = "queue";
///     const EXAMPLE: &'static str = "app:mail";
/// }
///
/// let id: Id<Queue> = "app:mail".parse()?;
/// assert_eq!((id.namespace(), id.name()), ("app", "mail"));
///
/// let error = "mail".parse::<Id<Queue>>().unwrap_err();
/// assert_eq!(error.to_string(), "queue id \"mail\" has no namespace; write `namespace:name`, such as `app:mail`");
/// # Ok::<(), frame_registry::IdError>(())
/// ```
pub struct Id<K> {
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// What an [`Id`] is the name of.
pub trait IdKind: 'static {
    /// The thing, in one word, for errors.
    const NOUN: &'static str;
    /// A good id, for errors.
    const EXAMPLE: &'static str;
}

impl<K> Id<K> {
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
        &self.text
    }

    fn parts(&self) -> (&str, &str) {
        self.text.split_once(':').unwrap_or_default()
    }
}

/// Both parts, with the colon. It is shared, not copied.
impl<K> From<Id<K>> for Arc<str> {
    fn from(id: Id<K>) -> Self {
        id.text
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (noun, example) = (K::NOUN, K::EXAMPLE);
        if text.len() > Self::MAX_LEN {
            return Err(IdError::TooLong { noun, len: text.len(), max: Self::MAX_LEN });
        }
        let given = || text.to_owned();
        let Some((namespace, name)) = text.split_once(':') else {
            return Err(IdError::NoNamespace { noun, example, given: given() });
        };
        for (part, called) in [(namespace, "namespace"), (name, "name")] {
            if part.is_empty() {
                return Err(IdError::EmptyPart { noun, example, given: given(), part: called });
            }
            let is_allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
            if let Some(character) = part.chars().find(|&character| !is_allowed(character)) {
                return Err(IdError::Character { noun, given: given(), part: called, character });
            }
        }
        Ok(Self { text: text.into(), kind: PhantomData })
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self { text: Arc::clone(&self.text), kind: PhantomData }
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(feature = "json")]
impl<K> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(feature = "json")]
impl<'de, K: IdKind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no [`Id`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// There is no colon in it.
    #[error("{noun} id {given:?} has no namespace; write `namespace:name`, such as `{example}`")]
    NoNamespace {
        /// What it is the id of.
        noun: &'static str,
        /// A good one.
        example: &'static str,
        /// The text.
        given: String,
    },
    /// There is nothing before the colon, or nothing behind it.
    #[error("{noun} id {given:?} has an empty {part}; write `namespace:name`, such as `{example}`")]
    EmptyPart {
        /// What it is the id of.
        noun: &'static str,
        /// A good one.
        example: &'static str,
        /// The text.
        given: String,
        /// `namespace` or `name`.
        part: &'static str,
    },
    /// A part has a character that an id cannot have.
    #[error(
        "{noun} id {given:?} has {character:?} in its {part}; use letters, digits, `.`, `_` and `-` of ASCII, \
         and one `:` between namespace and name"
    )]
    Character {
        /// What it is the id of.
        noun: &'static str,
        /// The text.
        given: String,
        /// `namespace` or `name`.
        part: &'static str,
        /// The first such character.
        character: char,
    },
    /// It is longer than [`Id::MAX_LEN`].
    #[error("a {noun} id of {len} bytes is too long; at most {max} are allowed")]
    TooLong {
        /// What it is the id of.
        noun: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The longest that is allowed.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    enum Thing {}

    impl IdKind for Thing {
        const NOUN: &'static str = "thing";
        const EXAMPLE: &'static str = "app:thing";
    }

    fn parse(text: &str) -> Result<Id<Thing>, IdError> {
        text.parse()
    }

    #[test]
    fn takes_what_the_grammar_allows() {
        for text in ["a:b", "app:tor", "A.b_c-1:x.Y_z-2", "-:."] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        let longest = format!("{}:b", "a".repeat(Id::<Thing>::MAX_LEN - 2));
        assert_eq!(parse(&longest).unwrap().as_str(), longest);
    }

    #[test]
    fn says_what_is_wrong_with_anything_else() {
        for text in ["", "tor", "tor "] {
            assert!(matches!(parse(text), Err(IdError::NoNamespace { .. })), "{text:?}");
        }
        for (text, part) in [(":b", "namespace"), ("a:", "name"), (":", "namespace")] {
            assert!(matches!(parse(text), Err(IdError::EmptyPart { part: p, .. }) if p == part), "{text:?}");
        }
        for (text, bad) in
            [("a:b:c", ':'), ("a b:c", ' '), ("a:b\n", '\n'), ("a:\u{fc}", '\u{fc}'), ("a:b\0", '\0')]
        {
            assert!(
                matches!(parse(text), Err(IdError::Character { character, .. }) if character == bad),
                "{text:?}"
            );
        }
        let long = format!("{}:b", "a".repeat(Id::<Thing>::MAX_LEN - 1));
        assert!(matches!(parse(&long), Err(IdError::TooLong { len: 129, .. })));
    }
}
