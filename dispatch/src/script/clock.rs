//! Slices of time: which thread runs which unit, and the clock thread that tells when a slice has been used up.
//!
//! A thread enters a slice before it runs guest code and leaves it afterwards. While any thread is inside one, the clock
//! ticks once a millisecond. A slice that was there at the tick before has been used up: the clock marks it as
//! [due](is_due) and, for engines that ask for it, sends the thread a signal. While no thread is inside a slice the clock
//! is parked, and no signal is sent.
//!
//! A mark or a signal may arrive after the slice it was meant for has ended. Both are harmless: a mark names its slice by
//! number, and the receiver of a signal looks at the mark.
//!
//! A slice that is marked again and again, and whose guest never looks at the mark, holds its thread: no hook and no epoch
//! reaches it. The clock tells the [observer](Observer) of the thread, if it has one, and quarantines a unit that does so
//! for too long.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;
use std::{mem, ptr};

use super::slices::{Parking, Slices, Threads};
use super::thread::OsThread;
#[cfg(feature = "lua")]
use super::thread::SignalTarget;
use super::unit::Unit;
use crate::pid::Pid;

/// The time between two ticks. A slice lasts between one and two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The number of ticks without guest code after which the clock parks. Waking a thread costs more than most calls take, so
/// it is not done for each of several calls that follow one another.
const LINGER: u32 = 50;

/// The processor time without a point where a guest can be interrupted after which its thread counts as blocked.
const BLOCKED_AFTER: Duration = Duration::from_millis(10);

/// The ticks after which a thread counts as blocked though it has used no such time: it may wait for the system.
const BLOCKED_AFTER_TICKS: u32 = 100;

/// What the clock tells of a thread. Everything but `relieve` is called with a lock held that the thread takes where a slice
/// begins or ends, so it returns at once.
pub(crate) trait Observer: Send + Sync {
    /// The processor time that a unit may use without reaching a point where it can be interrupted.
    fn stall_limit(&self) -> Duration;

    /// The thread is blocked: it has not reached such a point for a while.
    fn blocked(&self);

    /// The thread is not blocked any more.
    fn unblocked(&self);

    /// Returns whether there are tasks that the thread was to run next. Others may run them if it goes on with another.
    fn keeps_tasks(&self) -> bool;

    /// The thread has used up the limit. It has the lowest priority from now on, and `unit` is quarantined. `is_first` says
    /// whether it was not before.
    fn stalled(&self, unit: &Arc<Unit>, pid: Option<Pid>, is_first: bool);

    /// A thread was found to be blocked, or to keep tasks, a moment ago.
    fn relieve(&self);
}

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
    record: Arc<ThreadRecord>,
    outer: Option<RunningSlice>,
    /// It belongs to the thread that entered it.
    _not_send: PhantomData<*const ()>,
}

/// Enters a slice of `unit` on the current thread. `pid` is that of the call or process, for the log.
///
/// # Errors
///
/// If the clock cannot be started, or the thread's locals are being destroyed: nothing would end the slice.
pub(crate) fn enter(unit: &Arc<Unit>, pid: Option<Pid>, notice: Notice) -> io::Result<Slice> {
    begin(RunningSlice { unit: Some(Arc::clone(unit)), pid, notice, hold: Hold::default() })
}

/// Enters a slice of the host on the current thread, if that has an observer: no unit is responsible for what runs there.
pub(crate) fn enter_host() -> Option<Slice> {
    let is_observed = RECORD.try_with(|registration| registration.borrow().observer.is_some());
    if !is_observed.unwrap_or(false) {
        return None;
    }
    begin(RunningSlice { unit: None, pid: None, notice: Notice::Elsewhere, hold: Hold::default() }).ok()
}

fn begin(running: RunningSlice) -> io::Result<Slice> {
    let clock = Clock::current();
    let record = RECORD.try_with(|registration| registration.borrow_mut().record(clock));
    let record = record.map_err(io::Error::other)?;
    let outer = record.switch(Some(running));
    let slice = Slice { record, outer, _not_send: PhantomData };
    clock.wake()?;
    Ok(slice)
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.record.switch(self.outer.take());
    }
}

/// Has the clock tell `observer` of the current thread, on which no slice has begun yet.
pub(super) fn observe(observer: Arc<dyn Observer>) {
    let _ = RECORD.try_with(|registration| registration.borrow_mut().observer = Some(observer));
}

/// Returns whether the current thread's slice has been used up. To ask is to reach a point where it can be interrupted.
#[cfg(feature = "lua")]
pub(crate) fn is_due() -> bool {
    #[cfg(test)]
    if let Some(is_due) = FORCED.get() {
        return is_due;
    }
    on_record(ThreadRecord::reach)
}

/// Returns the same where the guest cannot be interrupted. It still holds its thread.
#[cfg(feature = "lua")]
pub(crate) fn is_due_in_vain() -> bool {
    on_record(ThreadRecord::is_due)
}

#[cfg(feature = "lua")]
fn on_record(look: impl FnOnce(&ThreadRecord) -> bool) -> bool {
    let seen = RECORD.try_with(|registration| {
        // It is borrowed only where a slice begins, which runs nothing else.
        registration.try_borrow().is_ok_and(|it| it.record.as_ref().is_some_and(|record| look(record)))
    });
    seen.unwrap_or(false)
}

/// Tells the clock that a loop of the host makes progress, which works for a guest and cannot be interrupted. The loop holds
/// its thread, and does not stall it.
#[cfg(feature = "lua")]
pub(crate) fn reach() {
    on_record(|record| {
        let is_due = record.is_due();
        if is_due {
            record.steps.store(record.steps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        is_due
    });
}

#[cfg(test)]
thread_local! {
    /// What [`is_due`] returns on this thread, in place of what the clock says. For tests.
    pub(crate) static FORCED: std::cell::Cell<Option<bool>> = const { std::cell::Cell::new(None) };
}

thread_local! {
    static RECORD: RefCell<Registration> = const { RefCell::new(Registration { record: None, observer: None }) };
}

/// The current thread's record. Its drop takes the thread off the clock.
struct Registration {
    record: Option<Arc<ThreadRecord>>,
    observer: Option<Arc<dyn Observer>>,
}

impl Registration {
    fn record(&mut self, clock: &'static Clock) -> Arc<ThreadRecord> {
        match &self.record {
            Some(record) if ptr::eq(record.clock, clock) => Arc::clone(record),
            _ => {
                let record = Arc::new(ThreadRecord::of_current_thread(clock, self.observer.clone()));
                clock.threads.add(&record);
                if let Some(of_parent) = self.record.replace(Arc::clone(&record)) {
                    // Its lock may have been held, by a thread that the fork did not copy.
                    mem::forget(of_parent);
                }
                record
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        if ptr::eq(record.clock, CLOCK.load(Ordering::Acquire)) {
            record.clock.threads.remove(&record);
        } else {
            // The locks of the parent's clock may have been held, by a thread that the fork did not copy.
            mem::forget(record);
        }
    }
}

/// What the clock knows of a thread.
struct ThreadRecord {
    clock: &'static Clock,
    slices: Slices<RunningSlice>,
    /// How often the thread has reached a point where it can be interrupted, in a slice that was used up. Only the thread
    /// itself changes it.
    reached: AtomicU64,
    /// How many steps loops of the host have made. Only the thread itself changes it.
    steps: AtomicU64,
    thread: OsThread,
    observer: Option<Arc<dyn Observer>>,
    #[cfg(feature = "lua")]
    target: SignalTarget,
}

/// What runs on a thread.
struct RunningSlice {
    /// What is responsible for it; none if that is the host.
    unit: Option<Arc<Unit>>,
    pid: Option<Pid>,
    notice: Notice,
    hold: Hold,
}

/// How a slice that was used up holds its thread.
#[derive(Default)]
struct Hold {
    /// The value of `reached` that the clock saw at its last tick.
    reached: u64,
    /// The ticks since the thread has reached a point where it can be interrupted.
    ticks: u32,
    /// The processor time that the thread had used at the first of them.
    since: Option<Duration>,
    /// The value of `steps` that the clock saw at its last tick.
    steps: u64,
    /// The processor time that the thread had used when the clock first saw that.
    same_step_since: Option<Duration>,
    is_blocked: bool,
    is_stalled: bool,
}

impl ThreadRecord {
    fn of_current_thread(clock: &'static Clock, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            clock,
            slices: Slices::new(),
            reached: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            thread: OsThread::current(),
            observer,
            #[cfg(feature = "lua")]
            target: SignalTarget::current_thread(),
        }
    }

    /// Ends the current slice and begins the next, if there is one.
    fn switch(&self, next: Option<RunningSlice>) -> Option<RunningSlice> {
        let mut last = self.slices.switch(next);
        if let Some(last) = &mut last
            && mem::take(&mut last.hold).is_blocked
            && let Some(observer) = &self.observer
        {
            observer.unblocked();
        }
        last
    }

    #[cfg(feature = "lua")]
    fn is_due(&self) -> bool {
        self.slices.is_due()
    }

    /// Returns whether the slice has been used up. If so, the thread has reached a point where it can be interrupted.
    #[cfg(feature = "lua")]
    fn reach(&self) -> bool {
        let is_due = self.is_due();
        if is_due {
            self.reached.store(self.reached.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        is_due
    }

    /// Looks at the thread.
    fn tick(&self) -> Tick {
        let mut relieved = None;
        let has_run = self.slices.tick(|running| {
            match running.notice {
                #[cfg(feature = "lua")]
                Notice::Signal => self.target.signal(),
                Notice::Elsewhere => (),
            }
            if let Some(observer) = &self.observer
                && self.watch(observer, running)
            {
                relieved = Some(Arc::clone(observer));
            }
        });
        match relieved {
            Some(observer) => Tick::Relieved(observer),
            None if has_run => Tick::Active,
            None => Tick::Quiet,
        }
    }

    /// Looks at a slice that was used up. Returns whether the thread has to be relieved: it has just been found to be blocked,
    /// or keeps tasks.
    fn watch(&self, observer: &Arc<dyn Observer>, running: &mut RunningSlice) -> bool {
        let hold = &mut running.hold;
        let reached = self.reached.load(Ordering::Relaxed);
        if hold.reached != reached {
            if hold.is_blocked {
                observer.unblocked();
            }
            *hold = Hold { reached, ..Hold::default() };
            return false;
        }
        hold.ticks += 1;
        let now = self.thread.processor_time();
        let used = now.map(|now| now.saturating_sub(*hold.since.get_or_insert(now)));
        let steps = self.steps.load(Ordering::Relaxed);
        if mem::replace(&mut hold.steps, steps) != steps {
            hold.same_step_since = now;
        }
        let stalled = now.map(|now| now.saturating_sub(*hold.same_step_since.get_or_insert(now)));
        let has_used = |limit| used.is_some_and(|used| used >= limit);
        let was_blocked = hold.is_blocked;
        if !was_blocked && (has_used(BLOCKED_AFTER) || hold.ticks >= BLOCKED_AFTER_TICKS) {
            hold.is_blocked = true;
            observer.blocked();
        }
        let is_relieved = hold.is_blocked && !was_blocked || observer.keeps_tasks();
        let (Some(unit), Some(used)) = (&running.unit, stalled) else { return is_relieved };
        // Another thread that runs what is quarantined is not given the same time again.
        let limit = if unit.quarantine().is_some() { BLOCKED_AFTER } else { observer.stall_limit() };
        if !hold.is_stalled && used >= limit {
            hold.is_stalled = true;
            let is_first = unit.set_quarantine(used);
            // It is alive: it takes itself off the clock before it ends.
            self.thread.demote();
            observer.stalled(unit, running.pid, is_first);
        }
        is_relieved
    }
}

/// What the clock has seen of a thread.
enum Tick {
    /// It runs no guest code.
    Quiet,
    /// It has run guest code since the last tick.
    Active,
    /// The same, and the thread has to be relieved.
    Relieved(Arc<dyn Observer>),
}

/// The clock thread, and the threads that it knows.
struct Clock {
    threads: Threads<ThreadRecord>,
    parking: Parking,
    /// Started with the first slice.
    thread: Mutex<Option<Thread>>,
}

/// The clock of this process. A fork has none until it runs its first slice.
static CLOCK: AtomicPtr<Clock> = AtomicPtr::new(ptr::null_mut());

/// Starts the thread of the clock, unless it runs.
pub(crate) fn start_thread() -> io::Result<()> {
    Clock::current().unpark()
}

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
        let mut relieved = Vec::new();
        let has_run = self.threads.tick(|record| match record.tick() {
            Tick::Quiet => false,
            Tick::Active => true,
            Tick::Relieved(observer) => {
                relieved.push(observer);
                true
            }
        });
        for observer in relieved {
            observer.relieve();
        }
        has_run
    }
}

/// Has forks of this process start a clock of their own, because they have none of its threads.
#[cfg(unix)]
#[allow(unsafe_code)]
fn forget_in_forks() {
    extern "C" fn forget() {
        CLOCK.store(ptr::null_mut(), Ordering::Release);
    }
    // SAFETY: The function only stores to an atomic, which is allowed after a fork.
    unsafe { libc::pthread_atfork(None, None, Some(forget)) };
}

#[cfg(not(unix))]
fn forget_in_forks() {}
