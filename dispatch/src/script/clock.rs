//! Slices of time: which thread runs which unit, and the clock thread that tells when a slice has been used up.
//!
//! A thread enters a slice before it runs guest code and leaves it afterwards. While any thread is inside one, the clock
//! ticks once a millisecond. A slice that was there at the tick before has been used up: the clock marks it as
//! [due](is_due) and, for engines that ask for it, sends the thread a signal. While no thread is inside a slice the clock
//! is parked, and no signal is sent.
//!
//! A mark or a signal may arrive after the slice it was meant for has ended. Both are harmless: a mark names its slice by
//! number, and the receiver of a signal looks at the mark.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

#[cfg(feature = "lua")]
use super::signal::Target;
use super::slices::{Parking, Slices, Threads};
use super::unit::Unit;

/// The time between two ticks. A slice lasts between one and two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The number of ticks without guest code after which the clock parks. Waking a thread costs more than most calls take, so
/// it is not done for each of several calls that follow one another.
const LINGER: u32 = 50;

/// How a guest learns that its slice has been used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// By a signal to its thread.
    #[cfg(feature = "lua")]
    Signal,
    /// In another way, such as the epoch of a WebAssembly engine.
    Elsewhere,
}

/// A slice that the current thread is inside of, until this is dropped. Slices nest: a slice that begins inside another
/// suspends that, which begins anew when the inner one ends.
#[must_use]
pub(crate) struct Slice {
    record: Arc<Record>,
    outer: Option<Running>,
    /// It belongs to the thread that entered it.
    _not_send: PhantomData<*const ()>,
}

/// Enters a slice of `unit` on the current thread.
///
/// # Errors
///
/// If the clock cannot be started, or the thread's locals are being destroyed: nothing would end the slice.
pub(crate) fn enter(unit: &Arc<Unit>, notice: Notice) -> io::Result<Slice> {
    let clock = Clock::current();
    let record = RECORD.try_with(|registration| registration.borrow_mut().record(clock));
    let record = record.map_err(io::Error::other)?;
    let outer = record.slices.switch(Some(Running { unit: Arc::clone(unit), notice }));
    let slice = Slice { record, outer, _not_send: PhantomData };
    clock.wake()?;
    Ok(slice)
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.record.slices.switch(self.outer.take());
    }
}

/// Returns whether the current thread's slice has been used up.
pub(crate) fn is_due() -> bool {
    #[cfg(test)]
    if let Some(is_due) = FORCED.get() {
        return is_due;
    }
    let is_due = RECORD.try_with(|registration| {
        // It is borrowed only where a slice begins, which runs nothing else.
        registration
            .try_borrow()
            .is_ok_and(|registration| registration.0.as_ref().is_some_and(|it| it.slices.is_due()))
    });
    is_due.unwrap_or(false)
}

#[cfg(test)]
thread_local! {
    /// What [`is_due`] returns on this thread, in place of what the clock says. For tests.
    pub(crate) static FORCED: std::cell::Cell<Option<bool>> = const { std::cell::Cell::new(None) };
}

thread_local! {
    static RECORD: RefCell<Registration> = const { RefCell::new(Registration(None)) };
}

/// The current thread's record. Its drop takes the thread off the clock.
struct Registration(Option<Arc<Record>>);

impl Registration {
    fn record(&mut self, clock: &'static Clock) -> Arc<Record> {
        match &self.0 {
            Some(record) if ptr::eq(record.clock, clock) => Arc::clone(record),
            _ => {
                let record = Arc::new(Record::of_current_thread(clock));
                clock.threads.add(&record);
                if let Some(of_parent) = self.0.replace(Arc::clone(&record)) {
                    // Its lock may have been held, by a thread that the fork did not copy.
                    std::mem::forget(of_parent);
                }
                record
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(record) = self.0.take() else { return };
        if ptr::eq(record.clock, CLOCK.load(Ordering::Acquire)) {
            record.clock.threads.remove(&record);
        } else {
            // The locks of the parent's clock may have been held, by a thread that the fork did not copy.
            std::mem::forget(record);
        }
    }
}

/// What the clock knows of a thread.
struct Record {
    clock: &'static Clock,
    slices: Slices<Running>,
    #[cfg(feature = "lua")]
    target: Target,
}

/// What runs on a thread.
struct Running {
    #[allow(dead_code)]
    unit: Arc<Unit>,
    notice: Notice,
}

impl Record {
    fn of_current_thread(clock: &'static Clock) -> Self {
        Self {
            clock,
            slices: Slices::new(),
            #[cfg(feature = "lua")]
            target: Target::current_thread(),
        }
    }

    /// Looks at the thread. Returns whether it has run guest code since the last tick.
    fn tick(&self) -> bool {
        self.slices.tick(|running| match running.notice {
            #[cfg(feature = "lua")]
            Notice::Signal => self.target.signal(),
            Notice::Elsewhere => (),
        })
    }
}

/// The clock thread, and the threads that it knows.
struct Clock {
    threads: Threads<Record>,
    parking: Parking,
    /// Started with the first slice.
    thread: Mutex<Option<Thread>>,
}

/// The clock of this process. A fork has none until it runs its first slice.
static CLOCK: AtomicPtr<Clock> = AtomicPtr::new(ptr::null_mut());

impl Clock {
    #[allow(unsafe_code)]
    fn current() -> &'static Self {
        // SAFETY: It is null or a clock that was leaked below.
        if let Some(clock) = unsafe { CLOCK.load(Ordering::Acquire).as_ref() } {
            return clock;
        }
        Self::start()
    }

    #[cold]
    fn start() -> &'static Self {
        let clock: &'static Self = Box::leak(Box::new(Self {
            threads: Threads::new(),
            parking: Parking::parked(),
            thread: Mutex::default(),
        }));
        let pointer = ptr::from_ref(clock).cast_mut();
        if CLOCK.compare_exchange(ptr::null_mut(), pointer, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // Another thread was first. A few bytes are leaked, once.
            return Self::current();
        }
        forget_in_forks();
        clock
    }

    /// Sees to it that the clock ticks. The current thread's record says already that it is inside a slice.
    fn wake(&'static self) -> io::Result<()> {
        if self.parking.is_parked() { self.unpark() } else { Ok(()) }
    }

    #[cold]
    fn unpark(&'static self) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            self.parking.leave();
            thread.unpark();
        } else {
            let builder = thread::Builder::new().name("frame-clock".to_owned());
            let spawned = builder.spawn(move || self.run())?;
            self.parking.leave();
            *thread = Some(spawned.thread().clone());
        }
        Ok(())
    }

    fn run(&self) {
        let mut quiet = 0;
        loop {
            quiet = if self.tick() { 0 } else { quiet + 1 };
            if quiet >= LINGER {
                self.parking.park(|| self.tick(), thread::park);
                quiet = 0;
            }
            thread::sleep(TICK);
        }
    }

    fn tick(&self) -> bool {
        self.threads.tick(Record::tick)
    }
}

/// Gives forks of this process a clock of their own, because they have none of its threads.
#[cfg(all(unix, feature = "lua"))]
#[allow(unsafe_code)]
fn forget_in_forks() {
    extern "C" fn forget() {
        CLOCK.store(ptr::null_mut(), Ordering::Release);
    }
    // SAFETY: The function only stores to an atomic, which is allowed after a fork.
    unsafe { libc::pthread_atfork(None, None, Some(forget)) };
}

#[cfg(not(all(unix, feature = "lua")))]
fn forget_in_forks() {}
