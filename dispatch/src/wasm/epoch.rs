//! The clock that makes a guest yield.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest runs before it lets others run on its thread, and can be ended.
const TICK: Duration = Duration::from_millis(1);

/// For how many ticks the clock goes on where no guest runs. Waking a thread costs more than most calls take, so it is not
/// done for each of those that follow one another.
const LINGER: u32 = 1000;

/// A thread that counts up the epoch of an engine while guests run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    guests: AtomicUsize,
    is_asleep: AtomicBool,
    is_over: AtomicBool,
}

/// A guest that runs, until it is dropped.
pub(crate) struct Running<'a>(&'a Shared);

impl Clock {
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("wasm-epoch".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.tick(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the clock ticking.
    pub(crate) fn run(&self) -> Running<'_> {
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        // Here and in `tick` the write comes first, then the read, in one order for all: so either the thread sees
        // this guest before it falls asleep, or this sees that it sleeps.
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn tick(&self, engine: &Engine) {
        let mut quiet = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            if quiet < LINGER {
                thread::park_timeout(TICK);
                engine.increment_epoch();
            } else {
                self.is_asleep.store(true, Ordering::SeqCst);
                // Where either changed before it slept, the thread was or will be unparked.
                if self.guests.load(Ordering::SeqCst) == 0 && !self.is_over.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.is_asleep.store(false, Ordering::SeqCst);
            }
            quiet = if self.guests.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics, and ends at once.
            let _ = thread.join();
        }
    }
}
