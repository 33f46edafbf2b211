//! Admission: who may begin a call, and how the last one that ends is waited for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Counts the calls that come from outside, and stops admitting them when it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// [`CLOSED`], and [`CALL`] for each admitted call that runs. One word, so that no call is admitted behind the back
    /// of whoever closes it, and none counted that is not admitted.
    state: AtomicUsize,
    /// Notified when the last admitted call of a closed gate ends.
    is_idle: Notify,
    is_stopped: AtomicBool,
    stopped: CancellationToken,
}

const CLOSED: usize = 1;
const CALL: usize = 2;

/// An admitted call, until it is dropped.
pub(crate) struct Admitted<'a>(&'a Gate);

impl Gate {
    pub(crate) fn enter(&self) -> Option<Admitted<'_>> {
        let enter = |state: usize| (state & CLOSED == 0).then(|| state + CALL);
        let entered = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter);
        entered.is_ok().then(|| Admitted(self))
    }

    pub(crate) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    pub(crate) fn running(&self) -> usize {
        self.state.load(Ordering::Acquire) / CALL
    }

    /// Waits, once the gate is closed, until no admitted call runs.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.is_idle.notified();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Cancels what runs.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stopped.cancel();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(CALL, Ordering::AcqRel) == CALL | CLOSED {
            self.0.is_idle.notify_waiters();
        }
    }
}
