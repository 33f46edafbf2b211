//! Finds a secret in what a server sends back, without I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::secret::StoredSecret;

/// The value of a secret, prepared to be searched for in pieces: Knuth, Morris and Pratt.
pub(super) struct Needle {
    /// How long the longest proper prefix of the value is that ends at each of its bytes.
    borders: Box<[u16]>,
}

impl Needle {
    /// `value` has from one to `u16::MAX` bytes.
    pub(super) fn new(value: &[u8]) -> Self {
        let mut borders = vec![0; value.len()];
        let mut matched: u16 = 0;
        for index in 1..value.len() {
            while matched > 0 && value[usize::from(matched)] != value[index] {
                matched = borders[usize::from(matched) - 1];
            }
            matched += u16::from(value[usize::from(matched)] == value[index]);
            borders[index] = matched;
        }
        Self { borders: borders.into() }
    }

    /// How many of the first bytes of `value` the text ends with, of which `matched` came before `text`. `None` if all of it
    /// is in the text.
    fn advance(&self, value: &[u8], mut matched: usize, text: &[u8]) -> Option<usize> {
        let mut rest = text;
        while let [byte, after @ ..] = rest {
            if matched == 0 {
                // Most bytes are not the first of the value.
                let Some(start) = memchr::memchr(value[0], rest) else { return Some(0) };
                (matched, rest) = (1, &rest[start + 1..]);
            } else {
                while matched > 0 && value[matched] != *byte {
                    matched = usize::from(self.borders[matched - 1]);
                }
                matched += usize::from(value[matched] == *byte);
                rest = after;
            }
            if matched == value.len() {
                return None;
            }
        }
        Some(matched)
    }

    /// Returns whether `value` is in `text`.
    pub(super) fn is_in(&self, value: &[u8], text: &[u8]) -> bool {
        self.advance(value, 0, text).is_none()
    }
}

/// The value of a secret was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found;

/// Passes a stream on in which the value of a secret is not. The end of what has come is held back as long as the value may
/// have begun there, so that no part of it is passed on.
///
/// How much is held back must not depend on the value: a script that has a server send guesses would see which of them are
/// the beginning of it. So it is as much as [could be](is_in_values) of any value of about this length, and a line break ends
/// it. Only a stream with all of the value is told from others.
pub(crate) struct EchoGuard {
    secret: Arc<StoredSecret>,
    /// How many bytes of the value the stream ends with at the moment.
    matched: usize,
    held: VecDeque<u8>,
}

/// Whether a byte can be in the value of a secret.
const fn is_in_values(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

impl EchoGuard {
    pub(crate) const fn new(secret: Arc<StoredSecret>) -> Self {
        Self { secret, matched: 0, held: VecDeque::new() }
    }

    /// How many bytes are held back at most. It tells of the length of the value no more than it must.
    fn max_held(&self) -> usize {
        self.secret.value().len().next_multiple_of(64)
    }

    /// What can be passed on now that `piece` is there. It may be empty.
    ///
    /// # Errors
    ///
    /// [`Found`] if the value is in the stream.
    pub(crate) fn pass(&mut self, piece: &Bytes) -> Result<Bytes, Found> {
        let secret = &self.secret;
        self.matched = secret.needle().advance(secret.value(), self.matched, piece).ok_or(Found)?;
        let all = self.held.len() + piece.len();
        let end = match piece.iter().rposition(|byte| !is_in_values(*byte)) {
            Some(last) => piece.len() - last - 1,
            None => all,
        };
        let passed = all - end.min(self.max_held());
        let from_held = passed.min(self.held.len());
        let (now, later) = piece.split_at(passed - from_held);
        let text = if from_held == 0 {
            piece.slice(..now.len())
        } else {
            self.held.drain(..from_held).chain(now.iter().copied()).collect()
        };
        self.held.extend(later);
        Ok(text)
    }

    /// What was held back, at the end of the stream.
    pub(crate) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(value: &str) -> Arc<StoredSecret> {
        Arc::new(StoredSecret::new(value, []).unwrap())
    }

    #[test]
    fn nothing_of_the_value_is_passed_on() {
        let mut guard = EchoGuard::new(secret("sk_live_12345"));
        assert_eq!(guard.pass(&"you sent:\nsk_li".into()).unwrap(), "you sent:\n");
        assert_eq!(guard.pass(&"ve_1234".into()).unwrap(), "");
        assert_eq!(guard.pass(&"5".into()), Err(Found));
    }

    #[test]
    fn what_is_not_the_value_is_passed_on_whole() {
        let mut guard = EchoGuard::new(secret("sk_live_12345"));
        assert_eq!(guard.pass(&"sk_live_1".into()).unwrap(), "");
        assert_eq!(guard.pass(&"data\n".into()).unwrap(), "sk_live_1data\n");
        let long = "x".repeat(100);
        assert_eq!(guard.pass(&long.into()).unwrap().len(), 36);
        assert_eq!(guard.finish().len(), 64);
        assert_eq!(guard.finish(), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A model: all pieces as one text.
        #[test]
        fn a_value_is_found_however_the_text_is_cut(
            value in "[ab]{8,12}",
            pieces in proptest::collection::vec("[ab]{0,12}", 0..12),
            at in proptest::option::of((0_usize..12, 0_usize..12)),
        ) {
            let mut text = pieces.concat();
            if let Some((place, cut)) = at {
                let place = place.min(text.len());
                text.insert_str(place, &value);
                text.truncate(text.len() - cut.min(text.len()));
            }
            let mut guard = EchoGuard::new(secret(&value));
            let (mut rest, mut passed, mut is_found) = (&text[..], String::new(), false);
            let mut lengths = pieces.iter().map(String::len).chain(std::iter::repeat(3));
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(lengths.next().unwrap().min(rest.len()));
                rest = after;
                let Ok(piece) = guard.pass(&Bytes::copy_from_slice(piece.as_bytes())) else {
                    is_found = true;
                    break;
                };
                passed.push_str(std::str::from_utf8(&piece).unwrap());
            }
            prop_assert_eq!(is_found, text.contains(&value));
            if is_found {
                // Not the first byte of the value is passed on.
                prop_assert!(passed.len() <= text.find(&value).unwrap());
            } else {
                passed.push_str(std::str::from_utf8(&guard.finish()).unwrap());
                prop_assert_eq!(passed, text);
            }
        }

        /// Otherwise a script could find the value out, a byte at a time.
        #[test]
        fn what_is_held_back_does_not_depend_on_the_value(
            value in "[ab]{8,12}",
            pieces in proptest::collection::vec("[ab\n]{0,9}", 0..12),
        ) {
            let (mut guard, mut other) = (EchoGuard::new(secret(&value)), EchoGuard::new(secret("zzzzzzzzzz")));
            for piece in pieces {
                let piece = Bytes::from(piece);
                let Ok(passed) = guard.pass(&piece) else { break };
                prop_assert_eq!(Ok(passed), other.pass(&piece));
            }
        }
    }
}
