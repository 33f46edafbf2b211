//! How the clock of scripts and the threads that run them hand over, under every interleaving: `src/script/slices.rs` itself,
//! compiled with loom's primitives in place of the real ones. And the same with threads that break the protocol, to show that
//! the model finds it.

mod sync {
    use std::sync::{LockResult, TryLockResult};

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use loom::sync::{Arc, MutexGuard};

    /// A mutex that is waited for where the clock would come again at its next tick: to the model that would be a loop
    /// without end.
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.0.lock()
        }

        pub(super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            Ok(self.0.lock()?)
        }
    }
}

#[path = "../src/script/slices.rs"]
mod slices;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::sync::{Arc, Notify};
use loom::thread;

use self::slices::{Parking, Slices, Threads};

/// A model of all orders of so many steps would take hours.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

/// A thread that runs slices while the clock ticks three times. What runs in a slice is its name. `begins_anew` is what the
/// protocol asks for: that each slice has a number of its own.
fn late_marks(begins_anew: bool) {
    let slices = Arc::new(Slices::new());
    // Which slices were signalled; not a part of the model.
    let signalled = Arc::new(Mutex::new(Vec::new()));
    slices.switch(Some("first"));
    let clock = thread::spawn({
        let (slices, signalled) = (Arc::clone(&slices), Arc::clone(&signalled));
        move || {
            for _ in 0..3 {
                slices.tick(|name| signalled.lock().unwrap().push(*name));
            }
        }
    });
    if begins_anew {
        slices.switch(None);
        assert!(!slices.is_due(), "no slice is there that could be due");
        slices.switch(Some("second"));
    }
    // What the receiver of a signal does, at any time.
    if slices.is_due() {
        let name = if begins_anew { "second" } else { "first" };
        assert!(signalled.lock().unwrap().contains(&name), "a late mark");
    }
    slices.switch(Some("nested"));
    let is_due = slices.is_due();
    assert!(!is_due || signalled.lock().unwrap().contains(&"nested"), "a late mark");
    clock.join().unwrap();
}

#[test]
fn a_mark_or_a_signal_that_is_late_is_harmless() {
    model(|| late_marks(true));
}

#[test]
fn a_slice_that_begins_inside_another_is_not_due_for_that() {
    model(|| late_marks(false));
}

/// The same, where a slice ends without saying so.
#[test]
#[should_panic(expected = "a late mark")]
fn the_model_finds_a_late_mark() {
    model(|| {
        let slices = Arc::new(Slices::new());
        let signalled = Arc::new(Mutex::new(Vec::new()));
        let current = Arc::new(loom::sync::Mutex::new("first"));
        slices.switch(Some(()));
        let clock = thread::spawn({
            let (slices, signalled, current) =
                (Arc::clone(&slices), Arc::clone(&signalled), Arc::clone(&current));
            move || {
                for _ in 0..3 {
                    slices.tick(|()| signalled.lock().unwrap().push(*current.lock().unwrap()));
                }
            }
        });
        *current.lock().unwrap() = "second";
        let is_due = slices.is_due();
        assert!(!is_due || signalled.lock().unwrap().contains(&"second"), "a late mark");
        clock.join().unwrap();
    });
}

/// A clock that parks as soon as nothing runs, and a thread that stays in its slice until it is signalled.
struct Clock {
    slices: Slices<()>,
    parking: Parking,
    /// What the clock's thread waits for while it is parked.
    unparked: Notify,
    signal: Notify,
    /// The system delivers a signal after what its sender did before.
    is_signalled: loom::sync::atomic::AtomicBool,
}

impl Clock {
    fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            slices: Slices::new(),
            parking: Parking::parked(),
            unparked: Notify::new(),
            signal: Notify::new(),
            is_signalled: loom::sync::atomic::AtomicBool::new(false),
        })
    }

    fn tick(&self) -> bool {
        self.slices.tick(|()| {
            self.is_signalled.store(true, Ordering::Release);
            self.signal.notify();
        })
    }

    fn run(&self) {
        while !self.is_signalled.load(Ordering::Relaxed) {
            if !self.tick() {
                self.parking.park(|| self.tick(), || self.unparked.wait());
            }
        }
    }

    fn wake(&self, is_parked: bool) {
        if is_parked {
            self.parking.leave();
            self.unparked.notify();
        }
    }
}

/// A slice begins while the clock is about to park.
fn wake_while_parking(looks_first: bool) {
    let clock = Clock::new();
    // It runs, and has not parked yet.
    clock.parking.leave();
    let thread = thread::spawn({
        let clock = std::sync::Arc::clone(&clock);
        move || clock.run()
    });
    if looks_first {
        let is_parked = clock.parking.is_parked();
        clock.slices.switch(Some(()));
        clock.wake(is_parked);
    } else {
        clock.slices.switch(Some(()));
        clock.wake(clock.parking.is_parked());
    }
    // It may wake without a reason.
    while !clock.is_signalled.load(Ordering::Acquire) {
        clock.signal.wait();
    }
    assert!(clock.slices.is_due(), "the mark comes before the signal");
    clock.slices.switch(None);
    assert!(!clock.slices.is_due());
    thread.join().unwrap();
}

#[test]
fn a_slice_that_begins_as_the_clock_parks_is_signalled() {
    model(|| wake_while_parking(false));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_finds_a_slice_that_looks_for_the_clock_too_early() {
    model(|| wake_while_parking(true));
}

/// Two threads enter slices, one after the other has woken the clock or while it does.
#[test]
fn two_slices_that_begin_as_the_clock_parks_are_seen() {
    model(|| {
        let parking = Arc::new(Parking::parked());
        let both = Arc::new([Slices::new(), Slices::new()]);
        let entering = thread::spawn({
            let (parking, both) = (Arc::clone(&parking), Arc::clone(&both));
            move || {
                both[1].switch(Some(()));
                if parking.is_parked() {
                    parking.leave();
                }
            }
        });
        both[0].switch(Some(()));
        if parking.is_parked() {
            parking.leave();
        }
        entering.join().unwrap();
        // Both have entered: the clock does not stay parked.
        assert!(!parking.is_parked(), "it was woken");
        let sleeps = AtomicUsize::new(0);
        let tick = || both[0].tick(|()| ()) | both[1].tick(|()| ());
        parking.park(tick, || {
            sleeps.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(sleeps.into_inner(), 0, "it parked beside slices");
    });
}

/// A thread ends while the clock signals threads.
fn end_while_signalled(takes_itself_off: bool) {
    struct Record {
        slices: Slices<()>,
        /// Whether the thread is there; not a part of the model.
        is_alive: AtomicBool,
    }

    let threads = Arc::new(Threads::new());
    let clock = thread::spawn({
        let threads = Arc::clone(&threads);
        move || {
            for _ in 0..3 {
                threads.tick(|record: &Record| {
                    record.slices.tick(|()| {
                        assert!(
                            record.is_alive.load(Ordering::Relaxed),
                            "a signal to a thread that has ended"
                        );
                    })
                });
            }
        }
    });
    let record = Arc::new(Record { slices: Slices::new(), is_alive: AtomicBool::new(true) });
    threads.add(&record);
    record.slices.switch(Some(()));
    // It ends inside its slice.
    if takes_itself_off {
        threads.remove(&record);
    }
    record.is_alive.store(false, Ordering::Relaxed);
    clock.join().unwrap();
}

#[test]
fn no_signal_is_sent_to_a_thread_that_has_ended() {
    model(|| end_while_signalled(true));
}

#[test]
#[should_panic(expected = "a signal to a thread that has ended")]
fn the_model_finds_a_signal_to_a_thread_that_has_ended() {
    model(|| end_while_signalled(false));
}
