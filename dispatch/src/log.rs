//! What guests write to the log.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_registry::text;
use serde_json::Value as Json;
use tokio::time::Instant;
use tracing::Level;
use tracing::field::{Value, display};

use crate::context::CallContext;
use crate::frame::{FUNCTION, PID};
use crate::process::PROCESS;

/// How many bytes of a message the log shows.
pub(crate) const LONGEST: usize = 8 << 10;

/// How many lines, and bytes of them, one call writes at most; and a process in each [`PERIOD`].
const LINES: usize = 10_000;
const BYTES: usize = 1 << 20;

/// How long what a process may write has to last.
const PERIOD: Duration = Duration::from_mins(10);

/// The fields that a script logs with a message.
///
/// The event has them in its field `fields`, recorded with
/// [`record_error`](tracing::field::Visit::record_error): of all types that `tracing` records, only an error can be
/// downcast. So a subscriber that writes JSON can have them as members, and tells them from text that looks alike. For
/// others they are their JSON text, in which what is not [printable](frame_registry::text::is_printable) is escaped.
///
/// ```
/// use frame_dispatch::LogFields;
/// use tracing::field::{Field, Visit};
///
/// struct Visitor(Option<serde_json::Value>);
///
/// impl Visit for Visitor {
///     fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
///         if let Some(fields) = value.downcast_ref::<LogFields>() {
///             self.0 = Some(fields.as_json().clone());
///         } else {
///             self.record_debug(field, &tracing::field::display(value));
///         }
///     }
///
///     fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
/// }
/// ```
#[derive(Debug)]
pub struct LogFields {
    json: Json,
    text: Box<str>,
}

impl LogFields {
    /// Makes them of JSON, which should be an object.
    pub fn new(json: Json) -> Self {
        let text = json.to_string();
        let text = text::escape_json(&text).into();
        Self { json, text }
    }

    /// Returns them as the script passed them, with all characters.
    pub const fn as_json(&self) -> &Json {
        &self.json
    }
}

/// Their JSON text, on one line and printable.
impl fmt::Display for LogFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// So that subscribers can have them whole.
impl Error for LogFields {}

/// The log, for one call or one process. Clones share what there may still be.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    ctx: CallContext,
    budget: Arc<LogBudget>,
}

/// What one call or one process may still write.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<Left>);

#[derive(Debug)]
struct Left {
    lines: usize,
    bytes: usize,
    /// How many lines were left out because there were too many.
    dropped: u64,
    /// When the period began. `None` for a call, which has only one.
    since: Option<Instant>,
}

impl Default for Left {
    fn default() -> Self {
        Self { lines: LINES, bytes: BYTES, dropped: 0, since: None }
    }
}

impl Log {
    #[cfg(feature = "wasm")]
    pub(crate) fn new(ctx: CallContext) -> Self {
        Self::with_budget(ctx, Arc::default())
    }

    /// The log with what is left of its budget.
    pub(crate) const fn with_budget(ctx: CallContext, budget: Arc<LogBudget>) -> Self {
        Self { ctx, budget }
    }

    /// Writes one line, unless the budget is used up.
    pub(crate) fn write(
        &self,
        level: Level,
        stream: Option<&'static str>,
        message: &str,
        fields: Option<&LogFields>,
    ) {
        // The level of an event is part of its place in the code.
        macro_rules! event {
            ($level:expr) => {
                // What no subscriber wants does not count.
                if tracing::enabled!($level) && self.admit(message, fields) {
                    let (function, process, pid) = self.unit();
                    let fields = fields.map(|fields| fields as &(dyn Error + 'static));
                    let message = text::excerpt(message, LONGEST);
                    tracing::event!($level, function, process, pid, stream, fields, "{message}");
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

    /// Returns whether there may be one more line. Says it once where there may not, and how many were left out where there
    /// may be again.
    fn admit(&self, message: &str, fields: Option<&LogFields>) -> bool {
        let is_process = self.ctx.process().is_some();
        let mut left = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = 0;
        if is_process {
            let now = Instant::now();
            let since = *left.since.get_or_insert(now);
            if now - since >= PERIOD {
                missing = left.dropped;
                *left = Left { since: Some(now), ..Left::default() };
            }
        }
        // What is cut does not count.
        let length = message.len().min(LONGEST) + fields.map_or(0, |fields| fields.text.len());
        let room = left.lines.checked_sub(1).zip(left.bytes.checked_sub(length));
        let has_ended = left.dropped > 0;
        let room = room.filter(|_| !has_ended);
        match room {
            Some((lines, bytes)) => (left.lines, left.bytes) = (lines, bytes),
            None => left.dropped += 1,
        }
        drop(left);
        if missing > 0 {
            let (function, process, pid) = self.unit();
            tracing::warn!(function, process, pid, "{missing} lines of this process are not in the log");
        }
        if room.is_none() && !has_ended {
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
