//! What a call inherits from its callers: what ends it before it is done, and the permits that they hold.

use std::future::{Future, pending, poll_fn};
use std::iter::successors;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::pid::Pid;

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

/// Identifies a limit that calls hold permits of, such as a pool. No two limits have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitId(u64);

impl LimitId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The mailbox of a process. A process that waits for the chain of calls holds it, because it receives nothing meanwhile.
    pub(crate) const fn mailbox_of(process: Pid) -> Self {
        // Numbers of PIDs and of other limits both count up from zero, and neither gets as far as this bit.
        Self(process.number() | 1 << 63)
    }
}

/// The permits that a unit and its callers hold, so that no call waits for its own callers.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldPermits(Option<Arc<HeldLink>>);

#[derive(Debug)]
struct HeldLink {
    limit: LimitId,
    /// One that is acquired and released with it.
    second: Option<LimitId>,
    /// False once the permit is released: a context can outlive its call.
    is_held: AtomicBool,
    outer: Option<Arc<HeldLink>>,
}

/// Marks a permit as held until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(Arc<HeldLink>);

impl HeldPermits {
    /// Adds a permit of `limit` and one of `second`, which count until the mark is dropped.
    pub(crate) fn with(self, limit: LimitId, second: Option<LimitId>) -> (Self, Hold) {
        let link = Arc::new(HeldLink { limit, second, is_held: AtomicBool::new(true), outer: self.0 });
        (Self(Some(Arc::clone(&link))), Hold(link))
    }

    /// Returns whether one of the permits is of `limit`.
    pub(crate) fn contains(&self, limit: LimitId) -> bool {
        successors(self.0.as_deref(), |link| link.outer.as_deref())
            .filter(|link| link.limit == limit || link.second == Some(limit))
            .any(|link| link.is_held.load(Ordering::Acquire))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_held.store(false, Ordering::Release);
    }
}

impl Drop for HeldLink {
    fn drop(&mut self) {
        // In a loop, however long the chain is.
        let mut outer = self.outer.take();
        while let Some(mut last_user) = outer.and_then(Arc::into_inner) {
            outer = last_user.outer.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_counts_until_its_mark_is_dropped() {
        let (outer, inner, second) = (LimitId::next(), LimitId::next(), LimitId::next());
        let none = HeldPermits::default();
        let (first, first_hold) = none.clone().with(outer, None);
        let (both, hold_of_both) = first.clone().with(inner, Some(second));
        assert!(both.contains(outer) && both.contains(inner) && both.contains(second));
        assert!(first.contains(outer) && !first.contains(inner) && !none.contains(outer));
        drop(first_hold);
        assert!(!both.contains(outer) && both.contains(inner) && both.contains(second));
        drop(hold_of_both);
        assert!(!both.contains(inner) && !both.contains(second));
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut permits = HeldPermits::default();
        for _ in 0..1_000_000 {
            permits = permits.with(LimitId::next(), None).0;
        }
        drop(permits);
    }
}
