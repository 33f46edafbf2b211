//! The thread that writes the audit log.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use frame_net::Unit;
use frame_net::audit::Unrecorded;
use tokio::sync::oneshot;

use super::AuditConfig;
use super::file::LogFile;
use super::line::{Event, Record, Run};
use super::queue::{Batch, Entry, Queue};

/// How much is written at once. A batch that is longer is written in several steps.
const CHUNK: usize = 256 << 10;

/// Writes what is in the queue to the file.
pub(super) struct Writer {
    file: LogFile,
    queue: Arc<Queue>,
    run: Run,
    is_required: bool,
    does_sync: bool,
    is_failing: bool,
    lines: Vec<u8>,
    /// What the lines are of.
    pending: Vec<Pending>,
}

/// A line that is to be written.
struct Pending {
    /// Where it ends in the lines.
    end: usize,
    unit: Unit,
    /// How many records it stands for.
    records: u64,
    /// What waits for it.
    done: Option<oneshot::Sender<Result<(), Unrecorded>>>,
}

impl Writer {
    pub(super) fn new(file: LogFile, config: &AuditConfig, app: &str, queue: Arc<Queue>) -> io::Result<Self> {
        let (mut id, mut isolation_key) = ([0; 4], [0; 32]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut isolation_key)?;
        Ok(Self {
            file,
            queue,
            run: Run { id: HEXLOWER.encode(&id), app: app.to_owned(), isolation_key },
            is_required: config.required,
            does_sync: config.sync,
            is_failing: false,
            lines: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// Writes that the app has started.
    pub(super) fn write_start(&mut self) -> io::Result<()> {
        let record = Record {
            required: Some(self.is_required),
            alone: Some(self.file.is_alone()),
            ..Record::of_run(Event::Start, &self.run)
        };
        record.write_to(&mut self.lines);
        let written = self.file.append(&self.lines).map_err(|(_, error)| error);
        self.lines.clear();
        written
    }

    /// Writes until the queue is closed, and then that the app has stopped.
    pub(super) fn run(mut self) {
        loop {
            let batch = self.queue.next();
            let is_last = batch.is_last;
            self.write(batch);
            if is_last {
                return;
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        let Batch { entries, merged, lost, flushes, is_last } = batch;
        if entries.is_empty() {
            // Otherwise that is done where they are written.
            let reopened = self.file.reopen_if_moved();
            self.report(reopened.err().as_ref());
        }
        self.add_lost(lost);
        for entry in entries {
            let (unit, done) = match entry {
                Entry::Open(attempt, done) => {
                    Record::of_attempt(Event::Open, &attempt, &self.run).write_to(&mut self.lines);
                    (attempt.unit.clone(), Some(done))
                }
                Entry::End(attempt, outcome) => {
                    let has_open = self.is_required && outcome.is_begun;
                    let event = if has_open { Event::Close } else { Event::Attempt };
                    Record::of_end(event, &attempt, &outcome, &self.run).write_to(&mut self.lines);
                    (attempt.unit.clone(), None)
                }
            };
            self.pending.push(Pending { end: self.lines.len(), unit, records: 1, done });
            if self.lines.len() >= CHUNK {
                self.flush();
            }
        }
        for merged in merged {
            Record::of_merged(&merged, &self.run).write_to(&mut self.lines);
            let (unit, end) = (merged.attempt.unit.clone(), self.lines.len());
            self.pending.push(Pending { end, unit, records: merged.count, done: None });
        }
        if is_last {
            Record::of_run(Event::Stop, &self.run).write_to(&mut self.lines);
        }
        self.flush();
        for flush in flushes {
            // It may not be waited for any more.
            let _ = flush.send(());
        }
    }

    fn add_lost(&mut self, lost: HashMap<Unit, u64>) {
        let now = SystemTime::now();
        for (unit, records) in lost {
            Record::of_lost(&unit, records, now).write_to(&mut self.lines);
            self.pending.push(Pending { end: self.lines.len(), unit, records, done: None });
        }
    }

    /// Writes the lines, and tells what waits for them. Of what could not be written the number is kept.
    fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = self.file.append(&self.lines).and_then(|()| {
            let synced = if self.does_sync { self.file.sync() } else { Ok(()) };
            synced.map_err(|error| (0, error))
        });
        let (written, error) = match written {
            Ok(()) => (self.lines.len(), None),
            Err((written, error)) => (written, Some(error)),
        };
        self.report(error.as_ref());
        let reason: Arc<str> = error.map(|error| error.to_string()).unwrap_or_default().into();
        for Pending { end, unit, records, done } in self.pending.drain(..) {
            let is_written = end <= written;
            if !is_written {
                self.queue.count_lost(&unit, records);
            }
            if let Some(done) = done {
                let reason = Arc::clone(&reason);
                let _ = done.send(if is_written { Ok(()) } else { Err(Unrecorded::Failed { reason }) });
            }
        }
        self.lines.clear();
    }

    /// Says in the log when writing begins to fail, and when it succeeds again.
    fn report(&mut self, error: Option<&io::Error>) {
        match (error, self.is_failing) {
            (Some(error), false) if self.is_required => {
                tracing::error!(
                    "the audit log cannot be written: {error}; what would leave is refused until it can"
                );
            }
            (Some(error), false) => {
                tracing::error!("the audit log cannot be written: {error}; records are lost until it can");
            }
            (None, true) => tracing::info!("the audit log is written again"),
            _ => {}
        }
        self.is_failing = error.is_some();
    }
}
