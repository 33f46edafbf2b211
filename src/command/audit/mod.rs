//! `frame audit`.

mod lines;
mod summary;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use self::lines::{FollowedFile, Line, Lines};
use self::summary::{Summary, event_line};
use super::{Failure, Format};
use crate::audit::{Event, Record};
use crate::exit::Exit;
use crate::report;

/// How many records `--follow` shows of those that are there, unless `--since` says from when on.
const SHOWN_FIRST: usize = 10;

/// Summarises an audit log: what each unit connected to, how many bytes went each way, and what was refused.
///
/// The log is the file that `[audit]` of the manifest names, or one that was rotated. Lines that are not records are
/// skipped and counted: the end of a line is missing where the disk was full or the program was killed.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// The log, or `-` for standard input.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Show each record as it is written, and go on when the file is rotated.
    #[arg(long, short)]
    follow: bool,
    /// Only records of this unit: `app:greet`, or `function app:greet`.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Only attempts that were refused.
    #[arg(long)]
    refused: bool,
    /// Only records from this time on: RFC 3339, or how long ago, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// How to print it. With `--follow` each record is printed as it is in the log.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Reads a point in time, or a duration before now.
fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "write a time such as 2026-01-31T12:00:00Z, or how long ago such as 1h30m".to_owned())?;
    Ok(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
}

impl AuditArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let is_stdin = self.file.as_os_str() == "-";
        if is_stdin && io::stdin().is_terminal() {
            return Err(Failure::usage(
                "standard input is a terminal; pipe an audit log to it, or name the file",
            ));
        }
        match (is_stdin, self.follow) {
            (true, true) => self.follow_stdin(),
            (false, true) => self.follow_file(),
            (true, false) => self.summarise(io::stdin().lock()),
            (false, false) => {
                self.summarise(File::open(&self.file).map_err(|error| self.unreadable(&error))?)
            }
        }
    }

    fn summarise(&self, log: impl Read) -> Result<Exit, Failure> {
        let (mut lines, mut summary) = (Lines::new(log), Summary::default());
        while let Some(line) = lines.next().map_err(|error| self.unreadable(&error))? {
            match read(&line) {
                Parsed::Record(record) => {
                    summary.look_at_run(&record);
                    if self.selects(&record) {
                        summary.add(&record);
                    }
                }
                Parsed::Empty => {}
                Parsed::Newer => summary.newer += 1,
                Parsed::Invalid => summary.skipped += 1,
            }
        }
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&summary.to_json())?)?,
            Format::Table => report::print(&summary.to_string().trim_end())?,
        }
        Ok(Exit::Done)
    }

    fn follow_stdin(&self) -> Result<Exit, Failure> {
        let mut lines = Lines::new(io::stdin().lock());
        while let Some(line) = lines.next()? {
            if let Some(shown) = self.shown(&line)
                && !report::print_next(&shown)?
            {
                break;
            }
        }
        Ok(Exit::Done)
    }

    fn follow_file(&self) -> Result<Exit, Failure> {
        /// How long until it is looked for more.
        const INTERVAL: Duration = Duration::from_millis(200);

        let mut log = FollowedFile::open(&self.file).map_err(|error| self.unreadable(&error))?;
        let most = if self.since.is_some() { usize::MAX } else { SHOWN_FIRST };
        let mut first = VecDeque::new();
        while let Some(line) = log.next()? {
            let Some(shown) = self.shown(&line) else { continue };
            if most == usize::MAX {
                if !report::print_next(&shown)? {
                    return Ok(Exit::Done);
                }
                continue;
            }
            first.push_back(shown);
            if first.len() > most {
                first.pop_front();
            }
        }
        for shown in first {
            if !report::print_next(&shown)? {
                return Ok(Exit::Done);
            }
        }
        loop {
            while let Some(line) = log.next()? {
                if let Some(shown) = self.shown(&line)
                    && !report::print_next(&shown)?
                {
                    return Ok(Exit::Done);
                }
            }
            if !log.advance()? {
                std::thread::sleep(INTERVAL);
            }
        }
    }

    /// A line as it is shown, if it is to be.
    fn shown(&self, line: &Line<'_>) -> Option<String> {
        let Parsed::Record(record) = read(line) else { return None };
        if !self.selects(&record) {
            return None;
        }
        match (self.format, line) {
            // As it is, so that fields of later programs are kept.
            (Format::Json, Line::Whole(bytes)) => Some(str::from_utf8(bytes).ok()?.trim().to_owned()),
            _ => Some(report::one_line(&event_line(&record))),
        }
    }

    fn selects(&self, record: &Record<'_>) -> bool {
        let is_refused = || record.verdict.as_deref() == Some("refused");
        let is_of_unit = |unit: &String| {
            let of = record.unit.as_deref().unwrap_or_default();
            of == unit || of.split_once(' ').is_some_and(|(_, id)| id == unit)
        };
        let is_since =
            |since: &SystemTime| humantime::parse_rfc3339(&record.time).is_ok_and(|time| time >= *since);
        (!self.refused || is_refused())
            && self.unit.as_ref().is_none_or(is_of_unit)
            && self.since.as_ref().is_none_or(is_since)
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::usage(format_args!("the audit log {} cannot be read: {error}", self.file.display()))
    }
}

/// What a line is.
enum Parsed<'a> {
    Record(Box<Record<'a>>),
    Empty,
    /// A record of a version that is not known here.
    Newer,
    Invalid,
}

fn read<'a>(line: &Line<'a>) -> Parsed<'a> {
    let Line::Whole(bytes) = *line else { return Parsed::Invalid };
    if bytes.trim_ascii().is_empty() {
        return Parsed::Empty;
    }
    match serde_json::from_slice::<Record<'_>>(bytes) {
        Ok(record) if record.v > crate::audit::VERSION || record.event == Event::Other => Parsed::Newer,
        Ok(record) => Parsed::Record(Box::new(record)),
        Err(_) => {
            #[derive(serde::Deserialize)]
            struct Version {
                v: u32,
            }
            let version = serde_json::from_slice::<Version>(bytes);
            if version.is_ok_and(|version| version.v > crate::audit::VERSION) {
                Parsed::Newer
            } else {
                Parsed::Invalid
            }
        }
    }
}
