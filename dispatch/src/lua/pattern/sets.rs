//! What matches a single byte: classes, sets in brackets, literals.

use super::{BYTES_PER_STEP, ESCAPE, PatternError};

/// A set of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) const NONE: Self = Self([0; 4]);

    #[inline]
    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 != 0
    }

    pub(super) const fn insert(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    /// Adds the bytes from `first` through `last`. Adds nothing if `last` is less than `first`.
    const fn insert_range(&mut self, first: u8, last: u8) {
        if first > last {
            return;
        }
        let (first_word, last_word) = ((first >> 6) as usize, (last >> 6) as usize);
        let mut word = first_word;
        while word <= last_word {
            let mut bits = u64::MAX;
            if word == first_word {
                bits &= u64::MAX << (first & 63);
            }
            if word == last_word {
                bits &= u64::MAX >> (63 - (last & 63));
            }
            self.0[word] |= bits;
            word += 1;
        }
    }

    const fn insert_all(&mut self, other: &Self) {
        let mut word = 0;
        while word < 4 {
            self.0[word] |= other.0[word];
            word += 1;
        }
    }

    const fn inverted(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([!a, !b, !c, !d])
    }
}

/// For each byte after `%`, the bytes that it matches: those of a class if it is the letter of one, else itself.
pub(super) static CLASSES: [Bytes; 256] = classes();

const fn classes() -> [Bytes; 256] {
    let mut classes = [Bytes::NONE; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)]
        classes[byte].insert(byte as u8);
        byte += 1;
    }
    let letters = b"acdglpsuwxz";
    let mut index = 0;
    while index < letters.len() {
        let letter = letters[index];
        let class = class(letter);
        classes[letter as usize] = class;
        classes[letter.to_ascii_uppercase() as usize] = class.inverted();
        index += 1;
    }
    classes
}

const fn class(letter: u8) -> Bytes {
    let mut class = Bytes::NONE;
    let mut byte = 0_u8;
    loop {
        let is_in = match letter {
            b'a' => byte.is_ascii_alphabetic(),
            b'c' => byte.is_ascii_control(),
            b'd' => byte.is_ascii_digit(),
            b'g' => byte.is_ascii_graphic(),
            b'l' => byte.is_ascii_lowercase(),
            b'p' => byte.is_ascii_punctuation(),
            b's' => byte.is_ascii_whitespace() || byte == 0x0b,
            b'u' => byte.is_ascii_uppercase(),
            b'w' => byte.is_ascii_alphanumeric(),
            b'x' => byte.is_ascii_hexdigit(),
            _ => byte == 0,
        };
        if is_in {
            class.insert(byte);
        }
        if byte == u8::MAX {
            return class;
        }
        byte += 1;
    }
}

/// An item that matches a single byte.
pub(super) trait Single {
    fn matches(&self, byte: u8) -> bool;

    /// Returns how many of the first bytes match.
    #[inline]
    fn span(&self, bytes: &[u8]) -> usize {
        bytes.iter().position(|byte| !self.matches(*byte)).unwrap_or(bytes.len())
    }
}

pub(super) struct Any;

impl Single for Any {
    #[inline]
    fn matches(&self, _: u8) -> bool {
        true
    }

    #[inline]
    fn span(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

pub(super) struct Literal(pub(super) u8);

impl Single for Literal {
    #[inline]
    fn matches(&self, byte: u8) -> bool {
        byte == self.0
    }
}

impl Single for Bytes {
    #[inline]
    fn matches(&self, byte: u8) -> bool {
        self.contains(byte)
    }
}

/// A set in brackets, from its `[` at `start` up to `end`, after its `]`.
#[derive(Debug, Clone, Copy)]
struct Set {
    start: usize,
    end: usize,
    bytes: Bytes,
}

impl Set {
    fn parse(pattern: &[u8], start: usize) -> Result<Self, PatternError> {
        let end = Self::end(pattern, start)?;
        let close = end - 1;
        let mut p = start + 1;
        let is_inverted = pattern.get(p) == Some(&b'^');
        if is_inverted {
            p += 1;
        }
        let mut bytes = Bytes::NONE;
        // An escape can be the last before `close`, and then takes the `]` for its argument, as it does in plain Lua.
        while p < close {
            let byte = pattern[p];
            if byte == ESCAPE {
                bytes.insert_all(&CLASSES[usize::from(pattern[p + 1])]);
                p += 2;
            } else if pattern[p + 1] == b'-' && p + 2 < close {
                bytes.insert_range(byte, pattern[p + 2]);
                p += 3;
            } else {
                bytes.insert(byte);
                p += 1;
            }
        }
        Ok(Self { start, end, bytes: if is_inverted { bytes.inverted() } else { bytes } })
    }

    fn end(pattern: &[u8], start: usize) -> Result<usize, PatternError> {
        let mut p = start + 1;
        if pattern.get(p) == Some(&b'^') {
            p += 1;
        }
        loop {
            // The first byte does not end the set, even if it is a `]`.
            let byte = *pattern.get(p).ok_or(PatternError::MISSING_BRACKET)?;
            p += 1;
            if byte == ESCAPE && p < pattern.len() {
                p += 1;
            }
            if pattern.get(p) == Some(&b']') {
                return Ok(p + 1);
            }
        }
    }
}

/// The sets that were parsed most recently. Most patterns have one or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sets {
    last: Option<Set>,
    others: Option<[Set; Self::OTHERS]>,
    oldest: usize,
}

impl Sets {
    const OTHERS: usize = 3;
    pub(super) const NEW: Self = Self { last: None, others: None, oldest: 0 };

    /// Returns the set whose `[` is at `start`, and where it ends.
    #[inline]
    pub(super) fn get(
        &mut self,
        pattern: &[u8],
        start: usize,
        left: &mut u64,
    ) -> Result<(Bytes, usize), PatternError> {
        match &self.last {
            Some(set) if set.start == start => Ok((set.bytes, set.end)),
            _ => self.get_other(pattern, start, left),
        }
    }

    fn get_other(
        &mut self,
        pattern: &[u8],
        start: usize,
        left: &mut u64,
    ) -> Result<(Bytes, usize), PatternError> {
        if let Some(set) = self.others.iter().flatten().find(|set| set.start == start) {
            return Ok((set.bytes, set.end));
        }
        let set = Set::parse(pattern, start)?;
        *left = left.saturating_sub(((set.end - start) / BYTES_PER_STEP) as u64);
        if let Some(last) = self.last.replace(set) {
            self.others.get_or_insert([last; Self::OTHERS])[self.oldest] = last;
            self.oldest = (self.oldest + 1) % Self::OTHERS;
        }
        Ok((set.bytes, set.end))
    }
}
