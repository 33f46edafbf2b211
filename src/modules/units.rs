//! Units: all calls of a function, or all processes of an entry. Their connections are counted together, and so are their
//! operations on files.
//!
//! An operation on files holds a thread of the runtime, and a slow disk holds it for long. So a unit has few of these threads.
//! Further operations of the unit wait for its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use frame_dispatch::process::PROCESS;
use frame_dispatch::{CallError, ErrorKind, FUNCTION};
use frame_net::Unit;
use frame_registry::Frame;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Returns the unit that a frame is of. Native code that is neither has no name, and shares one unit.
pub(crate) fn unit_of(frame: &Frame) -> Option<Unit> {
    let function = frame.get(&FUNCTION).map(|id| Unit::new("function", id.clone()));
    function.or_else(|| frame.get(&PROCESS).map(|id| Unit::new("process", id.clone())))
}

/// How many operations a unit runs at once.
pub(super) const AT_ONCE: usize = 8;
/// How many more may wait. A call waits for one at a time, so these are calls.
pub(super) const MOST_WAITING: usize = 1024;
/// How many units there are before those that do nothing are looked for.
const PRUNE_FROM: usize = 64;

/// The permits of a unit.
struct UnitPermits {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The permits of all units that have operations. They are shared by all apps of the program, as its threads are.
static UNITS: LazyLock<Mutex<Units>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Units {
    permits: HashMap<Unit, Weak<UnitPermits>>,
    prune_at: usize,
}

impl Units {
    fn of(&mut self, unit: Unit) -> Arc<UnitPermits> {
        if let Some(permits) = self.permits.get(&unit).and_then(Weak::upgrade) {
            return permits;
        }
        if self.permits.len() >= self.prune_at.max(PRUNE_FROM) {
            self.permits.retain(|_, permits| permits.strong_count() > 0);
            self.prune_at = 2 * self.permits.len();
        }
        let permits = Arc::new(UnitPermits {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
        });
        self.permits.insert(unit, Arc::downgrade(&permits));
        permits
    }
}

/// Counts a waiting operation until it is dropped.
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

/// Runs `operation` on a thread that may block, when the unit has a permit for it.
///
/// # Errors
///
/// [`Exhausted`](ErrorKind::Exhausted) if too many operations of the unit wait, and what the operation fails with.
///
/// # Cancel safety
///
/// If the future is dropped, an operation that has begun runs to its end and keeps its permit until then.
pub(super) async fn run_file_operation<T: Send + 'static>(
    unit: Option<Unit>,
    operation: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let permits = UNITS.lock().unwrap_or_else(PoisonError::into_inner).of(unit.unwrap_or_default());
    let running = Arc::clone(&permits.running);
    let permit = if let Ok(permit) = Arc::clone(&running).try_acquire_owned() {
        permit
    } else {
        let Some(_waiting) = Waiting::new(&permits.waiting) else {
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
        drop((permit, permits));
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
            slow.spawn(run_file_operation(Some(unit("slow")), move || {
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
        assert_eq!(
            timeout(PATIENCE, run_file_operation(Some(unit("other")), || Ok(42))).await.unwrap().unwrap(),
            42
        );
        drop(end);
        while let Some(done) = timeout(PATIENCE, slow.join_next()).await.unwrap() {
            done.unwrap().unwrap();
        }
        assert!(timeout(PATIENCE, run_file_operation(Some(unit("slow")), || Ok(()))).await.unwrap().is_ok());
    }
}
