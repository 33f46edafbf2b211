//! Admission to a host under every interleaving: `src/process/host/admission.rs` itself, compiled with loom's primitives in
//! place of the real ones. And the same with bugs put into the primitives, to show that the model finds them.

#![allow(clippy::duplicate_mod, reason = "that is the point: once for each set of primitives")]

/// What the tests do with the protocol, over each set of primitives.
macro_rules! host {
    () => {
        use self::admission::{Admission, NotAdmitted};
        use loom::sync::{Arc, Mutex, Notify};

        /// A host with the table of processes, where a process is a number.
        pub(crate) struct Host {
            admission: Admission,
            table: Mutex<Vec<u32>>,
            idle: Notify,
            limit: usize,
            /// How many are alive, for the limit; not a part of the model.
            alive: std::sync::atomic::AtomicUsize,
        }

        impl Host {
            pub(crate) fn new(limit: usize) -> Arc<Self> {
                Arc::new(Self {
                    admission: Admission::open(),
                    table: Mutex::new(Vec::new()),
                    idle: Notify::new(),
                    limit,
                    alive: std::sync::atomic::AtomicUsize::new(0),
                })
            }

            /// Starts a process. Returns whether it runs.
            pub(crate) fn start(&self, process: u32) -> bool {
                use std::sync::atomic::Ordering::Relaxed;

                if self.admission.admit(self.limit).is_err() {
                    return false;
                }
                assert!(self.alive.fetch_add(1, Relaxed) < self.limit, "one too many");
                let published = self.admission.publish(|| self.table.lock().unwrap().push(process));
                if published == Err(NotAdmitted::Closed) {
                    self.end(process);
                }
                published.is_ok()
            }

            /// A process ends.
            pub(crate) fn end(&self, process: u32) {
                self.table.lock().unwrap().retain(|other| *other != process);
                self.alive.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                self.admission.release();
                // Here the exit is delivered.
                if self.admission.leave() {
                    self.idle.notify();
                }
            }

            /// Closes the host. Returns the processes that are asked to end.
            pub(crate) fn close(&self) -> Vec<u32> {
                self.admission.close();
                self.table.lock().unwrap().clone()
            }

            pub(crate) fn wait_until_idle(&self) {
                while !self.admission.is_idle() {
                    self.idle.wait();
                }
                assert!(self.table.lock().unwrap().is_empty(), "a process is left on an idle host");
            }
        }

        /// A process that runs on a host that is stopped is told to end.
        #[allow(dead_code, reason = "one of the tests")]
        pub(crate) fn start_while_stopping() {
            let host = Host::new(2);
            let starting = loom::thread::spawn({
                let host = Arc::clone(&host);
                move || host.start(1)
            });
            let asked = host.close();
            let runs = starting.join().unwrap();
            assert!(!runs || asked == [1], "a process runs, and was not asked to end with its host");
            assert!(!host.start(2), "a process was admitted after the close");
        }

        /// Of two spawns for one permit, one succeeds.
        #[allow(dead_code, reason = "one of the tests")]
        pub(crate) fn start_two_for_one_permit() {
            let host = Host::new(1);
            let starting = loom::thread::spawn({
                let host = Arc::clone(&host);
                move || host.start(1)
            });
            let runs = host.start(2);
            assert_ne!(starting.join().unwrap(), runs, "neither got the permit, or both");
        }

        /// A stop waits for the last process of the host, and no longer.
        #[allow(dead_code, reason = "one of the tests")]
        pub(crate) fn end_while_stopping() {
            let host = Host::new(2);
            assert!(host.start(1) && host.start(2));
            let ending = [1, 2].map(|process| {
                let host = Arc::clone(&host);
                loom::thread::spawn(move || host.end(process))
            });
            host.close();
            host.wait_until_idle();
            for thread in ending {
                thread.join().unwrap();
            }
        }
    };
}

/// Primitives that do what they should.
#[path = "."]
mod sound {
    mod sync {
        pub(super) use loom::sync::atomic::AtomicU64;
        pub(super) use std::sync::atomic::Ordering;
    }

    #[path = "../src/process/host/admission.rs"]
    mod admission;

    host!();
}

/// A compare-exchange that does not compare.
#[path = "."]
mod torn {
    mod sync {
        pub(super) use crate::torn_primitives::AtomicU64;
        pub(super) use std::sync::atomic::Ordering;
    }

    #[path = "../src/process/host/admission.rs"]
    mod admission;

    host!();
}

/// Who has a place looks no more whether the host is closed.
#[path = "."]
mod stale {
    mod sync {
        pub(super) use crate::stale_primitives::AtomicU64;
        pub(super) use std::sync::atomic::Ordering;
    }

    #[path = "../src/process/host/admission.rs"]
    mod admission;

    host!();
}

mod torn_primitives {
    use std::sync::atomic::Ordering;

    pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u64 {
            self.0.load(ordering)
        }

        fn change(&self, change: impl FnOnce(u64) -> u64) -> u64 {
            let before = self.0.load(Ordering::SeqCst);
            self.0.store(change(before), Ordering::SeqCst);
            before
        }

        #[allow(clippy::unnecessary_wraps, reason = "the bug")]
        pub(crate) fn compare_exchange(
            &self,
            _: u64,
            new: u64,
            _: Ordering,
            _: Ordering,
        ) -> Result<u64, u64> {
            Ok(self.change(|_| new))
        }

        pub(crate) fn fetch_add(&self, value: u64, _: Ordering) -> u64 {
            self.change(|before| before + value)
        }

        pub(crate) fn fetch_sub(&self, value: u64, _: Ordering) -> u64 {
            self.change(|before| before - value)
        }

        pub(crate) fn fetch_or(&self, value: u64, _: Ordering) -> u64 {
            self.change(|before| before | value)
        }
    }
}

mod stale_primitives {
    use std::sync::Mutex as RealMutex;
    use std::sync::atomic::Ordering;

    pub(crate) struct AtomicU64 {
        cell: loom::sync::atomic::AtomicU64,
        /// What was stored when a process was admitted; not a part of the model, which admits one at a time.
        admitted: RealMutex<Option<u64>>,
    }

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self { cell: loom::sync::atomic::AtomicU64::new(value), admitted: RealMutex::default() }
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u64 {
            let now = self.cell.load(ordering);
            self.admitted.lock().unwrap().take().unwrap_or(now)
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            let exchanged = self.cell.compare_exchange(current, new, success, failure);
            if exchanged.is_ok() {
                *self.admitted.lock().unwrap() = Some(new);
            }
            exchanged
        }

        pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
            self.cell.fetch_add(value, ordering)
        }

        pub(crate) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
            self.cell.fetch_sub(value, ordering)
        }

        pub(crate) fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
            self.cell.fetch_or(value, ordering)
        }
    }
}

#[test]
fn a_process_spawned_while_its_host_stops_is_asked_to_end_or_does_not_run() {
    loom::model(sound::start_while_stopping);
}

#[test]
#[should_panic(expected = "a process runs, and was not asked to end with its host")]
fn the_model_finds_a_start_that_does_not_look_again() {
    loom::model(stale::start_while_stopping);
}

#[test]
fn one_place_is_given_once() {
    loom::model(sound::start_two_for_one_permit);
}

#[test]
#[should_panic(expected = "one too many")]
fn the_model_finds_a_place_that_is_given_twice() {
    loom::model(torn::start_two_for_one_permit);
}

#[test]
fn whoever_stops_a_host_waits_for_the_last_of_its_processes() {
    // All orders of three threads with so many steps would take hours.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(sound::end_while_stopping);
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_finds_a_last_process_that_nobody_hears_of() {
    loom::model(torn::end_while_stopping);
}
