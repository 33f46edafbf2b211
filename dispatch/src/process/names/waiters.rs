//! Waiting for a name to be bound.
//!
//! A waiter is registered before it looks up the name, and the name is bound before its waiters are woken. So a waiter finds the
//! name or is woken for it. `tests/names_loom.rs` compiles this file with loom's primitives.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Poll, Waker};

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

pub(super) struct NameWaiters {
    /// The number of waiters. While it is zero, binding a name takes no lock here.
    count: AtomicU64,
    state: Mutex<WaiterTable>,
}

#[derive(Default)]
struct WaiterTable {
    /// By name and number.
    waiting: HashMap<String, BTreeMap<u64, Waker>>,
    last_number: u64,
}

impl NameWaiters {
    pub(super) fn new() -> Self {
        Self { count: AtomicU64::new(0), state: Mutex::new(WaiterTable::default()) }
    }

    fn state(&self) -> MutexGuard<'_, WaiterTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `find` returns a value. It is called once, and again each time that the name is bound.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the waiter.
    pub(super) async fn wait<T>(&self, name: &str, mut find: impl FnMut() -> Option<T>) -> T {
        let mut waiter = Waiter::new(self, name);
        poll_fn(|context| {
            waiter.register(context.waker());
            find().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes the waiters for a name that has been bound. The caller holds no lock.
    pub(super) fn bound(&self, name: &str) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let woken = self.state().waiting.remove(name);
        for waker in woken.into_iter().flat_map(BTreeMap::into_values) {
            waker.wake();
        }
    }
}

/// A waiter. It is counted from before its first lookup until it is dropped.
struct Waiter<'a> {
    waiters: &'a NameWaiters,
    name: &'a str,
    number: u64,
}

impl<'a> Waiter<'a> {
    fn new(waiters: &'a NameWaiters, name: &'a str) -> Self {
        waiters.count.fetch_add(1, Ordering::SeqCst);
        let mut state = waiters.state();
        state.last_number += 1;
        Self { waiters, name, number: state.last_number }
    }

    fn register(&mut self, waker: &Waker) {
        let mut state = self.waiters.state();
        let waiting = state.waiting.entry(self.name.to_owned()).or_default();
        let before = waiting.insert(self.number, waker.clone());
        drop(state);
        // Outside of the lock, because a waker may hold the last reference to a value of the program.
        drop(before);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.waiters.state();
        let mut waker = None;
        if let Some(waiting) = state.waiting.get_mut(self.name) {
            waker = waiting.remove(&self.number);
            if waiting.is_empty() {
                state.waiting.remove(self.name);
            }
        }
        drop(state);
        drop(waker);
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}
