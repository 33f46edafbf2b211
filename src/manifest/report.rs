//! Problems, as people and programs read them.

use std::fmt;
use std::sync::Arc;

use frame_dispatch::printable::is_printable;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value as Json, json};

use super::problem::{Problem, Problems, Severity, SourceFile};

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

impl Problems {
    /// All of them, each with its line of the file.
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
        let theme = match look {
            Look::Plain => GraphicalTheme::none(),
            Look::Terminal => GraphicalTheme::unicode(),
        };
        // The position is in the name: here it is counted in characters, and there in bytes.
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(WIDTH).without_primary_span_start();
        let mut report = String::new();
        // Most are in one file, which may be long.
        let mut last: Option<(&Arc<SourceFile>, Arc<str>)> = None;
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                report.push('\n');
            }
            let text = match &last {
                Some((file, text)) if Arc::ptr_eq(file, &problem.file) => Arc::clone(text),
                _ => printable(&problem.file.text).into(),
            };
            last = Some((&problem.file, Arc::clone(&text)));
            let shown = Shown::new(problem, text);
            if handler.render_report(&mut report, &shown).is_err() {
                // Without its line, then.
                report.push_str(&shown.to_string());
            }
        }
        report
    }

    /// All of them, as the member `problems` of an object. A problem has its `file`; `line` and `column`, counted in
    /// characters from 1; `offset` and `length`, in bytes; the `text` there; a `message`; and `label`, `help` and
    /// `related` places, which may be null or empty.
    pub fn to_json(&self) -> Json {
        json!({ "problems": self.to_json_list() })
    }

    /// The list of that object.
    pub(crate) fn to_json_list(&self) -> Json {
        let problems = self.0.iter().map(|problem| {
            let Problem { message, file, span, label, related, help, severity: _ } = problem;
            let related = related.iter().map(|(span, label)| place(problem, span, Some(label)));
            let mut json = place(problem, span, label.as_ref());
            json["file"] = json!(file.name);
            json["message"] = json!(message);
            json["help"] = json!(help);
            json["related"] = related.collect();
            json
        });
        problems.collect()
    }
}

fn place(problem: &Problem, span: &std::ops::Range<usize>, label: Option<&String>) -> Json {
    let (line, column) = problem.file.position(span.start);
    json!({
        "line": line,
        "column": column,
        "offset": span.start,
        "length": span.len(),
        "text": problem.file.text.get(span.clone()),
        "label": label,
    })
}

/// A problem, as the library wants it.
#[derive(Debug)]
struct Shown {
    message: String,
    source: Option<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
    severity: Severity,
}

impl Shown {
    /// `text` is that of the file, as it is printed.
    fn new(problem: &Problem, text: Arc<str>) -> Self {
        let Problem { message, file, span, label, related, help, severity } = problem;
        let (line, column) = file.position(span.start);
        let name = printable(&format!("{}:{line}:{column}", file.name));
        let label = label.as_deref().map(printable);
        let primary = LabeledSpan::new_primary_with_span(label, (span.start, span.len()));
        let related = related.iter().map(|(span, label)| {
            LabeledSpan::new_with_span(Some(printable(label)), (span.start, span.len()))
        });
        let labels = std::iter::once(primary).chain(related).collect();
        // Of a file that could not be read there is nothing to show.
        let (message, source) = if text.is_empty() {
            (format!("{name}: {message}"), None)
        } else {
            (message.clone(), Some(NamedSource::new(name, text)))
        };
        let (message, help) = (printable(&message), help.as_deref().map(printable));
        Self { message, source, labels, help, severity: *severity }
    }
}

/// Replaces what is not printable, each by a character of the same length, so that places in the text stay the same.
fn printable(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        // Only where the line ends, or the library would count one more.
        '\r' => ' ',
        other if is_printable(other) => other,
        other => match other.len_utf8() {
            1 => '?',
            2 => '¿',
            3 => '\u{fffd}',
            _ => '🛇',
        },
    };
    text.chars().map(shown).collect()
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
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
