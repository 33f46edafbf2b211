//! How much a call may have under way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasmtime_wasi_http::Error;

/// How many requests at once.
const MAX_REQUESTS: usize = 16;

/// What one call may have under way at once: requests, and bytes of their bodies.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    requests: Arc<Semaphore>,
    body_bytes: Arc<Semaphore>,
    /// The bytes that there are at first.
    max_body: u64,
}

/// A part of a budget that is taken. It is given back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

impl Budget {
    /// For bodies of at most `max_body` bytes together.
    pub(super) fn new(max_body: u64) -> Self {
        let bytes = usize::try_from(max_body).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            body_bytes: Arc::new(Semaphore::new(bytes)),
            max_body,
        }
    }

    /// A request's place among the others, as soon as there is one, in the order in which they ask.
    pub(super) async fn request(&self, patience: Duration) -> Result<Share, Error> {
        let place = timeout(patience, Arc::clone(&self.requests).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(Error::ConnectionLimitReached)
    }

    /// Room for so many bytes of a body, and first for none.
    pub(super) fn body(&self, bytes: usize) -> Result<Share, Error> {
        let taken = u32::try_from(bytes).ok();
        let taken = taken.and_then(|bytes| Arc::clone(&self.body_bytes).try_acquire_many_owned(bytes).ok());
        taken.ok_or(Error::HttpRequestBodySize(Some(self.max_body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_their_bytes_and_give_them_back() {
        let budget = Budget::new(10);
        let first = budget.body(6).unwrap();
        assert!(matches!(budget.body(5), Err(Error::HttpRequestBodySize(Some(10)))));
        let second = budget.body(4).unwrap();
        drop(first);
        assert!(budget.body(6).is_ok());
        drop(second);
    }

    #[test]
    fn a_limit_that_no_semaphore_can_have_is_none() {
        assert!(Budget::new(u64::MAX).body(1 << 20).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_requests_at_once_and_further_ones_wait() {
        let budget = Budget::new(0);
        let patience = Duration::from_secs(30);
        let mut taken = Vec::new();
        for _ in 0..MAX_REQUESTS {
            taken.push(budget.request(patience).await.unwrap());
        }
        assert!(matches!(budget.request(patience).await, Err(Error::ConnectionLimitReached)));
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.request(patience).await.is_ok() }
        });
        tokio::task::yield_now().await;
        taken.pop();
        assert!(waiting.await.unwrap());
    }
}
