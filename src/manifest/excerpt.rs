//! The lines of a file that a problem is about, as they are drawn: few of them, and of a long line what is around the problem.

use std::ops::Range;

use frame_dispatch::printable::is_printable;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::problem::SourceFile;

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
pub(super) struct Excerpt {
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
    pub(super) fn new(
        file: &SourceFile,
        name: String,
        places: &[&Range<usize>],
    ) -> (Self, Vec<Range<usize>>) {
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
