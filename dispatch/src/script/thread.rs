//! A thread of the operating system: its processor time, its priority, and the signal that interrupts it.

#[cfg(all(feature = "lua", unix))]
use std::ffi::c_int;
#[cfg(all(feature = "lua", unix))]
use std::io;
#[cfg(feature = "lua")]
use std::sync::atomic::{AtomicI32, Ordering};
#[cfg(all(feature = "lua", unix))]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A thread. Other threads may use it as long as the thread has not ended.
pub(super) struct OsThread {
    #[cfg(target_os = "linux")]
    id: libc::pid_t,
    /// The clock of its processor time.
    #[cfg(target_os = "linux")]
    clock: Option<libc::clockid_t>,
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
impl OsThread {
    pub(super) fn current() -> Self {
        let mut clock = 0;
        // SAFETY: The thread runs, and the number is written to.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        Self {
            // SAFETY: It has no requirements.
            id: unsafe { libc::gettid() },
            clock: (failed == 0).then_some(clock),
        }
    }

    /// Returns the processor time that the thread has used. `None` where the system does not tell.
    pub(super) fn processor_time(&self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: The time is written to. A clock of a thread that has ended is an error.
        let failed = unsafe { libc::clock_gettime(self.clock?, &raw mut time) };
        let time = Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        (failed == 0).then_some(time)
    }

    /// Sets the lowest priority. An unprivileged process cannot raise it again.
    pub(super) fn demote(&self) {
        let priority = libc::sched_param { sched_priority: 0 };
        // SAFETY: The thread is one of this process, and the parameters are read. By number, because musl has
        // no function that does it for one thread.
        let refused = unsafe {
            libc::syscall(libc::SYS_sched_setscheduler, self.id, libc::SCHED_IDLE, &raw const priority) != 0
        };
        if refused && let Ok(id) = libc::id_t::try_from(self.id) {
            // SAFETY: It has no requirements. Linux sets the priority of one thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, id, 19) };
        }
    }
}

/// Nothing is known of threads here, so none is found to be stalled.
#[cfg(not(target_os = "linux"))]
impl OsThread {
    pub(super) const fn current() -> Self {
        Self {}
    }

    #[allow(clippy::unused_self)]
    pub(super) const fn processor_time(&self) -> Option<Duration> {
        None
    }

    #[allow(clippy::unused_self)]
    pub(super) const fn demote(&self) {}
}

/// The signal that interrupts a thread which runs a script. 0 until a handler is installed. No lock, which a fork could find
/// locked.
///
/// As in Go's runtime this is `SIGURG` by default: its default action is to be ignored, and few programs use it. Other
/// handlers of the signal stay, and are called for the clock's signals, too.
#[cfg(feature = "lua")]
static NUMBER: AtomicI32 = AtomicI32::new(0);

/// A thread that can be signalled.
#[cfg(feature = "lua")]
pub(super) struct SignalTarget {
    #[cfg(unix)]
    thread: libc::pthread_t,
}

#[cfg(feature = "lua")]
impl SignalTarget {
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

/// Runs `action` on every thread that is signalled, in the signal handler. The number is [`SIGURG`](libc::SIGURG) by
/// default. It is chosen once in a process.
///
/// # Safety
///
/// `action` does only what is allowed in a signal handler.
///
/// # Errors
///
/// If another number was chosen before, or no handler can be installed for this one.
#[cfg(all(feature = "lua", unix))]
#[allow(unsafe_code)]
pub(crate) unsafe fn install_signal(number: Option<c_int>, action: fn()) -> io::Result<()> {
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
