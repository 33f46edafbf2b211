//! Admission: who may begin a call, and how the last one that ends is waited for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Counts the calls that come from outside, and stops admitting them when it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    running: AtomicUsize,
    is_closed: AtomicBool,
    /// Notified when the last admitted call of a closed gate ends.
    is_idle: Notify,
    is_stopped: AtomicBool,
    stopped: CancellationToken,
}

/// An admitted call, until it is dropped.
pub(crate) struct Admitted<'a>(&'a Gate);

impl Gate {
    pub(crate) fn enter(&self) -> Option<Admitted<'_>> {
        // Both here and in `close` the write comes first, then the read, in one order for all: so either this sees
        // that the gate is closed, or whoever closes it sees this call.
        self.running.fetch_add(1, Ordering::SeqCst);
        let admitted = Admitted(self);
        (!self.is_closed.load(Ordering::SeqCst)).then_some(admitted)
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
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
        self.is_stopped.store(true, Ordering::SeqCst);
        self.stopped.cancel();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_closed() {
            self.0.is_idle.notify_waiters();
        }
    }
}
