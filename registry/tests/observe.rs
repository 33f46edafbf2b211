//! Observing resolves: what is told of them, to whom, and that it changes nothing about them.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use frame_registry::{
    App, Frame, FrameBuilder, FrameOption, FrameResolvers, Key, Observation, Options, Outcome, Pair, Pairs,
    Resolution, ResolveContext, ResolveError, ResolveErrorKind, Resolver, StillInUse, frame_option,
    frame_resolver,
};

#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;
#[frame_option(name = "region", runtime)]
static REGION: FrameOption<u64>;
#[frame_option(name = "label", dispatcher)]
static LABEL: FrameOption<String>;

static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
static TOKEN: Key<u32> = Key::new("token").secret();
static MARK: Key<u32> = Key::new("mark");

const LONG: Duration = Duration::from_secs(60);

#[frame_resolver(order = 100, covers(TENANT))]
#[allow(clippy::unnecessary_wraps, reason = "a resolver returns a `Result`")]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

/// What an observer wrote down, a line a resolve.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn observe(&self, resolvers: &FrameResolvers) -> Observation {
        let log = self.clone();
        resolvers.observe(move |resolution: &Resolution<'_>| log.write(described(resolution))).unwrap()
    }

    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// What there is, and nothing is left.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn described(resolution: &Resolution<'_>) -> String {
    let pairs = |pairs: &mut dyn Iterator<Item = &Pair>| {
        pairs.map(|pair| format!("{}={:?}", pair.name(), pair.shown())).collect::<Vec<_>>().join(" ")
    };
    let mut line = format!("[{}]", pairs(&mut resolution.before()));
    for option in resolution.options().entries() {
        let trusted = if option.is_trusted() { "" } else { " untrusted" };
        line.push_str(&format_args!(" ({}{trusted})", option.option().name()).to_string());
    }
    for step in resolution.steps() {
        let covers: Vec<_> = step.covers().map(frame_registry::DeclaredOption::name).collect();
        let (name, made) = (step.resolver().name(), pairs(&mut step.pairs()));
        line.push_str(&format_args!(" {name}({})[{made}]", covers.join(" ")).to_string());
        assert!(step.took() <= resolution.took());
    }
    line + &match resolution.outcome() {
        Outcome::Resolved => String::new(),
        Outcome::Refused(error) => match error.kind() {
            ResolveErrorKind::Failed { resolver, source, .. } => format!(" refused by {resolver}: {source}"),
            kind => format!(" refused: {}", kind.to_string().split(' ').nth(1).unwrap()),
        },
        Outcome::Panicked(message) => format!(" panicked: {message:?}"),
        other => format!(" {other:?}"),
    }
}

fn marking(name: &'static str, order: i32, mark: u32) -> Resolver {
    Resolver::new(name, order, move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, Infallible>([MARK.pair(mark)])
    })
}

fn app() -> App {
    App::builder().build()
}

fn resolve(resolvers: &FrameResolvers, options: &Options, pairs: &mut Pairs) -> Result<(), ResolveError> {
    resolvers.resolve(&ResolveContext::new(&app(), None), options, pairs)
}

fn resolve_alone(resolvers: &FrameResolvers) -> usize {
    let mut pairs = Pairs::new();
    resolve(resolvers, &Options::new(), &mut pairs).unwrap();
    pairs.len()
}

#[test]
fn an_observer_is_told_what_each_resolver_made_of_what_in_the_order_they_ran() {
    let resolvers = FrameResolvers::linked();
    let _registered = [
        resolvers.register(marking("late", 200, 2)).unwrap(),
        resolvers
            .register(marking("early", -1, 1).covers(&REGION).covers(&LABEL).in_module("elsewhere::module"))
            .unwrap(),
    ];
    let log = Log::default();
    let _observation = log.observe(&resolvers);

    let script = Options::new().with(&REGION, 7).untrusted();
    let options = Options::new().with(&TENANT, "acme".to_owned()).merged_under(&script);
    let mut frame = FrameBuilder::new();
    frame.set(&MARK, 0).set(&TOKEN, 9);
    resolve(&resolvers, &options, frame.pairs_mut()).unwrap();
    assert_eq!(
        log.take(),
        [
            r#"[mark=0 token=<secret>] (tenant) (region untrusted) early(region)[mark=1] tenant(tenant)[tenant="acme"] late()[mark=2]"#
        ]
    );
    assert_eq!(frame.seal().get(&MARK), Some(&2), "the pairs are there as without an observer");
}

#[test]
fn an_observer_sees_the_parent_frame_and_what_was_inherited_of_it() {
    let resolvers = FrameResolvers::empty();
    let log = Log::default();
    let log_of_observer = log.clone();
    let _observation = resolvers.observe(move |resolution: &Resolution<'_>| {
        let parent = resolution.context().parent().map(|parent| format!("{parent:?}"));
        log_of_observer.write(format!("{parent:?} {}", described(resolution)));
    });
    let parent: Frame = [TENANT_KEY.pair("acme".to_owned()), MARK.pair(1)].into_iter().collect();
    let (app, mut child) = (app(), parent.fork());
    resolvers.resolve(&ResolveContext::new(&app, Some(&parent)), &Options::new(), child.pairs_mut()).unwrap();
    let expected = r#"Some("Frame {\"tenant\": \"acme\", \"mark\": 1}") [tenant="acme"]"#;
    assert_eq!(log.take(), [expected], "also where there is no resolver");
}

#[test]
fn an_observer_is_told_of_the_resolver_that_refused_and_of_the_pairs_that_are_dropped() {
    let resolvers = FrameResolvers::linked();
    let refusing = Resolver::new("refusing", 150, |_: &ResolveContext<'_>, _: &Options| {
        Err::<[Pair; 0], _>("out of order".to_owned())
    });
    let _registered =
        [resolvers.register(refusing).unwrap(), resolvers.register(marking("late", 200, 2)).unwrap()];
    let log = Log::default();
    let _observation = log.observe(&resolvers);

    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut pairs = Pairs::new();
    pairs.push(MARK.pair(0));
    let refused = resolve(&resolvers, &options, &mut pairs).unwrap_err();
    assert!(matches!(refused.kind(), ResolveErrorKind::Failed { resolver, .. } if resolver == "refusing"));
    assert_eq!(
        log.take(),
        [r#"[mark=0] (tenant) tenant(tenant)[tenant="acme"] refusing()[] refused by refusing: out of order"#]
    );
    assert_eq!(pairs.iter().map(Pair::name).collect::<Vec<_>>(), ["mark"], "as without an observer");
}

#[test]
fn an_observer_is_told_of_an_option_that_nobody_covers() {
    let resolvers = FrameResolvers::empty();
    let log = Log::default();
    let _observation = log.observe(&resolvers);
    let refused = resolve(&resolvers, &Options::new().with(&REGION, 7), &mut Pairs::new()).unwrap_err();
    assert!(matches!(refused.kind(), ResolveErrorKind::NotCovered { option: "region", .. }));
    assert_eq!(log.take(), ["[] (region) refused: `region`"]);
}

#[test]
fn an_observer_is_told_of_a_panic_which_goes_on() {
    struct PanicsInTheMiddle;
    impl Iterator for PanicsInTheMiddle {
        type Item = Pair;
        fn next(&mut self) -> Option<Pair> {
            static CALLS: AtomicUsize = AtomicUsize::new(0);
            let is_first = CALLS.fetch_add(1, Ordering::Relaxed) == 0;
            assert!(is_first, "no more than one");
            Some(MARK.pair(1))
        }
    }
    let resolvers = FrameResolvers::empty();
    let panicking = Resolver::new("panicking", 1, |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, Infallible>(PanicsInTheMiddle)
    });
    let _registered =
        [resolvers.register(panicking).unwrap(), resolvers.register(marking("late", 2, 2)).unwrap()];
    let log = Log::default();
    let _observation = log.observe(&resolvers);

    let mut pairs = Pairs::new();
    pairs.push(MARK.pair(0));
    let unwound =
        catch_unwind(AssertUnwindSafe(|| resolve(&resolvers, &Options::new(), &mut pairs))).unwrap_err();
    assert_eq!(unwound.downcast_ref(), Some(&"no more than one"), "the same panic");
    assert_eq!(log.take(), [r#"[mark=0] panicking()[mark=1] panicked: Some("no more than one")"#]);
    assert_eq!(pairs.len(), 1, "what was appended is dropped");
    assert!(catch_unwind(AssertUnwindSafe(|| resolve(&resolvers, &Options::new(), &mut pairs))).is_err());
    assert_eq!(log.take().len(), 1, "the next is told of as well");
}

#[test]
fn an_observer_that_panics_breaks_neither_the_resolve_nor_the_other_observers() {
    /// Panics when it is dropped, too.
    struct Twice;
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("and again");
        }
    }
    let resolvers = FrameResolvers::linked();
    let log = Log::default();
    let _observations = [
        log.observe(&resolvers),
        resolvers.observe(|_: &Resolution<'_>| std::panic::panic_any(Twice)).unwrap(),
        resolvers.observe(|_: &Resolution<'_>| panic!("an observer")).unwrap(),
        log.observe(&resolvers),
    ];
    let mut pairs = Pairs::new();
    resolve(&resolvers, &Options::new().with(&TENANT, "acme".to_owned()), &mut pairs).unwrap();
    assert_eq!((pairs.len(), log.take().len()), (1, 2));
    resolve(&resolvers, &Options::new().with(&REGION, 1), &mut pairs).unwrap_err();
    assert_eq!((pairs.len(), log.take().len()), (1, 2));
}

#[test]
fn an_observer_is_told_from_when_it_is_there_until_it_is_stopped_and_each_by_itself() {
    let resolvers = FrameResolvers::linked();
    let (one, other) = (Log::default(), Log::default());
    let tell = || {
        assert_eq!(resolve_alone(&resolvers), 0);
        (one.take().len(), other.take().len())
    };
    assert_eq!(tell(), (0, 0));
    let first = one.observe(&resolvers);
    assert_eq!(tell(), (1, 0));
    let second = other.observe(&resolvers);
    let third = other.observe(&resolvers);
    assert_eq!(tell(), (1, 2));
    first.stop();
    assert_eq!(tell(), (0, 2));
    drop(third);
    assert_eq!(tell(), (0, 1));
    second.stop_and_wait(LONG).unwrap();
    assert_eq!(tell(), (0, 0));
    one.observe(&resolvers).detach();
    assert_eq!(tell(), (1, 0));
}

#[test]
fn resolvers_and_observers_come_and_go_without_each_other() {
    let resolvers = FrameResolvers::empty();
    let log = Log::default();
    let mark = resolvers.register(marking("mark", 1, 1)).unwrap();
    let observation = log.observe(&resolvers);
    mark.unregister();
    assert_eq!((resolve_alone(&resolvers), log.take()), (0, vec!["[]".to_owned()]));
    let mark = resolvers.register(marking("mark", 1, 2)).unwrap();
    assert_eq!((resolve_alone(&resolvers), log.take()), (1, vec!["[] mark()[mark=2]".to_owned()]));
    observation.stop();
    assert_eq!((resolve_alone(&resolvers), log.take().len()), (1, 0));
    mark.unregister();
    assert_eq!((resolve_alone(&resolvers), resolvers.iter().count()), (0, 0));
}

#[test]
fn an_observer_may_change_the_registry_and_observe_and_stop_itself() {
    let resolvers = Arc::new(FrameResolvers::empty());
    let own: Arc<Mutex<Option<Observation>>> = Arc::default();
    let log = Log::default();
    let (resolvers_of_observer, held, heir) = (Arc::clone(&resolvers), Arc::clone(&own), log.clone());
    let once = resolvers.observe(move |_: &Resolution<'_>| {
        // Each of these would deadlock if it were called under a lock.
        resolvers_of_observer.register(marking("mark", 1, 1)).unwrap().detach();
        heir.observe(&resolvers_of_observer).detach();
        drop(held.lock().unwrap().take());
    });
    *own.lock().unwrap() = Some(once.unwrap());
    assert_eq!((resolve_alone(&resolvers), log.take().len()), (0, 0), "it finished as it began");
    assert_eq!((resolve_alone(&resolvers), log.take()), (1, vec!["[] mark()[mark=1]".to_owned()]));
}

#[test]
fn what_an_observer_resolves_itself_is_told_to_nobody() {
    let resolvers = Arc::new(FrameResolvers::linked());
    let told = Arc::new(AtomicUsize::new(0));
    let (resolvers_of_observer, count) = (Arc::clone(&resolvers), Arc::clone(&told));
    let _observation = resolvers.observe(move |_: &Resolution<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        assert_eq!(resolve_alone(&resolvers_of_observer), 0);
    });
    resolve_alone(&resolvers);
    resolve_alone(&resolvers);
    assert_eq!(told.load(Ordering::Relaxed), 2);
}

#[test]
fn of_a_resolve_within_a_resolver_only_the_observers_of_its_registry_are_told_and_first() {
    let (outer, inner) = (FrameResolvers::empty(), Arc::new(FrameResolvers::empty()));
    inner.register(marking("in", 1, 1)).unwrap().detach();
    let nested = Arc::clone(&inner);
    let nesting = Resolver::new("out", 1, move |ctx: &ResolveContext<'_>, options: &Options| {
        let mut pairs = Pairs::new();
        nested.resolve(ctx, options, &mut pairs)?;
        Ok::<_, ResolveError>(pairs)
    });
    outer.register(nesting).unwrap().detach();
    let log = Log::default();
    let of_outer = log.observe(&outer);
    assert_eq!((resolve_alone(&outer), log.take()), (1, vec!["[] out()[mark=1]".to_owned()]));
    let _of_inner = log.observe(&inner);
    assert_eq!(resolve_alone(&outer), 1);
    assert_eq!(log.take(), ["[] in()[mark=1]", "[] out()[mark=1]"]);
    of_outer.stop();
    assert_eq!((resolve_alone(&outer), log.take()), (1, vec!["[] in()[mark=1]".to_owned()]));
}

#[test]
fn a_resolve_that_has_begun_tells_the_observers_it_began_with() {
    let resolvers = Arc::new(FrameResolvers::empty());
    let log = Log::default();
    let observation = Arc::new(Mutex::new(Some(log.observe(&resolvers))));
    let (own, late, other) = (Arc::clone(&observation), log.clone(), Arc::clone(&resolvers));
    let changing = Resolver::new("changing", 1, move |_: &ResolveContext<'_>, _: &Options| {
        if let Some(first) = own.lock().unwrap().take() {
            first.stop();
            late.observe(&other).detach();
            late.observe(&other).detach();
        }
        Ok::<_, Infallible>(None)
    });
    resolvers.register(changing).unwrap().detach();
    resolve_alone(&resolvers);
    assert_eq!(log.take().len(), 1, "the first, which was there when it began");
    resolve_alone(&resolvers);
    assert_eq!(log.take().len(), 2);
}

#[test]
fn stopping_waits_for_who_is_still_told() {
    let resolvers = FrameResolvers::empty();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    let observe = || resolvers.observe(|_: &Resolution<'_>| {}).unwrap();
    let slow = resolvers.observe(move |_: &Resolution<'_>| {
        entered.send(()).unwrap();
        may_leave.lock().unwrap().recv_timeout(LONG).unwrap();
    });
    let quick = observe();
    thread::scope(|scope| {
        let resolving = scope.spawn(|| resolve_alone(&resolvers));
        has_entered.recv_timeout(LONG).unwrap();
        assert_eq!(quick.stop_and_wait(Duration::from_millis(1)), Err(StillInUse), "it is told next");
        leave.send(()).unwrap();
        slow.unwrap().stop_and_wait(LONG).unwrap();
        resolving.join().unwrap();
    });
}

#[test]
fn a_registry_may_go_before_its_observations() {
    let kept = Arc::new(());
    let count = Arc::clone(&kept);
    let resolvers = FrameResolvers::linked();
    let observation = resolvers.observe(move |_: &Resolution<'_>| {
        let _ = &count;
    });
    drop(resolvers);
    assert_eq!(Arc::strong_count(&kept), 1, "the observer went with its registry");
    observation.unwrap().stop_and_wait(LONG).unwrap();
}

#[test]
fn an_observer_may_use_the_registry_when_it_is_dropped() {
    struct Reregisters(Arc<FrameResolvers>);
    impl Drop for Reregisters {
        fn drop(&mut self) {
            // Would deadlock if observers were dropped under the lock.
            self.0.register(marking("heir", 1, 2)).unwrap().detach();
        }
    }
    let resolvers = Arc::new(FrameResolvers::empty());
    let last = Reregisters(Arc::clone(&resolvers));
    let observation = resolvers.observe(move |_: &Resolution<'_>| {
        let _ = &last;
    });
    observation.unwrap().stop();
    assert_eq!(resolve_alone(&resolvers), 1);
}

/// While observers and resolvers come and go, everyone who observes is told of each of its own resolves, once and whole.
#[test]
fn observers_come_and_go_while_others_resolve() {
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 300 };
    thread_local! {
        /// How often this thread's own resolves were told of to its own observer.
        static TOLD: OnceLock<Arc<AtomicUsize>> = const { OnceLock::new() };
    }
    let resolvers = FrameResolvers::linked();
    let (is_done, start) = (AtomicBool::new(false), Barrier::new(4));
    let wrong: Arc<Mutex<Option<Vec<String>>>> = Arc::default();
    thread::scope(|scope| {
        let resolving = scope.spawn(|| {
            start.wait();
            while !is_done.load(Ordering::Acquire) {
                let marks = resolve_alone(&resolvers);
                assert!(marks <= 1, "{marks}");
            }
        });
        let registering = scope.spawn(|| {
            start.wait();
            for _ in 0..ROUNDS {
                resolvers.register(marking("mark", 1, 1)).unwrap().unregister();
            }
        });
        let observing: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let told = TOLD.with(|told| Arc::clone(told.get_or_init(Arc::default)));
                    start.wait();
                    for round in 0..ROUNDS {
                        let (mine, wrong) = (Arc::clone(&told), Arc::clone(&wrong));
                        let observation = resolvers.observe(move |resolution: &Resolution<'_>| {
                            let names: Vec<_> =
                                resolution.steps().map(|step| step.resolver().name().to_owned()).collect();
                            let is_whole = names == ["tenant"] || names == ["mark", "tenant"];
                            if !is_whole {
                                *wrong.lock().unwrap() = Some(names);
                            }
                            let is_mine =
                                TOLD.with(|told| told.get().is_some_and(|told| Arc::ptr_eq(told, &mine)));
                            mine.fetch_add(usize::from(is_mine), Ordering::Relaxed);
                        });
                        resolve_alone(&resolvers);
                        drop(observation);
                        resolve_alone(&resolvers);
                        assert_eq!(told.load(Ordering::Relaxed), round + 1);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = observing.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let registered = registering.join();
        is_done.store(true, Ordering::Release);
        resolving.join().unwrap();
        registered.unwrap();
        for ended in ended {
            ended.unwrap();
        }
    });
    assert_eq!(*wrong.lock().unwrap(), None);
}
