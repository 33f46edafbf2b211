//! The threads that compile, of which an abandoned reload keeps those that it is still compiling on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::threads::{Panicked, Workers, processors};

/// How many abandoned reloads may still be compiling beside the current one. After that a reload waits for one of them: each takes
/// processors and memory.
const MOST_ABANDONED: usize = 2;

/// A thread for each processor. They are there from the beginning, because a reload must not fail for want of one.
#[derive(Debug)]
pub(super) struct Compilers {
    sets: Mutex<Sets>,
}

#[derive(Debug)]
struct Sets {
    current: Set,
    /// What the jobs hold that were abandoned.
    abandoned: Vec<Weak<()>>,
}

/// Threads, and what their jobs hold while they are queued or run.
#[derive(Debug)]
struct Set {
    workers: Workers,
    busy: Arc<()>,
}

impl Set {
    fn start() -> io::Result<Self> {
        Ok(Self { workers: Workers::start("frame-compile", processors())?, busy: Arc::default() })
    }
}

impl Compilers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system refuses one of them.
    pub(super) fn start() -> io::Result<Self> {
        let sets = Sets { current: Set::start()?, abandoned: Vec::new() };
        Ok(Self { sets: Mutex::new(sets) })
    }

    /// Queues a job, as [`Workers::run`].
    pub(super) fn run<T, F>(&self, job: F) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = Arc::clone(&sets.current.busy);
        sets.current.workers.run(move || {
            let done = job();
            drop(busy);
            done
        })
    }

    /// Leaves the threads to the jobs that they have begun, of a reload that was abandoned, and starts others for the next one.
    /// Where the system refuses those, or too many were left already, the next one waits for the threads.
    pub(super) fn abandon(&self) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.abandoned.retain(|busy| busy.strong_count() > 0);
        if Arc::strong_count(&sets.current.busy) == 1 || sets.abandoned.len() >= MOST_ABANDONED {
            return;
        }
        match Set::start() {
            Ok(set) => {
                let earlier = std::mem::replace(&mut sets.current, set);
                sets.abandoned.push(Arc::downgrade(&earlier.busy));
            }
            Err(error) => {
                tracing::warn!(%error, "the reload waits for what an abandoned one is compiling");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Keeps all threads busy until the sender is dropped.
    fn occupy(compilers: &Compilers) -> Sender<()> {
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        for _ in 0..processors() {
            let released = Arc::clone(&released);
            let running = compilers.run(move || drop(released.lock().map(|released| released.recv())));
            tokio::spawn(running);
        }
        release
    }

    #[tokio::test]
    async fn what_is_abandoned_holds_up_no_more_than_the_third_reload_after_it() {
        let compilers = Compilers::start().unwrap();
        let mut held = Vec::new();
        for _ in 0..MOST_ABANDONED {
            held.push(occupy(&compilers));
            compilers.abandon();
            assert_eq!(compilers.run(|| 42).await.unwrap(), 42);
        }
        held.push(occupy(&compilers));
        compilers.abandon();
        let waiting = compilers.run(|| 42);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        held.clear();
        assert_eq!(waiting.await.unwrap(), 42);
    }
}
