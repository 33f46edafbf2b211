//! What guests say, in the log.

use tracing::Level;

use crate::ctx::Ctx;
use crate::executor::{FUNCTION, PID};

/// How many bytes of a message the log shows.
pub(crate) const LONGEST: usize = 8 << 10;

/// Writes one line of the call that `ctx` is of.
pub(crate) fn write(ctx: &Ctx, level: Level, stream: Option<&'static str>, message: &str) {
    // The level of an event is part of its place in the code.
    macro_rules! event {
        ($level:expr) => {{
            let frame = ctx.frame();
            let function = frame.get(&FUNCTION).map(tracing::field::display);
            let pid = frame.get(&PID).map(tracing::field::display);
            tracing::event!($level, function, pid, stream, "{}", printable(message, LONGEST));
        }};
    }
    match level {
        Level::TRACE => event!(Level::TRACE),
        Level::DEBUG => event!(Level::DEBUG),
        Level::INFO => event!(Level::INFO),
        Level::WARN => event!(Level::WARN),
        Level::ERROR => event!(Level::ERROR),
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
