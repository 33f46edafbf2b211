//! What guests say, in the log.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;

use crate::ctx::Ctx;
use crate::executor::FUNCTION;
use crate::frame::PID;

/// How many bytes of a message the log shows.
pub(crate) const LONGEST: usize = 8 << 10;

/// How many lines, and bytes of them, one call writes at most.
const LINES: usize = 10_000;
const BYTES: usize = 1 << 20;

/// The log, for one call. Clones share what there may still be.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    ctx: Ctx,
    left: Arc<Mutex<Left>>,
}

/// What a call may still write.
#[derive(Debug)]
struct Left {
    lines: usize,
    bytes: usize,
    is_over: bool,
}

impl Log {
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self { ctx, left: Arc::new(Mutex::new(Left { lines: LINES, bytes: BYTES, is_over: false })) }
    }

    /// Writes one line, unless the call has written as much as it may.
    pub(crate) fn write(&self, level: Level, stream: Option<&'static str>, message: &str) {
        // The level of an event is part of its place in the code.
        macro_rules! event {
            ($level:expr) => {
                // What nobody wants to see does not count.
                if tracing::enabled!($level) && self.admit(message) {
                    let (function, pid) = self.call();
                    tracing::event!($level, function, pid, stream, "{}", printable(message, LONGEST));
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

    /// Whether there may be one more line. Says it once where there may not.
    fn admit(&self, message: &str) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_over {
            return false;
        }
        // What is cut does not count.
        let length = message.len().min(LONGEST);
        if let (Some(lines), Some(bytes)) = (left.lines.checked_sub(1), left.bytes.checked_sub(length)) {
            (left.lines, left.bytes) = (lines, bytes);
            return true;
        }
        left.is_over = true;
        drop(left);
        let (function, pid) = self.call();
        tracing::warn!(
            function,
            pid,
            "nothing more of this call is in the log: it may write {LINES} lines and {BYTES} bytes"
        );
        false
    }

    /// Which call it is.
    fn call(&self) -> (Option<impl tracing::Value>, Option<impl tracing::Value>) {
        let frame = self.ctx.frame();
        (frame.get(&FUNCTION).map(tracing::field::display), frame.get(&PID).map(tracing::field::display))
    }
}

/// Text of a guest, such that it cannot pass for more than one line, nor for anything but text: control characters are
/// escaped, and what is over `longest` bytes is cut.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut printable = String::with_capacity(kept.len());
    for character in kept.chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    if kept.len() < text.len() {
        printable.push('…');
    }
    printable
}
