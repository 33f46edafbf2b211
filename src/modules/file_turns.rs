//! Operations on files that units run at once.
//!
//! Each holds a thread of the runtime, and a slow disk holds it for long. So a unit has few of these threads, and what it wants
//! beyond waits for its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use frame_dispatch::{CallError, ErrorKind};
use frame_net::Unit;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many operations a unit runs at once.
pub(super) const AT_ONCE: usize = 8;
/// How many more may wait. A call waits for one at a time, so these are calls.
pub(super) const MOST_WAITING: usize = 1024;
/// How many units there are before those that do nothing are looked for.
const SWEEP_FROM: usize = 64;

/// The turns of a unit.
struct Turns {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The turns of all units that have operations. Threads are those of the process, and so are these.
static UNITS: LazyLock<Mutex<Units>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Units {
    turns: HashMap<Unit, Weak<Turns>>,
    sweep_at: usize,
}

impl Units {
    fn of(&mut self, unit: Unit) -> Arc<Turns> {
        if let Some(turns) = self.turns.get(&unit).and_then(Weak::upgrade) {
            return turns;
        }
        if self.turns.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.turns.retain(|_, turns| turns.strong_count() > 0);
            self.sweep_at = 2 * self.turns.len();
        }
        let turns =
            Arc::new(Turns { running: Arc::new(Semaphore::new(AT_ONCE)), waiting: AtomicUsize::new(0) });
        self.turns.insert(unit, Arc::downgrade(&turns));
        turns
    }
}

/// One that waits, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Option<Self> {
        let this = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(this)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `operation` on a thread that may block, when it is the unit's turn.
///
/// # Errors
///
/// [`Exhausted`](ErrorKind::Exhausted) if too many operations of the unit wait, and what the operation fails with.
///
/// # Cancel safety
///
/// If the future is dropped, an operation that has begun is done to its end, and keeps its turn until then.
pub(super) async fn run<T: Send + 'static>(
    unit: Option<Unit>,
    operation: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let turns = UNITS.lock().unwrap_or_else(PoisonError::into_inner).of(unit.unwrap_or_default());
    let running = Arc::clone(&turns.running);
    let turn = if let Ok(turn) = Arc::clone(&running).try_acquire_owned() {
        turn
    } else {
        let Some(_waiting) = Waiting::new(&turns.waiting) else {
            let message = format!(
                "this unit has {AT_ONCE} operations on files running and {MOST_WAITING} waiting; try again later"
            );
            return Err(CallError::new(ErrorKind::Exhausted, message));
        };
        let closed = |error| CallError::new(ErrorKind::Internal, "the file system failed").with_source(error);
        running.acquire_owned().await.map_err(closed)?
    };
    let done = spawn_blocking(move || {
        let done = operation();
        // The unit is known until its last operation has ended.
        drop((turn, turns));
        done
    });
    done.await.unwrap_or_else(|error| {
        Err(CallError::new(ErrorKind::Internal, "the file system failed").with_source(error))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn unit(name: &str) -> Unit {
        Unit::new("test", name)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn operations_of_a_unit_wait_for_their_own_and_those_of_others_do_not() {
        let (end, ended) = mpsc::channel::<()>();
        let (ended, (began, mut started)) =
            (Arc::new(Mutex::new(ended)), tokio::sync::mpsc::unbounded_channel());
        let mut slow = JoinSet::new();
        for _ in 0..AT_ONCE + 1 + MOST_WAITING {
            let (ended, began) = (Arc::clone(&ended), began.clone());
            slow.spawn(run(Some(unit("slow")), move || {
                let _ = began.send(());
                // An error is the end, too.
                let _ = ended.lock().map(|ended| ended.recv());
                Ok(())
            }));
        }
        for _ in 0..AT_ONCE {
            timeout(PATIENCE, started.recv()).await.unwrap().unwrap();
        }
        let refused = timeout(PATIENCE, slow.join_next()).await.unwrap().unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Exhausted);
        assert!(started.try_recv().is_err(), "more than {AT_ONCE} run at once");
        assert_eq!(timeout(PATIENCE, run(Some(unit("other")), || Ok(42))).await.unwrap().unwrap(), 42);
        drop(end);
        while let Some(done) = timeout(PATIENCE, slow.join_next()).await.unwrap() {
            done.unwrap().unwrap();
        }
        assert!(timeout(PATIENCE, run(Some(unit("slow")), || Ok(()))).await.unwrap().is_ok());
    }
}
