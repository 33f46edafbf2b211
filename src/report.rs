//! How things are shown to people.
//!
//! Whatever is printed here is coloured on a terminal only, and not where `NO_COLOR` is set; `CLICOLOR_FORCE` colours
//! it anywhere. That is [`anstream`]'s rule, and clap's.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use frame_registry::text::{escape, escape_json, is_printable};
use frame_registry::{ResolveError, ResolveErrorKind};

use crate::telemetry::output::{self, Importance};

/// An error with its causes, the outermost first.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::once(error).chain(causes(error)).filter_map(shown);
    errors.collect::<Vec<_>>().join(": ")
}

/// What caused an error, the nearest first.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// An error without what is for those who wrote the program, such as a place in its source. Returns none if the cause says all.
pub(crate) fn shown(error: &(dyn Error + 'static)) -> Option<String> {
    let Some(error) = error.downcast_ref::<ResolveError>() else { return Some(error.to_string()) };
    match error.kind() {
        ResolveErrorKind::Failed { resolver, source, .. } => {
            let says_what = source.to_string().contains(&format!("`{resolver}`"));
            (!says_what).then(|| format!("`{resolver}` is refused"))
        }
        ResolveErrorKind::NotCovered { option, .. } => {
            Some(format!("option `{option}` is set, and nothing in this program reads it"))
        }
        error => Some(error.to_string()),
    }
}

/// Escapes what is not [printable](is_printable) in a text that may be of a guest, other than the end of a line and the tab.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| matches!(character, '\n' | '\t') || is_printable(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(escape).collect::<Vec<_>>().join("\n"))
}

/// The same in one line: of what a guest says nothing is to pass for a line of its own.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// A text that may be of a guest and have several lines, as a part of a report. Each line after the first is marked, so that it
/// cannot pass for another part.
pub(crate) fn block(text: &str) -> String {
    printable(text).trim_end().replace('\n', "\n  | ")
}

/// A text without the traceback of a script at its end, where the log has that already.
pub(crate) fn without_traceback(text: &str) -> &str {
    text.split_once(": stack traceback:").map_or(text, |(rest, _)| rest)
}

/// The number of a PID such as `{local@app:workers|0x00003}`, which is unique in a run: `0x3`.
pub(crate) fn short_pid(pid: &str) -> Cow<'_, str> {
    let number = pid.strip_suffix('}').and_then(|pid| pid.rsplit_once("|0x"));
    match number {
        Some((_, digits)) => {
            let digits = digits.trim_start_matches('0');
            Cow::Owned(format!("0x{}", if digits.is_empty() { "0" } else { digits }))
        }
        None => Cow::Borrowed(pid),
    }
}

/// Escapes what a terminal obeys in a text whose guests' parts are escaped already as JSON has it, which leaves what is
/// beyond ASCII as it is, and that which deletes. They are escaped as in a string of JSON, where alone they can be.
pub(crate) fn terminal_safe(text: &str) -> Cow<'_, str> {
    escape_json(text)
}

/// Prints a line to standard output. A reader that has gone away, such as `head`, wanted no more of it.
pub(crate) fn print(text: &dyn Display) -> io::Result<()> {
    let text = text.to_string();
    let mut stdout = anstream::stdout().lock();
    unless_gone(writeln!(stdout, "{}", terminal_safe(&text)).and_then(|()| stdout.flush()))
}

/// Prints a line to standard output, of many that go on. Returns whether it is still read.
pub(crate) fn print_next(text: &dyn Display) -> io::Result<bool> {
    let text = text.to_string();
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{}", terminal_safe(&text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        printed => printed.map(|()| true),
    }
}

/// Prints bytes to standard output, as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    unless_gone(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Prints a line to standard error. Where there is none, nobody is left to be told so.
///
/// Once the program logs, its log is the way there: a reader that does not read is waited for at most a second.
pub(crate) fn print_error(text: &dyn Display) {
    let text = text.to_string();
    match output::started() {
        Some(output) => output.print(&on_stderr(&text)),
        None => _ = writeln!(anstream::stderr().lock(), "{}", terminal_safe(&text)),
    }
}

/// Queues a line for standard error, or several, and does not wait: for what has other work to do.
pub(crate) fn offer_error(text: &dyn Display) {
    let text = text.to_string();
    match output::started() {
        Some(output) => {
            for line in on_stderr(&text).split_inclusive('\n') {
                output.offer(line.as_bytes(), Importance::Control);
            }
        }
        None => print_error(&text),
    }
}

/// A line as standard error shows it.
fn on_stderr(text: &str) -> String {
    let text = terminal_safe(text);
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => format!("{}\n", strip_str(&text)),
        _ => format!("{text}\n"),
    }
}

/// A reader that has gone away wanted no more.
pub(crate) fn unless_gone(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("standard output cannot be written: {error}")))
        }
        Ok(()) => Ok(()),
    }
}

/// How wide a table is where there is no terminal to fit, and no `COLUMNS`.
const WIDTH: u16 = 140;

/// The columns that output has to fit: `COLUMNS`, if it is set, or else those of the terminal, if there is one.
pub(crate) fn columns() -> Option<u16> {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    set.filter(|&columns| columns > 0).or_else(|| Table::new().width())
}

/// A table that fits the terminal.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    table.set_header(header).add_rows(rows);
    table.set_width(columns().unwrap_or(WIDTH));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_is_left_of_a_text() {
        assert_eq!(printable("two\nlines\tä"), "two\nlines\tä");
        assert_eq!(printable("\u{1b}[2J\u{9b}m\r\u{7}"), "\\u{1b}[2J\\u{9b}m\\r\\u{7}");
        assert_eq!(printable("\u{202e}\n\u{2028}\u{e0041}"), "\\u{202e}\n\\u{2028}\\u{e0041}");
        let shown = table(&["name"], [vec!["\u{1b}]0;title\u{7}".to_owned()]]).to_string();
        assert!(!shown.contains('\u{1b}') && shown.contains("title"), "{shown}");
    }

    #[test]
    fn json_is_the_same_and_nothing_that_a_terminal_would_obey() {
        let json = serde_json::json!({ "\u{9b}31m": "a\u{7f}\u{85}\u{1b}\u{202e}\u{e0041}ä" });
        let text = json.to_string();
        let safe = terminal_safe(&text);
        assert_eq!(safe, r#"{"\u009b31m":"a\u007f\u0085\u001b\u202e\udb40\udc41ä"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), json);
        assert!(matches!(terminal_safe("\u{1b}[1mä\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn causes_come_nearest_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Link(&'static str, #[source] Option<Box<Link>>);
        let error = Link("a", Some(Box::new(Link("b", Some(Box::new(Link("c", None)))))));
        assert_eq!(chain(&error), "a: b: c");
        assert_eq!(causes(&error).map(ToString::to_string).collect::<Vec<_>>(), ["b", "c"]);
    }
}
