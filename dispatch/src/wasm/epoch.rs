//! The clock that makes a guest yield.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest runs before it lets others run on its thread, and can be ended.
const TICK: Duration = Duration::from_millis(1);

/// For how many ticks the clock goes on where no guest runs. Waking a thread costs more than most calls take, so it is not
/// done for each of those that follow one another.
const LINGER: u32 = 1000;

/// A thread that counts up the epoch of an engine while guests run, until it is dropped.
#[derive(Debug)]
pub(crate) struct EpochClock {
    shared: Arc<EpochShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct EpochShared {
    guests: AtomicUsize,
    /// Set before there is any guest.
    thread: OnceLock<Thread>,
    is_asleep: AtomicBool,
    is_stopped: AtomicBool,
}

/// A guest that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningGuest(Arc<EpochShared>);

/// A guest that waits for something, and runs again when this is dropped.
pub(crate) struct PausedGuest(Arc<EpochShared>);

impl EpochClock {
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::<EpochShared>::default();
        let thread = thread::Builder::new().name("wasm-epoch".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.tick(&engine)
        })?;
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the clock ticking.
    pub(crate) fn run(&self) -> RunningGuest {
        self.shared.begin();
        RunningGuest(Arc::clone(&self.shared))
    }
}

impl RunningGuest {
    /// Lets the clock stop for as long as the guest waits: a process may do so for days.
    pub(crate) fn pause(&self) -> PausedGuest {
        self.0.end();
        PausedGuest(Arc::clone(&self.0))
    }
}

impl EpochShared {
    fn begin(&self) {
        self.guests.fetch_add(1, Ordering::SeqCst);
        // Here and in `tick` the write comes first, then the read, in one order for all: so either the thread sees
        // this guest before it falls asleep, or this sees that it sleeps.
        if self.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn end(&self) {
        self.guests.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn tick(&self, engine: &Engine) {
        let mut quiet = 0;
        while !self.is_stopped.load(Ordering::SeqCst) {
            if quiet < LINGER {
                thread::park_timeout(TICK);
                engine.increment_epoch();
            } else {
                self.is_asleep.store(true, Ordering::SeqCst);
                // Where either changed before it slept, the thread was or will be unparked.
                if self.guests.load(Ordering::SeqCst) == 0 && !self.is_stopped.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.is_asleep.store(false, Ordering::SeqCst);
            }
            quiet = if self.guests.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        }
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A guest that is ended as it waits runs to its end, too.
impl Drop for PausedGuest {
    fn drop(&mut self) {
        self.0.begin();
    }
}

impl Drop for EpochClock {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics, and ends at once.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until the clock sleeps, or not; for longer than it takes on any machine.
    fn assert_sleeps(clock: &EpochClock, sleeps: bool) {
        for _ in 0..60_000 {
            if clock.shared.is_asleep.load(Ordering::SeqCst) == sleeps {
                return;
            }
            thread::sleep(TICK);
        }
        panic!("the clock was to be {}", if sleeps { "asleep" } else { "awake" });
    }

    #[test]
    fn a_clock_sleeps_while_all_its_guests_wait_and_wakes_with_the_first_that_goes_on() {
        let clock = EpochClock::start(Engine::default()).unwrap();
        let (one, other) = (clock.run(), clock.run());
        let (one_waits, other_waits) = (one.pause(), other.pause());
        assert_sleeps(&clock, true);
        drop(one_waits);
        assert_sleeps(&clock, false);
        drop((one, other_waits, other));
        assert_eq!(clock.shared.guests.load(Ordering::SeqCst), 0);
        assert_sleeps(&clock, true);
    }
}
