//! What of the string library is done here, because Lua's own could take forever.

use std::sync::Arc;

use mlua::{IntoLua, Lua, MultiValue, Table, Value};

use super::convert::Shared;
use super::fault::OUT_OF_MEMORY;
use super::hook;
use super::pattern::{Capture, Found, Matcher, PatternError, Steps, find_plain, is_plain};

const UNFINISHED: &str = "unfinished capture";

/// What is longer than this takes so long to make that a look is taken before.
const LONG: usize = 64 << 10;

// What they are given.
type Find = (mlua::String, mlua::String, Option<i64>, bool);
type Search = (mlua::String, mlua::String, usize, usize, bool, bool);
type Gsub = (mlua::String, mlua::String, mlua::String, Option<i64>);
type Rep = (mlua::String, i64, Option<mlua::String>);

/// Puts them into the table of natives.
pub(super) fn install(lua: &Lua, natives: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let this = Arc::clone(shared);
    let find = lua.create_function(move |lua, (subject, pattern, from, is_plain): Find| {
        find(lua, &this, (&subject.as_bytes(), &pattern.as_bytes()), from, is_plain)
    })?;
    natives.raw_set("find", find)?;

    let this = Arc::clone(shared);
    let matches = lua.create_function(move |lua, (subject, pattern, from, _): Find| {
        match_(lua, &this, &subject.as_bytes(), &pattern.as_bytes(), from)
    })?;
    natives.raw_set("match", matches)?;

    // Checks what `gmatch` was given, and gives where it begins.
    let start = lua.create_function(|_, (subject, _, from, _): Find| {
        let length = subject.as_bytes().len();
        Ok(start_of(from, length).map_or(length + 2, |start| start + 1))
    })?;
    natives.raw_set("start", start)?;

    let this = Arc::clone(shared);
    let search =
        lua.create_function(move |lua, (subject, pattern, from, last, anchors, is_first_enough): Search| {
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            let (pattern, is_anchored) = if anchors { anchored(&pattern) } else { (&*pattern, false) };
            let found = this.matched(&subject, |steps| {
                Matcher::new(&subject, pattern, steps).find(from - 1, last.checked_sub(1), is_anchored)
            })?;
            let Some(found) = found else { return Ok(MultiValue::new()) };
            let captures = if is_first_enough { 1 } else { usize::MAX };
            place_and(lua, &subject, &found, found.captured().take(captures))
        })?;
    natives.raw_set("search", search)?;

    let this = Arc::clone(shared);
    let gsub = lua.create_function(move |lua, (subject, pattern, replacement, limit): Gsub| {
        let (bytes, limit) = (subject.as_bytes(), limit.map(|limit| usize::try_from(limit).unwrap_or(0)));
        let (result, count) = gsub(lua, &this, &bytes, &pattern.as_bytes(), &replacement.as_bytes(), limit)?;
        if result.len() > LONG {
            hook::alert(lua);
        }
        let result = if count == 0 { subject.clone() } else { lua.create_string(result)? };
        Ok((result, count))
    })?;
    natives.raw_set("gsub", gsub)?;

    let this = Arc::clone(shared);
    let rep = lua.create_function(move |lua, (text, count, separator): Rep| {
        rep(lua, &this, &text, count, separator.as_ref())
    })?;
    natives.raw_set("rep", rep)
}

impl Shared {
    fn matched<T>(
        &self,
        subject: &[u8],
        matching: impl FnOnce(&mut Steps<'_>) -> Result<T, PatternError>,
    ) -> mlua::Result<T> {
        let look = || self.watch.check();
        matching(&mut Steps::for_subject(subject.len(), &look)).map_err(raised)
    }
}

fn raised(error: PatternError) -> mlua::Error {
    match error {
        PatternError::Over(error) => error,
        other => mlua::Error::runtime(other.to_string()),
    }
}

/// Where to begin, from 0, of a position from 1, which counts from the end where it is negative.
fn start_of(from: Option<i64>, length: usize) -> Option<usize> {
    let start = match from.unwrap_or(1) {
        0 => 0,
        from if from > 0 => usize::try_from(from - 1).unwrap_or(usize::MAX),
        from => length.saturating_sub(usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    (start <= length).then_some(start)
}

fn anchored(pattern: &[u8]) -> (&[u8], bool) {
    match pattern.strip_prefix(b"^") {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    }
}

fn capture(lua: &Lua, subject: &[u8], capture: Capture) -> mlua::Result<Value> {
    match capture {
        Capture::Bytes(start, end) => lua.create_string(&subject[start..end]).map(Value::String),
        Capture::Position(position) => position.into_lua(lua),
        Capture::Unfinished => Err(mlua::Error::runtime(UNFINISHED)),
    }
}

fn place_and(
    lua: &Lua,
    subject: &[u8],
    found: &Found,
    captures: impl Iterator<Item = Capture>,
) -> mlua::Result<MultiValue> {
    let mut values = MultiValue::with_capacity(2 + found.captures.len().max(1));
    values.push_back((found.start + 1).into_lua(lua)?);
    values.push_back(found.end.into_lua(lua)?);
    for captured in captures {
        values.push_back(capture(lua, subject, captured)?);
    }
    Ok(values)
}

fn none() -> MultiValue {
    [Value::Nil].into_iter().collect()
}

fn find(
    lua: &Lua,
    shared: &Shared,
    (subject, pattern): (&[u8], &[u8]),
    from: Option<i64>,
    plainly: bool,
) -> mlua::Result<MultiValue> {
    let Some(start) = start_of(from, subject.len()) else { return Ok(none()) };
    if plainly || is_plain(pattern) {
        let start = shared.matched(subject, |steps| find_plain(subject, pattern, start, steps))?;
        return match start {
            None => Ok(none()),
            Some(start) => [(start + 1).into_lua(lua)?, (start + pattern.len()).into_lua(lua)?]
                .into_iter()
                .map(Ok)
                .collect(),
        };
    }
    let (pattern, is_anchored) = anchored(pattern);
    let found = shared
        .matched(subject, |steps| Matcher::new(subject, pattern, steps).find(start, None, is_anchored))?;
    found.map_or_else(|| Ok(none()), |found| place_and(lua, subject, &found, found.captures.iter().copied()))
}

fn match_(
    lua: &Lua,
    shared: &Shared,
    subject: &[u8],
    pattern: &[u8],
    from: Option<i64>,
) -> mlua::Result<MultiValue> {
    let Some(start) = start_of(from, subject.len()) else { return Ok(none()) };
    let (pattern, is_anchored) = anchored(pattern);
    let found = shared
        .matched(subject, |steps| Matcher::new(subject, pattern, steps).find(start, None, is_anchored))?;
    match found {
        None => Ok(none()),
        Some(found) => found.captured().map(|captured| capture(lua, subject, captured)).collect(),
    }
}

fn too_large() -> mlua::Error {
    mlua::Error::runtime("resulting string too large")
}

fn gsub(
    lua: &Lua,
    shared: &Shared,
    subject: &[u8],
    pattern: &[u8],
    replacement: &[u8],
    limit: Option<usize>,
) -> mlua::Result<(Vec<u8>, usize)> {
    let room = shared.room(lua)?;
    let (pattern, is_anchored) = anchored(pattern);
    let limit = limit.unwrap_or(subject.len() + 1);
    shared.matched(subject, |steps| {
        let mut matcher = Matcher::new(subject, pattern, steps);
        let mut result = Output { bytes: Vec::new(), room };
        let (mut count, mut copied, mut last) = (0, 0, None);
        while count < limit {
            let Some(found) = matcher.find(copied, last, is_anchored)? else { break };
            let steps = matcher.steps();
            result.push(&subject[copied..found.start], steps)?;
            substitute(&mut result, subject, replacement, &found, steps)?;
            (copied, last) = (found.end, Some(found.end));
            count += 1;
            if is_anchored {
                break;
            }
        }
        if count > 0 {
            result.push(&subject[copied..], matcher.steps())?;
        }
        Ok((result.bytes, count))
    })
}

/// A result in the making.
struct Output {
    bytes: Vec<u8>,
    /// How long it may become.
    room: usize,
}

impl Output {
    /// Appends a part, which takes steps also where that is empty: a replacement may have many.
    fn push(&mut self, part: &[u8], steps: &mut Steps<'_>) -> Result<(), PatternError> {
        steps.take(u32::try_from(1 + part.len() / 64).unwrap_or(u32::MAX))?;
        if part.len() > self.room - self.bytes.len() {
            return Err(PatternError::Over(mlua::Error::MemoryError(OUT_OF_MEMORY.to_owned())));
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

/// Appends a replacement, whose `%1` are captures.
fn substitute(
    result: &mut Output,
    subject: &[u8],
    replacement: &[u8],
    found: &Found,
    steps: &mut Steps<'_>,
) -> Result<(), PatternError> {
    let mut rest = replacement;
    while let Some(place) = rest.iter().position(|byte| *byte == b'%') {
        result.push(&rest[..place], steps)?;
        match rest.get(place + 1) {
            Some(b'%') => result.push(b"%", steps)?,
            Some(b'0') => result.push(&subject[found.start..found.end], steps)?,
            Some(digit @ b'1'..=b'9') => match found.capture(usize::from(digit - b'1')) {
                Some(Capture::Bytes(start, end)) => result.push(&subject[start..end], steps)?,
                Some(Capture::Position(position)) => {
                    result.push(position.to_string().as_bytes(), steps)?;
                }
                Some(Capture::Unfinished) => return Err(PatternError::Malformed(UNFINISHED.to_owned())),
                None => {
                    let number = digit - b'0';
                    let message = format!("invalid capture index %{number}");
                    return Err(PatternError::Malformed(message));
                }
            },
            _ => {
                let message = "invalid use of '%' in replacement string";
                return Err(PatternError::Malformed(message.to_owned()));
            }
        }
        rest = &rest[place + 2..];
    }
    result.push(rest, steps)
}

fn rep(
    lua: &Lua,
    shared: &Shared,
    text: &mlua::String,
    count: i64,
    separator: Option<&mlua::String>,
) -> mlua::Result<mlua::String> {
    let text = text.as_bytes();
    let separator = separator.map(mlua::String::as_bytes);
    let separator: &[u8] = separator.as_deref().unwrap_or_default();
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 || text.len() + separator.len() == 0 {
        return lua.create_string("");
    }
    let length = (text.len() + separator.len()).checked_mul(count).ok_or_else(too_large)? - separator.len();
    if length > shared.memory {
        return Err(too_large());
    } else if length > shared.room(lua)? {
        return Err(mlua::Error::MemoryError(OUT_OF_MEMORY.to_owned()));
    }
    if length > LONG {
        shared.watch.check()?;
    }
    let unit = [separator, &text].concat();
    let mut result = Vec::with_capacity(length + unit.len());
    result.extend_from_slice(&text);
    // The whole is made of ever larger parts.
    if result.len() < length {
        let start = result.len();
        result.extend_from_slice(&unit);
        while result.len() < length {
            let part = (result.len() - start).min(length - result.len());
            result.extend_from_within(start..start + part);
        }
    }
    if length > LONG {
        hook::alert(lua);
    }
    lua.create_string(&result)
}
