//! How problems are shown: to people, with the lines that they are about, and to programs as JSON.

use std::fmt::{self, Write as _};
use std::ops::Range;

use frame_registry::text::{escape, is_printable};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};
use serde_json::{Value as Json, json};

use super::problem::{DRAWN, Problem, Problems, Severity, SourceFile};

/// How problems are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// In ASCII, without colour: for files, and where colour is not wanted.
    #[default]
    Plain,
    /// With lines and colours: for a terminal.
    Terminal,
}

/// How wide messages are before they go on in the next line.
const WIDTH: usize = 110;

/// Draws the first [`DRAWN`] problems.
pub(crate) fn render(problems: &Problems, look: Look) -> String {
    let theme = match look {
        Look::Plain => GraphicalTheme::none(),
        Look::Terminal => GraphicalTheme::unicode(),
    };
    // The position is in the name: here it is counted in characters, and there in bytes.
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).without_primary_span_start();
    let mut report = String::new();
    for (index, problem) in problems.iter().take(DRAWN).enumerate() {
        if index > 0 {
            report.push('\n');
        }
        let drawn = Drawn::new(problem);
        if handler.render_report(&mut report, &drawn).is_err() {
            // Without its line, then.
            report.push_str(&drawn.to_string());
        }
    }
    match problems.count().saturating_sub(DRAWN) {
        0 => (),
        // Writing to a string cannot fail.
        more => _ = writeln!(report, "\nand {more} more"),
    }
    report
}

/// Returns the problems that are kept as a list of objects.
pub(crate) fn to_json_list(problems: &Problems) -> Json {
    let list = problems.iter().map(|problem| {
        let Problem { message, file, span, label, related, help, severity: _ } = problem;
        let related = related.iter().map(|(span, label)| place(problem, span, Some(label)));
        let mut json = place(problem, span, label.as_ref());
        json["file"] = json!(file.name);
        json["message"] = json!(message);
        json["help"] = json!(help);
        json["related"] = related.collect();
        json
    });
    list.collect()
}

/// How much of the text at a place is in a report for programs, in bytes.
const QUOTED: usize = 200;

fn place(problem: &Problem, span: &std::ops::Range<usize>, label: Option<&String>) -> Json {
    let (line, column) = problem.file.position(span.start);
    let text = problem.file.text.get(span.clone());
    json!({
        "line": line,
        "column": column,
        "offset": span.start,
        "length": span.len(),
        "text": text.map(|text| &text[..text.floor_char_boundary(QUOTED)]),
        "label": label,
    })
}

/// A problem, as the library wants it.
#[derive(Debug)]
struct Drawn {
    message: String,
    source: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
    severity: Severity,
}

impl Drawn {
    fn new(problem: &Problem) -> Self {
        let Problem { message, file, span, label, related, help, severity } = problem;
        let severity = *severity;
        let (line, column) = file.position(span.start);
        let name = escape(&format!("{}:{line}:{column}", file.name)).into_owned();
        // In one line: a name or a script's message must not pass for another problem.
        let message = escape(message).into_owned();
        let help = help.as_deref().map(|help| escape(help).into_owned());
        // Of a file that could not be read there is nothing to show.
        if file.text.is_empty() {
            let message = format!("{name}: {message}");
            return Self { message, source: None, labels: Vec::new(), help, severity };
        }
        let places: Vec<_> = std::iter::once(span).chain(related.iter().map(|(span, _)| span)).collect();
        let (source, places) = Excerpt::new(file, name, &places);
        let label = label.as_deref();
        let labels = std::iter::once(label).chain(related.iter().map(|(_, label)| Some(label.as_str())));
        let labels = labels.zip(places).enumerate().map(|(index, (label, place))| {
            let label = label.map(|label| escape(label).into_owned());
            let place = (place.start, place.len());
            match index {
                0 => LabeledSpan::new_primary_with_span(label, place),
                _ => LabeledSpan::new_with_span(label, place),
            }
        });
        let labels = labels.collect();
        Self { message, source: Some(source), labels, help, severity }
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawn {}

impl Diagnostic for Drawn {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// How many lines of a place that has many are drawn.
const LINES: usize = 8;
/// Lines up to this length, in bytes, are drawn whole.
const WHOLE: usize = 200;
/// How much of a longer line is drawn before a place in it, and from there on.
const BEFORE: usize = 40;
const AFTER: usize = 80;
/// Two places with so few lines between them are drawn together with these.
const BETWEEN: usize = 3;
/// What is drawn for the parts of a line that are left out.
const LEFT_OUT: char = '…';

/// Some lines of a file. Its size depends on how many places are shown, and not on the file.
#[derive(Debug)]
struct Excerpt {
    /// What the file is called, with the position.
    name: String,
    text: String,
    blocks: Vec<Block>,
    pieces: Vec<Piece>,
}

/// Lines that follow each other.
#[derive(Debug)]
struct Block {
    /// Where they are in the text of the excerpt.
    range: Range<usize>,
    /// The number of the first, counted from 0.
    line: usize,
}

/// A part of the file that is in the excerpt as it is.
#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    /// Where it is in the text of the excerpt.
    start: usize,
}

impl Excerpt {
    /// The lines around places of a file, and where these are in it.
    fn new(file: &SourceFile, name: String, places: &[&Range<usize>]) -> (Self, Vec<Range<usize>>) {
        let places: Vec<_> = places.iter().map(|place| first_lines(file, place)).collect();
        let mut excerpt = Self { name, text: String::new(), blocks: Vec::new(), pieces: Vec::new() };
        for lines in around(file, &places) {
            let start = excerpt.text.len();
            let line = *lines.start();
            for line in lines {
                excerpt.push_line(file, file.line_range(line), &places);
            }
            excerpt.blocks.push(Block { range: start..excerpt.text.len(), line });
        }
        let shown = places.iter().map(|place| {
            let start = excerpt.find(place.start);
            start..excerpt.find(place.end).max(start)
        });
        let shown = shown.collect();
        (excerpt, shown)
    }

    fn push_line(&mut self, file: &SourceFile, line: Range<usize>, places: &[Range<usize>]) {
        if line.len() <= WHOLE {
            self.push(file, line);
            self.text.push('\n');
            return;
        }
        let ends = places.iter().flat_map(|place| [place.start, place.end]);
        let mut points: Vec<_> = ends.filter(|end| line.start <= *end && *end <= line.end).collect();
        if points.is_empty() {
            points.push(line.start);
        }
        points.sort_unstable();
        let mut drawn = line.start;
        for point in points {
            let from = file.text.floor_char_boundary(point.saturating_sub(BEFORE)).max(drawn);
            let to = file.text.ceil_char_boundary(point + AFTER).min(line.end);
            if to <= from {
                continue;
            }
            if from > drawn {
                self.text.push(LEFT_OUT);
            }
            self.push(file, from..to);
            drawn = to;
        }
        if drawn < line.end {
            self.text.push(LEFT_OUT);
        }
        self.text.push('\n');
    }

    fn push(&mut self, file: &SourceFile, range: Range<usize>) {
        self.pieces.push(Piece { range: range.clone(), start: self.text.len() });
        self.text.extend(file.text[range].chars().map(shown));
    }

    /// Where a byte of the file is in the excerpt, or what is before it.
    fn find(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.range.start <= offset);
        let Some(piece) = self.pieces[..after].last() else { return 0 };
        piece.start + offset.min(piece.range.end) - piece.range.start
    }
}

/// A place without what is after its first lines.
fn first_lines(file: &SourceFile, place: &Range<usize>) -> Range<usize> {
    let last = file.line_of(place.start) + LINES - 1;
    let end = if last < file.line_count() { file.line_range(last).end } else { file.text.len() };
    place.start..place.end.min(end)
}

/// The lines of places, each with its neighbours: those that are near each other together, in order.
fn around(file: &SourceFile, places: &[Range<usize>]) -> Vec<std::ops::RangeInclusive<usize>> {
    // Nothing is drawn of the empty line after the last, unless it is the place.
    let last = file.line_count() - if file.text.ends_with('\n') { 2 } else { 1 };
    let mut blocks: Vec<_> = places
        .iter()
        .map(|place| {
            let (first, end) = (file.line_of(place.start), file.line_of(place.end));
            first.saturating_sub(1)..=(end + 1).min(last).max(end)
        })
        .collect();
    blocks.sort_by_key(|lines| *lines.start());
    blocks.dedup_by(|next, lines| {
        let is_near = *next.start() <= lines.end() + BETWEEN;
        if is_near {
            *lines = *lines.start()..=*lines.end().max(next.end());
        }
        is_near
    });
    blocks
}

/// What is drawn for a character: something that takes as many bytes, so that places stay the same.
fn shown(character: char) -> char {
    match character {
        '\t' => character,
        // Only where the line ends, or the library would count one more.
        '\r' => ' ',
        other if is_printable(other) => other,
        other => match other.len_utf8() {
            1 => '?',
            2 => '¿',
            3 => '\u{fffd}',
            _ => '🛇',
        },
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let is_in = |block: &&Block| block.range.contains(&span.offset());
        let block = self.blocks.iter().find(is_in).ok_or(MietteError::OutOfBounds)?;
        // A span over two blocks is not in either.
        let text = &self.text[block.range.clone()];
        let within = SourceSpan::from((span.offset() - block.range.start, span.len()));
        let contents = text.read_span(&within, before, after)?;
        let read = contents.span();
        let start = read.offset() + block.range.start;
        let data = &self.text.as_bytes()[start..start + read.len()];
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            data,
            SourceSpan::from((start, read.len())),
            contents.line() + block.line,
            contents.column(),
            contents.line_count(),
        )))
    }
}
