//! How an event is written: as a line for people, or as an object of JSON for programs.
//!
//! Guests choose messages, fields and errors. None of these can pass for more than one line, for another member of the
//! object, or for a command of a terminal.

use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use std::io;
use std::time;

use frame_dispatch::LogFields;
use frame_registry::text::escape;
use humantime::format_rfc3339_millis;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer as _};
use serde_json::ser::{CompactFormatter, Compound};
use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::report;

/// Writes an event as an object of JSON on one line: `timestamp`, `level`, the fields of the event, `target` and `spans`.
/// The fields that a script logs are an object in the member `fields`.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = json_line(ctx, event).map_err(|_| fmt::Error)?;
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

fn json_line<S, N>(ctx: &FmtContext<'_, S, N>, event: &Event<'_>) -> serde_json::Result<Vec<u8>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut timestamp = String::new();
    SystemTime.format_time(&mut Writer::new(&mut timestamp)).map_err(serde::ser::Error::custom)?;
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut members = serializer.serialize_map(None)?;
    members.serialize_entry("timestamp", &timestamp)?;
    members.serialize_entry("level", event.metadata().level().as_str())?;
    let mut visitor = Members { members, result: Ok(()) };
    event.record(&mut visitor);
    let Members { mut members, result } = visitor;
    result?;
    members.serialize_entry("target", event.metadata().target())?;
    let spans: Vec<_> = ctx
        .event_scope()
        .into_iter()
        .flat_map(Scope::from_root)
        .map(|span| {
            let fields = span.extensions();
            let fields = fields.get::<FormattedFields<N>>().map_or("", |fields| fields.as_str());
            let mut fields: Map<String, Json> = serde_json::from_str(fields).unwrap_or_default();
            fields.insert("name".to_owned(), span.name().into());
            fields
        })
        .collect();
    if !spans.is_empty() {
        members.serialize_entry("spans", &spans)?;
    }
    members.end()?;
    Ok(line)
}

/// Writes fields as members.
struct Members<'a, W> {
    members: Compound<'a, W, CompactFormatter>,
    result: serde_json::Result<()>,
}

impl<W: io::Write> Members<'_, W> {
    fn member(&mut self, field: &Field, value: &impl Serialize) {
        if self.result.is_ok() {
            self.result = self.members.serialize_entry(plain_name(field), value);
        }
    }
}

impl<W: io::Write> Visit for Members<'_, W> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.member(field, &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.member(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        match value.downcast_ref::<LogFields>() {
            Some(fields) => self.member(field, fields.as_json()),
            None => self.member(field, &report::chain(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, &format_args!("{value:?}"));
    }
}

fn plain_name(field: &Field) -> &'static str {
    let name = field.name();
    name.strip_prefix("r#").unwrap_or(name)
}

/// Writes an event as a line for people: time, level, unit, message and fields. A backtrace follows as indented lines.
///
/// Events of no unit have the name of their crate instead, and those of this workspace `frame`.
pub(super) struct TextLine {
    /// Adds the module and the spans.
    pub(super) is_verbose: bool,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let (time, level) = (format_rfc3339_millis(time::SystemTime::now()), *metadata.level());
        let mut apart = Apart::default();
        event.record(&mut apart);
        let unit = apart.unit.as_ref().map_or_else(|| component(metadata.target()), |(_, unit)| unit);
        if writer.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                Level::TRACE => 35,
            };
            write!(writer, "\u{1b}[2m{time}\u{1b}[0m \u{1b}[{colour}m{level:>5}\u{1b}[0m ")?;
        } else {
            write!(writer, "{time} {level:>5} ")?;
        }
        if self.is_verbose {
            for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
                let fields = span.extensions();
                match fields.get::<FormattedFields<N>>() {
                    Some(fields) if !fields.is_empty() => write!(writer, "{}{{{fields}}}: ", span.name())?,
                    _ => write!(writer, "{}: ", span.name())?,
                }
            }
            write!(writer, "{}: ", metadata.target())?;
        }
        let unit = escape(unit);
        if writer.has_ansi_escapes() {
            write!(writer, "\u{1b}[1m{unit}\u{1b}[0m: ")?;
        } else {
            write!(writer, "{unit}: ")?;
        }
        let shown = [apart.unit.as_ref().map_or("", |(name, _)| name), TRACES[0], TRACES[1]];
        let mut words = Words {
            writer: writer.by_ref(),
            is_first: true,
            shown: &shown,
            is_brief: !self.is_verbose,
            result: Ok(()),
        };
        event.record(&mut words);
        words.result?;
        writer.write_char('\n')?;
        for line in apart.trace.iter().flat_map(|trace| trace.lines()) {
            writeln!(writer, "    | {}", escape(line).replace('\t', "  "))?;
        }
        Ok(())
    }
}

/// The name of what logged, where no unit did.
fn component(target: &str) -> &str {
    let name = target.split("::").next().unwrap_or(target);
    if name.starts_with("frame_") { "frame" } else { name }
}

/// The fields whose values name the unit that an event is of.
const UNITS: [&str; 3] = ["function", "process", "unit"];

/// The fields whose values have a line for each function that was being called.
const TRACES: [&str; 2] = ["backtrace", "traceback"];

/// What is not shown as a field of the line.
#[derive(Default)]
struct Apart {
    /// The field, and its value.
    unit: Option<(&'static str, String)>,
    trace: Option<String>,
}

impl Visit for Apart {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = plain_name(field);
        if UNITS.contains(&name) {
            // The first names the unit. The others are fields.
            self.unit.get_or_insert_with(|| (name, format!("{value:?}")));
        } else if TRACES.contains(&name) {
            self.trace = Some(format!("{value:?}"));
        }
    }
}

/// Writes the fields of an event or a span as `name=value`, after the message, in which nothing but the host's own styles
/// is a command to a terminal, or the end of the line.
pub(super) struct TextFields;

impl<'a> FormatFields<'a> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut visitor = Words { writer, is_first: true, shown: &[], is_brief: false, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Words<'a> {
    writer: Writer<'a>,
    is_first: bool,
    /// Fields that are shown elsewhere.
    shown: &'a [&'static str],
    /// Whether a PID is shown as its number, as `frame ps` does.
    is_brief: bool,
    result: fmt::Result,
}

impl Words<'_> {
    fn word(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.write(field, value);
        }
    }

    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        let name = plain_name(field);
        if self.shown.contains(&name) {
            return Ok(());
        }
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        if self.is_brief && name == "pid" {
            return write!(Escaping(&mut self.writer), "{}", report::short_pid(&value.to_string()));
        }
        write!(Escaping(&mut self.writer), "{value}")
    }
}

impl Visit for Words<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.word(field, format_args!("{value}"));
        } else {
            self.word(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.word(field, format_args!("{}", report::chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.word(field, format_args!("{value:?}"));
    }
}

/// Escapes what is written.
struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escape(text))
    }
}
