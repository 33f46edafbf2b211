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
    /// The place of each in `counts`.
    groups: HashMap<Group, usize>,
    counts: Vec<Counts>,
    /// Those beyond [`MAX_GROUPS`].
    others: Counts,
    open: OpenAttempts,
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
    attempts: u64,
    refused: u64,
    /// Those that have begun and not ended, as far as the log goes.
    open: u64,
    /// Those that were open when their run ended.
    unknown: u64,
    sent: u64,
    received: u64,
}

impl Counts {
    fn add(&mut self, record: &Record<'_>, is_open_before: bool) {
        let count = record.count.unwrap_or(1);
        match record.event {
            Event::Open => {
                self.attempts += 1;
                self.open += 1;
                return;
            }
            Event::Close if is_open_before => self.open = self.open.saturating_sub(1),
            // Its beginning may be in the log before this one.
            _ => self.attempts = self.attempts.saturating_add(count),
        }
        if record.verdict.as_deref() == Some("refused") {
            self.refused = self.refused.saturating_add(count);
        }
        self.sent = self.sent.saturating_add(record.sent.unwrap_or(0));
        self.received = self.received.saturating_add(record.received.unwrap_or(0));
    }

    /// Their run has ended.
    fn lose(&mut self, count: u64) {
        self.open = self.open.saturating_sub(count);
        self.unknown += count;
    }

    fn to_json(self) -> Json {
        let Self { attempts, refused, open, unknown, sent, received } = self;
        json!({
            "attempts": attempts, "refused": refused, "unfinished": open, "unknown": unknown,
            "sent": sent, "received": received,
        })
    }
}

/// How many attempts are open of each run, by the place of their group.
#[derive(Debug, Default)]
struct OpenAttempts {
    runs: HashMap<String, HashMap<Option<usize>, u64>>,
    /// How many numbers there are.
    len: usize,
}

impl OpenAttempts {
    /// How many numbers are kept for runs. Beyond that it is not told of which run an attempt is.
    const MAX: usize = 4 * MAX_GROUPS;
    const ANY_RUN: &str = "";

    fn begin(&mut self, run: &str, group: Option<usize>) {
        let run = if self.len < Self::MAX { bounded(run) } else { Self::ANY_RUN.to_owned() };
        let count = self.runs.entry(run).or_default().entry(group).or_insert_with(|| {
            self.len += 1;
            0
        });
        *count += 1;
    }

    /// Returns whether one was open.
    fn end(&mut self, run: &str, group: Option<usize>) -> bool {
        for run in [&*bounded(run), Self::ANY_RUN] {
            let Some(groups) = self.runs.get_mut(run) else { continue };
            let Some(count) = groups.get_mut(&group) else { continue };
            *count -= 1;
            if *count == 0 {
                self.len -= 1;
                groups.remove(&group);
                if groups.is_empty() {
                    self.runs.remove(run);
                }
            }
            return true;
        }
        false
    }

    /// Returns what is open of the runs that have ended.
    fn end_runs(&mut self, has_ended: impl Fn(&str) -> bool) -> Vec<(Option<usize>, u64)> {
        let ended = self.runs.extract_if(|run, _| run != Self::ANY_RUN && has_ended(run));
        let ended: Vec<_> = ended.flat_map(|(_, groups)| groups).collect();
        self.len -= ended.len();
        ended
    }
}

impl Summary {
    /// Looks whether runs have ended. Every record is to be looked at, also one that is not added.
    pub(super) fn look_at_run(&mut self, record: &Record<'_>) {
        let run = bounded(record.run());
        let ended = match record.event {
            Event::Stop => self.open.end_runs(|of| of == run),
            // No other writes to the log.
            Event::Start if record.alone == Some(true) => self.open.end_runs(|of| of != run),
            _ => return,
        };
        for (group, count) in ended {
            self.total.lose(count);
            self.counts_of(group).lose(count);
        }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        let time = || Some(bounded(&record.time));
        self.first = self.first.take().or_else(time);
        self.last = time();
        match record.event {
            Event::Start => self.starts += 1,
            Event::Lost => self.lost = self.lost.saturating_add(record.count.unwrap_or(1)),
            Event::Open | Event::Close | Event::Attempt => self.add_attempt(record),
            Event::Stop | Event::Other => {}
        }
    }

    fn counts_of(&mut self, group: Option<usize>) -> &mut Counts {
        group.and_then(|group| self.counts.get_mut(group)).unwrap_or(&mut self.others)
    }

    fn add_attempt(&mut self, record: &Record<'_>) {
        let group = Group {
            unit: bounded(record.unit.as_deref().unwrap_or(NO_UNIT)),
            destination: destination(record),
            route: bounded(record.route.first().map_or("", |route| route)),
        };
        let place = match self.groups.get(&group) {
            Some(place) => Some(*place),
            None if self.groups.len() < MAX_GROUPS => {
                self.groups.insert(group.clone(), self.counts.len());
                self.counts.push(Counts::default());
                self.counts.len().checked_sub(1)
            }
            None => None,
        };
        let is_open_before = match record.event {
            Event::Open => {
                self.open.begin(record.run(), place);
                false
            }
            Event::Close => self.open.end(record.run(), place),
            _ => false,
        };
        self.total.add(record, is_open_before);
        self.counts_of(place).add(record, is_open_before);
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
        let counts = |(group, place): (_, &usize)| Some((group, self.counts.get(*place)?));
        let mut groups: Vec<_> = self.groups.iter().filter_map(counts).collect();
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
        let Counts { attempts, refused, unknown, sent, received, .. } = self.total;
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
                let numbers = [counts.attempts, counts.refused, counts.open].map(|count| count.to_string());
                let sizes = [counts.sent, counts.received].map(size);
                [one_line(&group.unit), place].into_iter().chain(numbers).chain(sizes).collect()
            });
            let header = ["unit", "destination", "attempts", "refused", "open", "sent", "received"];
            writeln!(f, "{}", table(&header, rows))?;
            if omitted > 0 || self.others.attempts > 0 {
                let more = if self.others.attempts > 0 { "or more " } else { "" };
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
        match unknown {
            0 => {}
            1 => writeln!(f, "1 attempt was open when its run ended; how it ended is not in the log")?,
            _ => writeln!(
                f,
                "{unknown} attempts were open when their run ended; how they ended is not in the log"
            )?,
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
        Event::Stop => {
            let app = record.app.as_deref().unwrap_or("app");
            write!(line, "{app} stopped")
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
