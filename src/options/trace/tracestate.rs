//! The header `tracestate`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// How many list members there can be.
const MOST: usize = 32;
/// How many characters a key can have, and how many a value.
const LONGEST: usize = 256;

/// The header `tracestate`: what the systems that a trace came through say of it, each under a key of its own. Cloning it
/// is one reference count.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// Reads it. Members that are empty, and space around others, are left out.
    ///
    /// # Errors
    ///
    /// A [`TracestateError`] if it is not as the specification says.
    pub(super) fn parse(header: &str) -> Result<Self, TracestateError> {
        let mut keys = HashSet::new();
        let mut kept = String::new();
        for (index, member) in header.split(',').enumerate() {
            if index == MOST {
                return Err(TracestateError::TooMany);
            }
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let number = index + 1;
            let (key, value) = member.split_once('=').ok_or(TracestateError::NoValue { number })?;
            if !is_key(key) {
                return Err(TracestateError::Key { number });
            }
            if !is_value(value) {
                return Err(TracestateError::Value { number });
            }
            if !keys.insert(key) {
                return Err(TracestateError::Twice { number });
            }
            if !kept.is_empty() {
                kept.push(',');
            }
            kept.push_str(member);
        }
        Ok(Self((!kept.is_empty()).then(|| kept.into())))
    }

    /// The header, without anything that need not be there; empty if there is no member.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The members: key and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_str().split(',').filter_map(|member| member.split_once('='))
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// `key = ( lcalpha / DIGIT ) 0*255 ( lcalpha / DIGIT / "_" / "-"/ "*" / "/" / "@" )`
fn is_key(key: &str) -> bool {
    let is_begin = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= LONGEST
        && key.as_bytes().first().is_some_and(is_begin)
        && key.bytes().all(|byte| is_begin(&byte) || b"_-*/@".contains(&byte))
}

/// `value = 0*255(chr) nblk-chr`, where a `chr` is printable ASCII but for `,` and `=`, and `nblk-chr` no space either.
fn is_value(value: &str) -> bool {
    value.len() <= LONGEST
        && value.as_bytes().last().is_some_and(|byte| *byte != b' ')
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(&byte))
}

/// A `tracestate` is not as the specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TracestateError {
    /// There are too many members.
    #[error("not a tracestate, because it has more than {MOST} members")]
    TooMany,
    /// A member has no `=`.
    #[error("not a tracestate, because member {number} has no `=`; write `key=value,key=value`")]
    NoValue {
        /// Which member, counted from 1.
        number: usize,
    },
    /// A key has characters that it cannot have, or not one, or too many.
    #[error(
        "not a tracestate, because the key of member {number} is none: it begins with `a`-`z` or a digit, and has up to \
         {LONGEST} of these and of `_`, `-`, `*`, `/`, `@`"
    )]
    Key {
        /// Which member, counted from 1.
        number: usize,
    },
    /// A value has characters that it cannot have, or not one, or too many.
    #[error(
        "not a tracestate, because the value of member {number} is none: it has 1 to {LONGEST} printable ASCII \
         characters, but for `,` and `=`"
    )]
    Value {
        /// Which member, counted from 1.
        number: usize,
    },
    /// A key is there twice.
    #[error("not a tracestate, because the key of member {number} is there before")]
    Twice {
        /// Which member, counted from 1.
        number: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let long = "k".repeat(257);
        let cases = [
            ("rojo".to_owned(), TracestateError::NoValue { number: 1 }),
            ("rojo=1,congo".to_owned(), TracestateError::NoValue { number: 2 }),
            ("=1".to_owned(), TracestateError::Key { number: 1 }),
            ("Rojo=1".to_owned(), TracestateError::Key { number: 1 }),
            ("_rojo=1".to_owned(), TracestateError::Key { number: 1 }),
            ("rojo =1".to_owned(), TracestateError::Key { number: 1 }),
            (format!("{long}=1"), TracestateError::Key { number: 1 }),
            ("rojo=".to_owned(), TracestateError::Value { number: 1 }),
            ("rojo=a=b".to_owned(), TracestateError::Value { number: 1 }),
            ("rojo=ä".to_owned(), TracestateError::Value { number: 1 }),
            ("rojo=a\tb".to_owned(), TracestateError::Value { number: 1 }),
            ("rojo=a\nb".to_owned(), TracestateError::Value { number: 1 }),
            (format!("rojo={long}"), TracestateError::Value { number: 1 }),
            ("rojo=1,congo=2,rojo=3".to_owned(), TracestateError::Twice { number: 3 }),
            (vec!["a"; 33].join(",").replace('a', ""), TracestateError::TooMany),
        ];
        for (header, error) in cases {
            assert_eq!(TraceState::parse(&header), Err(error), "{header}");
        }
    }

    #[test]
    fn as_many_and_as_long_as_there_can_be() {
        let members: Vec<_> = (0..32).map(|n| format!("{n:0>256}={}", "v".repeat(256))).collect();
        let header = members.join(",");
        assert_eq!(TraceState::parse(&header).unwrap().as_str(), header);
    }

    #[test]
    fn space_and_empty_members_are_left_out() {
        let state = TraceState::parse(" rojo= 1 2 \t,, \t ,1a@b/c*-_=x,").unwrap();
        assert_eq!(state.as_str(), "rojo= 1 2,1a@b/c*-_=x");
        assert_eq!(state.iter().collect::<Vec<_>>(), [("rojo", " 1 2"), ("1a@b/c*-_", "x")]);
        for none in ["", " ", "\t,", ",,,"] {
            assert!(TraceState::parse(none).unwrap().is_empty(), "{none:?}");
        }
    }

    /// What the specification says, as a regular expression would: a machine over characters.
    fn is_valid(header: &str) -> bool {
        let members: Vec<Vec<char>> = header.split(',').map(|member| member.chars().collect()).collect();
        let mut seen = Vec::new();
        members.len() <= 32
            && members.into_iter().all(|mut member| {
                while member.last().is_some_and(|c| [' ', '\t'].contains(c)) {
                    member.pop();
                }
                let begin = member.iter().position(|c| ![' ', '\t'].contains(c));
                let Some(begin) = begin else { return true };
                let member = &member[begin..];
                let Some(at) = member.iter().position(|c| *c == '=') else { return false };
                let (key, value) = (&member[..at], &member[at + 1..]);
                let is_new = !seen.contains(&key.to_vec());
                seen.push(key.to_vec());
                is_new
                    && (1..=256).contains(&key.len())
                    && !"_-*/@".contains(key[0])
                    && key.iter().all(|c| "abcdefghijklmnopqrstuvwxyz0123456789_-*/@".contains(*c))
                    && (1..=256).contains(&value.len())
                    && value.iter().all(|c| ('\x20'..='\x7e').contains(c) && *c != '=')
            })
    }

    proptest! {
        #[test]
        fn what_is_valid_is_kept(
            members in proptest::collection::btree_map("[a-z0-9][a-z0-9_*/@-]{0,20}", "[ -+\\--<>-~]{0,20}[!-+\\--<>-~]", 0..32),
        ) {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let header = members.join(",");
            prop_assert!(is_valid(&header));
            let state = TraceState::parse(&header).unwrap();
            prop_assert_eq!(state.as_str(), &header);
            let spaced = members.join(" ,\t, ");
            if spaced.split(',').count() <= 32 {
                prop_assert_eq!(TraceState::parse(&spaced).unwrap(), state);
            }
        }

        #[test]
        fn anything_else_is_refused(header in "([a-cA@ \t]{0,2}=?[a-c= \t✨~]{0,2},?){0,5}") {
            prop_assert_eq!(TraceState::parse(&header).is_ok(), is_valid(&header), "{:?}", header);
        }

        #[test]
        fn nothing_panics(header in ".*") {
            prop_assert_eq!(TraceState::parse(&header).is_ok(), is_valid(&header));
        }
    }
}
