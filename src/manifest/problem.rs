//! What is wrong with a manifest, and where.

use std::fmt;
use std::ops::Range;
use std::slice;
use std::sync::{Arc, OnceLock};

use frame_registry::text::{escape, shorten};
use serde_json::{Value as Json, json};

use super::report::{self, Look};

/// A file that problems are in: the manifest, or a script that it names.
#[derive(Debug)]
pub struct SourceFile {
    /// What it is called in reports: its path, as it was given.
    pub name: String,
    /// Its text, to be shown. That of a manifest has `*` for whatever may be a secret, as many bytes of them.
    pub text: Arc<str>,
    /// Built when the first position is asked for.
    lines: OnceLock<LineIndex>,
}

/// Where the lines of a text begin, and how many characters are before each block of [`BLOCK`] bytes. With it a position
/// takes the same time wherever it is, also where all of the text is one line.
#[derive(Debug)]
struct LineIndex {
    starts: Vec<usize>,
    characters_before: Vec<usize>,
}

/// How many bytes are counted one by one at most.
const BLOCK: usize = 256;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub file: Arc<SourceFile>,
    /// The bytes of the file that it is about; an empty range is a place.
    pub span: Range<usize>,
    /// What to say right there, if not the message.
    pub label: Option<String>,
    /// Other places in the file that it is about, and what to say there.
    pub related: Box<[(Range<usize>, String)]>,
    /// What would be right.
    pub help: Option<Box<str>>,
    /// Whether an app is refused for it.
    pub severity: Severity,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// The app does not run.
    #[default]
    Error,
    /// The app runs, and a part of the manifest has no effect.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// How many problems are shown to people. Who has corrected these sees the next.
pub(crate) const DRAWN: usize = 100;

/// What is wrong, in the order in which it is to be read. There is at least one problem.
///
/// At most [`MOST`](Self::MOST) problems are kept. The others are counted.
#[derive(Debug, Clone)]
pub struct Problems {
    kept: Vec<Problem>,
    omitted: usize,
}

impl SourceFile {
    /// A file of this text.
    ///
    /// ```
    /// # use frame_runtime::manifest::SourceFile;
    /// let file = SourceFile::new("greet.lua", "return 1\nreturn ü");
    /// assert_eq!(file.position(16), (2, 8));
    /// ```
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into(), lines: OnceLock::new() }
    }

    /// The line that a byte is in, and which character it is there, both counted from 1.
    ///
    /// The first call reads the whole text; further calls take about as long as a binary search among its lines.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let column = self.characters_before(offset) - self.characters_before(self.lines().starts[line]);
        (line + 1, column + 1)
    }

    /// The line that a byte is in, counted from 0.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        // The first line begins at 0.
        self.lines().starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// How many lines there are. The last may be empty.
    pub(crate) fn line_count(&self) -> usize {
        self.lines().starts.len()
    }

    /// The bytes of a line, counted from 0, without its end. It has to be there.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let starts = &self.lines().starts;
        let end = starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        starts[line]..end
    }

    /// The bytes of a line, counted from 1, without what is blank around it.
    fn line(&self, number: usize) -> Option<Range<usize>> {
        let line = number.checked_sub(1).filter(|&line| line < self.line_count())?;
        let range = self.line_range(line);
        let trimmed = self.text[range.clone()].trim_start();
        let start = range.end - trimmed.len();
        Some(start..start + trimmed.trim_end().len())
    }

    fn characters_before(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        let start = self.text.floor_char_boundary(block * BLOCK);
        self.lines().characters_before[block] + self.text[start..offset].chars().count()
    }

    fn lines(&self) -> &LineIndex {
        self.lines.get_or_init(|| {
            let newlines = self.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
            let starts = std::iter::once(0).chain(newlines.map(|(newline, _)| newline + 1)).collect();
            let mut characters_before = vec![0];
            let (mut counted, mut start) = (0, 0);
            for block in 1..=self.text.len() / BLOCK {
                let end = self.text.floor_char_boundary(block * BLOCK);
                counted += self.text[start..end].chars().count();
                characters_before.push(counted);
                start = end;
            }
            LineIndex { starts, characters_before }
        })
    }
}

impl Problem {
    /// A problem with this place. The message is cut after 2 000 bytes: what it quotes may be as long as the file.
    pub fn new(file: &Arc<SourceFile>, span: Range<usize>, message: impl fmt::Display) -> Self {
        let file = Arc::clone(file);
        let span = within(&file.text, span);
        let (message, severity) = (clipped(message), Severity::Error);
        Self { message, file, span, label: None, related: Box::default(), help: None, severity }
    }

    /// A problem that Lua has with a script: `message` is as in [`LuaError::Syntax`], with the name of the chunk and the
    /// line before what is wrong.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use frame_runtime::manifest::{Problem, SourceFile};
    /// let script = Arc::new(SourceFile::new("greet.lua", "local x = 1\nlocal y == 2\n"));
    /// let problem = Problem::of_script(&script, "greet.lua:2: unexpected symbol near '=='");
    /// assert_eq!((&script.text[problem.span.clone()], &*problem.message), ("==", "unexpected symbol near '=='"));
    /// ```
    ///
    /// [`LuaError::Syntax`]: frame_dispatch::lua::LuaError::Syntax
    pub fn of_script(file: &Arc<SourceFile>, message: &str) -> Self {
        let at_line = message.match_indices(':').find_map(|(colon, _)| {
            let (number, what) = message[colon + 1..].split_once(':')?;
            Some((file.line(number.parse().ok()?)?, what.trim()))
        });
        let Some((line, what)) = at_line else { return Self::new(file, 0..0, message) };
        let near = what.rsplit_once(" near ").map(|(_, token)| token);
        let span = match near {
            Some("<eof>") => file.text.len()..file.text.len(),
            Some(token) => token_in(&file.text, &line, token.trim_matches('\'')).unwrap_or(line),
            None => line,
        };
        Self::new(file, span, what)
    }

    /// The same, with what to say at the place.
    #[must_use]
    pub fn with_label(self, label: impl fmt::Display) -> Self {
        Self { label: Some(clipped(label)), ..self }
    }

    /// The same, with another place that it is about, and what to say there.
    #[must_use]
    pub fn with_related(mut self, span: Range<usize>, label: impl fmt::Display) -> Self {
        let span = within(&self.file.text, span);
        let mut related = self.related.into_vec();
        related.push((span, clipped(label)));
        self.related = related.into();
        self
    }

    /// The same, as a warning.
    #[must_use]
    pub fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same, with what would be right.
    #[must_use]
    pub fn with_help(self, help: impl fmt::Display) -> Self {
        Self { help: Some(clipped(help).into()), ..self }
    }
}

/// The longest text of a problem, in bytes. All that there are settings to list is shorter.
const LONGEST_TEXT: usize = 2000;

fn clipped(text: impl fmt::Display) -> String {
    shorten(&text.to_string(), LONGEST_TEXT).into_owned()
}

/// Where a token is, if it is just once in a line.
fn token_in(text: &str, line: &Range<usize>, token: &str) -> Option<Range<usize>> {
    let mut found = text[line.clone()].match_indices(token);
    let (start, _) = found.next().filter(|_| !token.is_empty())?;
    found.next().is_none().then(|| line.start + start..line.start + start + token.len())
}

/// The span, with both ends in the text and between characters.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    start..text.ceil_char_boundary(span.end.clamp(start, text.len()))
}

impl Problems {
    /// How many problems are kept: enough to correct a file, whatever its size.
    pub const MOST: usize = 1000;

    /// Problems in this order.
    pub fn new(problems: impl IntoIterator<Item = Problem>) -> Self {
        Self::with_omitted(problems, 0)
    }

    /// Problems in this order, and how many more there were.
    fn with_omitted(problems: impl IntoIterator<Item = Problem>, omitted: usize) -> Self {
        let mut problems = problems.into_iter();
        let kept: Vec<_> = problems.by_ref().take(Self::MOST).collect();
        Self { kept, omitted: problems.count().saturating_add(omitted) }
    }

    /// Puts problems in the order of their places: those in the file called `first` come before those in others. What is
    /// said twice is said once.
    pub(crate) fn sorted(mut problems: Vec<Problem>, omitted: usize, first: &str) -> Self {
        problems.sort_by(|left, right| order(left, first).cmp(&order(right, first)));
        problems.dedup_by(|left, right| order(left, first) == order(right, first));
        Self::with_omitted(problems, omitted)
    }

    /// Adds a problem after the others.
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.kept.len() < Self::MOST {
            self.kept.push(problem);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// Adds problems after the others.
    pub(crate) fn append(&mut self, others: Self) {
        self.omitted = self.omitted.saturating_add(others.omitted);
        others.kept.into_iter().for_each(|problem| self.push(problem));
    }

    /// The first problem.
    pub fn first(&self) -> Option<&Problem> {
        self.kept.first()
    }

    /// The problems that are kept.
    pub fn iter(&self) -> slice::Iter<'_, Problem> {
        self.kept.iter()
    }

    /// How many problems there are beside those that are kept.
    pub const fn omitted(&self) -> usize {
        self.omitted
    }

    /// How many problems there are in all.
    pub const fn count(&self) -> usize {
        self.kept.len().saturating_add(self.omitted)
    }

    pub(crate) fn into_parts(self) -> (Vec<Problem>, usize) {
        (self.kept, self.omitted)
    }

    /// The first 100 problems, each with its line of the file, and how many more there are.
    ///
    /// Of a line that is long, only what is around the problem is shown. So the report has a bound that does not depend on the size of
    /// the file.
    ///
    /// ```
    /// # use std::path::Path;
    /// # use frame_runtime::manifest::{Look, Manifest};
    /// let reading = Manifest::parse("app.toml", "[hosts.\"app:main\"]\nmailbox = 0\n", Path::new("."));
    /// let problems = reading.into_result().unwrap_err();
    /// assert_eq!(problems.render(Look::Plain), "  x `mailbox` is out of range
    ///    ,-[app.toml:2:11]
    ///  1 | [hosts.\"app:main\"]
    ///  2 | mailbox = 0
    ///    :           |
    ///    :           `-- it has to be at least 1
    ///    `----
    /// ");
    /// ```
    pub fn render(&self, look: Look) -> String {
        report::render(self, look)
    }

    /// The problems that are kept, as the member `problems` of an object, and how many more there are as the member `omitted`.
    ///
    /// A problem has its `file`; `line` and `column`, counted in characters from 1; `offset` and `length`, in bytes; the first
    /// 200 bytes of the `text` there; a `message`; and `label`, `help` and `related` places, which may be null or empty.
    pub fn to_json(&self) -> Json {
        json!({ "problems": self.to_json_list(), "omitted": self.omitted() })
    }

    /// The list of that object.
    fn to_json_list(&self) -> Json {
        report::to_json_list(self)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { kept: vec![problem], omitted: 0 }
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn order<'a>(problem: &'a Problem, first: &str) -> impl Ord + use<'a> {
    let Problem { file, span, message, .. } = problem;
    (file.name != first, &*file.name, span.start, span.end, &**message)
}

/// A line for each of the first 100, as compilers write it: `file:line:column: message`; and how many more there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.kept.iter().take(DRAWN).enumerate() {
            let (line, column) = problem.file.position(problem.span.start);
            let separator = if index == 0 { "" } else { "\n" };
            let (name, message) = (escape(&problem.file.name), escape(&problem.message));
            write!(f, "{separator}{name}:{line}:{column}: {message}")?;
            if let Some(label) = &problem.label {
                write!(f, " ({})", escape(label))?;
            }
            if let Some(help) = &problem.help {
                write!(f, "; {}", escape(help))?;
            }
        }
        match self.count().saturating_sub(DRAWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}
