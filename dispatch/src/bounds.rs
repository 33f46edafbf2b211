//! What ends a call before it is done: cancellation, a deadline, and the termination of its process.

use std::future::{Future, pending, poll_fn};
use std::iter::successors;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::CallError;

/// When a call has to end. A call inside another has the same bounds, or narrower ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    cancellation: Option<Arc<Cancellation>>,
    deadline: Option<Instant>,
}

/// A token, and those that were there before it: any of them cancels.
#[derive(Debug)]
struct Cancellation {
    token: CancellationToken,
    outer: Option<Arc<Cancellation>>,
}

impl Bounds {
    pub(crate) fn with_cancellation(&self, token: CancellationToken) -> Self {
        let outer = self.cancellation.clone();
        Self { cancellation: Some(Arc::new(Cancellation { token, outer })), deadline: self.deadline }
    }

    pub(crate) fn with_deadline(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |outer| outer.min(deadline));
        Self { cancellation: self.cancellation.clone(), deadline: Some(deadline) }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancellation.as_ref().is_some_and(|all| all.outwards().any(|link| link.token.is_cancelled()))
    }

    /// Returns whether nothing ends the call.
    #[inline]
    pub(crate) const fn are_none(&self) -> bool {
        self.cancellation.is_none() && self.deadline.is_none()
    }

    /// Returns whether the deadline has passed.
    pub(crate) fn is_past(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    pub(crate) fn check(&self) -> Result<(), CallError> {
        if self.is_cancelled() {
            return Err(CallError::cancelled());
        }
        if self.is_past() {
            return Err(CallError::deadline());
        }
        Ok(())
    }

    pub(crate) async fn cancelled(&self) {
        match &self.cancellation {
            Some(cancellation) => cancellation.cancelled().await,
            None => pending().await,
        }
    }

    /// Waits until one of the bounds is reached, and says which.
    pub(crate) async fn reached(&self) -> CallError {
        let deadline = async {
            // Tokio's timer adds to a deadline, so one at the end of time would overflow.
            match self.deadline.filter(|deadline| deadline.checked_add(Duration::from_secs(1)).is_some()) {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.cancelled() => CallError::cancelled(),
            () = deadline => CallError::deadline(),
        }
    }
}

impl Cancellation {
    /// This one, and those that were there before it. In a loop, however many they are.
    fn outwards(&self) -> impl Iterator<Item = &Self> {
        successors(Some(self), |link| link.outer.as_deref())
    }

    async fn cancelled(&self) {
        if self.outer.is_none() {
            return self.token.cancelled().await;
        }
        let mut waiting: Vec<_> = self.outwards().map(|link| Box::pin(link.token.cancelled())).collect();
        poll_fn(|waker| {
            let is_cancelled = waiting.iter_mut().any(|cancelled| cancelled.as_mut().poll(waker).is_ready());
            if is_cancelled { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        // One after the other, and not each inside the drop of the one before it.
        let mut outer = self.outer.take();
        while let Some(mut last_user) = outer.and_then(Arc::into_inner) {
            outer = last_user.outer.take();
        }
    }
}

/// The termination of a process, which ends what it called. It has begun from when the process is being terminated, or has
/// ended.
#[derive(Debug, Default)]
pub(crate) struct Termination {
    has_begun: AtomicBool,
    /// Made by the first that waits.
    begun: OnceLock<Box<Notify>>,
}

impl Termination {
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(begun) = self.begun.get() {
            begun.notify_waiters();
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits until it has begun.
    pub(crate) async fn begun(&self) {
        if self.has_begun() {
            return;
        }
        // Made before the next look, it is notified of what comes after that.
        let begun = self.begun.get_or_init(Box::default).notified();
        // With the fence in `begin`: either this sees that it has begun, or `begin` sees the `Notify`.
        fence(Ordering::SeqCst);
        if !self.has_begun() {
            begun.await;
        }
    }
}
