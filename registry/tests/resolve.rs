//! Resolving with linked and registered resolvers: order, what is kept, what is rolled back.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use frame_registry::{
    App, Frame, FrameBuilder, FrameOption, FrameResolvers, Key, Layout, OptionKind, Options, Origin, Pair,
    Pairs, RegisterError, ResolveContext, ResolveError, ResolveErrorKind, Resolver, declared_options,
    frame_option, frame_resolver,
};

/// Who this frame works for.
#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;

#[frame_option(name = "region", runtime)]
static REGION: FrameOption<u64>;

#[frame_option(name = "timeout", dispatcher)]
static TIMEOUT: FrameOption<u32>;

static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
static REGION_OF: Key<u64> = Key::new("region");
static MARK: Key<u32> = Key::new("mark");

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, TenantError> {
    match options.get(&TENANT) {
        Some(tenant) if tenant.is_empty() => Err(TenantError),
        Some(_) => Ok(options.pair(&TENANT, &TENANT_KEY)),
        None => Ok(ctx
            .parent()
            .and_then(|parent| parent.get(&TENANT_KEY))
            .map(|tenant| TENANT_KEY.pair(tenant.clone()))),
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a tenant has a name")]
struct TenantError;

/// An app with these resolvers, and what they make of options over pairs.
fn app(resolvers: FrameResolvers) -> App {
    let mut app = App::builder();
    app.set_resolvers(resolvers).unwrap();
    app.build()
}

fn resolve(app: &App, options: &Options, pairs: &mut Pairs) -> Result<(), ResolveError> {
    app.resolvers().resolve(&ResolveContext::new(app, None), options, pairs)
}

fn marking(name: &'static str, order: i32, mark: u32) -> Resolver {
    Resolver::new(name, order, move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, TenantError>([MARK.pair(mark)])
    })
}

fn names(resolvers: &FrameResolvers) -> Vec<String> {
    resolvers.iter().map(|resolver| resolver.name().to_owned()).collect()
}

fn marks(pairs: &Pairs) -> Vec<u32> {
    pairs.iter().filter_map(|pair| pair.get(&MARK).copied()).collect()
}

#[test]
fn linked_and_registered_resolvers_run_merged_in_order_with_ties_by_name() {
    let app = app(FrameResolvers::linked());
    let registered = [("zulu", 100), ("late", 101), ("early", -7), ("alpha", 100)];
    for (mark, (name, order)) in (1..).zip(registered) {
        app.resolvers().register(marking(name, order, mark)).unwrap().detach();
    }
    assert_eq!(names(app.resolvers()), ["early", "alpha", "tenant", "zulu", "late"]);

    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut pairs = Pairs::new();
    resolve(&app, &options, &mut pairs).unwrap();
    assert_eq!(pairs.iter().map(Pair::name).collect::<Vec<_>>(), ["mark", "mark", "tenant", "mark", "mark"]);
    assert_eq!(marks(&pairs), [3, 4, 1, 2]);
    assert_eq!(pairs.get(&MARK), Some(&2), "the later one wins");
}

#[test]
fn pairs_of_the_caller_are_kept_and_those_of_resolvers_come_behind_them() {
    let app = app(FrameResolvers::empty());
    let _registration = app.resolvers().register(marking("mark", 1, 2)).unwrap();
    let mut frame = FrameBuilder::new();
    frame.set(&MARK, 1).set(&REGION_OF, 4);
    resolve(&app, &Options::new(), frame.pairs_mut()).unwrap();
    assert_eq!(marks(frame.pairs_mut()), [1, 2]);

    let frame = frame.seal();
    assert_eq!(frame.get(&MARK), Some(&2));
    assert_eq!(frame.iter().map(Pair::name).collect::<Vec<_>>(), ["region", "mark"], "one a key");
}

#[test]
fn options_share_their_value_with_the_pair() {
    let app = app(FrameResolvers::linked());
    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut pairs = Pairs::new();
    resolve(&app, &options, &mut pairs).unwrap();
    assert!(std::ptr::eq(pairs.get(&TENANT_KEY).unwrap(), options.get(&TENANT).unwrap()));
}

#[test]
fn a_resolver_reads_the_parent_frame() {
    let app = app(FrameResolvers::linked());
    let parent: Frame = [TENANT_KEY.pair("acme".to_owned())].into_iter().collect();
    let mut pairs = Pairs::new();
    app.resolvers().resolve(&ResolveContext::new(&app, Some(&parent)), &Options::new(), &mut pairs).unwrap();
    assert_eq!(pairs.get(&TENANT_KEY).unwrap(), "acme");
}

#[test]
fn first_error_stops_and_names_the_resolver_and_keeps_its_cause() {
    let app = app(FrameResolvers::linked());
    let _before = app.resolvers().register(marking("before", 1, 1)).unwrap();
    let after = Resolver::new(
        "after",
        200,
        |_: &ResolveContext<'_>, _: &Options| -> Result<[Pair; 0], TenantError> {
            panic!("a resolver ran behind one that failed")
        },
    );
    let _after = app.resolvers().register(after).unwrap();

    let mut pairs: Pairs = [MARK.pair(0)].into_iter().collect();
    let error = resolve(&app, &Options::new().with(&TENANT, String::new()), &mut pairs).unwrap_err();
    let ResolveErrorKind::Failed { resolver, location, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!((resolver.as_str(), location.file()), ("tenant", file!()));
    let line =
        include_str!("resolve.rs").lines().position(|line| line.contains("order = 100, covers")).unwrap();
    assert_eq!(location.line() as usize, line + 1);
    assert_eq!(error.to_string(), format!("frame resolver `tenant` ({location}) failed"));
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&TenantError));
    assert_eq!(marks(&pairs), [0], "the pairs are as they were");
}

#[test]
fn an_app_without_resolvers_resolves_to_nothing_unless_an_option_is_set() {
    let app = App::builder().build();
    let mut pairs = Pairs::new();
    resolve(&app, &Options::new(), &mut pairs).unwrap();
    assert!(pairs.is_empty());
    let error = resolve(&app, &Options::new().with(&TENANT, "acme".to_owned()), &mut pairs).unwrap_err();
    assert!(matches!(error.kind(), ResolveErrorKind::NotCovered { option: "tenant", .. }), "{error:?}");
}

#[test]
fn an_empty_registry_ignores_linked_resolvers_and_refuses_the_options_they_cover() {
    let app = app(FrameResolvers::empty());
    assert_eq!(names(app.resolvers()), [""; 0]);
    let options = Options::new().with(&TENANT, "acme".to_owned());
    for _ in 0..2 {
        let error = resolve(&app, &options, &mut Pairs::new()).unwrap_err();
        assert!(error.to_string().starts_with("option `tenant` (declared at "), "{error}");
    }
    let covering = marking("mine", 1, 1).covers(&TENANT);
    let registration = app.resolvers().register(covering).unwrap();
    resolve(&app, &options, &mut Pairs::new()).unwrap();
    registration.unregister();
    resolve(&app, &options, &mut Pairs::new()).unwrap_err();
}

#[test]
fn a_runtime_option_is_refused_until_a_resolver_covers_it_and_again_when_that_is_gone() {
    let app = app(FrameResolvers::linked());
    let options = Options::new().with(&REGION, 4);
    assert!(matches!(
        resolve(&app, &options, &mut Pairs::new()).unwrap_err().kind(),
        ResolveErrorKind::NotCovered { option: "region", .. }
    ));
    let region = Resolver::new("region", 1, |_: &ResolveContext<'_>, options: &Options| {
        Ok::<_, TenantError>(options.pair(&REGION, &REGION_OF))
    });
    let registration = app.resolvers().register(region.covers(&REGION)).unwrap();
    let mut pairs = Pairs::new();
    resolve(&app, &options, &mut pairs).unwrap();
    assert_eq!(pairs.get(&REGION_OF), Some(&4));
    drop(registration);
    resolve(&app, &options, &mut Pairs::new()).unwrap_err();
}

#[test]
fn a_plain_option_needs_no_resolver() {
    let options = Options::new().with(&TIMEOUT, 5);
    for resolvers in [FrameResolvers::linked(), FrameResolvers::empty()] {
        resolve(&app(resolvers), &options, &mut Pairs::new()).unwrap();
    }
}

#[test]
fn names_that_are_taken_or_empty_are_not_registered() {
    let app = app(FrameResolvers::linked());
    let _registration = app.resolvers().register(marking("mine", 1, 1)).unwrap();
    for taken in ["tenant", "mine"] {
        let error = app.resolvers().register(marking(taken, 2, 2)).unwrap_err();
        let RegisterError::DuplicateName { name, existing } = &error else { panic!("{error:?}") };
        assert_eq!((name.as_str(), existing.file()), (taken, file!()));
    }
    let error = app.resolvers().register(marking("", 2, 2)).unwrap_err();
    assert!(matches!(error, RegisterError::EmptyName { .. }), "{error:?}");
    assert_eq!(names(app.resolvers()), ["mine", "tenant"]);
}

#[test]
fn registries_do_not_share_what_is_registered() {
    static ONE: FrameResolvers = FrameResolvers::linked();
    let other = FrameResolvers::linked();
    let registration = ONE.register(marking("mine", 1, 1)).unwrap();
    assert_eq!(names(&ONE), ["mine", "tenant"]);
    assert_eq!(names(&other), ["tenant"]);
    registration.unregister();
    assert_eq!(names(&ONE), ["tenant"]);
}

/// Says when it is dropped.
#[derive(Debug)]
struct Noisy(&'static str, &'static Mutex<Vec<&'static str>>);

impl Drop for Noisy {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

static NOISY: Key<Noisy> = Key::new("noisy");

/// Registers two resolvers that make noisy pairs and a third that ends the resolve, and says what was dropped.
fn dropped_when(
    dropped: &'static Mutex<Vec<&'static str>>,
    end: impl Fn() -> Result<[Pair; 0], TenantError> + Send + Sync + 'static,
) -> Vec<&'static str> {
    let app = app(FrameResolvers::empty());
    let first = move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, TenantError>([NOISY.pair(Noisy("a", dropped)), NOISY.pair(Noisy("b", dropped))])
    };
    let second = move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, TenantError>(vec![NOISY.pair(Noisy("c", dropped))])
    };
    let fails = app.resolvers();
    fails.register(Resolver::new("first", 1, first)).unwrap().detach();
    fails.register(Resolver::new("second", 2, second)).unwrap().detach();
    let ends =
        fails.register(Resolver::new("third", 3, move |_: &ResolveContext<'_>, _: &Options| end())).unwrap();

    let mut pairs: Pairs = [NOISY.pair(Noisy("caller's", dropped)), MARK.pair(0)].into_iter().collect();
    let ended = catch_unwind(AssertUnwindSafe(|| resolve(&app, &Options::new(), &mut pairs)));
    assert!(!matches!(ended, Ok(Ok(()))));
    let order = std::mem::take(&mut *dropped.lock().unwrap());
    assert_eq!(pairs.iter().map(Pair::name).collect::<Vec<_>>(), ["noisy", "mark"], "the caller's are kept");

    ends.unregister();
    resolve(&app, &Options::new(), &mut pairs).expect("the registry is still usable");
    assert_eq!(pairs.len(), 5);
    order
}

#[test]
fn an_error_drops_what_was_appended_newest_first() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    assert_eq!(dropped_when(&DROPPED, || Err(TenantError)), ["c", "b", "a"]);
}

#[test]
fn a_panic_drops_what_was_appended_newest_first() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    assert_eq!(dropped_when(&DROPPED, || panic!("out of order")), ["c", "b", "a"]);
}

#[test]
fn a_panic_while_pairs_are_made_drops_those_that_were() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let app = app(FrameResolvers::empty());
    let half = |_: &ResolveContext<'_>, _: &Options| {
        let pairs = ["a", "b", "c"].map(|name| Noisy(name, &DROPPED)).into_iter().enumerate();
        Ok::<_, TenantError>(pairs.map(|(index, noisy)| {
            assert!(index < 2, "out of order");
            NOISY.pair(noisy)
        }))
    };
    app.resolvers().register(Resolver::new("half", 1, half)).unwrap().detach();
    let mut pairs = Pairs::new();
    catch_unwind(AssertUnwindSafe(|| resolve(&app, &Options::new(), &mut pairs))).unwrap_err();
    assert!(pairs.is_empty());
    assert_eq!(DROPPED.lock().unwrap().len(), 3);
}

/// Says when it is dropped, and then panics.
#[derive(Debug)]
struct Bomb(&'static str, &'static Mutex<Vec<&'static str>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
        std::panic::panic_any(self.0);
    }
}

static BOMB: Key<Bomb> = Key::new("bomb");

/// Appends noisy pairs with two that panic when they are dropped between them, and then ends as `end` does.
fn resolve_over_bombs(
    dropped: &'static Mutex<Vec<&'static str>>,
    is_observed: bool,
    end: impl Fn() -> Result<[Pair; 0], TenantError> + Send + Sync + 'static,
) -> Box<dyn std::any::Any + Send> {
    let app = app(FrameResolvers::empty());
    let makes = move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, TenantError>([
            NOISY.pair(Noisy("a", dropped)),
            BOMB.pair(Bomb("b", dropped)),
            NOISY.pair(Noisy("c", dropped)),
            BOMB.pair(Bomb("d", dropped)),
            NOISY.pair(Noisy("e", dropped)),
        ])
    };
    app.resolvers().register(Resolver::new("makes", 1, makes)).unwrap().detach();
    app.resolvers()
        .register(Resolver::new("ends", 2, move |_: &ResolveContext<'_>, _: &Options| end()))
        .unwrap()
        .detach();
    if is_observed {
        app.resolvers().observe(|_| ()).unwrap().detach();
    }

    let mut pairs: Pairs = [NOISY.pair(Noisy("caller's", dropped)), MARK.pair(0)].into_iter().collect();
    let panic = catch_unwind(AssertUnwindSafe(|| resolve(&app, &Options::new(), &mut pairs))).unwrap_err();
    let order = std::mem::take(&mut *dropped.lock().unwrap());
    assert_eq!(order, ["e", "d", "c", "b", "a"]);
    assert_eq!(pairs.iter().map(Pair::name).collect::<Vec<_>>(), ["noisy", "mark"], "the caller's are kept");
    drop(pairs);
    dropped.lock().unwrap().clear();
    panic
}

#[test]
fn an_error_drops_all_that_was_appended_though_dropping_some_of_it_panics() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    for is_observed in [false, true] {
        let panic = resolve_over_bombs(&DROPPED, is_observed, || Err(TenantError));
        assert_eq!(panic.downcast_ref(), Some(&"d"), "the first of the panics goes on");
    }
}

#[test]
fn a_panic_drops_all_that_was_appended_though_dropping_some_of_it_panics() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    for is_observed in [false, true] {
        let panic = resolve_over_bombs(&DROPPED, is_observed, || panic!("out of order"));
        assert_eq!(panic.downcast_ref(), Some(&"out of order"), "the first of the panics goes on");
    }
}

#[test]
fn an_error_while_a_frame_is_extended_drops_all_pairs_though_dropping_some_panics() {
    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut frame = FrameBuilder::new();
    frame.set(&MARK, 1);
    let added = [
        Ok(NOISY.pair(Noisy("a", &DROPPED))),
        Ok(BOMB.pair(Bomb("b", &DROPPED))),
        Ok(BOMB.pair(Bomb("c", &DROPPED))),
        Err(TenantError),
    ];
    catch_unwind(AssertUnwindSafe(|| frame.try_extend(added).map(|_| ()))).unwrap_err();
    assert_eq!(*DROPPED.lock().unwrap(), ["c", "b", "a"]);
    assert_eq!(marks(frame.pairs_mut()), [1]);
    assert_eq!(frame.seal().len(), 1);
}

#[test]
fn what_is_registered_and_declared_can_be_listed() {
    let resolvers = FrameResolvers::linked();
    let _registration =
        resolvers.register(marking("mine", -1, 1).covers(&REGION).in_module(module_path!())).unwrap();
    let list: Vec<_> = resolvers.iter().collect();
    let [mine, tenant] = &list[..] else { panic!("{list:?}") };
    assert_eq!((mine.name(), mine.order(), mine.origin()), ("mine", -1, Origin::Registered));
    assert_eq!(
        (mine.crate_name(), mine.module(), mine.location().file()),
        (Some("resolve"), Some("resolve"), file!())
    );
    assert_eq!((tenant.name(), tenant.order(), tenant.origin()), ("tenant", 100, Origin::Linked));
    assert_eq!((tenant.crate_name(), tenant.module()), (Some("resolve"), Some("resolve")));
    assert_eq!(tenant.covers()[0].name(), "tenant");
    assert_eq!(mine.covers()[0].name(), "region");

    let options = declared_options();
    let shown: Vec<_> =
        options.iter().map(|option| (option.name(), option.kind(), option.type_name())).collect();
    let expected = [
        ("region", OptionKind::Runtime, "u64"),
        ("tenant", OptionKind::Linked, "String"),
        ("timeout", OptionKind::Dispatcher, "u32"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(options[1].doc(), "Who this frame works for.");
    assert_eq!((options[1].crate_name(), options[1].location().file()), ("resolve", file!()));
    assert!(matches!(resolvers.layout(), Layout::LinkTime | Layout::FirstUse));
}
