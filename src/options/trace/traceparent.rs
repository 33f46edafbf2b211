//! The header `traceparent`, and the ids in it.

use std::cell::RefCell;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128, ParseIntError};

/// What is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traceparent {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) flags: u8,
}

/// How long one of version 00 is, and one of a later version at least.
const LENGTH: usize = 55;

/// Reads it: `version-traceid-parentid-flags`, and in later versions whatever is behind that.
pub(super) fn parse(header: &str) -> Result<Traceparent, TraceparentError> {
    let bytes = header.as_bytes();
    let version = match bytes {
        [high, low, b'-', ..] => hex(&[*high, *low], u8::from_str_radix).ok_or(TraceparentError::Version)?,
        _ => return Err(TraceparentError::Version),
    };
    match version {
        0xff => return Err(TraceparentError::VersionForbidden),
        0 if bytes.len() != LENGTH => return Err(TraceparentError::Length { length: bytes.len() }),
        _ if bytes.len() < LENGTH => return Err(TraceparentError::Length { length: bytes.len() }),
        _ => (),
    }
    let is_delimited =
        bytes[35] == b'-' && bytes[52] == b'-' && bytes.get(LENGTH).is_none_or(|byte| *byte == b'-');
    if !is_delimited {
        return Err(TraceparentError::Dashes);
    }
    let trace_id = hex(&bytes[3..35], u128::from_str_radix).ok_or(TraceparentError::TraceId)?;
    let span_id = hex(&bytes[36..52], u64::from_str_radix).ok_or(TraceparentError::ParentId)?;
    let flags = hex(&bytes[53..LENGTH], u8::from_str_radix).ok_or(TraceparentError::Flags)?;
    Ok(Traceparent {
        trace_id: TraceId::new(trace_id).ok_or(TraceparentError::ZeroTraceId)?,
        span_id: SpanId::new(span_id).ok_or(TraceparentError::ZeroParentId)?,
        flags,
    })
}

/// The number that is written in lower-case hex digits, and in nothing else: the standard library takes signs, too.
fn hex<T>(digits: &[u8], parse: fn(&str, u32) -> Result<T, ParseIntError>) -> Option<T> {
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    parse(str::from_utf8(digits).ok()?, 16).ok()
}

/// A `traceparent` is not as the specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent, because {}; write `00-`, 32 hex digits, `-`, 16 hex digits, `-`, and `01` (sampled) or `00`",
    self.reason()
)]
#[non_exhaustive]
pub enum TraceparentError {
    /// It does not begin with two lower-case hex digits and a dash.
    Version,
    /// It is of version `ff`.
    VersionForbidden,
    /// It has too few characters, or, of version 00, too many.
    Length {
        /// How many bytes it has.
        length: usize,
    },
    /// The parts are not separated by dashes.
    Dashes,
    /// The trace's id is not of lower-case hex digits.
    TraceId,
    /// The span's id is not of lower-case hex digits.
    ParentId,
    /// The flags are not of lower-case hex digits.
    Flags,
    /// The trace's id is zero.
    ZeroTraceId,
    /// The span's id is zero.
    ZeroParentId,
}

impl TraceparentError {
    fn reason(self) -> String {
        match self {
            Self::Version => "it does not begin with a version such as `00-`".to_owned(),
            Self::VersionForbidden => "the version `ff` is forbidden".to_owned(),
            Self::Length { length } => format!("it has {length} bytes, and not {LENGTH}"),
            Self::Dashes => "its parts are not as long as they have to be, with dashes in between".to_owned(),
            Self::TraceId => "its second part, the trace's id, is not of lower-case hex digits".to_owned(),
            Self::ParentId => "its third part, the span's id, is not of lower-case hex digits".to_owned(),
            Self::Flags => "its last part, the flags, is not of lower-case hex digits".to_owned(),
            Self::ZeroTraceId => "its second part, the trace's id, is zero".to_owned(),
            Self::ZeroParentId => "its third part, the span's id, is zero".to_owned(),
        }
    }
}

/// The id of a trace: 16 bytes, not all of them zero. Shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(NonZeroU128);

/// The id of a span: 8 bytes, not all of them zero. Shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// A new one, of which all bytes are random: from the operating system, because ids of many hosts must differ.
    pub(super) fn random() -> Self {
        loop {
            let mut bytes = [0; 16];
            let id = match getrandom::fill(&mut bytes) {
                Ok(()) => u128::from_ne_bytes(bytes),
                // Without its randomness a trace is still better than none.
                Err(_) => fastrand::u128(..),
            };
            if let Some(id) = NonZeroU128::new(id) {
                return Self(id);
            }
        }
    }

    pub(super) const fn new(id: u128) -> Option<Self> {
        match NonZeroU128::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its bytes, the most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// A new one. There is one for each frame of a trace, so that it must not cost a system call.
    pub(super) fn random() -> Self {
        thread_local! {
            static IDS: RefCell<fastrand::Rng> =
                RefCell::new(getrandom::u64().map_or_else(|_| fastrand::Rng::new(), fastrand::Rng::with_seed));
        }
        IDS.with_borrow_mut(|ids| {
            loop {
                if let Some(id) = NonZeroU64::new(ids.u64(..)) {
                    return Self(id);
                }
            }
        })
    }

    pub(super) const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its bytes, the most significant first.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// What the specification says, written another way: splitting at dashes, and not by position.
    fn is_valid(header: &str) -> bool {
        let parts: Vec<&str> = header.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = &parts[..] else { return false };
        let is_hex = |part: &str, length: usize| {
            part.chars().count() == length && part.chars().all(|digit| "0123456789abcdef".contains(digit))
        };
        let is_not_zero = |part: &str| part.chars().any(|digit| digit != '0');
        is_hex(version, 2)
            && *version != "ff"
            && is_hex(trace, 32)
            && is_not_zero(trace)
            && is_hex(span, 16)
            && is_not_zero(span)
            && is_hex(flags, 2)
            && (rest.is_empty() || *version != "00")
    }

    #[test]
    fn what_is_wrong_is_said() {
        use TraceparentError::{
            Dashes, Flags, Length, ParentId, TraceId, Version, VersionForbidden, ZeroParentId, ZeroTraceId,
        };
        let cases = [
            ("", Version),
            ("00", Version),
            ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011", Version),
            ("+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Version),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", VersionForbidden),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", Length { length: 54 }),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", Length { length: 56 }),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", Length { length: 54 }),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011", Dashes),
            ("00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01", Dashes),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceId),
            ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceId),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01", ParentId),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0.", Flags),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", ZeroTraceId),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", ZeroParentId),
        ];
        for (header, error) in cases {
            assert_eq!(parse(header), Err(error), "{header}");
            assert!(!is_valid(header), "{header}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_left_out() {
        let read = parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what the future ✨ brings")
            .unwrap();
        assert_eq!(read, parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap());
    }

    proptest! {
        #[test]
        fn what_is_valid_is_read_as_it_is_written(
            trace in 1..=u128::MAX, span in 1..=u64::MAX, flags: u8, version in 0..0xffu8, tail in "(-.{0,9})?",
        ) {
            let tail = if version == 0 { "" } else { &tail };
            let header = format!("{version:02x}-{trace:032x}-{span:016x}-{flags:02x}{tail}");
            prop_assert!(is_valid(&header));
            let read = parse(&header).unwrap();
            prop_assert_eq!(u128::from_be_bytes(read.trace_id.to_bytes()), trace);
            prop_assert_eq!(u64::from_be_bytes(read.span_id.to_bytes()), span);
            prop_assert_eq!(read.flags, flags);
        }

        #[test]
        fn what_was_changed_is_read_if_it_is_still_valid(
            version in "(00|01|cc|fe|ff)", tail in "(|-|-00|x|0)",
            changes in proptest::collection::vec((any::<Index>(), "[-0-9a-gA-F+ \n✨]?"), 0..3),
        ) {
            let mut header = format!("{version}-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01{tail}");
            for (at, by) in changes {
                let at = at.index(header.chars().count());
                header = header.chars().enumerate()
                    .map(|(index, old)| if index == at { by.clone() } else { old.to_string() })
                    .collect();
            }
            prop_assert_eq!(parse(&header).is_ok(), is_valid(&header), "{}", header);
        }

        #[test]
        fn nothing_panics(header in ".*") {
            prop_assert_eq!(parse(&header).is_ok(), is_valid(&header));
        }
    }
}
