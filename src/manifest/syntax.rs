//! From text to TOML with spans: what is not valid TOML, and the text with secrets hidden, as reports show it.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue, Error};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::problem::{Problem, Problems, SourceFile};

/// The sections that there are.
pub(crate) const SECTIONS: &[&str] = &[
    "app",
    "clearnet",
    "networks",
    "limits",
    "http",
    "secrets",
    "fs",
    "audit",
    "telemetry",
    "functions",
    "hosts",
    "processes",
    "supervisors",
    #[cfg(feature = "wasm")]
    "wasm",
];

/// A manifest as TOML.
pub(crate) struct Syntax<'t> {
    pub(crate) document: DeTable<'t>,
    /// The text, as it can be shown.
    pub(crate) file: Arc<SourceFile>,
    pub(crate) problems: Vec<Problem>,
    /// How many problems there are beside these.
    pub(crate) omitted: usize,
    /// Whether all of it was read. Otherwise something may be missing only because it is behind a mistake.
    pub(crate) is_whole: bool,
}

impl<'t> Syntax<'t> {
    pub(crate) fn parse(name: &str, text: &'t str) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let document = document.into_inner();
        let is_whole = errors.iter().all(is_duplicate);
        let file = Arc::new(SourceFile::new(name, redacted(text, &document, is_whole)));
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
pub(crate) const MOST_BRACKETS: usize = 100_000;

/// Where a text has more brackets, braces and dots than a manifest may have. The parser reads the same tokens.
pub(crate) fn too_many_tables(text: &str) -> Option<usize> {
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

/// The text of a manifest as it can be shown: as long, and with the same lines. `is_whole` is whether all of it was read.
fn redacted(text: &str, document: &DeTable<'_>, is_whole: bool) -> String {
    let mut secrets = Vec::new();
    in_document(document, &mut secrets);
    in_lines(text, is_whole, &mut secrets);
    secrets.sort_by_key(|span: &Range<usize>| span.start);
    let mut names = Vec::new();
    if is_whole {
        setting_names(text, document, &mut names);
    }
    names.sort_by_key(|span: &Range<usize>| span.start);
    let mut names = names.into_iter().peekable();
    let mut shown = String::with_capacity(text.len());
    let mut secrets = secrets.into_iter().peekable();
    let mut hidden_until = 0;
    for (offset, character) in text.char_indices() {
        while let Some(span) = secrets.next_if(|span| span.start <= offset) {
            hidden_until = hidden_until.max(span.end);
        }
        while names.next_if(|name| name.end <= offset).is_some() {}
        let is_name = names.peek().is_some_and(|name| name.contains(&offset));
        let is_hidden = offset < hidden_until && !is_name && !"\r\n".contains(character);
        shown.push(if is_hidden { star(character) } else { character });
    }
    shown
}

/// What to show for a character: something that takes as many bytes.
fn star(hidden: char) -> char {
    match hidden.len_utf8() {
        1 => '*',
        2 => '×',
        3 => '⁕',
        _ => '🞯',
    }
}

/// Which members of a section are no secret. Those of a section that nobody knows may belong to another, misspelt.
fn harmless_members(section: &str) -> Option<&'static [&'static str]> {
    match section {
        "networks" => Some(&["kind"]),
        // A key may stand in the place of a variable or in a template by mistake.
        "secrets" => Some(&["file", "header", "hosts"]),
        "telemetry" => Some(&["otlp"]),
        known if SECTIONS.contains(&known) => None,
        _ => Some(&[]),
    }
}

fn in_document(document: &DeTable<'_>, secrets: &mut Vec<Range<usize>>) {
    for (section, value) in document {
        pem(value.get_ref(), value.span(), secrets);
        if let ("http", DeValue::Table(settings)) = (&**section.get_ref(), value.get_ref()) {
            let headers = settings.iter().filter(|(name, _)| is_about_headers(name.get_ref()));
            headers.for_each(|(_, value)| values(value.get_ref(), value.span(), &[], secrets));
        }
        let Some(harmless) = harmless_members(section.get_ref()) else { continue };
        match value.get_ref() {
            DeValue::Table(members) if matches!(&**section.get_ref(), "networks" | "secrets") => {
                members
                    .values()
                    .for_each(|member| values(member.get_ref(), member.span(), harmless, secrets));
            }
            section => values(section, value.span(), harmless, secrets),
        }
    }
}

/// Whether a member of `[http]` is about headers, or a line of it: the default headers may have tokens, and a name that is
/// misspelt, or a header that is in the wrong place.
fn is_about_headers(text: &str) -> bool {
    const WORDS: [&str; 6] = ["header", "auth", "cookie", "password", "secret", "token"];
    // The only other settings with such a word.
    let text = text.to_ascii_lowercase().replace("max_response_head", "");
    WORDS.iter().any(|word| text.contains(word))
}

/// Keys in PEM, wherever they are by mistake: settings name files.
fn pem(value: &DeValue<'_>, span: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => {
            table.values().for_each(|value| pem(value.get_ref(), value.span(), secrets));
        }
        DeValue::Array(array) => array.iter().for_each(|value| pem(value.get_ref(), value.span(), secrets)),
        DeValue::String(text) if text.contains("-----BEGIN") => secrets.push(span),
        _ => {}
    }
}

/// All values but those of `harmless` members right there.
fn values(value: &DeValue<'_>, span: Range<usize>, harmless: &[&str], secrets: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => {
            for (name, value) in table {
                let is_shown = is_text(value.get_ref());
                if !(is_shown && harmless.contains(&&**name.get_ref())) {
                    values(value.get_ref(), value.span(), &[], secrets);
                }
            }
        }
        DeValue::Array(array) => {
            array.iter().for_each(|value| values(value.get_ref(), value.span(), &[], secrets));
        }
        _ => secrets.push(span),
    }
}

/// Whether a value is text, or a list of texts, that can be shown.
fn is_text(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => is_harmless(text),
        DeValue::Array(array) => {
            array.iter().all(|text| matches!(text.get_ref(), DeValue::String(text) if is_harmless(text)))
        }
        _ => false,
    }
}

/// The names of all settings in sections with secrets.
fn setting_names(text: &str, document: &DeTable<'_>, names: &mut Vec<Range<usize>>) {
    for (section, value) in document {
        if harmless_members(section.get_ref()).is_some() || section.get_ref() == "http" {
            names_in(text, value.get_ref(), names);
        }
    }
}

fn names_in(text: &str, value: &DeValue<'_>, names: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => {
            for (name, value) in table {
                names.extend(
                    Some(name.span()).filter(|span| text.get(span.clone()).is_some_and(is_setting_name)),
                );
                names_in(text, value.get_ref(), names);
            }
        }
        DeValue::Array(array) => array.iter().for_each(|value| names_in(text, value.get_ref(), names)),
        _ => {}
    }
}

/// Whether a key can be the name of a setting, and is too short and plain for a secret in the wrong place.
fn is_setting_name(key: &str) -> bool {
    const LONGEST: usize = 32;
    let name = key.trim_matches(['"', '\'']);
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    name.len() <= LONGEST && name.chars().all(is_in_name)
}

/// Whether what a harmless member says is so, too: a URL can have a password or a token in it.
fn is_harmless(value: &str) -> bool {
    !value.contains(['@', '?', '\\'])
}

fn in_lines(text: &str, is_whole: bool, secrets: &mut Vec<Range<usize>>) {
    // What is before the first header was read as well, if all was.
    let mut harmless: Option<&[&str]> = if is_whole { None } else { Some(&[]) };
    let mut is_http = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if let Some(section) = section_of(line).or_else(|| broken_section(line).filter(|_| !is_whole)) {
            harmless = harmless_members(section);
            is_http = section == "http";
            // In text that was not parsed, it is unknown where the headers begin and end.
            if is_http && (!is_whole || is_about_headers(line)) {
                harmless = Some(&[]);
            }
            // Of a URL that is not read as a whole nobody knows whether it has a password in it.
            if !is_whole && section == "telemetry" {
                harmless = Some(&[]);
            }
            secrets.extend(line.find('#').filter(|_| harmless.is_some()).map(|comment| start + comment..end));
        } else {
            // What was meant as a header may be of a section with secrets.
            let is_broken =
                !line.contains('=') && line.contains(['[', ']']) || line.trim_start().starts_with('[');
            if !is_whole && harmless.is_none() && is_broken {
                harmless = Some(&[]);
            }
            let harmless = if is_http && is_about_headers(line) { Some(&[][..]) } else { harmless };
            secrets.extend(harmless.map(|harmless| start + public_part(line, harmless)..end));
        }
        start = end;
    }
}

/// The section that a line was meant to be the header of, if it begins as one of a section that there is, such as `[functions."app:a"`.
fn broken_section(line: &str) -> Option<&'static str> {
    let inner = line.trim().strip_prefix('[')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    let name = &inner[..inner.find(|character| !is_in_name(character)).unwrap_or(inner.len())];
    let section = SECTIONS.iter().find(|section| **section == name).copied()?;
    // The rest is an id, and not a list or a value.
    (!inner.contains([',', '=', ' '])).then_some(section)
}

/// The section that a line is the header of, or of a part of. An element of a list that goes over several lines can look
/// much the same, so the name has to be one without quotes, and there is nothing behind the brackets but a comment.
fn section_of(line: &str) -> Option<&str> {
    let code = line.split_once('#').map_or(line, |(code, _)| code).trim();
    let inner = code.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner).trim_start();
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    let (section, rest) =
        inner.split_at(inner.find(|character| !is_in_name(character)).unwrap_or(inner.len()));
    let is_header = section.starts_with(|first: char| first.is_ascii_alphabetic())
        && !rest.contains(',')
        && (rest.is_empty() || rest.trim_start().starts_with(['.', ']']));
    is_header.then_some(section)
}

/// Whether the left side of `name =` is the name of a setting, whose value is missing. Padding of Base64 has no blank before it.
fn is_lone_name(name: &str) -> bool {
    const LONGEST: usize = 32;
    let word = name.trim();
    let is_in_name = |character: char| character.is_ascii_lowercase() || character == '_';
    name.ends_with(' ') && !word.is_empty() && word.len() <= LONGEST && word.chars().all(is_in_name)
}

/// How much of a line with something secret can be shown: the name of the setting, or all up to a comment.
fn public_part(line: &str, harmless: &[&str]) -> usize {
    let Some((name, value)) = line.split_once('=') else { return 0 };
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || "_-. \t".contains(character);
    if value.trim().is_empty() && is_lone_name(name) {
        return line.len();
    }
    // Base64 in a string of several lines may end like this.
    if !name.chars().all(is_in_name) || value.trim_matches(['=', '"', '\'', ',']).trim().is_empty() {
        return 0;
    }
    if harmless.contains(&name.trim()) && is_harmless(value) {
        return line.find('#').unwrap_or(line.len());
    }
    name.len() + 1
}
