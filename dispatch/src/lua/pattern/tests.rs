//! The matcher, compared with plain Lua.

use std::fmt::Write;

use fastrand::Rng;
use mlua::{Function, Lua, LuaOptions, StdLib};

use super::*;

/// How often a random pattern and subject are compared.
const ROUNDS: usize = 60_000;
const NO_LIMIT: u64 = u64::MAX;

/// Runs `find`, `match`, `gmatch` and `gsub` in plain Lua and writes down what they return or raise.
const PLAIN_LUA: &str = r##"
    local find, match, gmatch, gsub, rep = string.find, string.match, string.gmatch, string.gsub, string.rep
    local select, pcall, concat = select, pcall, table.concat
    local out, n

    local function add(...)
      for i = 1, select("#", ...) do
        local value = select(i, ...)
        n = n + 1
        if value == nil then out[n] = "nil" else out[n] = value end
      end
    end

    local function returned(ok, ...)
      if ok then add(...) else add("error", (gsub(..., "^all:%d+: ", ""))) end
      add("\n")
    end

    local s, p, init, replacement

    local function all()
      local i = 0
      for a, b, c in gmatch(s, p, init) do
        add(a, b, c, ";")
        i = i + 1
        if i == 20 then break end
      end
    end

    return function(...)
      s, p, init, replacement = ...
      out, n = {}, 0
      returned(pcall(find, s, p, init))
      returned(pcall(match, s, p, init))
      returned(pcall(all))
      returned(pcall(gsub, s, p, replacement))
      returned(pcall(gsub, s, p, "<%1>", 2))
      return concat(out, "|")
    end
"##;

/// Plain Lua with [`PLAIN_LUA`].
struct PlainLua {
    lua: Lua,
    all: Function,
}

impl PlainLua {
    fn new() -> Self {
        let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE, LuaOptions::new()).unwrap();
        let all = lua.load(PLAIN_LUA).set_name("=all").call(()).unwrap();
        Self { lua, all }
    }

    fn all(&self, subject: &[u8], pattern: &[u8], from: usize, replacement: &[u8]) -> mlua::LuaString {
        let [subject, pattern, replacement] =
            [subject, pattern, replacement].map(|bytes| self.lua.create_string(bytes).unwrap());
        self.all.call((subject, pattern, from + 1, replacement)).unwrap()
    }
}

/// The same as [`PLAIN_LUA`], with the matcher.
struct Ours<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    /// The most steps that a call is given.
    steps: Option<u64>,
    rng: Rng,
    pauses: usize,
    out: Vec<u8>,
}

impl<'a> Ours<'a> {
    fn new(subject: &'a [u8], pattern: &'a [u8], steps: Option<u64>) -> Self {
        Self { subject, pattern, steps, rng: Rng::with_seed(1), pauses: 0, out: Vec::new() }
    }

    fn add(&mut self, value: impl AsRef<[u8]>) {
        if !self.out.is_empty() {
            self.out.push(b'|');
        }
        self.out.extend_from_slice(value.as_ref());
    }

    fn add_all(&mut self, values: &[Vec<u8>]) {
        for value in values {
            self.add(value);
        }
    }

    fn end(&mut self, result: Result<(), PatternError>) {
        if let Err(error) = result {
            self.add("error");
            self.add(error.message());
        }
        self.add("\n");
    }

    fn search(&mut self, matcher: &mut Matcher, pattern: &[u8]) -> Result<bool, PatternError> {
        loop {
            let mut steps = self.steps.map_or(NO_LIMIT, |most| self.rng.u64(1..=most));
            match matcher.resume(self.subject, pattern, &mut steps)? {
                Progress::Found => return Ok(true),
                Progress::None => return Ok(false),
                Progress::Paused => {
                    assert_eq!(steps, 0, "it pauses when the steps are used up");
                    self.pauses += 1;
                }
            }
        }
    }

    fn value(&self, capture: Capture) -> Result<Vec<u8>, PatternError> {
        match capture {
            Capture::Bytes(start, end) => Ok(self.subject[start..end].to_vec()),
            Capture::Position(position) => Ok(position.to_string().into_bytes()),
            Capture::Unfinished => Err(PatternError::UNFINISHED_CAPTURE),
        }
    }

    fn values(&self, matcher: &Matcher, count: usize) -> Result<Vec<Vec<u8>>, PatternError> {
        (0..count).map(|index| self.value(matcher.capture(index).unwrap())).collect()
    }

    fn find(&mut self, from: usize) -> Result<(), PatternError> {
        let (pattern, is_anchored) = split_anchor(self.pattern);
        let mut matcher = Matcher::new(from, is_anchored);
        let (start, end) = if is_plain(self.pattern) {
            let mut search = PlainSearch::new(from);
            let mut progress = Progress::Paused;
            while progress == Progress::Paused {
                progress = search.resume(self.subject, self.pattern, &mut self.steps.unwrap_or(NO_LIMIT));
            }
            if progress == Progress::None {
                self.add("nil");
                return Ok(());
            }
            (search.start(), search.start() + self.pattern.len())
        } else if self.search(&mut matcher, pattern)? {
            (matcher.start(), matcher.end())
        } else {
            self.add("nil");
            return Ok(());
        };
        let values = self.values(&matcher, matcher.captures())?;
        self.add((start + 1).to_string());
        self.add(end.to_string());
        self.add_all(&values);
        Ok(())
    }

    fn match_(&mut self, from: usize) -> Result<(), PatternError> {
        let (pattern, is_anchored) = split_anchor(self.pattern);
        let mut matcher = Matcher::new(from, is_anchored);
        if !self.search(&mut matcher, pattern)? {
            self.add("nil");
            return Ok(());
        }
        let values = self.values(&matcher, matcher.captures().max(1))?;
        self.add_all(&values);
        Ok(())
    }

    fn gmatch(&mut self, from: usize) -> Result<(), PatternError> {
        let mut matcher = Matcher::new(from, false);
        for _ in 0..20 {
            if !self.search(&mut matcher, self.pattern)? {
                break;
            }
            let mut values = self.values(&matcher, matcher.captures().max(1))?;
            values.resize(3, b"nil".to_vec());
            self.add_all(&values);
            self.add(";");
            matcher.advance();
        }
        Ok(())
    }

    fn gsub(&mut self, replacement: &[u8], limit: usize) -> Result<(), PatternError> {
        let (pattern, is_anchored) = split_anchor(self.pattern);
        let mut matcher = Matcher::new(0, is_anchored);
        let (mut result, mut count, mut copied) = (Vec::new(), 0, 0);
        while count < limit && self.search(&mut matcher, pattern)? {
            result.extend_from_slice(&self.subject[copied..matcher.start()]);
            let mut bytes = replacement.iter();
            while let Some(byte) = bytes.next() {
                match (byte, bytes.as_slice().first()) {
                    (b'%', Some(b'%')) => result.push(b'%'),
                    (b'%', Some(b'0')) => {
                        result.extend_from_slice(&self.subject[matcher.start()..matcher.end()]);
                    }
                    (b'%', Some(digit @ b'1'..=b'9')) => {
                        let capture = matcher
                            .capture(usize::from(digit - b'1'))
                            .ok_or(PatternError::invalid_capture_index(digit - b'0'))?;
                        result.extend_from_slice(&self.value(capture)?);
                    }
                    (b'%', _) => return Err(PatternError::INVALID_REPLACEMENT),
                    (byte, _) => {
                        result.push(*byte);
                        continue;
                    }
                }
                bytes.next();
            }
            copied = matcher.end();
            count += 1;
            if is_anchored {
                break;
            }
            matcher.advance();
        }
        result.extend_from_slice(&self.subject[copied..]);
        self.add(result);
        self.add(count.to_string());
        Ok(())
    }

    fn all(mut self, from: usize, replacement: &[u8]) -> (Vec<u8>, usize) {
        let found = self.find(from);
        self.end(found);
        let found = self.match_(from);
        self.end(found);
        let found = self.gmatch(from);
        self.end(found);
        let found = self.gsub(replacement, usize::MAX);
        self.end(found);
        let found = self.gsub(b"<%1>", 2);
        self.end(found);
        (self.out, self.pauses)
    }
}

/// Makes patterns, many of which are malformed, and subjects that some of them match.
struct Cases(Rng);

impl Cases {
    const ITEMS: [&'static str; 33] = [
        "a", "b", "c", "x", "a", "b", ".", ".", "%a", "%d", "%s", "%w", "%S", "%p", "%.", "%%", "[ab]",
        "[^a]", "[a-c]", "[^%a]", "[]]", "[^]a]", "[%a-]", "[a-%%]", "[%w_]", "%bab", "%b()", "%f[a]",
        "%f[^a]", "%f[%w]", "()", "$", "^",
    ];
    /// Those that are malformed, or are if nothing is captured before.
    const ODD_ITEMS: [&'static str; 10] = ["%1", "%2", "%0", "%b", "%f", "%z", "[b-a]", "[", "%", ")"];
    const SUFFIXES: [&'static str; 9] = ["", "", "", "", "*", "+", "-", "?", "*"];
    const BYTES: &'static [u8] = b"aaaabbbc (()1.]%\0\xff-";

    fn item(&mut self, pattern: &mut String) {
        let is_odd = self.0.u8(..12) == 0;
        let items = if is_odd { &Self::ODD_ITEMS[..] } else { &Self::ITEMS };
        pattern.push_str(self.0.choice(items).unwrap());
        pattern.push_str(self.0.choice(Self::SUFFIXES).unwrap());
    }

    fn pattern(&mut self) -> Vec<u8> {
        let mut pattern = String::new();
        if self.0.u8(..6) == 0 {
            pattern.push('^');
        }
        let mut open = 0;
        for _ in 0..self.0.u8(1..6) {
            match self.0.u8(..12) {
                0 | 1 => {
                    pattern.push('(');
                    open += 1;
                    self.item(&mut pattern);
                }
                2 if open == 0 => {
                    pattern.push('(');
                    self.item(&mut pattern);
                    pattern.push_str(")%1");
                }
                _ if open > 0 && self.0.bool() => {
                    self.item(&mut pattern);
                    pattern.push(')');
                    open -= 1;
                }
                _ => self.item(&mut pattern),
            }
        }
        // Mostly, all of them are closed.
        while open > 0 && self.0.u8(..16) > 0 {
            pattern.push(')');
            open -= 1;
        }
        if self.0.u8(..8) == 0 {
            pattern.push('$');
        }
        let mut pattern = pattern.into_bytes();
        if self.0.u8(..50) == 0 {
            pattern.push(self.0.u8(..));
        }
        pattern
    }

    fn subject(&mut self) -> Vec<u8> {
        let mut subject = Vec::new();
        for _ in 0..self.0.u8(..10) {
            let byte = *self.0.choice(Self::BYTES).unwrap();
            // Some are longer than what a single step pays for.
            let count = if self.0.u8(..30) == 0 { self.0.usize(..50) } else { self.0.usize(1..3) };
            subject.resize(subject.len() + count, byte);
        }
        subject
    }

    fn replacement(&mut self) -> &'static [u8] {
        self.0.choice([&b"[%0]"[..], b"%1", b"%2%1", b"x", b"%%", b"", b"%", b"%x", b"a%9"]).unwrap()
    }
}

fn shown(case: (&[u8], &[u8], usize, &[u8])) -> String {
    let (subject, pattern, from, replacement) = case;
    let mut text = String::new();
    write!(text, "{:?}, {:?}", subject.escape_ascii().to_string(), pattern.escape_ascii().to_string())
        .unwrap();
    write!(text, ", from {from}, {:?}", replacement.escape_ascii().to_string()).unwrap();
    text
}

#[test]
fn random_patterns_match_as_in_plain_lua_however_often_they_are_paused() {
    let plain_lua = PlainLua::new();
    let mut cases = Cases(Rng::with_seed(0x1ab5));
    let (mut matches, mut errors, mut pauses) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let (pattern, subject, replacement) = (cases.pattern(), cases.subject(), cases.replacement());
        let from = cases.0.usize(..=subject.len().min(2));
        let case = shown((&subject, &pattern, from, replacement));
        let expected = plain_lua.all(&subject, &pattern, from, replacement);
        let expected = &*expected.as_bytes();
        let (ours, _) = Ours::new(&subject, &pattern, None).all(from, replacement);
        assert_eq!(ours.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{case}");
        let steps = cases.0.u64(1..=5);
        let (ours, count) = Ours::new(&subject, &pattern, Some(steps)).all(from, replacement);
        assert_eq!(
            ours.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{steps} steps: {case}"
        );
        pauses += count;
        errors += usize::from(expected.starts_with(b"error"));
        matches += usize::from(!expected.starts_with(b"error") && !expected.starts_with(b"nil"));
    }
    // They are worth comparing.
    assert!(matches > ROUNDS / 6 && errors > ROUNDS / 20 && pauses > ROUNDS, "{matches} {errors} {pauses}");
}

/// Returns where a needle is, searched with so many steps per call.
fn plain_search(subject: &[u8], needle: &[u8], from: usize, steps: u64) -> Option<usize> {
    let mut search = PlainSearch::new(from);
    for _ in 0..100 * (subject.len() + needle.len() + 100) {
        match search.resume(subject, needle, &mut steps.clone()) {
            Progress::Found => return Some(search.start()),
            Progress::None => return None,
            Progress::Paused => {}
        }
    }
    panic!("the search does not get on");
}

#[test]
fn long_needles_are_found_where_they_first_are() {
    let mut rng = Rng::with_seed(7);
    for round in 0..300 {
        // Few different bytes and repeated parts, so that needles nearly match, also with themselves.
        let unit: Vec<u8> = (0..rng.usize(1..2000)).map(|_| rng.u8(b'a'..=b'b')).collect();
        let mut needle: Vec<u8> = unit.iter().copied().cycle().take(rng.usize(4097..9000)).collect();
        if rng.bool() {
            let place = rng.usize(..needle.len());
            needle[place] = b'c';
        }
        let mut subject: Vec<u8> =
            unit.iter().copied().cycle().skip(rng.usize(..unit.len())).take(rng.usize(..20_000)).collect();
        if rng.bool() {
            subject.extend_from_slice(&needle[..rng.usize(..needle.len())]);
            subject.extend_from_slice(&needle);
        }
        subject.extend_from_slice(&unit);
        let from = rng.usize(..=subject.len().min(100));
        let expected = memchr::memmem::find(&subject[from..], &needle).map(|place| from + place);
        for steps in [1000, u64::MAX, rng.u64(1..50)] {
            assert_eq!(
                plain_search(&subject, &needle, from, steps),
                expected,
                "round {round}, {steps} steps"
            );
        }
    }
}

#[test]
fn long_needles_take_linear_work() {
    const LENGTH: usize = 1 << 20;
    let all_same = vec![b'a'; 2 * LENGTH];
    let mut first_differs = vec![b'a'; LENGTH];
    first_differs[0] = b'b';
    let mut last_differs = vec![b'a'; LENGTH];
    last_differs[LENGTH - 1] = b'b';
    let mut middle_differs = vec![b'a'; LENGTH];
    middle_differs[LENGTH / 2] = b'b';
    for needle in [first_differs, last_differs, middle_differs] {
        let mut left = u64::MAX;
        assert_eq!(PlainSearch::new(0).resume(&all_same, &needle, &mut left), Progress::None);
        let most = 2 * all_same.len() as u64;
        assert!(u64::MAX - left < most, "it takes {} steps", u64::MAX - left);
    }
}

#[test]
fn patterns_are_too_complex_where_they_are_in_plain_lua() {
    let plain_lua = PlainLua::new();
    let subject = [b'x'; 300];
    let items = ["x?", "x-", "x*", "()", "(x)", "(x", ".-y?", "[xy]*x?", "x%f[x]?"];
    for item in items {
        // Each item takes one or two calls of `do_match`, of which there may be 200.
        for count in (1..=40).chain(95..105).chain(195..205) {
            for end in ["", "y", "$"] {
                // Else, to backtrack through all of them takes forever.
                if !end.is_empty() && item.ends_with(['-', '*', '+', '?']) && (item != "x?" || count < 200) {
                    continue;
                }
                let pattern = item.repeat(count) + end;
                let expected = plain_lua.all(&subject, pattern.as_bytes(), 0, b"%0");
                let (ours, _) = Ours::new(&subject, pattern.as_bytes(), None).all(0, b"%0");
                assert_eq!(
                    ours.escape_ascii().to_string(),
                    expected.as_bytes().escape_ascii().to_string(),
                    "{pattern}"
                );
            }
        }
    }
}

#[test]
fn a_matcher_is_small_and_has_no_destructor() {
    assert!(size_of::<Matcher>() < 8 << 10, "{}", size_of::<Matcher>());
    assert!(!std::mem::needs_drop::<Matcher>() && !std::mem::needs_drop::<PatternError>());
}

/// A pause comes after work in proportion to the steps, also in the middle of an item.
#[test]
fn a_long_item_is_paused() {
    let subject = [vec![b'('; 100_000], vec![b'x'; 100_000]].concat();
    for pattern in [".*y", "x*y", ".-y", "%b()", "y", "[yz]", "(%(*)(x*)%1", "%s*()%(+", "[^y]-y"] {
        let mut matcher = Matcher::new(0, false);
        let mut pauses = 0;
        while matcher.resume(&subject, pattern.as_bytes(), &mut 100).unwrap() == Progress::Paused
            && pauses < 1000
        {
            pauses += 1;
        }
        assert!(pauses >= 15, "{pattern} is paused {pauses} times");
    }
}
