//! What an audit log says, put together.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use bytesize::ByteSize;
use frame_registry::text::shorten;
use serde_json::{Value as Json, json};

use crate::audit::{Event, Record};
use crate::report::{one_line, table};

/// How many destinations, and rules, are told apart. The others are counted together, so that a log of any length and content
/// is summarised in little memory.
const MAX_GROUPS: usize = 10_000;

/// How many rows a table has. JSON has all.
const MAX_ROWS: usize = 100;

/// What is counted of a log.
#[derive(Debug, Default)]
pub(super) struct Summary {
    first: Option<String>,
    last: Option<String>,
    starts: u64,
    lost: u64,
    /// Lines that are no records.
    pub(super) skipped: u64,
    /// Records of a later version.
    pub(super) newer: u64,
    total: Counts,
    groups: HashMap<Group, Counts>,
    /// Those beyond [`MAX_GROUPS`].
    others: Counts,
    refusals: HashMap<(String, String), u64>,
    other_refusals: u64,
}

/// A unit, and what it connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group {
    unit: String,
    destination: String,
    route: String,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Those that are one record.
    whole: u64,
    /// Those that have begun, and those that have ended, in a record each.
    opened: u64,
    closed: u64,
    refused: u64,
    sent: u64,
    received: u64,
}

impl Counts {
    fn add(&mut self, record: &Record<'_>) {
        let count = record.count.unwrap_or(1);
        match record.event {
            Event::Open => {
                self.opened += 1;
                return;
            }
            Event::Close => self.closed += 1,
            _ => self.whole = self.whole.saturating_add(count),
        }
        if record.verdict.as_deref() == Some("refused") {
            self.refused = self.refused.saturating_add(count);
        }
        self.sent = self.sent.saturating_add(record.sent.unwrap_or(0));
        self.received = self.received.saturating_add(record.received.unwrap_or(0));
    }

    /// How many there were. The beginning of one may be in the log before this one, and its end in the next.
    fn attempts(&self) -> u64 {
        self.whole.saturating_add(self.opened.max(self.closed))
    }

    /// How many have begun and not ended, as far as the log goes.
    const fn unfinished(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    fn to_json(self) -> Json {
        let Self { refused, sent, received, .. } = self;
        let (attempts, unfinished) = (self.attempts(), self.unfinished());
        json!({ "attempts": attempts, "refused": refused, "unfinished": unfinished, "sent": sent, "received": received })
    }
}

impl Summary {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let time = || Some(bounded(&record.time));
        self.first = self.first.take().or_else(time);
        self.last = time();
        match record.event {
            Event::Start => self.starts += 1,
            Event::Lost => self.lost = self.lost.saturating_add(record.count.unwrap_or(1)),
            Event::Open | Event::Close | Event::Attempt => self.add_attempt(record),
            Event::Other => {}
        }
    }

    fn add_attempt(&mut self, record: &Record<'_>) {
        self.total.add(record);
        let group = Group {
            unit: bounded(record.unit.as_deref().unwrap_or(NO_UNIT)),
            destination: destination(record),
            route: bounded(record.route.first().map_or("", |route| route)),
        };
        if let Some(counts) = self.groups.get_mut(&group) {
            counts.add(record);
        } else if self.groups.len() < MAX_GROUPS {
            self.groups.entry(group.clone()).or_default().add(record);
        } else {
            self.others.add(record);
        }
        if record.verdict.as_deref() != Some("refused") {
            return;
        }
        let count = record.count.unwrap_or(1);
        let key = (group.unit, bounded(record.rule.as_deref().unwrap_or("several rules")));
        if let Some(refusals) = self.refusals.get_mut(&key) {
            *refusals = refusals.saturating_add(count);
        } else if self.refusals.len() < MAX_GROUPS {
            self.refusals.insert(key, count);
        } else {
            self.other_refusals = self.other_refusals.saturating_add(count);
        }
    }

    /// By unit, and then by how much was sent.
    fn sorted_groups(&self) -> Vec<(&Group, &Counts)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|(one, counts), (other, others)| {
            let by_unit = one.unit.cmp(&other.unit);
            by_unit.then(others.sent.cmp(&counts.sent)).then_with(|| one.cmp(other))
        });
        groups
    }

    fn sorted_refusals(&self) -> BTreeMap<&(String, String), u64> {
        self.refusals.iter().map(|(key, count)| (key, *count)).collect()
    }

    pub(super) fn to_json(&self) -> Json {
        let groups = self.sorted_groups().into_iter().map(|(group, counts)| {
            let mut shown = counts.to_json();
            shown["unit"] = json!(group.unit);
            shown["destination"] = json!(group.destination);
            shown["route"] = json!(group.route);
            shown
        });
        let refusals = self.sorted_refusals().into_iter();
        let refusals =
            refusals.map(|((unit, rule), count)| json!({ "unit": unit, "rule": rule, "count": count }));
        json!({
            "from": self.first,
            "to": self.last,
            "starts": self.starts,
            "total": self.total.to_json(),
            "destinations": groups.collect::<Vec<_>>(),
            "other_destinations": self.others.to_json(),
            "refusals": refusals.collect::<Vec<_>>(),
            "other_refusals": self.other_refusals,
            "lost": self.lost,
            "skipped_lines": self.skipped,
            "newer_records": self.newer,
        })
    }
}

/// The unit of code that has none.
const NO_UNIT: &str = "(none)";

/// For people.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => writeln!(f, "{} to {}", one_line(first), one_line(last))?,
            _ => writeln!(f, "no records")?,
        }
        let Counts { refused, sent, received, .. } = self.total;
        let attempts = self.total.attempts();
        if attempts > 0 {
            let noun = if attempts == 1 { "attempt" } else { "attempts" };
            writeln!(
                f,
                "{attempts} {noun}, {refused} refused, {} sent, {} received",
                size(sent),
                size(received)
            )?;
            let groups = self.sorted_groups();
            let omitted = groups.len().saturating_sub(MAX_ROWS);
            let rows = groups.into_iter().take(MAX_ROWS).map(|(group, counts)| {
                let place = match group.route.as_str() {
                    "" | "clearnet" => one_line(&group.destination),
                    route => one_line(&format!("{} via {route}", group.destination)),
                };
                let numbers =
                    [counts.attempts(), counts.refused, counts.unfinished()].map(|count| count.to_string());
                let sizes = [counts.sent, counts.received].map(size);
                [one_line(&group.unit), place].into_iter().chain(numbers).chain(sizes).collect()
            });
            let header = ["unit", "destination", "attempts", "refused", "open", "sent", "received"];
            writeln!(f, "{}", table(&header, rows))?;
            if omitted > 0 || self.others.attempts() > 0 {
                let more = if self.others.attempts() > 0 { "or more " } else { "" };
                writeln!(f, "and {omitted} {more}others; `--format json` or `--unit` shows them")?;
            }
        } else if self.first.is_some() {
            writeln!(f, "no attempts")?;
        }
        let refusals = self.sorted_refusals();
        if !refusals.is_empty() {
            let omitted = refusals.len().saturating_sub(MAX_ROWS);
            let rows = refusals.into_iter().take(MAX_ROWS);
            let rows =
                rows.map(|((unit, rule), count)| vec![one_line(unit), one_line(rule), count.to_string()]);
            writeln!(f, "\n{}", table(&["unit", "refused by", "count"], rows))?;
            if omitted > 0 {
                writeln!(f, "and {omitted} others")?;
            }
        }
        for (count, what) in [
            (self.lost, "records are missing: they could not be written, or came too fast"),
            (self.skipped, "lines were skipped: they are not records"),
            (self.newer, "records are of a newer version, and were skipped"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A record in a line.
pub(super) fn event_line(record: &Record<'_>) -> String {
    let unit = record.unit.as_deref().unwrap_or(NO_UNIT);
    let mut line = format!("{}  ", record.time);
    // Writing to a string does not fail.
    let _ = match record.event {
        Event::Start => {
            let app = record.app.as_deref().unwrap_or("app");
            write!(line, "{app} started")
        }
        Event::Lost => write!(line, "{unit}  {} records are missing", record.count.unwrap_or(1)),
        Event::Other => Ok(()),
        Event::Open | Event::Close | Event::Attempt => write_attempt(&mut line, record, unit),
    };
    line
}

fn write_attempt(line: &mut String, record: &Record<'_>, unit: &str) -> fmt::Result {
    write!(line, "{unit}  {}", record.kind.as_deref().unwrap_or("attempt"))?;
    if let Some(method) = &record.method {
        write!(line, " {method}")?;
    }
    write!(line, " {}", destination(record))?;
    if let Some(route) = record.route.first().filter(|route| *route != "clearnet") {
        write!(line, " via {route}")?;
    }
    if record.event == Event::Open {
        return write!(line, "  begun");
    }
    if let Some(end) = &record.end {
        write!(line, "  {end}")?;
    }
    if record.verdict.as_deref() == Some("refused") {
        if let Some(rule) = &record.rule {
            write!(line, " by {rule}")?;
        }
    } else {
        let (sent, received) = (size(record.sent.unwrap_or(0)), size(record.received.unwrap_or(0)));
        write!(line, "  {sent} sent, {received} received")?;
        if let Some(time) = record.duration_ms {
            write!(line, ", {time} ms")?;
        }
    }
    match record.count {
        Some(count) => write!(line, "  {count} times"),
        None => Ok(()),
    }
}

fn destination(record: &Record<'_>) -> String {
    let host = match (&record.host, record.port) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_string(),
        (None, Some(port)) => format!("port {port}"),
        (None, None) => "several destinations".to_owned(),
    };
    bounded(&host)
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A text of a log that may hold anything.
fn bounded(text: &str) -> String {
    const MAX: usize = 300;
    shorten(text, MAX).into_owned()
}
