//! Problems, as people and programs read them.

use std::fmt::{self, Write as _};

use frame_dispatch::printable::escape;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};
use serde_json::{Value as Json, json};

use super::excerpt::Excerpt;
use super::problem::{DRAWN, Problem, Problems, Severity};

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
        let theme = match look {
            Look::Plain => GraphicalTheme::none(),
            Look::Terminal => GraphicalTheme::unicode(),
        };
        // The position is in the name: here it is counted in characters, and there in bytes.
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(WIDTH).without_primary_span_start();
        let mut report = String::new();
        for (index, problem) in self.iter().take(DRAWN).enumerate() {
            if index > 0 {
                report.push('\n');
            }
            let shown = Shown::new(problem);
            if handler.render_report(&mut report, &shown).is_err() {
                // Without its line, then.
                report.push_str(&shown.to_string());
            }
        }
        match self.count().saturating_sub(DRAWN) {
            0 => (),
            // Writing to a string cannot fail.
            more => _ = writeln!(report, "\nand {more} more"),
        }
        report
    }

    /// The problems that are kept, as the member `problems` of an object, and how many more there are as the member `omitted`.
    ///
    /// A problem has its `file`; `line` and `column`, counted in characters from 1; `offset` and `length`, in bytes; the first
    /// 200 bytes of the `text` there; a `message`; and `label`, `help` and `related` places, which may be null or empty.
    pub fn to_json(&self) -> Json {
        json!({ "problems": self.to_json_list(), "omitted": self.omitted() })
    }

    /// The list of that object.
    pub(crate) fn to_json_list(&self) -> Json {
        let problems = self.iter().map(|problem| {
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
struct Shown {
    message: String,
    source: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
    severity: Severity,
}

impl Shown {
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
