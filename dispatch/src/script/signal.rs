//! The signal that interrupts a thread which runs a script.
//!
//! As in Go's runtime this is `SIGURG` by default: its default action is to be ignored, and few programs use it. Other
//! handlers of the signal stay, and are called for the clock's signals, too.

use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The signal. 0 until a handler is installed. No lock, which a fork could find locked.
static NUMBER: AtomicI32 = AtomicI32::new(0);

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
        {
            let number = NUMBER.load(Ordering::Relaxed);
            if number != 0 {
                // SAFETY: A thread takes itself off the clock before it ends, and waits until the clock has sent its
                // signals.
                unsafe { libc::pthread_kill(self.thread, number) };
            }
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
    static INSTALLING: Mutex<()> = Mutex::new(());

    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
    let is_installed = || match (NUMBER.load(Ordering::Relaxed), number) {
        (0, _) => Ok(false),
        (installed, Some(number)) if installed != number => {
            Err(invalid(format!("this process uses signal {installed} already; all engines share one")))
        }
        _ => Ok(true),
    };
    if is_installed()? {
        return Ok(());
    }
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if is_installed()? {
        return Ok(());
    }
    let number = number.unwrap_or(libc::SIGURG);
    if signal_hook_registry::FORBIDDEN.contains(&number) {
        return Err(invalid(format!("signal {number} cannot be handled; choose another, such as SIGURG")));
    }
    // SAFETY: What `action` does is allowed.
    unsafe { signal_hook_registry::register(number, action) }?;
    NUMBER.store(number, Ordering::Relaxed);
    Ok(())
}
