//! A thread of the operating system: how much processor time it has used, and its priority.

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
