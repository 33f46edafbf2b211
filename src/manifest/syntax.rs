//! From text to tables with spans, and what is wrong with the text as TOML.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, Error};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::problem::{Problem, Problems, SourceFile};
use super::secret;

/// A manifest as TOML.
pub(super) struct Syntax<'t> {
    pub(super) document: DeTable<'t>,
    /// The text, as it can be shown.
    pub(super) file: Arc<SourceFile>,
    pub(super) problems: Vec<Problem>,
    /// How many problems there are beside these.
    pub(super) omitted: usize,
    /// Whether all of it was read. Otherwise something may be missing only because it is behind a mistake.
    pub(super) is_whole: bool,
}

impl<'t> Syntax<'t> {
    pub(super) fn parse(name: &str, text: &'t str) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let document = document.into_inner();
        let is_whole = errors.iter().all(is_duplicate);
        let file = Arc::new(SourceFile::new(name, secret::redacted(text, &document, is_whole)));
        let mut searches = SEARCHED / text.len().max(1);
        let problems = errors.iter().take(Problems::MOST).map(|error| {
            let span = error.span().unwrap_or(0..0);
            if is_duplicate(error) {
                let first = first_of(text, &span, errors.len(), &mut searches);
                return duplicate(&file, span, first);
            }
            match error.message().split_once(", expected ") {
                Some((wrong, expected)) => {
                    Problem::new(&file, span, wrong).with_help(format_args!("TOML has here: {expected}"))
                }
                None => Problem::new(&file, span, error.message()),
            }
        });
        let problems = problems.collect();
        let omitted = errors.len().saturating_sub(Problems::MOST);
        Self { document, file, problems, omitted, is_whole }
    }
}

/// How many brackets, braces and dots a manifest may have outside of strings and comments. Each makes at most one table or list,
/// which takes some kilobytes while a manifest is read: 1 MiB of `[a.a.a.a]` would take gigabytes.
pub(super) const MOST_BRACKETS: usize = 100_000;

/// Where a text has more brackets, braces and dots than a manifest may have. The parser reads the same tokens.
pub(super) fn too_many_tables(text: &str) -> Option<usize> {
    let makes_one = |kind: TokenKind| {
        matches!(kind, TokenKind::Dot | TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket)
    };
    let mut tokens = Source::new(text).lex().filter(|token| makes_one(token.kind()));
    tokens.nth(MOST_BRACKETS).map(|token| token.span().start())
}

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}

fn duplicate(file: &Arc<SourceFile>, span: Range<usize>, first: Option<Range<usize>>) -> Problem {
    let key = file.text.get(span.clone()).unwrap_or_default();
    let problem = Problem::new(file, span, format_args!("`{key}` is there twice"))
        .with_label("again")
        .with_help("take one of them out, or give it another name");
    match first {
        Some(first) => problem.with_related(first, "first"),
        None => problem,
    }
}

/// How many bytes are read to find the first of equal keys: each place where it may be takes reading all again.
const SEARCHED: usize = 8 << 20;

/// At how many places the first of two equal keys is looked for.
const PLACES: usize = 16;

/// The first of two equal keys, of which the parser names the second only: the one without which there is no error.
fn first_of(text: &str, second: &Range<usize>, errors: usize, searches: &mut usize) -> Option<Range<usize>> {
    if *searches == 0 {
        return None;
    }
    let key = text.get(second.clone()).filter(|key| !key.is_empty())?;
    let is_in_key =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-\"'".contains(byte));
    let places = text[..second.start].rmatch_indices(key).map(|(start, _)| start..start + key.len());
    let mut places = places.filter(|place| {
        let before = place.start.checked_sub(1).and_then(|at| text.as_bytes().get(at));
        !is_in_key(before) && !is_in_key(text.as_bytes().get(place.end))
    });
    places.by_ref().take(PLACES).find(|place| {
        let Some(left) = searches.checked_sub(1) else { return false };
        *searches = left;
        let other = format!("{}{}{}", &text[..place.start], "Z".repeat(key.len()), &text[place.end..]);
        let (_, left) = DeTable::parse_recoverable(&other);
        left.len() < errors && !left.iter().any(|error| error.span().as_ref() == Some(second))
    })
}
