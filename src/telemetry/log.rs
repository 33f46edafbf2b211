//! Logs, to standard error.

use std::env;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use frame_registry::text;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::{Layer, Registry};

use super::format::{JsonLine, TextFields, TextLine};
use super::output::{Importance, Output};
use super::{AnyLayer, progress};
use crate::report;

/// Where [`LogArgs`] are not given.
const VARIABLE: &str = "FRAME_LOG";

/// What is logged unless something else is said: what this program does, and what goes wrong in what it is made of.
const DEFAULT: &str = "warn,frame_dispatch=info,frame_net=info,frame_registry=info,frame_runtime=info";

/// How to log: arguments of a command.
///
/// Which logs are wanted is said by `--log-level`, or else by the environment variable `FRAME_LOG`: a level (`error`, `warn`,
/// `info`, `debug`, `trace` or `off`), levels of modules (`frame_net=debug`), or several of these with commas in between. Of
/// several that apply to a module the longest counts.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// How to write logs, to standard error.
    #[arg(id = "log", long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: LogFormat,
    /// Which logs to write: a level, or a level for a module, as in `warn,frame_net=debug`; else what `FRAME_LOG` says.
    #[arg(id = "log-level", long, value_name = "LEVEL", value_parser = checked)]
    pub level: Option<String>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// A line each, for people; in colour on a terminal, unless `NO_COLOR` is set.
    #[default]
    Pretty,
    /// A JSON object each, for programs.
    Json,
    /// Not at all, nor progress.
    Off,
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
            Self::Off => "off",
        })
    }
}

impl LogArgs {
    /// Which logs are wanted.
    pub(super) fn filter(&self) -> Result<Targets, FilterError> {
        if let Some(level) = &self.level {
            return parse(level);
        }
        match env::var(VARIABLE) {
            Ok(level) if !level.is_empty() => {
                parse(&level).map_err(|error| FilterError { origin: Some(VARIABLE), ..error })
            }
            Err(env::VarError::NotUnicode(_)) => {
                Err(FilterError { origin: Some(VARIABLE), directive: "�".to_owned(), suggestion: None })
            }
            _ => parse(DEFAULT),
        }
    }
}

/// Which logs are wanted is not said in a way that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}`{directive}` is no level{}; write error, warn, info, debug, trace or off, or MODULE=LEVEL, or several of these \
     with commas in between",
    origin.map_or_else(String::new, |origin| format!("{origin}: ")),
    suggestion.map_or_else(String::new, |level| format!(" (did you mean `{level}`?)"))
)]
pub struct FilterError {
    /// The environment variable, if it is from there.
    origin: Option<&'static str>,
    directive: String,
    suggestion: Option<&'static str>,
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Reads what is wanted. `Targets` has a parser, too, for which a misspelt level is a module of which all is wanted.
fn parse(text: &str) -> Result<Targets, FilterError> {
    let mut targets = Targets::new();
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let (module, level) = match directive.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, directive),
        };
        let known = LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known));
        let filter = level.parse::<LevelFilter>().ok().filter(|_| known && module != Some(""));
        let filter = filter.ok_or_else(|| FilterError {
            origin: None,
            directive: text::escape(directive).into_owned(),
            suggestion: text::nearest(level, LEVELS)
                .filter(|level| module != Some("") && *level != directive),
        })?;
        targets = match module {
            Some(module) => targets.with_target(module, filter),
            None => targets.with_default(filter),
        };
    }
    Ok(targets)
}

fn checked(text: &str) -> Result<String, FilterError> {
    parse(text).map(|_| text.to_owned())
}

/// The target of what the program itself logs: that it is ready, reloaded or stopping.
const CONTROL: &str = "frame_runtime";
/// The target of what its modules log for scripts and components.
const MODULES: &str = "frame_runtime::modules";

/// Adds what logs, and what shows progress.
pub(super) fn add(layers: &mut Vec<AnyLayer>, format: LogFormat, filter: Targets, output: &'static Output) {
    // Also where standard error is no terminal, or `NO_COLOR`, `TERM` and the like say so.
    let is_colour = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let is_verbose = is_verbose(&filter);
    match format {
        LogFormat::Off => (),
        LogFormat::Json => {
            layers.push(progress::events());
            layers.push(json(Queued { output }).with_filter(filter).boxed());
        }
        LogFormat::Pretty => {
            if let Some((line, writer)) = progress::line() {
                layers.push(line);
                output.redirect(Box::new(writer));
                // The line says all that the events would.
                let filter = filter.with_target(progress::TARGET, LevelFilter::OFF);
                layers.push(pretty(Queued { output }, is_colour, is_verbose).with_filter(filter).boxed());
            } else {
                layers.push(progress::events());
                layers.push(pretty(Queued { output }, is_colour, is_verbose).with_filter(filter).boxed());
            }
        }
    }
}

/// Returns whether somewhere more than what an operator needs is logged. Then lines for people say where they are from.
fn is_verbose(filter: &Targets) -> bool {
    let levels = filter.iter().map(|(_, level)| level);
    levels.chain(filter.default_level()).any(|level| level >= LevelFilter::DEBUG)
}

/// Queues events to be written.
struct Queued {
    output: &'static Output,
}

impl<'a> MakeWriter<'a> for Queued {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { output: self.output, importance: Importance::Other }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let target = metadata.target();
        let is_control = target.starts_with(CONTROL) && !target.starts_with(MODULES);
        let importance = if is_control { Importance::Control } else { Importance::Other };
        Line { output: self.output, importance }
    }
}

/// The line of one event.
struct Line {
    output: &'static Output,
    importance: Importance,
}

impl Write for Line {
    /// An event comes as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.output.offer(event, self.importance);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn json<W>(writer: W) -> impl Layer<Registry> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer()
        .event_format(JsonLine)
        .fmt_fields(JsonFields::new())
        .with_writer(Safe(writer))
        .log_internal_errors(false)
}

fn pretty<W>(writer: W, is_colour: bool, is_verbose: bool) -> impl Layer<Registry> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer()
        .event_format(TextLine { is_verbose })
        .with_ansi(is_colour)
        .fmt_fields(TextFields)
        .with_writer(Safe(writer))
        .log_internal_errors(false)
}

/// Writes what is [safe](report::terminal_safe), whatever the event was made of.
struct Safe<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Safe<W> {
    type Writer = Safe<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Safe(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Safe(self.0.make_writer_for(metadata))
    }
}

impl<W: Write> Write for Safe<W> {
    /// An event comes as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.0.write_all(report::terminal_safe(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use frame_dispatch::LogFields;
    use frame_registry::text::is_printable;
    use serde_json::Value as Json;
    use tracing::{Level, info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn levels_are_of_all_modules_or_of_some() {
        let filter = parse("warn, frame_net=debug,frame_net::http=off").unwrap();
        assert!(filter.would_enable("hyper", &Level::WARN) && !filter.would_enable("hyper", &Level::INFO));
        assert!(filter.would_enable("frame_net::dialer", &Level::DEBUG));
        assert!(!filter.would_enable("frame_net::http", &Level::ERROR));
        let filter = parse(DEFAULT).unwrap();
        assert!(filter.would_enable(progress::TARGET, &Level::INFO));
        assert!(!filter.would_enable("h2", &Level::INFO));
    }

    #[test]
    fn what_is_no_level_is_refused_with_what_to_write() {
        let cases = [
            ("inof", "`inof` is no level (did you mean `info`?); write error, warn"),
            ("frame_net=debgu", "`frame_net=debgu` is no level (did you mean `debug`?)"),
            ("info,frame_net", "`frame_net` is no level; write"),
            ("=info", "`=info` is no level; write"),
            ("3", "`3` is no level; write"),
            ("a\u{1b}[31m", "`a\\u{1b}[31m` is no level; write"),
        ];
        for (text, shown) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(shown), "{error}");
        }
    }

    #[test]
    fn json_is_an_object_a_line_with_the_ids_of_the_trace() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = Registry::default().with(json(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _in = info_span!("run", trace_id = "0af7").entered();
            info!(answer = 42, "one\nline\u{1b}[31m");
            info!("another");
        });
        let text = written.text();
        let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "one\nline\u{1b}[31m");
        assert_eq!((&lines[0]["answer"], &lines[0]["level"]), (&Json::from(42), &Json::from("INFO")));
        assert_eq!(lines[0]["spans"][0]["trace_id"], "0af7");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    /// What `log` logs, as JSON and for people.
    fn logged(log: impl FnOnce()) -> (Vec<Json>, String) {
        let (json_lines, lines) = (Written::default(), Written::default());
        let (json_writer, writer) = (json_lines.clone(), lines.clone());
        let layers: Vec<AnyLayer> = vec![
            json(move || json_writer.clone()).boxed(),
            pretty(move || writer.clone(), false, true).boxed(),
        ];
        tracing::subscriber::with_default(Registry::default().with(layers), log);
        let text = json_lines.text();
        assert!(text.chars().all(|it| it == '\n' || is_printable(it)), "{text:?}");
        let json_lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (json_lines, lines.text())
    }

    fn script_fields(fields: Json) -> impl tracing::Value {
        Box::new(LogFields::new(fields)) as Box<dyn Error>
    }

    #[test]
    fn fields_of_a_script_are_members_of_an_object_in_json() {
        let fields =
            serde_json::json!({ "ticks": 1, "level": "ERROR", "a\",\"b": { "list": [1.5, null, "x"] } });
        let (json_lines, lines) = logged(|| info!(fields = script_fields(fields.clone()), "said"));
        assert_eq!((&json_lines[0]["fields"], &json_lines[0]["level"]), (&fields, &Json::from("INFO")));
        assert_eq!(json_lines[0].as_object().unwrap().len(), 5, "{json_lines:?}");
        assert!(
            lines.contains(r#"said fields={"a\",\"b":{"list":[1.5,null,"x"]},"level":"ERROR","ticks":1}"#),
            "{lines}"
        );
    }

    #[test]
    fn text_that_looks_like_fields_stays_text() {
        let (json_lines, _) = logged(|| info!(fields = r#"{"ticks":1}"#, other = %r#"{"a":1}"#, "said"));
        assert_eq!(json_lines[0]["fields"], r#"{"ticks":1}"#);
        assert_eq!(json_lines[0]["other"], r#"{"a":1}"#);
    }

    #[test]
    fn no_field_can_command_a_terminal_or_end_the_line() {
        let hostile = "\u{1b}[2J\u{9b}m\u{7f}\r\n2026-01-01 INFO forged \u{202e}\u{2028}\u{e0041}\u{200d}";
        let fields = serde_json::json!({ hostile: hostile });
        let (json_lines, lines) = logged(|| {
            let _in = info_span!("run", error = hostile, display = %hostile).entered();
            info!(fields = script_fields(fields.clone()), text = hostile, display = %hostile, "{hostile}");
        });
        assert!(lines.ends_with('\n') && lines.trim_end().chars().all(is_printable), "{lines:?}");
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let line = &json_lines[0];
        assert_eq!(
            (&line["fields"], &line["message"], &line["text"]),
            (&fields, &hostile.into(), &hostile.into())
        );
        assert_eq!(line["spans"][0]["error"], hostile);
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let error = io::Error::other(io::Error::other("deeper"));
        let wrapped =
            crate::telemetry::FilterError { origin: None, directive: "x".to_owned(), suggestion: None };
        let (json_lines, lines) = logged(|| {
            info!(
                error = &error as &(dyn Error + 'static),
                wrapped = &wrapped as &(dyn Error + 'static),
                "failed"
            );
        });
        assert_eq!(json_lines[0]["error"], "deeper");
        assert!(lines.contains("failed error=deeper wrapped=`x` is no level"), "{lines}");
    }

    /// What people see of what `log` logs, where no more than the default is logged.
    fn shown(log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = Registry::default().with(pretty(move || writer.clone(), false, false));
        tracing::subscriber::with_default(subscriber, log);
        // The time is as long in each line.
        written
            .text()
            .lines()
            .map(|line| line.get("2026-12-01T01:03:24.032Z ".len()..).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_line_has_the_unit_before_the_message_and_the_fields_after_it() {
        let lines = shown(|| {
            let _in = info_span!("run", unit = "app:outer").entered();
            info!(process = %"app:crash", pid = %"{local@app:workers|0x00003}", "started");
            info!(functions = 2, "ready");
            tracing::warn!(target: "hyper::client", "odd");
        });
        let expected =
            [" INFO app:crash: started pid=0x3", " INFO frame: ready functions=2", " WARN hyper: odd"];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_traceback_is_indented_and_none_of_its_lines_passes_for_another_record() {
        let hostile = "stack traceback:\n\t[C]: in function 'error'\n2026-01-01 INFO forged \u{1b}[2J\r";
        let written = Written::default();
        let writer = written.clone();
        let subscriber = Registry::default().with(pretty(move || writer.clone(), false, false));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(process = "app:crash", traceback = hostile, "failed: boom");
        });
        let text = written.text();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(" WARN app:crash: failed: boom"), "{text}");
        assert_eq!(
            lines[1..],
            [
                "    | stack traceback:",
                "    |   [C]: in function 'error'",
                "    | 2026-01-01 INFO forged \\u{1b}[2J\\r"
            ]
        );
    }

    #[test]
    fn modules_and_spans_are_shown_where_debugging_is_on() {
        for (level, is_shown) in [("info", false), ("debug", true), ("warn,frame_net=trace", true)] {
            assert_eq!(is_verbose(&parse(level).unwrap()), is_shown, "{level}");
        }
        let (_, lines) = logged(|| {
            let _in = info_span!("run", attempt = 2).entered();
            info!("said");
        });
        assert!(
            lines.contains("INFO run{attempt=2}: frame_runtime::telemetry::log::tests: frame: said"),
            "{lines}"
        );
    }

    #[test]
    fn there_is_no_colour_where_none_is_wanted() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = Registry::default().with(pretty(move || writer.clone(), false, true));
        tracing::subscriber::with_default(subscriber, || info!("plain"));
        let text = written.text();
        assert!(text.contains("plain") && !text.contains('\u{1b}'), "{text:?}");
    }
}
