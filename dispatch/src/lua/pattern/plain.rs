//! The search for a string, which can be paused.

use memchr::{memchr, memmem};

use super::{BYTES_PER_STEP, Progress, VECTOR_BYTES_PER_STEP};

/// Returns whether a pattern has no special characters, so that it matches only itself.
pub(crate) fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// The search for a string, the needle, in a subject.
///
/// It takes linear time. A short needle is left to [`memmem`], piece by piece, which prepares for the needle in each. A
/// long needle takes too long for that: its search is the two-way algorithm of Crochemore and Perrin, as in the standard
/// library, with all of its state kept here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainSearch {
    start: usize,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    /// The maximal suffix for the first order of bytes is looked for.
    Rising(Suffix),
    /// That for the opposite order is, after the first was found.
    Falling {
        rising: Suffix,
        falling: Suffix,
    },
    /// Whether the part before `critical` repeats after `period` is looked at, and so far it does.
    Repeats {
        critical: usize,
        period: usize,
        same: usize,
    },
    /// The subject is searched.
    Search(Window),
}

/// The maximal suffix of a needle, or the best so far.
#[derive(Debug, Clone, Copy)]
struct Suffix {
    start: usize,
    period: usize,
    /// The suffix that it is compared with.
    other: usize,
    /// How many of their bytes are the same.
    same: usize,
}

impl Suffix {
    const NEW: Self = Self { start: 0, period: 1, other: 1, same: 0 };

    /// Compares two bytes. Returns whether the suffix is the maximal one.
    #[inline]
    fn advance(&mut self, needle: &[u8], is_falling: bool) -> bool {
        let Some(&other) = needle.get(self.other + self.same) else { return true };
        let best = needle[self.start + self.same];
        if other == best {
            self.same += 1;
            if self.same == self.period {
                self.other += self.same;
                self.same = 0;
            }
        } else if (other < best) != is_falling {
            self.other += self.same + 1;
            self.same = 0;
            self.period = self.other - self.start;
        } else {
            *self = Self { start: self.other, period: 1, other: self.other + 1, same: 0 };
        }
        false
    }
}

/// The needle at one place of the subject.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Where the needle is split: its right part is compared first, from left to right.
    critical: usize,
    /// How far the window moves if only the left part differs.
    period: usize,
    is_periodic: bool,
    /// How much of the needle is known to match, as it did before the window was moved by a period.
    known: usize,
    /// The end of what is compared; the right part is the same up to here.
    right: usize,
    /// The left part is the same from here on.
    left: usize,
}

impl Window {
    fn new(needle: &[u8], critical: usize, period: usize, is_periodic: bool) -> Self {
        let period = if is_periodic { period } else { critical.max(needle.len() - critical) + 1 };
        Self { critical, period, is_periodic, known: 0, right: critical, left: critical }
    }

    /// Sets what is compared after the window was moved.
    fn moved(&mut self, known: usize) {
        self.known = known;
        self.right = self.critical.max(known);
        self.left = self.critical;
    }
}

/// Returns where the needle is first. In a short piece, looking for its first byte is faster than what a searcher takes to be
/// made.
fn find(piece: &[u8], needle: &[u8]) -> Option<usize> {
    const SHORT: usize = 256;
    let Some((first, rest)) = needle.split_first().filter(|_| piece.len() <= SHORT) else {
        return memmem::find(piece, needle);
    };
    let mut start = 0;
    loop {
        start += memchr(*first, &piece[start..])? + 1;
        if piece[start..].starts_with(rest) {
            return Some(start - 1);
        }
    }
}

impl PlainSearch {
    /// The longest needle that is prepared for again and again.
    const LONG: usize = 4 << 10;
    /// The most that is searched at once.
    const PIECE: usize = 1 << 20;

    /// Creates a search for the first place at `from` or after it, which is at most the length of the subject.
    pub(crate) const fn new(from: usize) -> Self {
        Self { start: from, state: State::New }
    }

    /// Returns the index of the first byte of the match.
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    /// Searches until the needle is found, it is known not to be there, or there is no step left. Takes the steps that
    /// were needed off `steps`.
    ///
    /// All calls for one search are given the same subject and the same needle.
    pub(crate) fn resume(&mut self, subject: &[u8], needle: &[u8], steps: &mut u64) -> Progress {
        if needle.len() <= Self::LONG {
            self.resume_short(subject, needle, steps)
        } else {
            self.resume_long(subject, needle, steps)
        }
    }

    fn resume_short(&mut self, subject: &[u8], needle: &[u8], steps: &mut u64) -> Progress {
        loop {
            let rest = &subject[self.start..];
            if needle.len() > rest.len() {
                return Progress::None;
            }
            if *steps == 0 {
                return Progress::Paused;
            }
            let affordable = usize::try_from(*steps).unwrap_or(usize::MAX);
            let starts = affordable.saturating_mul(VECTOR_BYTES_PER_STEP).min(Self::PIECE).max(needle.len());
            let piece = &rest[..rest.len().min(starts + needle.len())];
            let place = find(piece, needle);
            let searched =
                place.unwrap_or(piece.len()) / VECTOR_BYTES_PER_STEP + needle.len() / BYTES_PER_STEP;
            *steps = steps.saturating_sub(1 + searched as u64);
            if let Some(place) = place {
                self.start += place;
                return Progress::Found;
            }
            self.start += piece.len() - needle.len() + 1;
        }
    }

    fn resume_long(&mut self, subject: &[u8], needle: &[u8], steps: &mut u64) -> Progress {
        loop {
            if needle.len() > subject.len() - self.start {
                return Progress::None;
            }
            if *steps == 0 {
                return Progress::Paused;
            }
            let mut bytes = usize::try_from(*steps).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_STEP);
            let affordable = bytes;
            let is_found = self.advance(subject, needle, &mut bytes);
            *steps = steps.saturating_sub(1 + ((affordable - bytes) / BYTES_PER_STEP) as u64);
            if is_found {
                return Progress::Found;
            }
        }
    }

    /// Continues for so many bytes, or until there is another state or another window.
    fn advance(&mut self, subject: &[u8], needle: &[u8], bytes: &mut usize) -> bool {
        match &mut self.state {
            State::New => self.state = State::Rising(Suffix::NEW),
            State::Rising(suffix) => {
                while *bytes > 0 {
                    *bytes -= 1;
                    if suffix.advance(needle, false) {
                        self.state = State::Falling { rising: *suffix, falling: Suffix::NEW };
                        break;
                    }
                }
            }
            State::Falling { rising, falling } => {
                while *bytes > 0 {
                    *bytes -= 1;
                    if falling.advance(needle, true) {
                        let suffix = if rising.start > falling.start { rising } else { falling };
                        let (critical, period) = (suffix.start, suffix.period);
                        self.state = State::Repeats { critical, period, same: 0 };
                        break;
                    }
                }
            }
            State::Repeats { critical, period, same } => {
                let length = (*critical - *same).min(*bytes);
                *bytes -= length;
                let repeated = needle.get(*period + *same..*period + *same + length);
                let is_same = repeated == Some(&needle[*same..*same + length]);
                *same += length;
                if !is_same || same == critical {
                    self.state = State::Search(Window::new(needle, *critical, *period, is_same));
                }
            }
            State::Search(window) => return Self::compare(window, &mut self.start, subject, needle, bytes),
        }
        false
    }

    /// Compares the needle with the window at `start` and moves that on if they differ. Returns whether they are the same.
    fn compare(
        window: &mut Window,
        start: &mut usize,
        subject: &[u8],
        needle: &[u8],
        bytes: &mut usize,
    ) -> bool {
        if window.known == 0 && window.right == window.critical {
            // Windows whose first byte of the right part differs are passed by.
            let last = subject.len() - needle.len() + window.critical;
            let firsts = &subject[*start + window.critical..=last];
            let firsts = &firsts[..firsts.len().min(bytes.saturating_mul(BYTES_PER_STEP))];
            let place = memchr(needle[window.critical], firsts);
            let passed = place.unwrap_or(firsts.len());
            *start += passed;
            *bytes -= passed.div_ceil(BYTES_PER_STEP).min(*bytes);
            if place.is_none() {
                return false;
            }
        }
        let place = &subject[*start..*start + needle.len()];
        let length = (needle.len() - window.right).min(*bytes);
        let rights = needle[window.right..].iter().zip(&place[window.right..]).take(length);
        let same = rights.take_while(|(a, b)| a == b).count();
        *bytes -= same;
        window.right += same;
        if same < length {
            *bytes -= 1;
            *start += window.right - window.critical + 1;
            window.moved(0);
            return false;
        } else if window.right < needle.len() {
            return false;
        }
        let length = window.left.saturating_sub(window.known).min(*bytes);
        let lefts = needle[..window.left].iter().rev().zip(place[..window.left].iter().rev()).take(length);
        let same = lefts.take_while(|(a, b)| a == b).count();
        *bytes -= same;
        window.left -= same;
        if same < length {
            *bytes -= 1;
            *start += window.period;
            window.moved(if window.is_periodic { needle.len() - window.period } else { 0 });
            return false;
        }
        window.left <= window.known
    }
}
