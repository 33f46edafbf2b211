//! The signal that interrupts a thread which runs a script.
//!
//! As in Go's runtime this is `SIGURG` by default: its default action is to be ignored, and few programs use it. Other
//! handlers of the signal stay, and are called for the clock's signals, too.

use std::ffi::c_int;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The signal. `None` until a handler is installed.
static NUMBER: Mutex<Option<c_int>> = Mutex::new(None);

/// A thread that can be signalled.
pub(super) struct Target {
    #[cfg(unix)]
    thread: libc::pthread_t,
}

impl Target {
    #[cfg_attr(unix, allow(unsafe_code))]
    pub(super) fn current_thread() -> Self {
        Self {
            // SAFETY: It has no requirements.
            #[cfg(unix)]
            thread: unsafe { libc::pthread_self() },
        }
    }

    /// Sends the signal. The thread must not have ended.
    #[cfg_attr(unix, allow(unsafe_code))]
    pub(super) fn signal(&self) {
        #[cfg(unix)]
        if let Some(number) = *NUMBER.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: A thread takes itself off the clock before it ends, and waits until the clock has sent its signals.
            unsafe { libc::pthread_kill(self.thread, number) };
        }
    }
}

/// Has `action` run on every thread that is signalled, in the signal handler. The number is [`SIGURG`](libc::SIGURG) by
/// default. It is chosen once in a process.
///
/// # Safety
///
/// `action` does only what is allowed in a signal handler.
///
/// # Errors
///
/// If another number was chosen before, or no handler can be installed for this one.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) unsafe fn install(number: Option<c_int>, action: fn()) -> io::Result<()> {
    let mut installed = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
    let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    match (*installed, number) {
        (None, _) => {}
        (Some(installed), Some(number)) if installed != number => {
            return invalid(format!("this process uses signal {installed} already; all engines share one"));
        }
        (Some(_), _) => return Ok(()),
    }
    let number = number.unwrap_or(libc::SIGURG);
    if signal_hook_registry::FORBIDDEN.contains(&number) {
        return invalid(format!("signal {number} cannot be handled; choose another, such as SIGURG"));
    }
    // SAFETY: What `action` does is allowed.
    unsafe { signal_hook_registry::register(number, action) }?;
    *installed = Some(number);
    Ok(())
}
