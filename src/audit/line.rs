//! A line of the audit log: the schema, version 1.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use frame_net::audit::{Attempt, Outcome};
use frame_net::{Route, Unit};
use frame_registry::text::shorten;
use serde::{Deserialize, Serialize};

use super::queue::Merged;
use crate::report;

/// The version of the schema. Fields and events may be added to a version.
pub(crate) const VERSION: u32 = 1;

/// The longest text in a record, in bytes. What is longer is cut, and ends in `…`.
const MAX_TEXT: usize = 300;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// The app has started.
    Start,
    /// The app has stopped. Nothing of this run follows.
    Stop,
    /// An attempt begins. A `close` follows.
    Open,
    /// An attempt that had an `open` has ended.
    Close,
    /// An attempt, from its beginning to its end.
    Attempt,
    /// So many records were lost, or refused together with what they were of.
    Lost,
    /// An event of a later program.
    #[serde(other)]
    Other,
}

/// A line, to be written or as it was read. What is not known of it is left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    pub(crate) v: u32,
    pub(crate) time: Cow<'a, str>,
    pub(crate) event: Event,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) required: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alone: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) callers: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) callers_omitted: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) route: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) isolation: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What records of one run have in common.
pub(super) struct Run {
    /// Tells runs apart, in the ids of attempts.
    pub(super) id: String,
    /// The app's name.
    pub(super) app: String,
    /// Keys the hash of isolation keys. It is random, so that hashes of different runs cannot be compared.
    pub(super) isolation_key: [u8; 32],
}

impl Record<'_> {
    /// The run that it is of.
    pub(crate) fn run(&self) -> &str {
        let id = self.id.as_deref().unwrap_or_default();
        id.split_once('-').map_or(id, |(run, _)| run)
    }

    pub(super) fn new(event: Event, time: SystemTime) -> Self {
        Self {
            v: VERSION,
            time: timestamp(time),
            event,
            id: None,
            app: None,
            pid: None,
            required: None,
            alone: None,
            kind: None,
            unit: None,
            callers: Vec::new(),
            callers_omitted: 0,
            trace: None,
            route: Vec::new(),
            isolation: None,
            method: None,
            scheme: None,
            host: None,
            port: None,
            peer: None,
            secret: None,
            verdict: None,
            rule: None,
            end: None,
            sent: None,
            received: None,
            duration_ms: None,
            count: None,
        }
    }

    /// Appends the record to `lines`, as one.
    pub(super) fn write_to(&self, lines: &mut Vec<u8>) {
        // The keys of its maps are text, and its numbers are in range.
        let Ok(json) = serde_json::to_string(self) else { return };
        // A name may be of a guest, and the file is shown on terminals.
        lines.extend_from_slice(report::terminal_safe(&json).as_bytes());
        lines.push(b'\n');
    }
}

impl<'a> Record<'a> {
    /// What is known of an attempt when it begins.
    pub(super) fn of_attempt(event: Event, attempt: &'a Attempt, run: &Run) -> Self {
        let route = match &attempt.route {
            Route::Clearnet => vec!["clearnet".into()],
            Route::Network(id) => {
                std::iter::once(id).chain(&attempt.via).map(|id| id.as_str().into()).collect()
            }
        };
        let isolation = attempt.isolation.as_ref().map(|key| run.hash(key.as_str()).into());
        Self {
            id: Some(format!("{}-{}", run.id, attempt.id).into()),
            kind: Some(attempt.kind.as_str().into()),
            unit: unit(&attempt.unit),
            callers: attempt.callers.nearest().iter().filter_map(unit).collect(),
            callers_omitted: attempt.callers.omitted(),
            trace: attempt.trace_id.as_deref().map(bounded),
            route,
            isolation,
            method: attempt.method.as_deref().map(bounded),
            scheme: attempt.scheme.map(Cow::Borrowed),
            host: attempt.destination.host().map(|host| bounded_owned(host.to_string())),
            port: attempt.destination.port(),
            secret: attempt.secret.as_deref().map(bounded),
            verdict: Some("allowed".into()),
            rule: attempt.verdict.rule.as_deref().map(bounded),
            ..Self::new(event, attempt.time)
        }
    }

    /// What is known of an attempt when it has ended.
    pub(super) fn of_end(event: Event, attempt: &'a Attempt, outcome: &'a Outcome, run: &Run) -> Self {
        let is_refused = outcome.verdict.is_refused;
        Self {
            peer: outcome.peer.map(|peer| peer.to_string().into()),
            verdict: Some(if is_refused { "refused" } else { "allowed" }.into()),
            rule: outcome.verdict.rule.as_deref().map(bounded),
            end: Some(outcome.end.as_str().into()),
            sent: Some(outcome.sent),
            received: Some(outcome.received),
            time: timestamp(attempt.time.checked_add(outcome.duration).unwrap_or(attempt.time)),
            duration_ms: Some((outcome.duration.as_secs_f64() * 1e6).round() / 1e3),
            ..Self::of_attempt(event, attempt, run)
        }
    }

    /// The same, of several attempts of one unit, whatever else they have in common.
    pub(super) fn of_merged(merged: &'a Merged, run: &Run) -> Self {
        let (attempt, outcome) = (&*merged.attempt, &merged.outcome);
        let mut record =
            Self { count: Some(merged.count), ..Self::of_end(Event::Attempt, attempt, outcome, run) };
        if !merged.are_alike {
            record = Self { host: None, port: None, rule: None, secret: None, route: Vec::new(), ..record };
        }
        if !merged.are_alike || !outcome.verdict.is_refused {
            record = Self { id: None, method: None, scheme: None, ..record };
        }
        if !outcome.verdict.is_refused {
            // Each came from somewhere and ended in its own way.
            record = Self { callers: Vec::new(), callers_omitted: 0, trace: None, isolation: None, ..record };
            record = Self { peer: None, end: None, duration_ms: None, ..record };
        }
        record
    }

    /// That the app has started or stopped.
    pub(super) fn of_run(event: Event, run: &'a Run) -> Self {
        let (id, app) = (Some(run.id.as_str().into()), Some(bounded(&run.app)));
        Self { id, app, pid: Some(std::process::id()), ..Self::new(event, SystemTime::now()) }
    }

    /// That `count` records of `unit` are missing.
    pub(super) fn of_lost(unit: &'a Unit, count: u64, time: SystemTime) -> Self {
        Self { unit: self::unit(unit), count: Some(count), ..Self::new(Event::Lost, time) }
    }
}

impl Run {
    fn hash(&self, isolation: &str) -> String {
        use sha2::{Digest as _, Sha256};

        let hash = Sha256::new().chain_update(self.isolation_key).chain_update(isolation).finalize();
        data_encoding::HEXLOWER.encode(&hash[..8])
    }
}

fn timestamp(time: SystemTime) -> Cow<'static, str> {
    // A clock before 1970 or after 9999 is wrong, and is not shown otherwise.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, latest)).to_string().into()
}

/// A unit in text, such as `function app:greet`.
pub(super) fn unit(unit: &Unit) -> Option<Cow<'_, str>> {
    Some(bounded_owned(format!("{} {}", unit.kind()?, unit.name()?)))
}

fn bounded(text: &str) -> Cow<'_, str> {
    shorten(text, MAX_TEXT)
}

fn bounded_owned(text: String) -> Cow<'static, str> {
    if text.len() <= MAX_TEXT { Cow::Owned(text) } else { Cow::Owned(bounded(&text).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_ends_it_or_is_obeyed_by_a_terminal() {
        let mut lines = Vec::new();
        let name = "a\nb\u{1b}[2J\u{9b}m\u{202e}\u{2028}\u{7f}\"";
        let record = Record { trace: Some(name.into()), ..Record::new(Event::Attempt, SystemTime::now()) };
        record.write_to(&mut lines);
        let text = str::from_utf8(&lines).unwrap();
        assert_eq!(text.chars().filter(|character| character.is_control()).collect::<String>(), "\n");
        assert!(text.ends_with('\n') && text.is_ascii());
        let read: Record<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(read.trace.as_deref(), Some(name));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = "ä".repeat(MAX_TEXT);
        assert_eq!(bounded(&long), format!("{}…", "ä".repeat(MAX_TEXT / 2)));
        assert_eq!(bounded("short"), "short");
    }

    #[test]
    fn isolation_keys_are_told_apart_within_a_run_only() {
        let run = |byte| Run { id: String::new(), app: String::new(), isolation_key: [byte; 32] };
        assert_eq!(run(1).hash("tenant"), run(1).hash("tenant"));
        assert_ne!(run(1).hash("tenant"), run(1).hash("other"));
        assert_ne!(run(1).hash("tenant"), run(2).hash("tenant"));
    }

    #[test]
    fn events_of_later_programs_are_read() {
        let line = r#"{"v":1,"time":"","event":"renewed","new":[1]}"#;
        assert_eq!(serde_json::from_str::<Record<'_>>(line).unwrap().event, Event::Other);
    }
}
