//! Lua's patterns, matched in bounded work.
//!
//! The algorithm, its limits and its errors are those of Lua 5.4's `lstrlib.c`, which backtracks and so can take
//! forever. Here every step is counted.

/// How many captures a pattern has at most.
const CAPTURES: usize = 32;
/// How deep matching recurses at most.
const DEPTH: usize = 200;
const ESCAPE: u8 = b'%';

/// A pattern is malformed, or matching it takes too long.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    #[error("{0}")]
    Malformed(String),
    /// It needed more steps than its subject is worth.
    #[error("pattern too complex")]
    TooComplex,
    /// The call is over.
    #[error(transparent)]
    Over(#[from] mlua::Error),
}

type Matched = Result<Option<usize>, PatternError>;

fn malformed<T>(message: &str) -> Result<T, PatternError> {
    Err(PatternError::Malformed(message.to_owned()))
}

/// Counts steps, and looks up from time to time.
pub(super) struct Steps<'a> {
    left: u64,
    until_look: u32,
    look: &'a dyn Fn() -> mlua::Result<()>,
}

impl<'a> Steps<'a> {
    const BETWEEN_LOOKS: u32 = 1 << 14;

    /// Enough for a subject of so many bytes.
    pub(super) fn for_subject(bytes: usize, look: &'a dyn Fn() -> mlua::Result<()>) -> Self {
        let left = 8_000_000 + 16 * bytes as u64;
        Self { left, until_look: Self::BETWEEN_LOOKS, look }
    }

    #[inline]
    pub(super) fn take(&mut self, steps: u32) -> Result<(), PatternError> {
        self.left = self.left.checked_sub(u64::from(steps)).ok_or(PatternError::TooComplex)?;
        let Some(left) = self.until_look.checked_sub(steps) else {
            self.until_look = Self::BETWEEN_LOOKS;
            return Ok((self.look)()?);
        };
        self.until_look = left;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Open {
    start: usize,
    length: Length,
}

#[derive(Clone, Copy, PartialEq)]
enum Length {
    Unfinished,
    Position,
    Bytes(usize),
}

/// What a pattern captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    /// Bytes of the subject, from the first up to the second.
    Bytes(usize, usize),
    /// A position in it, from 1.
    Position(usize),
    /// One that the pattern does not close. It is an error only where it is used.
    Unfinished,
}

/// A match: where it is, and what was captured in it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) captures: Vec<Capture>,
}

impl Found {
    /// The captures; where there are none, the whole match.
    pub(super) fn captured(&self) -> impl Iterator<Item = Capture> {
        let whole = self.captures.is_empty().then_some(Capture::Bytes(self.start, self.end));
        whole.into_iter().chain(self.captures.iter().copied())
    }

    pub(super) fn capture(&self, index: usize) -> Option<Capture> {
        self.captured().nth(index)
    }
}

/// A pattern and its subject.
pub(super) struct Matcher<'a, 'b> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: [Open; CAPTURES],
    level: usize,
    depth: usize,
    steps: &'a mut Steps<'b>,
}

impl<'a, 'b> Matcher<'a, 'b> {
    pub(super) fn new(subject: &'a [u8], pattern: &'a [u8], steps: &'a mut Steps<'b>) -> Self {
        let captures = [Open { start: 0, length: Length::Unfinished }; CAPTURES];
        Self { subject, pattern, captures, level: 0, depth: DEPTH, steps }
    }

    /// For the work that is done between two matches.
    pub(super) const fn steps(&mut self) -> &mut Steps<'b> {
        self.steps
    }

    /// The first match that starts at `from` or behind it, other than an empty one that ends at `not`. If it is
    /// anchored, it starts at `from`.
    pub(super) fn find(
        &mut self,
        from: usize,
        not: Option<usize>,
        is_anchored: bool,
    ) -> Result<Option<Found>, PatternError> {
        let mut start = from;
        while start <= self.subject.len() {
            self.level = 0;
            self.depth = DEPTH;
            if let Some(end) = self.run(start, 0)?
                && Some(end) != not
            {
                let captures = (0..self.level).map(|index| self.captured(index)).collect();
                return Ok(Some(Found { start, end, captures }));
            }
            if is_anchored {
                break;
            }
            start += 1;
        }
        Ok(None)
    }

    fn captured(&self, index: usize) -> Capture {
        let Open { start, length } = self.captures[index];
        match length {
            Length::Unfinished => Capture::Unfinished,
            Length::Position => Capture::Position(start + 1),
            Length::Bytes(length) => Capture::Bytes(start, start + length),
        }
    }

    /// A byte of the pattern; behind its end, zero.
    fn at(&self, p: usize) -> u8 {
        self.pattern.get(p).copied().unwrap_or(0)
    }

    /// A byte of the subject; behind its end, zero.
    fn byte(&self, s: usize) -> u8 {
        self.subject.get(s).copied().unwrap_or(0)
    }

    fn run(&mut self, s: usize, p: usize) -> Matched {
        if self.depth == 0 {
            return Err(PatternError::TooComplex);
        }
        self.depth -= 1;
        let end = self.run_on(s, p);
        self.depth += 1;
        end
    }

    /// Matches what of the pattern is behind `p`, at `s`.
    fn run_on(&mut self, mut s: usize, mut p: usize) -> Matched {
        while p < self.pattern.len() {
            self.steps.take(1)?;
            match (self.at(p), self.at(p + 1)) {
                (b'(', b')') => return self.start_capture(s, p + 2, Length::Position),
                (b'(', _) => return self.start_capture(s, p + 1, Length::Unfinished),
                (b')', _) => return self.end_capture(s, p + 1),
                (b'$', _) if p + 1 == self.pattern.len() => {
                    return Ok((s == self.subject.len()).then_some(s));
                }
                (ESCAPE, b'b') => {
                    let Some(behind) = self.balance(s, p + 2)? else { return Ok(None) };
                    (s, p) = (behind, p + 4);
                }
                (ESCAPE, b'f') => {
                    p += 2;
                    if self.at(p) != b'[' {
                        return malformed("missing '[' after '%f' in pattern");
                    }
                    let end = self.class_end(p)?;
                    let before = if s == 0 { 0 } else { self.byte(s - 1) };
                    if self.in_set(before, p, end - 1) || !self.in_set(self.byte(s), p, end - 1) {
                        return Ok(None);
                    }
                    p = end;
                }
                (ESCAPE, digit @ b'0'..=b'9') => {
                    let Some(behind) = self.back_reference(s, digit)? else { return Ok(None) };
                    (s, p) = (behind, p + 2);
                }
                _ => {
                    let end = self.class_end(p)?;
                    let suffix = self.at(end);
                    if !self.single(s, p, end) {
                        if !matches!(suffix, b'*' | b'?' | b'-') {
                            return Ok(None);
                        }
                        p = end + 1;
                        continue;
                    }
                    match suffix {
                        b'?' => {
                            if let Some(matched) = self.run(s + 1, end + 1)? {
                                return Ok(Some(matched));
                            }
                            p = end + 1;
                        }
                        b'+' => return self.expand_most(s + 1, p, end),
                        b'*' => return self.expand_most(s, p, end),
                        b'-' => return self.expand_least(s, p, end),
                        _ => (s, p) = (s + 1, end),
                    }
                }
            }
        }
        Ok(Some(s))
    }

    fn class_end(&self, p: usize) -> Result<usize, PatternError> {
        let end = self.pattern.len();
        match self.at(p) {
            ESCAPE if p + 1 == end => malformed("malformed pattern (ends with '%')"),
            ESCAPE => Ok(p + 2),
            b'[' => {
                let mut p = p + 1;
                if self.at(p) == b'^' {
                    p += 1;
                }
                loop {
                    if p >= end {
                        return malformed("malformed pattern (missing ']')");
                    }
                    let byte = self.at(p);
                    p += 1;
                    if byte == ESCAPE && p < end {
                        p += 1;
                    }
                    if p < end && self.at(p) == b']' {
                        return Ok(p + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the byte at `s` is of the class from `p` up to `end`.
    fn single(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else { return false };
        match self.at(p) {
            b'.' => true,
            ESCAPE => in_class(byte, self.at(p + 1)),
            b'[' => self.in_set(byte, p, end - 1),
            literal => literal == byte,
        }
    }

    /// Whether a byte is in the set whose brackets are at `p` and `end`.
    fn in_set(&self, byte: u8, mut p: usize, end: usize) -> bool {
        let is_positive = self.at(p + 1) != b'^';
        if !is_positive {
            p += 1;
        }
        loop {
            p += 1;
            if p >= end {
                return !is_positive;
            }
            let is_in = if self.at(p) == ESCAPE {
                p += 1;
                in_class(byte, self.at(p))
            } else if self.at(p + 1) == b'-' && p + 2 < end {
                p += 2;
                (self.at(p - 2)..=self.at(p)).contains(&byte)
            } else {
                self.at(p) == byte
            };
            if is_in {
                return is_positive;
            }
        }
    }

    fn balance(&mut self, mut s: usize, p: usize) -> Matched {
        if p + 1 >= self.pattern.len() {
            return malformed("malformed pattern (missing arguments to '%b')");
        }
        let (open, close) = (self.at(p), self.at(p + 1));
        if self.byte(s) != open {
            return Ok(None);
        }
        let mut depth = 1;
        loop {
            s += 1;
            let Some(&byte) = self.subject.get(s) else { return Ok(None) };
            self.steps.take(1)?;
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(s + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
    }

    fn expand_most(&mut self, s: usize, p: usize, end: usize) -> Matched {
        let mut count = 0;
        while self.single(s + count, p, end) {
            self.steps.take(1)?;
            count += 1;
        }
        loop {
            if let Some(matched) = self.run(s + count, end + 1)? {
                return Ok(Some(matched));
            }
            if count == 0 {
                return Ok(None);
            }
            self.steps.take(1)?;
            count -= 1;
        }
    }

    fn expand_least(&mut self, mut s: usize, p: usize, end: usize) -> Matched {
        loop {
            if let Some(matched) = self.run(s, end + 1)? {
                return Ok(Some(matched));
            }
            if !self.single(s, p, end) {
                return Ok(None);
            }
            self.steps.take(1)?;
            s += 1;
        }
    }

    fn start_capture(&mut self, s: usize, p: usize, length: Length) -> Matched {
        let level = self.level;
        if level >= CAPTURES {
            return malformed("too many captures");
        }
        self.captures[level] = Open { start: s, length };
        self.level = level + 1;
        let matched = self.run(s, p)?;
        if matched.is_none() {
            self.level -= 1;
        }
        Ok(matched)
    }

    fn end_capture(&mut self, s: usize, p: usize) -> Matched {
        let open =
            self.captures[..self.level].iter().rposition(|capture| capture.length == Length::Unfinished);
        let Some(open) = open else { return malformed("invalid pattern capture") };
        self.captures[open].length = Length::Bytes(s - self.captures[open].start);
        let matched = self.run(s, p)?;
        if matched.is_none() {
            self.captures[open].length = Length::Unfinished;
        }
        Ok(matched)
    }

    fn back_reference(&mut self, s: usize, digit: u8) -> Matched {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let capture = self.captures[..self.level].get(index);
        let (start, length) = match capture {
            Some(&Open { start, length: Length::Bytes(length) }) => (start, length),
            // Lua takes the length of a position for a very large one, which nothing is as long as.
            Some(Open { length: Length::Position, .. }) => return Ok(None),
            _ => {
                let number = i64::from(digit) - i64::from(b'0');
                return malformed(&format!("invalid capture index %{number}"));
            }
        };
        // Comparing is quick, but the same bytes can be compared from everywhere.
        self.steps.take(u32::try_from(length / 64).unwrap_or(u32::MAX))?;
        let (captured, rest) = (&self.subject[start..start + length], &self.subject[s..]);
        Ok(rest.starts_with(captured).then_some(s + length))
    }
}

fn in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
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
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in == class.is_ascii_lowercase()
}

/// Whether a pattern is nothing but itself.
pub(super) fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// Where `needle` is, at `from` or behind it.
pub(super) fn find_plain(
    subject: &[u8],
    needle: &[u8],
    from: usize,
    steps: &mut Steps<'_>,
) -> Result<Option<usize>, PatternError> {
    let Some((first, rest)) = needle.split_first() else { return Ok(Some(from)) };
    let mut start = from;
    while start + needle.len() <= subject.len() {
        let last = subject.len() - rest.len();
        // In pieces, so that a look is taken in between.
        let piece = &subject[start..last.min(start + 4096)];
        let Some(offset) = piece.iter().position(|byte| byte == first) else {
            steps.take(256)?;
            start += piece.len();
            continue;
        };
        start += offset;
        let same = rest.iter().zip(&subject[start + 1..]).take_while(|(a, b)| a == b).count();
        if same == rest.len() {
            return Ok(Some(start));
        }
        steps.take(u32::try_from(1 + same / 8).unwrap_or(u32::MAX))?;
        start += 1;
    }
    Ok(None)
}
