//! What ends a call before it is done: cancellation, and a deadline.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

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
        let mut link = self.cancellation.as_deref();
        while let Some(Cancellation { token, outer }) = link {
            if token.is_cancelled() {
                return true;
            }
            link = outer.as_deref();
        }
        false
    }

    pub(crate) fn check(&self) -> Result<(), CallError> {
        if self.is_cancelled() {
            return Err(CallError::cancelled());
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
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
    async fn cancelled(&self) {
        match &self.outer {
            Some(outer) => tokio::select! {
                () = self.token.cancelled() => (),
                () = Box::pin(outer.cancelled()) => (),
            },
            None => self.token.cancelled().await,
        }
    }
}
