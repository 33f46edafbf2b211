//! Waiting for a name under every interleaving: `src/process/names/waiters.rs` itself, compiled with loom's primitives in place of
//! the real ones. And the same with uses that break the protocol, to show that the model finds it.

mod sync {
    pub(super) use loom::sync::atomic::AtomicU64;
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::atomic::Ordering;
}

#[path = "../src/process/names/waiters.rs"]
mod waiters;

use loom::future::block_on;
use loom::sync::{Arc, Mutex};
use loom::thread;

use self::waiters::NameWaiters;

/// The names that are bound, and those that wait.
struct Names {
    bound: Mutex<Option<u32>>,
    waiters: NameWaiters,
}

impl Names {
    fn new() -> Arc<Self> {
        Arc::new(Self { bound: Mutex::new(None), waiters: NameWaiters::new() })
    }

    fn find(&self) -> Option<u32> {
        *self.bound.lock().unwrap()
    }

    fn bind(&self, process: u32) {
        *self.bound.lock().unwrap() = Some(process);
        self.waiters.bound("name");
    }

    fn wait(&self) -> u32 {
        block_on(self.waiters.wait("name", || self.find()))
    }
}

fn wait_while_a_name_is_bound(bind: impl Fn(&Names) + Copy + Send + 'static) {
    let names = Names::new();
    let binding = thread::spawn({
        let names = Arc::clone(&names);
        move || bind(&names)
    });
    assert_eq!(names.wait(), 1);
    binding.join().unwrap();
}

#[test]
fn a_waiter_finds_the_name_or_is_woken_for_it() {
    loom::model(|| wait_while_a_name_is_bound(|names| names.bind(1)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_finds_a_name_that_is_bound_after_its_waiters_are_woken() {
    loom::model(|| {
        wait_while_a_name_is_bound(|names| {
            names.waiters.bound("name");
            *names.bound.lock().unwrap() = Some(1);
        });
    });
}

#[test]
fn each_of_two_waiters_is_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let names = Names::new();
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.wait()
        });
        let binding = thread::spawn({
            let names = Arc::clone(&names);
            move || names.bind(1)
        });
        assert_eq!(names.wait(), 1);
        assert_eq!(other.join().unwrap(), 1);
        binding.join().unwrap();
    });
}

#[test]
fn a_waiter_that_gives_up_takes_no_wake_from_another() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let names = Names::new();
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || {
                let mut waiting = Box::pin(names.waiters.wait("name", || names.find()));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let _ = waiting.as_mut().poll(&mut context);
            }
        });
        let binding = thread::spawn({
            let names = Arc::clone(&names);
            move || names.bind(1)
        });
        assert_eq!(names.wait(), 1);
        other.join().unwrap();
        binding.join().unwrap();
    });
}
