//! A matcher for Lua's patterns that can be paused.
//!
//! The syntax, the limits and the errors are those of `lstrlib.c` in Lua 5.4. There, `do_match` calls itself, so it can
//! neither be stopped nor resumed. Here, a [`Matcher`] holds the whole state of a match as indices and is given the
//! subject and the pattern by each call. It allocates nothing and has no destructor, so it can live in memory that Lua
//! owns, and a `longjmp` can pass over it.
//!
//! Work is counted in steps, of a few nanoseconds each. A call that runs out of steps returns [`Progress::Paused`].

mod plain;
mod sets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::MaybeUninit;

use memchr::{memchr, memrchr};

pub(super) use plain::{PlainSearch, is_plain};
use sets::{Any, Bytes, CLASSES, Literal, Sets, Single};

/// The number of captures that a pattern can have: `LUA_MAXCAPTURES`.
const MAX_CAPTURES: usize = 32;
/// The number of calls of `do_match` that can be active at once: `MAXCCALLS`.
const MAX_DEPTH: u8 = 200;
const ESCAPE: u8 = b'%';

/// Bytes that are tested one by one in one step.
const BYTES_PER_STEP: usize = 8;
/// Bytes that are searched or compared with vector instructions in one step.
const VECTOR_BYTES_PER_STEP: usize = 64;

/// The reason why a pattern cannot be matched, in the words of plain Lua.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PatternError(u8);

impl PatternError {
    // Up to 9, it is the index of a capture that does not exist.
    const TOO_COMPLEX: Self = Self(10);
    const TOO_MANY_CAPTURES: Self = Self(11);
    const ENDS_WITH_ESCAPE: Self = Self(12);
    const MISSING_BRACKET: Self = Self(13);
    const MISSING_ARGUMENTS: Self = Self(14);
    const MISSING_FRONTIER_SET: Self = Self(15);
    const INVALID_CAPTURE: Self = Self(16);
    /// A capture is used that the pattern never closes.
    pub(super) const UNFINISHED_CAPTURE: Self = Self(17);
    /// A `%` in a replacement is followed by neither a digit nor another `%`.
    pub(super) const INVALID_REPLACEMENT: Self = Self(18);

    /// Returns the error for `%0` to `%9`, in a pattern or a replacement, that refers to no capture.
    pub(super) const fn invalid_capture_index(digit: u8) -> Self {
        assert!(digit < 10, "it is a digit");
        Self(digit)
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Self(0) => "invalid capture index %0",
            Self(1) => "invalid capture index %1",
            Self(2) => "invalid capture index %2",
            Self(3) => "invalid capture index %3",
            Self(4) => "invalid capture index %4",
            Self(5) => "invalid capture index %5",
            Self(6) => "invalid capture index %6",
            Self(7) => "invalid capture index %7",
            Self(8) => "invalid capture index %8",
            Self(9) => "invalid capture index %9",
            Self::TOO_COMPLEX => "pattern too complex",
            Self::TOO_MANY_CAPTURES => "too many captures",
            Self::ENDS_WITH_ESCAPE => "malformed pattern (ends with '%')",
            Self::MISSING_BRACKET => "malformed pattern (missing ']')",
            Self::MISSING_ARGUMENTS => "malformed pattern (missing arguments to '%b')",
            Self::MISSING_FRONTIER_SET => "missing '[' after '%f' in pattern",
            Self::INVALID_CAPTURE => "invalid pattern capture",
            Self::UNFINISHED_CAPTURE => "unfinished capture",
            _ => "invalid use of '%' in replacement string",
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for PatternError {}

/// The outcome of one call that searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is a match.
    Found,
    /// There is no match.
    None,
    /// The steps are used up. The next call continues.
    Paused,
}

/// One capture of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    /// The bytes of the subject from the first index up to the second.
    Bytes(usize, usize),
    /// A position in the subject, from 1.
    Position(usize),
    /// A capture that the pattern does not close. Using it is an error; having it is not.
    Unfinished,
}

/// A stack of a fixed capacity. Initializing all of it would take longer than most matches.
#[derive(Clone, Copy)]
struct Stack<T: Copy, const CAPACITY: usize> {
    length: usize,
    /// Those below `length` are initialized.
    items: [MaybeUninit<T>; CAPACITY],
}

impl<T: Copy, const CAPACITY: usize> Stack<T, CAPACITY> {
    const fn new() -> Self {
        Self { length: 0, items: [const { MaybeUninit::uninit() }; CAPACITY] }
    }

    /// Puts an item at `index`, which is at most the length. It is the last then.
    #[inline]
    fn put(&mut self, index: usize, item: T) {
        assert!(index <= self.length, "all below it are initialized");
        self.items[index].write(item);
        self.length = index + 1;
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    #[inline]
    #[allow(unsafe_code)]
    fn get(&self, index: usize) -> T {
        let item = &self.items[..self.length][index];
        // SAFETY: The items below `length` are initialized: only `put` increases `length`, by the item that it writes.
        unsafe { item.assume_init() }
    }

    #[inline]
    #[allow(unsafe_code)]
    fn get_mut(&mut self, index: usize) -> &mut T {
        let item = &mut self.items[..self.length][index];
        // SAFETY: As in `get`.
        unsafe { item.assume_init_mut() }
    }
}

/// Where a capture is in the subject.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    /// [`Span::POSITION`] if it captures its position. Only valid once it is closed.
    end: usize,
}

impl Span {
    const POSITION: usize = usize::MAX;
}

/// What was captured up to a point and how deep the match is there, in one word, which is quick to save and restore.
#[derive(Debug, Clone, Copy)]
struct Captured(u64);

impl Captured {
    // The lower half has one bit for each capture that is closed.
    const LEVEL: u32 = 32;
    const DEPTH: u32 = 40;
    const START: Self = Self(1 << Self::DEPTH);

    /// Enters a call of `do_match`.
    #[inline]
    const fn enter(&mut self) -> Result<(), PatternError> {
        if self.0 >> Self::DEPTH == MAX_DEPTH as u64 {
            return Err(PatternError::TOO_COMPLEX);
        }
        self.0 += 1 << Self::DEPTH;
        Ok(())
    }

    /// Returns the number of captures.
    #[inline]
    const fn level(self) -> usize {
        (self.0 >> Self::LEVEL & 0xff) as usize
    }

    const fn is_closed(self, capture: usize) -> bool {
        capture < MAX_CAPTURES && self.0 >> capture & 1 != 0
    }

    /// Returns the last capture that is open.
    #[inline]
    const fn last_open(self) -> Option<u32> {
        (!self.0 & ((1 << self.level()) - 1)).checked_ilog2()
    }
}

/// A point that a match has come to. To go back to it is to set it: what was captured after it is open again.
#[derive(Debug, Clone, Copy)]
struct Point {
    s: usize,
    p: usize,
    captured: Captured,
}

impl Point {
    const fn start(s: usize) -> Self {
        Self { s, p: 0, captured: Captured::START }
    }
}

/// A choice that was made and can be made differently.
#[derive(Debug, Clone, Copy)]
struct Choice {
    /// Where the pattern continues after it.
    point: Point,
    /// For `?`, `*` and `+`, which can match one byte less, the least that `point.s` can become.
    /// For `-`, which can match one byte more, the place of the item in the pattern, and [`Choice::LEAST`].
    bound: usize,
}

impl Choice {
    /// A bit that no index into a slice has.
    const LEAST: usize = 1 << (usize::BITS - 1);
}

/// Every choice is in a call of `do_match` of its own.
type Choices = Stack<Choice, { MAX_DEPTH as usize }>;
type Spans = Stack<Span, MAX_CAPTURES>;

/// What a call of [`Matcher::resume`] starts with.
#[derive(Debug, Clone, Copy)]
enum Mode {
    /// An attempt at `start`.
    Attempt,
    /// The item at the current point.
    Item,
    /// The last choice, which was wrong.
    Backtrack,
    /// The item at the current point, which matched from `least` up to the point.
    Expand { least: usize },
    /// `%b`, with so many that are open.
    Balance { open: usize },
    /// A back reference, of which so much is the same.
    Compare { same: usize },
}

/// The bytes that a match of a part of the pattern can begin with.
#[derive(Debug, Clone, Copy)]
enum First {
    /// Not parsed yet.
    Unknown,
    Anything,
    /// Only the end of the subject.
    End,
    Byte(u8),
    OneOf(Bytes),
}

impl First {
    #[inline]
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Unknown | Self::Anything => true,
            Self::End => false,
            Self::Byte(first) => byte == *first,
            Self::OneOf(bytes) => bytes.contains(byte),
        }
    }

    /// Returns the first of the bytes that a match can begin with.
    #[inline]
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Byte(first) => memchr(*first, bytes),
            Self::OneOf(set) => bytes.iter().position(|byte| set.contains(*byte)),
            _ => bytes.iter().position(|byte| self.matches(*byte)),
        }
    }

    /// Returns the last of the bytes that a match can begin with.
    #[inline]
    fn find_last(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Byte(first) => memrchr(*first, bytes),
            Self::OneOf(set) => bytes.iter().rposition(|byte| set.contains(*byte)),
            _ => bytes.iter().rposition(|byte| self.matches(*byte)),
        }
    }

    /// Returns how many bytes are searched in one step.
    #[inline]
    const fn bytes_per_step(&self) -> usize {
        if matches!(self, Self::Byte(_)) { VECTOR_BYTES_PER_STEP } else { BYTES_PER_STEP }
    }

    /// Returns what the pattern from `p` on begins with.
    ///
    /// An attempt to match it from there has failed. So it has no mistake before its first item.
    fn parse(sets: &mut Sets, input: &mut Input<'_>, mut p: usize) -> Result<Self, PatternError> {
        loop {
            match input.pattern(p) {
                b'(' => p += if input.pattern(p + 1) == b')' { 2 } else { 1 },
                b')' => p += 1,
                _ => break,
            }
        }
        let length = input.pattern.len();
        let (first, end) = match input.pattern(p) {
            _ if p >= length => return Ok(Self::Anything),
            b'.' => return Ok(Self::Anything),
            b'$' if p + 1 == length => return Ok(Self::End),
            ESCAPE => match input.pattern(p + 1) {
                b'b' if p + 3 < length => return Ok(Self::Byte(input.pattern(p + 2))),
                b'b' | b'f' | b'0'..=b'9' => return Ok(Self::Anything),
                _ if p + 1 == length => return Ok(Self::Anything),
                letter if letter.is_ascii_alphabetic() => (Self::OneOf(CLASSES[usize::from(letter)]), p + 2),
                literal => (Self::Byte(literal), p + 2),
            },
            b'[' => {
                let (bytes, end) = sets.get(input.pattern, p, &mut input.left)?;
                (Self::OneOf(bytes), end)
            }
            literal => (Self::Byte(literal), p + 1),
        };
        Ok(if matches!(input.pattern(end), b'*' | b'?' | b'-') { Self::Anything } else { first })
    }
}

/// The [`First`] of the parts of a pattern that follow a choice.
#[derive(Debug, Clone, Copy)]
struct Followers(Option<[(usize, First); Self::COUNT]>);

impl Followers {
    const COUNT: usize = 4;
    const NEW: Self = Self(None);

    /// Returns what the pattern from `p` on begins with, where it follows the choice of that index.
    #[inline]
    fn get(
        &mut self,
        sets: &mut Sets,
        input: &mut Input<'_>,
        choice: usize,
        p: usize,
    ) -> Result<&First, PatternError> {
        let entries = self.0.get_or_insert([(usize::MAX, First::Anything); Self::COUNT]);
        let entry = &mut entries[choice % Self::COUNT];
        if entry.0 != p {
            *entry = (p, First::parse(sets, input, p)?);
        }
        Ok(&entry.1)
    }
}

/// What follows from an item.
#[derive(Clone, Copy)]
enum Flow {
    /// The next item.
    Next,
    /// The last choice has to be made differently.
    Fail,
    /// No choice is left.
    Attempt,
    /// No step is left, and [`Matcher::mode`] is set.
    Pause,
}

/// The subject, the pattern, and the steps that are left.
struct Input<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    left: u64,
}

impl Input<'_> {
    /// Returns a byte of the pattern, or zero after its end.
    #[inline]
    fn pattern(&self, p: usize) -> u8 {
        self.pattern.get(p).copied().unwrap_or(0)
    }

    /// Returns a byte of the subject, or zero after its end.
    #[inline]
    fn subject(&self, s: usize) -> u8 {
        self.subject.get(s).copied().unwrap_or(0)
    }

    /// Returns what of the subject can be looked at from `from` on, at so many bytes per step.
    #[inline]
    fn affordable(&self, from: usize, bytes_per_step: usize) -> &[u8] {
        let rest = &self.subject[from..];
        &rest[..rest.len().min(self.affordable_bytes(bytes_per_step))]
    }

    #[inline]
    fn affordable_bytes(&self, bytes_per_step: usize) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).saturating_mul(bytes_per_step)
    }

    #[inline]
    const fn pay(&mut self, bytes: usize, bytes_per_step: usize) {
        self.left = self.left.saturating_sub((bytes / bytes_per_step) as u64);
    }
}

/// The search for a pattern in a subject.
#[derive(Clone, Copy)]
pub(super) struct Matcher {
    mode: Mode,
    first: First,
    is_anchored: bool,
    /// Where the match starts, or the current attempt.
    start: usize,
    /// Where no match may end.
    not: Option<usize>,
    /// The point that the attempt has come to; after a match, its end.
    point: Point,
    sets: Sets,
    followers: Followers,
    spans: Spans,
    choices: Choices,
}

impl Matcher {
    /// Creates a search for the first match at `from` or after it; at `from` only, if it is anchored.
    ///
    /// `from` is at most the length of the subject. The pattern does not include the `^` of an anchor.
    #[inline]
    pub(super) const fn new(from: usize, is_anchored: bool) -> Self {
        Self {
            mode: Mode::Attempt,
            first: First::Unknown,
            is_anchored,
            start: from,
            not: None,
            point: Point::start(from),
            sets: Sets::NEW,
            followers: Followers::NEW,
            spans: Stack::new(),
            choices: Stack::new(),
        }
    }

    /// Begins a new search in the same subject for the same pattern. No match ends at `not`.
    pub(super) const fn restart(&mut self, from: usize, not: Option<usize>) {
        self.mode = Mode::Attempt;
        self.start = from;
        self.not = not;
    }

    /// Begins the search for the match after this one: it starts where this one ends, or later, and is not empty there.
    pub(super) const fn advance(&mut self) {
        let end = self.point.s;
        self.restart(end, Some(end));
    }

    /// Searches until there is a match, none, or no step left. Takes the steps that were needed off `steps`.
    ///
    /// All calls for one matcher are given the same subject and the same pattern. After an error or a match, the search
    /// has ended until it is restarted or advanced.
    pub(super) fn resume(
        &mut self,
        subject: &[u8],
        pattern: &[u8],
        steps: &mut u64,
    ) -> Result<Progress, PatternError> {
        let mut input = Input { subject, pattern, left: *steps };
        let progress = self.run(&mut input);
        *steps = input.left;
        progress
    }

    /// Returns the index of the first byte of the match.
    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// Returns the index after the last byte of the match.
    pub(super) const fn end(&self) -> usize {
        self.point.s
    }

    /// Returns how many captures the match has.
    pub(super) const fn captures(&self) -> usize {
        self.point.captured.level()
    }

    /// Returns a capture of the match, from 0. Without any captures, the first is the whole match.
    pub(super) fn capture(&self, index: usize) -> Option<Capture> {
        if index >= self.captures() {
            return (index == 0).then_some(Capture::Bytes(self.start, self.point.s));
        }
        if !self.point.captured.is_closed(index) {
            return Some(Capture::Unfinished);
        }
        let span = self.spans.get(index);
        Some(match span.end {
            Span::POSITION => Capture::Position(span.start + 1),
            end => Capture::Bytes(span.start, end),
        })
    }

    fn run(&mut self, input: &mut Input<'_>) -> Result<Progress, PatternError> {
        if input.left == 0 && matches!(self.mode, Mode::Attempt) {
            return Ok(Progress::Paused);
        }
        let mut point = self.point;
        let mut flow = match self.mode {
            Mode::Attempt => Flow::Attempt,
            Mode::Item => Flow::Next,
            Mode::Backtrack => Flow::Fail,
            Mode::Expand { least } => self.expand_item(input, &mut point, least)?,
            Mode::Balance { open } => self.balance(input, &mut point, open),
            Mode::Compare { same } => self.compare(input, &mut point, same),
        };
        loop {
            match flow {
                Flow::Next => {
                    if point.p >= input.pattern.len() {
                        if Some(point.s) != self.not {
                            // An empty pattern, which matches everywhere, takes no other step.
                            input.left = input.left.saturating_sub(1);
                            self.point = point;
                            return Ok(Progress::Found);
                        }
                        self.choices.truncate(0);
                        flow = Flow::Fail;
                    } else if input.left == 0 {
                        self.mode = Mode::Item;
                        flow = Flow::Pause;
                    } else {
                        input.left -= 1;
                        flow = self.item(input, &mut point)?;
                    }
                }
                Flow::Fail => {
                    flow = self.backtrack(input, &mut point)?;
                    if matches!(flow, Flow::Attempt) {
                        if self.is_anchored || self.start >= input.subject.len() {
                            return Ok(Progress::None);
                        }
                        self.start += 1;
                        if matches!(self.first, First::Unknown) {
                            self.first = First::parse(&mut self.sets, input, 0)?;
                        }
                    }
                }
                Flow::Attempt => {
                    self.choices.truncate(0);
                    if !matches!(self.first, First::Unknown | First::Anything | First::End) {
                        let bytes_per_step = self.first.bytes_per_step();
                        let bytes = input.affordable(self.start, bytes_per_step);
                        let place = self.first.find(bytes);
                        let passed = place.unwrap_or(bytes.len());
                        input.pay(passed, bytes_per_step);
                        self.start += passed;
                        if place.is_none() {
                            if self.start >= input.subject.len() {
                                return Ok(Progress::None);
                            }
                            self.mode = Mode::Attempt;
                            return Ok(Progress::Paused);
                        }
                    }
                    point = Point::start(self.start);
                    flow = Flow::Next;
                }
                Flow::Pause => {
                    self.point = point;
                    return Ok(Progress::Paused);
                }
            }
        }
    }

    /// Matches one item.
    #[inline]
    fn item(&mut self, input: &mut Input<'_>, point: &mut Point) -> Result<Flow, PatternError> {
        match input.pattern(point.p) {
            b'(' => {
                let is_position = input.pattern(point.p + 1) == b')';
                self.open_capture(point, is_position)?;
                Ok(Flow::Next)
            }
            b')' => {
                self.close_capture(point)?;
                Ok(Flow::Next)
            }
            b'$' if point.p + 1 == input.pattern.len() => {
                if point.s != input.subject.len() {
                    return Ok(Flow::Fail);
                }
                point.p += 1;
                Ok(Flow::Next)
            }
            ESCAPE => match input.pattern(point.p + 1) {
                b'b' => {
                    if point.p + 3 >= input.pattern.len() {
                        return Err(PatternError::MISSING_ARGUMENTS);
                    }
                    if input.subject.get(point.s) != Some(&input.pattern(point.p + 2)) {
                        return Ok(Flow::Fail);
                    }
                    point.s += 1;
                    Ok(self.balance(input, point, 1))
                }
                b'f' => self.frontier(input, point),
                digit @ b'0'..=b'9' => {
                    if !point.captured.is_closed(usize::from(digit).wrapping_sub(usize::from(b'1'))) {
                        return Err(PatternError::invalid_capture_index(digit - b'0'));
                    }
                    Ok(self.compare(input, point, 0))
                }
                _ if point.p + 1 == input.pattern.len() => Err(PatternError::ENDS_WITH_ESCAPE),
                letter => {
                    let end = point.p + 2;
                    self.single(input, point, end, &CLASSES[usize::from(letter)])
                }
            },
            b'[' => {
                let (bytes, end) = self.sets.get(input.pattern, point.p, &mut input.left)?;
                self.single(input, point, end, &bytes)
            }
            b'.' => {
                let end = point.p + 1;
                self.single(input, point, end, &Any)
            }
            literal => {
                let end = point.p + 1;
                self.single(input, point, end, &Literal(literal))
            }
        }
    }

    #[inline]
    fn open_capture(&mut self, point: &mut Point, is_position: bool) -> Result<(), PatternError> {
        let level = point.captured.level();
        if level == MAX_CAPTURES {
            return Err(PatternError::TOO_MANY_CAPTURES);
        }
        point.captured.enter()?;
        self.spans.put(level, Span { start: point.s, end: Span::POSITION });
        point.captured.0 += 1 << Captured::LEVEL | u64::from(is_position) << level;
        point.p += if is_position { 2 } else { 1 };
        Ok(())
    }

    #[inline]
    fn close_capture(&mut self, point: &mut Point) -> Result<(), PatternError> {
        let capture = point.captured.last_open().ok_or(PatternError::INVALID_CAPTURE)?;
        point.captured.enter()?;
        self.spans.get_mut(capture as usize).end = point.s;
        point.captured.0 |= 1 << capture;
        point.p += 1;
        Ok(())
    }

    fn frontier(&mut self, input: &mut Input<'_>, point: &mut Point) -> Result<Flow, PatternError> {
        let start = point.p + 2;
        if input.pattern(start) != b'[' {
            return Err(PatternError::MISSING_FRONTIER_SET);
        }
        let (bytes, end) = self.sets.get(input.pattern, start, &mut input.left)?;
        let before = if point.s == 0 { 0 } else { input.subject(point.s - 1) };
        if bytes.contains(before) || !bytes.contains(input.subject(point.s)) {
            return Ok(Flow::Fail);
        }
        point.p = end;
        Ok(Flow::Next)
    }

    /// Matches an item of a single byte, whose suffix is at `end` if it has one.
    // One for each kind of item is measurably faster.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn single(
        &mut self,
        input: &mut Input<'_>,
        point: &mut Point,
        end: usize,
        item: &impl Single,
    ) -> Result<Flow, PatternError> {
        let is_match = input.subject.get(point.s).is_some_and(|byte| item.matches(*byte));
        match input.pattern(end) {
            b'*' | b'?' | b'-' if !is_match => {
                point.p = end + 1;
                Ok(Flow::Next)
            }
            _ if !is_match => Ok(Flow::Fail),
            b'?' => {
                // Plain Lua matches without the byte in the call that it is in.
                let captured = point.captured;
                point.captured.enter()?;
                let bound = point.s;
                (point.s, point.p) = (point.s + 1, end + 1);
                self.push(Choice { point: Point { captured, ..*point }, bound });
                Ok(Flow::Next)
            }
            b'-' => {
                let bound = point.p | Choice::LEAST;
                point.captured.enter()?;
                point.p = end + 1;
                self.push(Choice { point: *point, bound });
                Ok(Flow::Next)
            }
            suffix @ (b'*' | b'+') => {
                let least = point.s + usize::from(suffix == b'+');
                point.s += 1;
                self.expand(input, point, least, end, item)
            }
            _ => {
                (point.s, point.p) = (point.s + 1, end);
                Ok(Flow::Next)
            }
        }
    }

    /// Matches as many bytes as there are.
    // One for each kind of item is measurably faster.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn expand(
        &mut self,
        input: &mut Input<'_>,
        point: &mut Point,
        least: usize,
        end: usize,
        item: &impl Single,
    ) -> Result<Flow, PatternError> {
        let bytes = input.affordable(point.s, BYTES_PER_STEP);
        let span = item.span(bytes);
        let is_all = span == bytes.len();
        input.pay(span, BYTES_PER_STEP);
        point.s += span;
        if is_all && point.s < input.subject.len() {
            self.mode = Mode::Expand { least };
            return Ok(Flow::Pause);
        }
        point.captured.enter()?;
        point.p = end + 1;
        if point.s > least {
            self.push(Choice { point: *point, bound: least });
        }
        Ok(Flow::Next)
    }

    /// Continues to match as many bytes as there are.
    #[cold]
    fn expand_item(
        &mut self,
        input: &mut Input<'_>,
        point: &mut Point,
        least: usize,
    ) -> Result<Flow, PatternError> {
        let p = point.p;
        match input.pattern(p) {
            ESCAPE => {
                let class = &CLASSES[usize::from(input.pattern(p + 1))];
                self.expand(input, point, least, p + 2, class)
            }
            b'[' => {
                let (bytes, end) = self.sets.get(input.pattern, p, &mut input.left)?;
                self.expand(input, point, least, end, &bytes)
            }
            b'.' => self.expand(input, point, least, p + 1, &Any),
            literal => self.expand(input, point, least, p + 1, &Literal(literal)),
        }
    }

    /// Matches up to where as many are closed as are open.
    fn balance(&mut self, input: &mut Input<'_>, point: &mut Point, mut open: usize) -> Flow {
        let (opening, closing) = (input.pattern(point.p + 2), input.pattern(point.p + 3));
        let bytes = input.affordable(point.s, BYTES_PER_STEP);
        let mut end = None;
        for (index, byte) in bytes.iter().enumerate() {
            if *byte == closing {
                open -= 1;
                if open == 0 {
                    end = Some(index + 1);
                    break;
                }
            } else if *byte == opening {
                open += 1;
            }
        }
        let matched = end.unwrap_or(bytes.len());
        input.pay(matched, BYTES_PER_STEP);
        point.s += matched;
        if end.is_some() {
            point.p += 4;
            Flow::Next
        } else if point.s < input.subject.len() {
            self.mode = Mode::Balance { open };
            Flow::Pause
        } else {
            Flow::Fail
        }
    }

    /// Matches what was captured, of which so much is known to be the same.
    fn compare(&mut self, input: &mut Input<'_>, point: &mut Point, same: usize) -> Flow {
        let span = self.spans.get(usize::from(input.pattern(point.p + 1) - b'1'));
        // Plain Lua takes the length of a position for a very large one.
        if span.end == Span::POSITION || span.end - span.start > input.subject.len() - point.s {
            return Flow::Fail;
        }
        let captured = &input.subject[span.start + same..span.end];
        let bytes = input.affordable(point.s + same, VECTOR_BYTES_PER_STEP);
        let length = captured.len().min(bytes.len());
        let is_same = captured[..length] == bytes[..length];
        input.pay(length, VECTOR_BYTES_PER_STEP);
        if !is_same {
            Flow::Fail
        } else if length < captured.len() {
            self.mode = Mode::Compare { same: same + length };
            Flow::Pause
        } else {
            point.s += span.end - span.start;
            point.p += 2;
            Flow::Next
        }
    }

    #[inline]
    fn push(&mut self, choice: Choice) {
        self.choices.put(self.choices.length, choice);
    }

    /// Goes back to the last choice that can be made differently.
    ///
    /// What follows a choice was matched at least once, so it has no mistake, and what it begins with is known: other
    /// places are passed by.
    #[inline]
    fn backtrack(&mut self, input: &mut Input<'_>, point: &mut Point) -> Result<Flow, PatternError> {
        while let Some(last) = self.choices.length.checked_sub(1) {
            let choice = self.choices.get(last);
            let s = if choice.bound & Choice::LEAST != 0 {
                self.one_more(input, last, &choice)?
            } else if choice.point.s - 1 == choice.bound {
                self.choices.truncate(last);
                Some(choice.bound)
            } else {
                self.one_less(input, last, &choice)?
            };
            match s {
                Some(s) => {
                    *point = Point { s, ..choice.point };
                    return Ok(Flow::Next);
                }
                // It is still there if it has to be continued.
                None if self.choices.length > last => {
                    self.mode = Mode::Backtrack;
                    return Ok(Flow::Pause);
                }
                None => {}
            }
        }
        Ok(Flow::Attempt)
    }

    /// Makes the last choice differently, where it can match less: returns where what follows continues.
    #[inline]
    fn one_less(
        &mut self,
        input: &mut Input<'_>,
        last: usize,
        choice: &Choice,
    ) -> Result<Option<usize>, PatternError> {
        let first = self.followers.get(&mut self.sets, input, last, choice.point.p)?;
        let end = choice.point.s;
        let s = match first {
            First::Unknown | First::Anything => Some(end - 1),
            First::End => None,
            first => {
                let bytes_per_step = first.bytes_per_step();
                let start = end.saturating_sub(input.affordable_bytes(bytes_per_step)).max(choice.bound);
                let place = first.find_last(&input.subject[start..end]);
                input.pay(end - start - place.unwrap_or(0), bytes_per_step);
                if place.is_none() && start > choice.bound {
                    self.choices.get_mut(last).point.s = start;
                    return Ok(None);
                }
                place.map(|place| start + place)
            }
        };
        match s {
            Some(s) if s > choice.bound => self.choices.get_mut(last).point.s = s,
            _ => self.choices.truncate(last),
        }
        Ok(s)
    }

    /// Makes the last choice differently, where it can match more: returns where what follows continues.
    #[inline]
    fn one_more(
        &mut self,
        input: &mut Input<'_>,
        last: usize,
        choice: &Choice,
    ) -> Result<Option<usize>, PatternError> {
        let item = choice.bound & !Choice::LEAST;
        let s = choice.point.s;
        let set;
        let item = match input.pattern(item) {
            b'.' => return self.one_more_of_any(input, last, choice),
            ESCAPE => &CLASSES[usize::from(input.pattern(item + 1))],
            b'[' => {
                set = self.sets.get(input.pattern, item, &mut input.left)?.0;
                &set
            }
            literal => {
                let mut bytes = Bytes::NONE;
                bytes.insert(literal);
                set = bytes;
                &set
            }
        };
        if !input.subject.get(s).is_some_and(|byte| item.contains(*byte)) {
            self.choices.truncate(last);
            return Ok(None);
        }
        self.choices.get_mut(last).point.s = s + 1;
        Ok(Some(s + 1))
    }

    #[inline]
    fn one_more_of_any(
        &mut self,
        input: &mut Input<'_>,
        last: usize,
        choice: &Choice,
    ) -> Result<Option<usize>, PatternError> {
        let s = choice.point.s + 1;
        if s > input.subject.len() {
            self.choices.truncate(last);
            return Ok(None);
        }
        let first = self.followers.get(&mut self.sets, input, last, choice.point.p)?;
        let s = match first {
            First::Unknown | First::Anything => s,
            First::End => input.subject.len(),
            first => {
                let bytes_per_step = first.bytes_per_step();
                let bytes = input.affordable(s, bytes_per_step);
                let place = first.find(bytes);
                let passed = place.unwrap_or(bytes.len());
                input.pay(passed, bytes_per_step);
                if place.is_none() {
                    if s + passed >= input.subject.len() {
                        self.choices.truncate(last);
                    } else {
                        self.choices.get_mut(last).point.s = s + passed - 1;
                    }
                    return Ok(None);
                }
                s + passed
            }
        };
        self.choices.get_mut(last).point.s = s;
        Ok(Some(s))
    }
}

/// Splits the `^` off a pattern. Returns whether there is one.
pub(super) fn split_anchor(pattern: &[u8]) -> (&[u8], bool) {
    match pattern.strip_prefix(b"^") {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    }
}
