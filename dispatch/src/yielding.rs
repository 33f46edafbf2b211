//! What lets others run after a slice of time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::task::yield_now;

/// Runs a guest that wakes its own task whenever its slice is over.
///
/// Tokio runs a task that did this again before it has looked at timers and sockets, which it does every so many polls
/// only; and a poll of a guest takes a whole slice. So such a task is woken the way in which [`yield_now`] does it: behind
/// that look.
pub(crate) async fn behind_timers<F: Future>(guest: F) -> F::Output {
    let mut guest = pin!(guest);
    let relay = Arc::new(Relay::new());
    let waker = Waker::from(Arc::clone(&relay));
    poll_fn(|task| {
        relay.begin(task.waker());
        let polled = guest.as_mut().poll(&mut Context::from_waker(&waker));
        if relay.end() && polled.is_pending() {
            // Once polled it has arranged that the task is woken.
            let _ = pin!(yield_now()).poll(task);
        }
        polled
    })
    .await
}

/// Wakes a task, unless that is being polled: then it is noted.
struct Relay {
    task: Mutex<Waker>,
    state: AtomicU8,
}

const AT_REST: u8 = 0;
const POLLED: u8 = 1;
const WOKEN_AS_POLLED: u8 = 2;

impl Relay {
    fn new() -> Self {
        Self { task: Mutex::new(Waker::noop().clone()), state: AtomicU8::new(AT_REST) }
    }

    fn begin(&self, task: &Waker) {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        self.state.store(POLLED, Ordering::Release);
    }

    /// Says whether the task was woken as it was polled. Whoever wakes it from now on does so itself.
    fn end(&self) -> bool {
        self.state.swap(AT_REST, Ordering::AcqRel) == WOKEN_AS_POLLED
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let note = |state| (state != AT_REST).then_some(WOKEN_AS_POLLED);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, note).is_err() {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread;
    use std::time::{Duration, Instant};

    use tokio::runtime::Builder;
    use tokio::time::sleep;

    use super::*;

    const SLICE: Duration = Duration::from_millis(1);

    #[test]
    fn a_timer_comes_behind_a_few_slices_and_not_behind_many() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let slices = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&slices);
            let guest = poll_fn(move |waker| {
                let began = Instant::now();
                while began.elapsed() < SLICE {}
                counted.fetch_add(1, Ordering::SeqCst);
                waker.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            let guest = tokio::spawn(behind_timers(guest));
            sleep(SLICE).await;
            guest.abort();
            let slices = slices.load(Ordering::SeqCst);
            assert!(slices < 10, "{slices} slices; tokio by itself looks at timers after 61 polls");
        });
    }

    #[test]
    fn no_wake_is_lost_wherever_it_comes_from() {
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            for _ in 0..1_000 {
                let mut polls = 0;
                let guest = poll_fn(move |waker| {
                    let wake = waker.waker().clone();
                    polls += 1;
                    match polls {
                        // As it is polled, and from another thread.
                        1 => thread::spawn(move || wake.wake()).join().unwrap(),
                        // As it is polled, or behind that.
                        2 => drop(thread::spawn(move || wake.wake())),
                        // As it is polled.
                        3 => wake.wake(),
                        _ => return Poll::Ready(()),
                    }
                    Poll::Pending
                });
                tokio::spawn(behind_timers(guest)).await.unwrap();
            }
        });
    }
}
