//! Registering and unregistering while others resolve.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use frame_registry::{
    App, FrameResolvers, Key, Options, Pair, Pairs, Registration, ResolveContext, Resolver, StillInUse,
    frame_resolver,
};
use proptest::prelude::*;

static MARK: Key<u32> = Key::new("mark");
const LONG: Duration = Duration::from_secs(60);

#[frame_resolver(order = 50)]
#[allow(clippy::unnecessary_wraps, reason = "a resolver returns a `Result`")]
fn linked(_: &ResolveContext<'_>, _: &Options) -> Result<[Pair; 1], Infallible> {
    Ok([MARK.pair(u32::MAX)])
}

fn marking(name: impl Into<String>, order: i32, mark: u32) -> Resolver {
    Resolver::new(name.into(), order, move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, Infallible>([MARK.pair(mark)])
    })
}

fn resolve(resolvers: &FrameResolvers) -> Vec<u32> {
    let app = App::builder().build();
    let mut pairs = Pairs::new();
    resolvers.resolve(&ResolveContext::new(&app, None), &Options::new(), &mut pairs).unwrap();
    pairs.iter().map(|pair| *pair.get(&MARK).unwrap()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Register { name: u8, order: i32 },
    Unregister { name: u8 },
    Detach { name: u8 },
    Resolve,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..12_u8;
    prop_oneof![
        3 => (name.clone(), 48..53).prop_map(|(name, order)| Step::Register { name, order }),
        2 => name.clone().prop_map(|name| Step::Unregister { name }),
        1 => name.prop_map(|name| Step::Detach { name }),
        1 => Just(Step::Resolve),
    ]
}

proptest! {
    /// Every history makes of the registry what it makes of a map sorted by order and name.
    #[test]
    fn a_registry_is_a_sorted_map(steps in prop::collection::vec(step(), 0..60), is_linked: bool) {
        let resolvers = if is_linked { FrameResolvers::linked() } else { FrameResolvers::empty() };
        let mut model = BTreeMap::new();
        if is_linked {
            model.insert((50, "linked".to_owned()), u32::MAX);
        }
        let mut held: BTreeMap<u8, Option<Registration>> = BTreeMap::new();
        for (mark, step) in (0..).zip(steps) {
            match step {
                Step::Register { name, order } => {
                    let key = format!("r{name}");
                    let registered = resolvers.register(marking(key.as_str(), order, mark));
                    let is_taken = model.keys().any(|(_, other)| *other == key);
                    prop_assert_eq!(registered.is_err(), is_taken);
                    if let Ok(registration) = registered {
                        held.insert(name, Some(registration));
                        model.insert((order, key), mark);
                    }
                }
                Step::Unregister { name } => {
                    if let Some(Some(registration)) = held.insert(name, None) {
                        prop_assert_eq!(registration.name(), Some(format!("r{name}")));
                        registration.unregister();
                        model.retain(|(_, other), _| *other != format!("r{name}"));
                    }
                }
                Step::Detach { name } => {
                    if let Some(Some(registration)) = held.insert(name, None) {
                        registration.detach();
                    }
                }
                Step::Resolve => {}
            }
            prop_assert_eq!(resolve(&resolvers), model.values().copied().collect::<Vec<_>>());
            let names: Vec<_> = resolvers.iter().map(|resolver| (resolver.order(), resolver.name().to_owned())).collect();
            prop_assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
        }
    }
}

/// Ends the readers, also where a writer fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// While resolvers come and go in pairs, every resolve sees both of a pair or none.
#[test]
fn every_resolve_sees_a_complete_snapshot() {
    const WRITERS: u32 = 3;
    const ROUNDS: u32 = 300;
    let resolvers = FrameResolvers::linked();
    let (is_done, resolved) = (AtomicBool::new(false), AtomicUsize::new(0));
    let start = Barrier::new(WRITERS as usize + 2);
    thread::scope(|scope| {
        let done = Done(&is_done);
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                let mut is_last = false;
                while !is_last {
                    // One more after the writers are done: on a busy machine it may be the only one.
                    is_last = is_done.load(Ordering::Acquire);
                    let marks = resolve(&resolvers);
                    assert!(marks.contains(&u32::MAX), "the linked one is always there");
                    // The lower of two is registered first and unregistered last, so no upper stands alone.
                    for mark in marks.iter().filter(|mark| **mark != u32::MAX && **mark % 2 == 1) {
                        assert!(marks.contains(&(mark - 1)), "{marks:?}");
                    }
                    resolved.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (resolvers, start) = (&resolvers, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..ROUNDS {
                        let (lower, upper) = (writer * 2, writer * 2 + 1);
                        let lower = resolvers.register(marking(format!("l{writer}"), 1, lower)).unwrap();
                        let upper = resolvers.register(marking(format!("u{writer}"), 99, upper)).unwrap();
                        assert!(resolve(resolvers).contains(&(writer * 2 + 1)), "registered, so it is run");
                        upper.unregister();
                        lower.unregister();
                        assert!(
                            !resolve(resolvers).contains(&(writer * 2)),
                            "unregistered, so it is not run"
                        );
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(done);
    });
    assert!(resolved.into_inner() > 0);
    assert_eq!(resolve(&resolvers), [u32::MAX]);
}

#[test]
fn of_many_that_register_one_name_one_wins() {
    let resolvers = FrameResolvers::empty();
    let start = Barrier::new(8);
    let held: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|mark| {
                let (resolvers, start) = (&resolvers, &start);
                scope.spawn(move || {
                    start.wait();
                    resolvers.register(marking("one", 1, mark)).ok()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((held.len(), resolve(&resolvers).len()), (1, 1));
}

#[test]
fn a_resolve_that_has_begun_finishes_on_the_snapshot_it_began_with() {
    let resolvers = Arc::new(FrameResolvers::empty());
    let other = Arc::clone(&resolvers);
    let first = Resolver::new("first", 1, move |_: &ResolveContext<'_>, _: &Options| {
        let late = other.register(marking("late", 3, 3));
        late.ok().into_iter().for_each(Registration::detach);
        Ok::<_, Infallible>([MARK.pair(1)])
    });
    let _registration = resolvers.register(first).unwrap();
    assert_eq!(resolve(&resolvers), [1], "registered by a resolver of this resolve");
    assert_eq!(resolve(&resolvers), [1, 3]);
}

#[test]
fn a_resolver_may_unregister_itself_while_it_runs() {
    let resolvers = FrameResolvers::empty();
    let own: Arc<std::sync::Mutex<Option<Registration>>> = Arc::default();
    let held = Arc::clone(&own);
    let once = Resolver::new("once", 1, move |_: &ResolveContext<'_>, _: &Options| {
        drop(held.lock().unwrap().take());
        Ok::<_, Infallible>([MARK.pair(1)])
    });
    *own.lock().unwrap() = Some(resolvers.register(once).unwrap());
    assert_eq!(resolve(&resolvers), [1]);
    assert_eq!(resolve(&resolvers), [0; 0]);
}

#[test]
fn a_registry_may_go_before_its_registrations() {
    let dropped = Arc::new(());
    let count = Arc::clone(&dropped);
    let resolvers = FrameResolvers::linked();
    let registration =
        resolvers.register(Resolver::new("mine", 1, move |_: &ResolveContext<'_>, _: &Options| {
            let _ = &count;
            Ok::<_, Infallible>([MARK.pair(1)])
        }));
    let registration = registration.unwrap();
    drop(resolvers);
    assert_eq!(Arc::strong_count(&dropped), 1, "the resolver went with its registry");
    assert_eq!(registration.name(), None);
    registration.unregister_and_wait(LONG).unwrap();
}

#[test]
fn a_resolver_is_dropped_when_it_is_unregistered_and_may_use_the_registry_then() {
    struct Reregisters(Arc<FrameResolvers>);
    impl Drop for Reregisters {
        fn drop(&mut self) {
            // Would deadlock if resolvers were dropped under the lock.
            self.0.register(marking("heir", 1, 2)).unwrap().detach();
        }
    }
    let resolvers = Arc::new(FrameResolvers::empty());
    let last = Reregisters(Arc::clone(&resolvers));
    let registration =
        resolvers.register(Resolver::new("mine", 1, move |_: &ResolveContext<'_>, _: &Options| {
            let _ = &last;
            Ok::<_, Infallible>([MARK.pair(1)])
        }));
    registration.unwrap().unregister();
    assert_eq!(resolve(&resolvers), [2]);
}

#[test]
fn a_resolver_that_is_refused_may_use_the_registry_when_it_is_dropped() {
    let resolvers = FrameResolvers::empty();
    let helper = resolvers.register(marking("helper", 1, 1)).unwrap();
    resolvers.register(marking("taken", 2, 2)).unwrap().detach();
    let refused =
        resolvers.register(Resolver::new("taken", 3, move |_: &ResolveContext<'_>, _: &Options| {
            let _ = &helper;
            Ok::<_, Infallible>([MARK.pair(3)])
        }));
    refused.unwrap_err();
    assert_eq!(resolve(&resolvers), [2], "the helper went with the resolver that was refused");
}

#[test]
fn waiting_ends_when_the_last_that_runs_the_resolver_is_done() {
    let resolvers = FrameResolvers::empty();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = std::sync::Mutex::new(may_leave);
    let slow = Resolver::new("slow", 1, move |_: &ResolveContext<'_>, _: &Options| {
        entered.send(()).unwrap();
        may_leave.lock().unwrap().recv_timeout(LONG).unwrap();
        Ok::<_, Infallible>([MARK.pair(1)])
    });
    let registration = resolvers.register(slow).unwrap();
    thread::scope(|scope| {
        let running = scope.spawn(|| resolve(&resolvers));
        has_entered.recv_timeout(LONG).unwrap();
        let unregistered = scope.spawn(|| registration.unregister_and_wait(LONG));
        // It is removed at once, though it still runs.
        while resolvers.iter().next().is_some() {
            thread::yield_now();
        }
        assert!(!unregistered.is_finished());
        leave.send(()).unwrap();
        assert_eq!(running.join().unwrap(), [1]);
        assert_eq!(unregistered.join().unwrap(), Ok(()));
    });
}

#[test]
fn waiting_gives_up_in_time_and_says_so() {
    let resolvers = FrameResolvers::empty();
    let registration = resolvers.register(marking("mine", 1, 1)).unwrap();
    let user = resolvers.iter().next().unwrap();
    assert_eq!(registration.unregister_and_wait(Duration::from_millis(1)), Err(StillInUse));
    assert_eq!((user.name(), resolve(&resolvers).len()), ("mine", 0));
}
