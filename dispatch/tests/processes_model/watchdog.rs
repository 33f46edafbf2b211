//! Ends a test that hangs, and says in what.

use std::panic;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::puppet::PANICKED;

/// Longer than any history takes, also on a machine that is busy with something else.
const BOUND: Duration = Duration::from_mins(2);

/// A thread that locks up cannot be waited for, so it takes all of the tests with it.
pub(crate) struct Watchdog(Sender<String>);

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel::<String>();
        thread::spawn(move || {
            let mut watched = "the start of the test".to_owned();
            loop {
                match receiver.recv_timeout(BOUND) {
                    Ok(next) => watched = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("waited in vain for the end of {watched}");
                        std::process::abort();
                    }
                }
            }
        });
        Self(sender)
    }

    /// What comes now takes less than the bound.
    pub(crate) fn watch(&self, what: String) {
        let _ = self.0.send(what);
    }
}

/// Thousands of panics would print as many messages.
pub(crate) fn silence_panics_on_command() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(PANICKED) {
            before(panic);
        }
    }));
}
