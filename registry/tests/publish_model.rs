//! The publish protocol under every interleaving: `src/publish.rs` itself, compiled with loom's primitives in place
//! of the real ones. And the same with three bugs put into the primitives, to show that the model finds them.

#![allow(clippy::duplicate_mod, reason = "that is the point: once for each set of primitives")]

use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex as RealMutex;

/// Primitives that do what they should.
#[path = "."]
mod sound {
    pub(crate) mod sync {
        pub(crate) use crate::{AtomicU32, SnapshotCell};
        pub(crate) use loom::sync::Mutex;
        pub(crate) use std::sync::atomic::Ordering;
    }

    #[path = "../src/publish.rs"]
    #[allow(dead_code, reason = "the tests use what they need of it")]
    pub(crate) mod publish;
}

/// The gate opens before the snapshot is there: a change of the gate overtakes the publication before it.
#[path = "."]
mod gate_first {
    pub(crate) mod sync {
        pub(crate) use crate::overtaking::{AtomicU32, SnapshotCell};
        pub(crate) use loom::sync::Mutex;
        pub(crate) use std::sync::atomic::Ordering;
    }

    #[path = "../src/publish.rs"]
    #[allow(dead_code, reason = "the tests use what they need of it")]
    pub(crate) mod publish;
}

/// Who closes the gate does not keep writers out, and does not look whether it was opened.
#[path = "."]
mod no_exclusion {
    pub(crate) mod sync {
        pub(crate) use crate::SnapshotCell;
        pub(crate) use crate::careless::{AtomicU32, Mutex};
        pub(crate) use std::sync::atomic::Ordering;
    }

    #[path = "../src/publish.rs"]
    #[allow(dead_code, reason = "the tests use what they need of it")]
    pub(crate) mod publish;
}

/// The second look under the lock, before the gate comes to rest, sees nothing.
#[path = "."]
mod no_second_look {
    pub(crate) mod sync {
        pub(crate) use crate::AtomicU32;
        pub(crate) use crate::blind::{Mutex, SnapshotCell};
        pub(crate) use std::sync::atomic::Ordering;
    }

    #[path = "../src/publish.rs"]
    #[allow(dead_code, reason = "the tests use what they need of it")]
    pub(crate) mod publish;
}

/// A loom atomic that can be made in a `const fn`: it comes to be at its first use.
pub(crate) struct AtomicU32 {
    initial: u32,
    cell: std::sync::OnceLock<loom::sync::atomic::AtomicU32>,
}

impl AtomicU32 {
    pub(crate) const fn new(initial: u32) -> Self {
        Self { initial, cell: std::sync::OnceLock::new() }
    }

    fn cell(&self) -> &loom::sync::atomic::AtomicU32 {
        self.cell.get_or_init(|| loom::sync::atomic::AtomicU32::new(self.initial))
    }

    pub(crate) fn load(&self, ordering: std::sync::atomic::Ordering) -> u32 {
        self.cell().load(ordering)
    }

    pub(crate) fn swap(&self, value: u32, ordering: std::sync::atomic::Ordering) -> u32 {
        self.cell().swap(value, ordering)
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: std::sync::atomic::Ordering,
        failure: std::sync::atomic::Ordering,
    ) -> Result<u32, u32> {
        self.cell().compare_exchange(current, new, success, failure)
    }
}

/// What `ArcSwap` promises, and no more: a load gives some value that was stored, and acquires what its store
/// released.
pub(crate) struct SnapshotCell<T> {
    /// Every value that ever was; not a part of the model.
    versions: RealMutex<Vec<Arc<Option<T>>>>,
    /// The index of the current one.
    current: Arc<loom::sync::atomic::AtomicUsize>,
}

pub(crate) struct Loaded<T>(Arc<Option<T>>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<Option<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> SnapshotCell<T> {
    pub(crate) fn empty() -> Self {
        let current = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        Self { versions: RealMutex::new(vec![Arc::new(None)]), current }
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        let current = self.current.load(std::sync::atomic::Ordering::Acquire);
        Loaded(self.versions.lock().unwrap()[current].clone())
    }

    pub(crate) fn swap(&self, value: Arc<Option<T>>) -> Arc<Option<T>> {
        let new = self.add(value);
        let old = self.current.swap(new, std::sync::atomic::Ordering::AcqRel);
        self.versions.lock().unwrap()[old].clone()
    }

    fn add(&self, value: Arc<Option<T>>) -> usize {
        let mut versions = self.versions.lock().unwrap();
        versions.push(value);
        versions.len() - 1
    }
}

mod overtaking {
    use super::{Arc, Loaded, RealMutex};
    use std::sync::atomic::Ordering;

    /// The publication that a change of the gate is about to overtake; the models have one writer.
    static DELAYED: RealMutex<Option<Box<dyn FnOnce() + Send>>> = RealMutex::new(None);

    pub(crate) struct AtomicU32(super::AtomicU32);

    impl AtomicU32 {
        pub(crate) const fn new(initial: u32) -> Self {
            Self(super::AtomicU32::new(initial))
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u32,
            new: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.0.compare_exchange(current, new, success, failure)
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u32 {
            self.0.load(ordering)
        }

        pub(crate) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
            let before = self.0.swap(value, ordering);
            let delayed = DELAYED.lock().unwrap().take();
            if let Some(publish) = delayed {
                publish();
            }
            before
        }
    }

    pub(crate) struct SnapshotCell<T>(super::SnapshotCell<T>);

    impl<T> SnapshotCell<T> {
        pub(crate) fn swap(&self, value: Arc<Option<T>>) -> Arc<Option<T>> {
            let new = self.0.add(value);
            let current = Arc::clone(&self.0.current);
            *DELAYED.lock().unwrap() = Some(Box::new(move || current.store(new, Ordering::Release)));
            Arc::new(None)
        }

        pub(crate) fn empty() -> Self {
            Self(super::SnapshotCell::empty())
        }

        pub(crate) fn load(&self) -> Loaded<T> {
            self.0.load()
        }
    }
}

mod careless {
    use std::sync::atomic::Ordering;
    use std::sync::{LockResult, TryLockResult};

    pub(crate) struct AtomicU32(super::AtomicU32);

    impl AtomicU32 {
        pub(crate) const fn new(initial: u32) -> Self {
            Self(super::AtomicU32::new(initial))
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u32 {
            self.0.load(ordering)
        }

        pub(crate) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
            self.0.swap(value, ordering)
        }

        #[allow(clippy::unnecessary_wraps, reason = "the bug")]
        pub(crate) fn compare_exchange(
            &self,
            current: u32,
            new: u32,
            success: Ordering,
            _: Ordering,
        ) -> Result<u32, u32> {
            self.0.swap(new, success);
            Ok(current)
        }
    }

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) struct NoGuard;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<loom::sync::MutexGuard<'_, T>> {
            self.0.lock()
        }

        #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the bug")]
        pub(crate) fn try_lock(&self) -> TryLockResult<NoGuard> {
            Ok(NoGuard)
        }
    }
}

mod blind {
    use super::{Arc, Loaded, RealMutex};
    use std::sync::{LockResult, TryLockError, TryLockResult};

    /// The thread that looks again. A thread of loom, not of the system.
    static LOOKING: RealMutex<Option<loom::thread::ThreadId>> = RealMutex::new(None);

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) struct Looking<'a, T> {
        _lock: loom::sync::MutexGuard<'a, T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<loom::sync::MutexGuard<'_, T>> {
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<Looking<'_, T>> {
            let Ok(lock) = self.0.try_lock() else { return Err(TryLockError::WouldBlock) };
            *LOOKING.lock().unwrap() = Some(loom::thread::current().id());
            Ok(Looking { _lock: lock })
        }
    }

    impl<T> Drop for Looking<'_, T> {
        fn drop(&mut self) {
            *LOOKING.lock().unwrap() = None;
        }
    }

    pub(crate) struct SnapshotCell<T>(super::SnapshotCell<T>);

    impl<T> SnapshotCell<T> {
        pub(crate) fn empty() -> Self {
            Self(super::SnapshotCell::empty())
        }

        pub(crate) fn load(&self) -> Loaded<T> {
            let loaded = self.0.load();
            let is_looking = *LOOKING.lock().unwrap() == Some(loom::thread::current().id());
            if is_looking { Loaded(Arc::new(None)) } else { loaded }
        }

        pub(crate) fn swap(&self, value: Arc<Option<T>>) -> Arc<Option<T>> {
            self.0.swap(value)
        }
    }
}

/// What the tests do with the protocol, over each set of primitives.
macro_rules! registry {
    ($primitives:ident) => {
        use crate::$primitives::publish::{Gate, Published, Rest};

        /// As `FrameResolvers`, where a resolver is a number.
        pub(crate) struct Registry {
            base: &'static [u32],
            gate: Gate,
            published: Published<Vec<u32>>,
        }

        impl Registry {
            /// Nothing was registered or resolved yet.
            pub(crate) fn new(base: &'static [u32]) -> std::sync::Arc<Self> {
                Self::with(base, Gate::unknown())
            }

            /// Nothing is linked, and the gate is closed from the start.
            pub(crate) fn empty() -> std::sync::Arc<Self> {
                Self::with(&[], Gate::closed())
            }

            fn with(base: &'static [u32], gate: Gate) -> std::sync::Arc<Self> {
                let registry = Self { base, gate, published: Published::nothing() };
                // Now, before it is shared, the gate's atomic comes to be.
                registry.gate.read();
                std::sync::Arc::new(registry)
            }

            pub(crate) fn register(&self, resolver: u32) {
                let added: Result<(), std::convert::Infallible> = self.published.add(&self.gate, |before| {
                    let before = before.map_or(self.base, Vec::as_slice);
                    Ok(before.iter().copied().chain([resolver]).collect())
                });
                added.unwrap_or_else(|never| match never {});
            }

            pub(crate) fn unregister(&self, resolver: u32) {
                self.published.remove(|before| {
                    let left: Vec<_> = before.iter().copied().filter(|other| *other != resolver).collect();
                    (left != self.base).then_some(left)
                });
            }

            /// The resolvers that a resolve runs.
            pub(crate) fn resolve(&self) -> Vec<u32> {
                if self.gate.read() == Gate::CLOSED {
                    return Vec::new();
                }
                match self.gate.read() {
                    Gate::CLOSED => return Vec::new(),
                    Gate::BASE => return self.base.to_vec(),
                    _ => {}
                }
                if let Some(snapshot) = &**self.published.load() {
                    return snapshot.to_vec();
                }
                self.published.rest_if_nothing(&self.gate, self.rest());
                self.base.to_vec()
            }

            /// The first resolve, which found that there was no overlay yet when it looked.
            pub(crate) fn resolve_before_there_is_an_overlay(&self) {
                self.gate.rest_if_unknown(self.rest());
            }

            fn rest(&self) -> Rest {
                if self.base.is_empty() { Rest::Closed } else { Rest::Base }
            }

            pub(crate) fn assert_that_an_open_gate_shows_its_snapshot(&self) {
                if self.gate.read() == Gate::OPEN {
                    assert!(self.published.load().is_some(), "the gate is open and nothing is published");
                }
            }

            pub(crate) fn is_at_rest(&self) -> bool {
                self.gate.read() == self.rest() as u32
            }

            /// What a resolve runs if this is registered over the base.
            pub(crate) fn over_base(&self, registered: &[u32]) -> Vec<u32> {
                [self.base, registered].concat()
            }
        }

        /// A gate that is open though nothing is registered, for the next resolve to bring to rest.
        pub(crate) fn left_open(base: &'static [u32]) -> std::sync::Arc<Registry> {
            let registry = Registry::new(base);
            registry.register(9);
            registry.unregister(9);
            registry
        }

        /// A resolver that was registered while another thread brings the gate to rest is run by every later resolve.
        pub(crate) fn register_while_coming_to_rest(base: &'static [u32]) {
            let registry = left_open(base);
            let resting = loom::thread::spawn({
                let registry = std::sync::Arc::clone(&registry);
                move || {
                    let seen = registry.resolve();
                    assert!([registry.over_base(&[]), registry.over_base(&[1])].contains(&seen));
                }
            });
            registry.register(1);
            assert_eq!(registry.resolve(), registry.over_base(&[1]), "a registered resolver was not run");
            resting.join().unwrap();
            assert_eq!(registry.resolve(), registry.over_base(&[1]), "a registered resolver was not run");
        }

        /// The same, while the first resolve of all brings the gate to rest.
        pub(crate) fn register_while_coming_to_rest_for_the_first_time(base: &'static [u32]) {
            let registry = Registry::new(base);
            let resting = loom::thread::spawn({
                let registry = std::sync::Arc::clone(&registry);
                move || registry.resolve_before_there_is_an_overlay()
            });
            registry.register(1);
            assert_eq!(registry.resolve(), registry.over_base(&[1]), "a registered resolver was not run");
            resting.join().unwrap();
            assert_eq!(registry.resolve(), registry.over_base(&[1]), "a registered resolver was not run");
        }

        pub(crate) fn register_while_looking(base: &'static [u32]) {
            let registry = Registry::new(base);
            let looking = loom::thread::spawn({
                let registry = std::sync::Arc::clone(&registry);
                move || registry.assert_that_an_open_gate_shows_its_snapshot()
            });
            registry.register(1);
            looking.join().unwrap();
        }
    };
}

mod with_sound {
    registry!(sound);
}

mod with_gate_first {
    #![allow(dead_code, reason = "one of the tests")]
    registry!(gate_first);
}

mod with_no_exclusion {
    #![allow(dead_code, reason = "some of the tests")]
    registry!(no_exclusion);
}

mod with_no_second_look {
    #![allow(dead_code, reason = "some of the tests")]
    registry!(no_second_look);
}

use with_sound::{Registry, left_open};

/// Nothing is linked: the gate rests closed.
const EMPTY: &[u32] = &[];
/// One resolver is linked: the gate rests at the base.
const LINKED: &[u32] = &[7];

#[test]
fn a_resolve_that_reads_an_open_gate_finds_its_snapshot() {
    loom::model(|| with_sound::register_while_looking(EMPTY));
    loom::model(|| with_sound::register_while_looking(LINKED));
}

#[test]
#[should_panic(expected = "the gate is open and nothing is published")]
fn the_model_finds_a_gate_that_opens_before_the_snapshot_is_published() {
    loom::model(|| with_gate_first::register_while_looking(EMPTY));
}

#[test]
fn a_resolver_registered_while_the_gate_comes_to_rest_is_not_lost() {
    loom::model(|| with_sound::register_while_coming_to_rest(EMPTY));
    loom::model(|| with_sound::register_while_coming_to_rest(LINKED));
}

#[test]
#[should_panic(expected = "a registered resolver was not run")]
fn the_model_finds_a_gate_that_closes_without_keeping_writers_out() {
    loom::model(|| with_no_exclusion::register_while_coming_to_rest(EMPTY));
}

#[test]
#[should_panic(expected = "a registered resolver was not run")]
fn the_model_finds_a_gate_that_rests_at_the_base_without_keeping_writers_out() {
    loom::model(|| with_no_exclusion::register_while_coming_to_rest(LINKED));
}

#[test]
#[should_panic(expected = "a registered resolver was not run")]
fn the_model_finds_a_gate_that_rests_at_the_base_without_a_second_look() {
    loom::model(|| with_no_second_look::register_while_coming_to_rest(LINKED));
}

#[test]
fn a_resolver_registered_while_the_first_resolve_brings_the_gate_to_rest_is_not_lost() {
    loom::model(|| with_sound::register_while_coming_to_rest_for_the_first_time(EMPTY));
    loom::model(|| with_sound::register_while_coming_to_rest_for_the_first_time(LINKED));
}

#[test]
#[should_panic(expected = "a registered resolver was not run")]
fn the_model_finds_a_gate_that_closes_though_it_was_opened() {
    loom::model(|| with_no_exclusion::register_while_coming_to_rest_for_the_first_time(EMPTY));
}

#[test]
#[should_panic(expected = "a registered resolver was not run")]
fn the_model_finds_a_gate_that_rests_at_the_base_though_it_was_opened() {
    loom::model(|| with_no_exclusion::register_while_coming_to_rest_for_the_first_time(LINKED));
}

/// As [`loom::model`], over either base and from a gate that is closed from the start.
fn model_each(test: impl Fn(Arc<Registry>) + Send + Sync + Copy + 'static) {
    loom::model(move || test(Registry::empty()));
    loom::model(move || test(Registry::new(EMPTY)));
    loom::model(move || test(Registry::new(LINKED)));
}

#[test]
fn a_resolve_sees_a_whole_snapshot_and_never_an_older_one_than_before() {
    model_each(|registry| {
        let reading = loom::thread::spawn({
            let registry = Arc::clone(&registry);
            move || {
                let (first, second) = (registry.resolve(), registry.resolve());
                let states = [&[][..], &[1], &[1, 2], &[2]].map(|state| registry.over_base(state));
                let index = |seen: &Vec<u32>| {
                    states.iter().position(|state| state == seen).expect("a whole snapshot")
                };
                assert!(index(&first) <= index(&second), "{first:?}, then {second:?}");
            }
        });
        registry.register(1);
        registry.register(2);
        registry.unregister(1);
        reading.join().unwrap();
        assert_eq!(registry.resolve(), registry.over_base(&[2]));
    });
}

#[test]
fn two_that_register_at_once_are_both_registered() {
    loom::model(|| two_register_at_once(&left_open(EMPTY)));
    loom::model(|| two_register_at_once(&left_open(LINKED)));
}

fn two_register_at_once(registry: &Arc<Registry>) {
    let threads: Vec<_> = [1, 2]
        .into_iter()
        .map(|resolver| {
            let registry = Arc::clone(registry);
            loom::thread::spawn(move || {
                registry.register(resolver);
                assert!(registry.resolve().contains(&resolver));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut all = registry.resolve();
    all.sort_unstable();
    let mut expected = registry.over_base(&[1, 2]);
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn an_unregistered_resolver_is_not_run_again_and_the_gate_comes_to_rest() {
    model_each(|registry| {
        registry.register(1);
        let reading = loom::thread::spawn({
            let registry = Arc::clone(&registry);
            move || {
                let seen = registry.resolve();
                assert!([registry.over_base(&[]), registry.over_base(&[1])].contains(&seen));
            }
        });
        registry.unregister(1);
        assert_eq!(registry.resolve(), registry.over_base(&[]), "an unregistered resolver was run");
        reading.join().unwrap();
        assert_eq!(registry.resolve(), registry.over_base(&[]), "an unregistered resolver was run");
        assert!(registry.is_at_rest());
    });
}
