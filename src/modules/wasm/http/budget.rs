//! How much a call may have under way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasmtime_wasi_http::Error;

/// How many requests at once.
const MAX_REQUESTS: usize = 16;

/// The requests that one call may have under way at once.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A place in a budget that is taken. It is given back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_REQUESTS)))
    }

    /// A request's place among the others, as soon as there is one, in the order in which they ask.
    pub(super) async fn request(&self, patience: Duration) -> Result<Share, Error> {
        let place = timeout(patience, Arc::clone(&self.0).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(Error::ConnectionLimitReached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_requests_at_once_and_further_ones_wait() {
        let budget = Budget::new();
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
