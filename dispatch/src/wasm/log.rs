//! What guests say, in the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;
use tracing::field::{Value, display};

use crate::ctx::Ctx;
use crate::executor::FUNCTION;
use crate::frame::PID;
use crate::printable::printable;
use crate::process::PROCESS;

/// How many bytes of a message the log shows.
pub(crate) const LONGEST: usize = 8 << 10;

/// How many lines, and bytes of them, one call writes at most; and a process in each [`PERIOD`].
const LINES: usize = 10_000;
const BYTES: usize = 1 << 20;

/// How long what a process may write has to last.
const PERIOD: Duration = Duration::from_mins(10);

/// The log, for one call or one process. Clones share what there may still be.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    ctx: Ctx,
    left: Arc<Mutex<Left>>,
}

/// What may still be written.
#[derive(Debug)]
struct Left {
    lines: usize,
    bytes: usize,
    /// How many lines were left out because there were too many.
    dropped: u64,
    /// Since when; none for a call, which is over before long.
    since: Option<Instant>,
}

impl Left {
    const fn new(since: Option<Instant>) -> Self {
        Self { lines: LINES, bytes: BYTES, dropped: 0, since }
    }
}

impl Log {
    pub(crate) fn new(ctx: Ctx) -> Self {
        let since = ctx.process().map(|_| Instant::now());
        Self { ctx, left: Arc::new(Mutex::new(Left::new(since))) }
    }

    /// Writes one line, unless as much is written as may be.
    pub(crate) fn write(&self, level: Level, stream: Option<&'static str>, message: &str) {
        // The level of an event is part of its place in the code.
        macro_rules! event {
            ($level:expr) => {
                // What nobody wants to see does not count.
                if tracing::enabled!($level) && self.admit(message) {
                    let (function, process, pid) = self.unit();
                    let message = printable(message, LONGEST);
                    tracing::event!($level, function, process, pid, stream, "{message}");
                }
            };
        }
        match level {
            Level::TRACE => event!(Level::TRACE),
            Level::DEBUG => event!(Level::DEBUG),
            Level::INFO => event!(Level::INFO),
            Level::WARN => event!(Level::WARN),
            Level::ERROR => event!(Level::ERROR),
        }
    }

    /// Whether there may be one more line. Says it once where there may not, and how many were left out where there may be
    /// again.
    fn admit(&self, message: &str) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = 0;
        if left.since.is_some_and(|since| since.elapsed() >= PERIOD) {
            missing = left.dropped;
            *left = Left::new(Some(Instant::now()));
        }
        // What is cut does not count.
        let length = message.len().min(LONGEST);
        let room = left.lines.checked_sub(1).zip(left.bytes.checked_sub(length));
        let is_over = left.dropped > 0;
        let room = room.filter(|_| !is_over);
        match room {
            Some((lines, bytes)) => (left.lines, left.bytes) = (lines, bytes),
            None => left.dropped += 1,
        }
        let is_process = left.since.is_some();
        drop(left);
        if missing > 0 {
            let (function, process, pid) = self.unit();
            tracing::warn!(function, process, pid, "{missing} lines of this process are not in the log");
        }
        if room.is_none() && !is_over {
            self.warn(is_process);
        }
        room.is_some()
    }

    fn warn(&self, is_process: bool) {
        let (function, process, pid) = self.unit();
        let may = format_args!("it may write {LINES} lines and {BYTES} bytes");
        if is_process {
            let minutes = PERIOD.as_secs() / 60;
            tracing::warn!(
                function,
                process,
                pid,
                "nothing more of this process is in the log for now: {may} in {minutes} minutes"
            );
        } else {
            tracing::warn!(function, process, pid, "nothing more of this call is in the log: {may}");
        }
    }

    /// Which call or process it is.
    fn unit(&self) -> (impl Value, impl Value, impl Value) {
        let frame = self.ctx.frame();
        let (function, process) = (frame.get(&FUNCTION), frame.get(&PROCESS));
        (function.map(display), process.map(display), frame.get(&PID).map(display))
    }
}
