//! Admission: who may begin a call, and how the last one that ends is waited for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Counts the calls that run. Closed it admits none from outside, and stopped none at all.
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

/// No call from outside is admitted.
const CLOSED: usize = 1;
/// No call is admitted.
const STOPPED: usize = 2;
const CALL: usize = 4;

/// An admitted call, until it is dropped.
pub(crate) struct Admitted<'a>(&'a Gate);

impl Gate {
    /// Admits a call from outside.
    pub(crate) fn enter(&self) -> Option<Admitted<'_>> {
        self.enter_unless(CLOSED)
    }

    /// Admits a call inside another. That may have ended, where its `CallContext` outlived it.
    pub(crate) fn enter_inside(&self) -> Option<Admitted<'_>> {
        self.enter_unless(STOPPED)
    }

    fn enter_unless(&self, refused: usize) -> Option<Admitted<'_>> {
        let enter = |state: usize| (state & refused == 0).then(|| state + CALL);
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
        self.state.fetch_or(CLOSED | STOPPED, Ordering::AcqRel);
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
        let before = self.0.state.fetch_sub(CALL, Ordering::AcqRel);
        if before & CLOSED != 0 && before / CALL == 1 {
            self.0.is_idle.notify_waiters();
        }
    }
}
