//! What is wrong with a manifest, and where.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A file that problems are in: the manifest, or a script that it names.
#[derive(Debug)]
pub struct SourceFile {
    /// What it is called in reports: its path, as it was given.
    pub name: String,
    /// Its text, to be shown. That of a manifest has `*` for whatever may be a secret, as many bytes of them.
    pub text: String,
}

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
    pub related: Vec<(Range<usize>, String)>,
    /// What would be right.
    pub help: Option<String>,
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

/// All that is wrong, in the order in which it is to be read. There is at least one.
#[derive(Debug, Clone)]
pub struct Problems(pub Vec<Problem>);

impl SourceFile {
    /// A file of this text.
    ///
    /// ```
    /// # use frame_runtime::manifest::SourceFile;
    /// let file = SourceFile::new("greet.lua", "return 1\nreturn ü");
    /// assert_eq!(file.position(16), (2, 8));
    /// ```
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The line that a byte is in, and which character it is there, both counted from 1.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.rfind('\n').map_or(before, |newline| &before[newline + 1..]);
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    /// The bytes of a line, counted from 1, without what is blank around it.
    fn line(&self, number: usize) -> Option<Range<usize>> {
        let line = self.text.lines().nth(number.checked_sub(1)?)?;
        let trimmed = line.trim();
        let start = trimmed.as_ptr() as usize - self.text.as_ptr() as usize;
        Some(start..start + trimmed.len())
    }
}

impl Problem {
    /// A problem with this place.
    pub fn new(file: &Arc<SourceFile>, span: Range<usize>, message: impl fmt::Display) -> Self {
        let file = Arc::clone(file);
        let span = within(&file.text, span);
        let (message, severity) = (message.to_string(), Severity::Error);
        Self { message, file, span, label: None, related: Vec::new(), help: None, severity }
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
        Self { label: Some(label.to_string()), ..self }
    }

    /// The same, with another place that it is about, and what to say there.
    #[must_use]
    pub fn with_related(mut self, span: Range<usize>, label: impl fmt::Display) -> Self {
        let span = within(&self.file.text, span);
        self.related.push((span, label.to_string()));
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
        Self { help: Some(help.to_string()), ..self }
    }
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
    /// Puts problems in the order of their places: those in the file called `first` come before those in others. What is
    /// said twice is said once.
    pub(crate) fn sorted(mut problems: Vec<Problem>, first: &str) -> Self {
        problems.sort_by(|left, right| order(left, first).cmp(&order(right, first)));
        problems.dedup_by(|left, right| order(left, first) == order(right, first));
        Self(problems)
    }
}

fn order<'a>(problem: &'a Problem, first: &str) -> impl Ord + use<'a> {
    let Problem { file, span, message, .. } = problem;
    (file.name != first, &*file.name, span.start, span.end, &**message)
}

/// A line for each, as compilers write it: `file:line:column: message`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let (line, column) = problem.file.position(problem.span.start);
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}:{column}: {}", problem.file.name, problem.message)?;
            if let Some(label) = &problem.label {
                write!(f, " ({label})")?;
            }
            if let Some(help) = &problem.help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
