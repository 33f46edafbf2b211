//! Lines, messages and versions of the SAM protocol.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

/// A line of a bridge: two words, and pairs of a key and a value. A value with spaces in it is in quotes, where a
/// backslash stands before a quote or another backslash.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    topic: [&'a str; 2],
    pairs: Vec<(&'a str, Cow<'a, str>)>,
}

/// A line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MalformedError(pub(super) &'static str);

impl<'a> Message<'a> {
    /// Reads a line.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, MalformedError> {
        let text = std::str::from_utf8(line).map_err(|_| MalformedError("it is not UTF-8"))?;
        let (first, rest) = word(text);
        let (second, rest) = word(rest);
        Ok(Self { topic: [first, second], pairs: pairs(rest)? })
    }

    /// The pairs of a line that has more in front of them than two words, or less: `text` is what comes behind.
    pub(super) fn parse_pairs(text: &'a str) -> Result<Self, MalformedError> {
        Ok(Self { topic: ["", ""], pairs: pairs(text)? })
    }

    /// The first two words.
    pub(super) fn topic(&self) -> String {
        self.topic.join(" ")
    }

    /// The value of `key`. Which of two it is a bridge cannot leave open.
    pub(super) fn get(&self, key: &str) -> Result<Option<&str>, MalformedError> {
        let mut values = self.pairs.iter().filter(|(given, _)| *given == key);
        let value = values.next().map(|(_, value)| &**value);
        if values.next().is_some() {
            return Err(MalformedError("it says the same thing twice"));
        }
        Ok(value)
    }
}

/// The first word of `text`, and what comes behind it.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    text.split_once(' ').unwrap_or((text, ""))
}

fn pairs(text: &str) -> Result<Vec<(&str, Cow<'_, str>)>, MalformedError> {
    let mut pairs: Vec<(&str, Cow<'_, str>)> = Vec::new();
    let mut rest = text.trim_start_matches(' ');
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let Some(given) = behind.strip_prefix('=') else {
            match pairs.last_mut() {
                // Some routers do not put quotes around what they have to say.
                Some(("MESSAGE", message)) => message.to_mut().extend([" ", key]),
                _ => pairs.push((key, Cow::Borrowed(""))),
            }
            rest = behind.trim_start_matches(' ');
            continue;
        };
        if key.is_empty() {
            return Err(MalformedError("there is a value without a key"));
        }
        let (value, behind) = if let Some(quoted) = given.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let (value, behind) = given.split_at(given.find(' ').unwrap_or(given.len()));
            (Cow::Borrowed(value), behind)
        };
        pairs.push((key, value));
        rest = behind.trim_start_matches(' ');
    }
    Ok(pairs)
}

/// The value that a quote was opened for, and what comes behind the closing one.
fn unquote(text: &str) -> Result<(Cow<'_, str>, &str), MalformedError> {
    let mut value = Cow::Borrowed("");
    let mut start = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                value += &text[start..at];
                let behind = &text[at + 1..];
                if !behind.is_empty() && !behind.starts_with(' ') {
                    return Err(MalformedError("something comes right behind a quote"));
                }
                return Ok((value, behind));
            }
            b'\\' => {
                // What is escaped stands for itself, and may be a quote.
                value += &text[start..at];
                start = at + 1;
                bytes.next();
            }
            _ => {}
        }
    }
    Err(MalformedError("a quote is not closed"))
}

/// `value` in quotes. It may be a password.
pub(super) fn quoted(value: &str) -> Zeroizing<String> {
    // As much as it can need: what grows leaves copies behind that are not overwritten.
    let mut quoted = Zeroizing::new(String::with_capacity(2 * value.len() + 2));
    quoted.push('"');
    for char in value.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

/// The longest that a line may be, in bytes. The longest of the protocol has a private key in it, of a few thousand.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// A line on its way in. It holds what has arrived of it, and never a byte of what comes behind it. Its memory is
/// overwritten when it is dropped: a line may have a private key in it.
#[derive(Default)]
pub(super) struct Line {
    bytes: Zeroizing<Vec<u8>>,
}

/// A line that has arrived.
type Whole = Zeroizing<Vec<u8>>;

/// A line is longer than [`MAX_LEN`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Line {
    /// Takes what belongs to the line: says how many bytes of `input` these were, and gives the line, without its
    /// end, once it is whole.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<(usize, Option<Whole>), TooLong> {
        /// Room for all lines that are usual: what grows leaves copies behind that are not overwritten.
        const USUAL_LEN: usize = 4096;
        let end = input.iter().position(|&byte| byte == b'\n');
        let belongs = &input[..end.unwrap_or(input.len())];
        if self.bytes.len() + belongs.len() > MAX_LEN {
            return Err(TooLong);
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(USUAL_LEN.max(belongs.len()));
        }
        self.bytes.extend(belongs);
        if end.is_none() {
            return Ok((belongs.len(), None));
        }
        let mut line = std::mem::take(&mut self.bytes);
        // As lines end where somebody types them.
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok((belongs.len() + 1, Some(line)))
    }
}

/// A version of SAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u8,
    minor: u8,
}

impl Version {
    /// The oldest that is spoken here: 3.0 knows no types of signatures, and its destinations are weak for it.
    pub(super) const MIN: Self = Self { major: 3, minor: 1 };
    /// The newest that is spoken here.
    pub(super) const MAX: Self = Self { major: 3, minor: 3 };
    /// The first with ports.
    pub(super) const WITH_PORTS: Self = Self { major: 3, minor: 2 };

    /// The version, if it is one that is spoken here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse().ok() } else { None }
        };
        let version = Self { major: number(major)?, minor: number(minor)? };
        (Self::MIN..=Self::MAX).contains(&version).then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(line: &str) -> Message<'_> {
        Message::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn pairs_come_in_any_order_and_number() {
        for line in ["A B C=D E=F", "A  B   E=F  C=D ", " A B unknown C=D X= E=F OPTION:a=\"b c\""] {
            let message = message(line);
            assert_eq!(message.topic(), "A B");
            assert_eq!(message.get("C"), Ok(Some("D")));
            assert_eq!(message.get("E"), Ok(Some("F")));
            assert_eq!(message.get("G"), Ok(None));
        }
        assert_eq!(message("A B VALUE=ab==").get("VALUE"), Ok(Some("ab==")));
        assert_eq!(message("A").topic(), "A ");
    }

    #[test]
    fn a_message_without_quotes_is_read_to_its_end() {
        let message = message("SESSION STATUS RESULT=I2P_ERROR MESSAGE=Unknown STYLE of session");
        assert_eq!(message.get("MESSAGE"), Ok(Some("Unknown STYLE of session")));
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        assert!(message("A B RESULT=OK RESULT=TIMEOUT").get("RESULT").is_err());
        for line in ["A B =C", "A B C=\"D", "A B C=\"D\\\"", "A B C=\"D\"E=F"] {
            assert!(Message::parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(Message::parse(b"A B C=\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_as_it_was(value in "\\PC{0,40}", behind in "( X=\"\\\\\"\")?") {
            let line = format!("A B C={}{behind}", *quoted(&value));
            let message = message(&line);
            prop_assert_eq!(message.get("C"), Ok(Some(&*value)));
        }

        #[test]
        fn no_line_makes_it_panic(line in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            "[A-C =\\\\\"ä]{0,60}".prop_map(String::into_bytes),
        ]) {
            let _ = Message::parse(&line).map(|message| message.get("A").map(|_| ()));
        }
    }

    /// The lines in `input`, fed in pieces, and how much of it belongs to them.
    fn lines(input: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
        let (mut line, mut lines, mut at) = (Line::default(), Vec::new(), 0);
        for len in pieces {
            let end = (at + len).min(input.len());
            while at < end {
                let (taken, whole) = line.take(&input[at..end]).unwrap();
                at += taken;
                lines.extend(whole.map(|line| line.to_vec()));
            }
        }
        lines
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_lines_arrive(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(1_usize..20, 200),
        ) {
            prop_assert_eq!(lines(&input, pieces.into_iter()), lines(&input, [input.len()].into_iter()));
        }
    }

    #[test]
    fn nothing_behind_a_line_is_taken() {
        let mut line = Line::default();
        assert_eq!(line.take(b"A B").unwrap().0, 3);
        let (taken, whole) = line.take(b" C=D\r\npayload\n").unwrap();
        assert_eq!((taken, whole.unwrap().as_slice()), (6, b"A B C=D".as_slice()));
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut line = Line::default();
        assert_eq!(line.take(&vec![b'x'; MAX_LEN]).unwrap(), (MAX_LEN, None));
        assert_eq!(line.take(b"\n").unwrap().1.unwrap().len(), MAX_LEN);
        assert!(line.take(&vec![b'x'; MAX_LEN]).is_ok());
        assert_eq!(line.take(b"x"), Err(TooLong));
    }

    #[test]
    fn only_3_1_to_3_3_are_versions() {
        for text in ["3.1", "3.2", "3.3"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "3", "3.", ".1", "3.0", "3.4", "2.2", "4.0", "3.1.1", "+3.1", "3.+1", "3.257"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
