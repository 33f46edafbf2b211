//! A program with a given number of linked resolvers, and the same functions behind each of the peers.

#[path = "../harness/mod.rs"]
mod harness;

use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::RwLock;

use frame_registry::{App, BoxError, FrameResolvers, Options, Pairs, ResolveContext};
use scattered_collect::gather;
use scattered_collect::sorted_slice::ScatteredSortedSlice;

use self::harness::{Suite, opaque};

/// How a peer calls a function: as the registry does, so that the peers differ in how they find it.
pub(crate) type Run = fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>;

/// An element of a peer's table.
pub(crate) struct Element {
    pub(crate) order: i32,
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.order, self.name).cmp(&(other.order, other.name))
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

inventory::collect!(Element);

/// Sorted by a constructor before `main`.
#[gather]
pub(crate) static SCATTERED: ScatteredSortedSlice<Element>;

/// `linked!(kind, count);` defines that many resolvers of one kind, and the `main` that measures them.
macro_rules! linked {
    (inline, $count:tt) => {
        seq_macro::seq!(N in 0..$count {
            static KEY~N: frame_registry::Key<u64> = frame_registry::Key::new("inline");

            #[frame_registry::frame_resolver(order = N)]
            #[allow(clippy::unnecessary_wraps)]
            fn resolver~N(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
                Ok(Some(KEY~N.pair(N)))
            }
        });
        linked!(@with Options::new(), $count);
    };
    (static, $count:tt) => {
        seq_macro::seq!(N in 0..$count {
            static VALUE~N: String = String::new();
            static KEY~N: frame_registry::Key<String> = frame_registry::Key::new("static");

            #[frame_registry::frame_resolver(order = N)]
            #[allow(clippy::unnecessary_wraps)]
            fn resolver~N(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
                Ok(Some(KEY~N.pair_static(&VALUE~N)))
            }
        });
        linked!(@with Options::new(), $count);
    };
    (shared, $count:tt) => {
        seq_macro::seq!(N in 0..$count {
            static VALUE~N: std::sync::LazyLock<std::sync::Arc<String>> = std::sync::LazyLock::new(Default::default);
            static KEY~N: frame_registry::Key<String> = frame_registry::Key::new("shared");

            #[frame_registry::frame_resolver(order = N)]
            #[allow(clippy::unnecessary_wraps)]
            fn resolver~N(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
                Ok(Some(KEY~N.pair_shared(std::sync::Arc::clone(&VALUE~N))))
            }
        });
        linked!(@with Options::new(), $count);
    };
    (options, $count:tt) => {
        seq_macro::seq!(N in 0..$count {
            #(
                linked!(@option N, OPTION~N);
                static KEY~N: frame_registry::Key<String> = frame_registry::Key::new("option");

                #[frame_registry::frame_resolver(order = N, covers(OPTION~N))]
                #[allow(clippy::unnecessary_wraps)]
                fn resolver~N(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
                    Ok(options.pair(&OPTION~N, &KEY~N))
                }
            )*

            fn options() -> Options {
                Options::new()#(.with(&OPTION~N, String::new()))*
            }
        });
        linked!(@with options(), $count);
    };

    // Names of options are literals.
    (@option 0, $static:ident) => { linked!(@named "option0", $static); };
    (@option 1, $static:ident) => { linked!(@named "option1", $static); };
    (@option 2, $static:ident) => { linked!(@named "option2", $static); };
    (@option 3, $static:ident) => { linked!(@named "option3", $static); };
    (@named $name:literal, $static:ident) => {
        #[frame_registry::frame_option(name = $name)]
        static $static: frame_registry::FrameOption<String>;
    };

    (@with $options:expr, $count:tt) => {
        use std::convert::Infallible;

        use frame_registry::{Options, Pair, Pairs, ResolveContext};

        seq_macro::seq!(N in 0..$count {
            #(
                fn run~N(ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) -> Result<(), frame_registry::BoxError> {
                    pairs.extend(resolver~N(ctx, options)?);
                    Ok(())
                }

                inventory::submit! { linked::Element { order: N, name: stringify!(N), run: run~N } }

                #[scattered_collect::scatter(linked::SCATTERED)]
                const _: linked::Element = linked::Element { order: N, name: stringify!(N), run: run~N };
            )*

            /// The calls that the registry replaces.
            fn by_hand(ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) -> Result<(), frame_registry::BoxError> {
                #(pairs.extend(resolver~N(ctx, options)?);)*
                Ok(())
            }

            const RUNS: &[linked::Run] = &[#(run~N,)*];
        });

        fn main() {
            linked::measure(module_path!(), by_hand, RUNS, &$options);
        }
    };
}

/// A registry as most are written: boxed functions behind a lock.
type Locked = RwLock<Vec<Box<RunFn>>>;
type RunFn = dyn Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError> + Send + Sync;

/// Measures the registry and its peers.
pub(crate) fn measure(
    suite: &'static str,
    by_hand: impl Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
    runs: &[Run],
    options: &Options,
) {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let app = app.build();
    let (app, options) = (&app, options);
    let ctx = &ResolveContext::new(app, None);

    let mut collected: Vec<_> = inventory::iter::<Element>().collect();
    collected.sort();
    let locked: Locked = RwLock::new(runs.iter().map(|&run| Box::new(run) as _).collect());
    let count = runs.len();
    assert_eq!([app.resolvers().iter().count(), collected.len(), SCATTERED.len()], [count; 3]);

    let ours = |pairs: &mut Pairs| {
        opaque(app).resolvers().resolve(opaque(ctx), opaque(options), pairs).expect("they do not fail");
    };
    let by_hand = |pairs: &mut Pairs| by_hand(opaque(ctx), opaque(options), pairs).expect("they do not fail");

    let mut suite = Suite::new(suite);
    suite
        .case("registry", resolving(count, ours))
        .case("calls by hand", resolving(count, by_hand))
        .case(
            "inventory, sorted at start",
            resolving(count, |pairs| {
                all(opaque(&collected[..]).iter().map(|element| element.run), ctx, options, pairs);
            }),
        )
        .case(
            "scattered-collect",
            resolving(count, |pairs| {
                all(opaque(&SCATTERED[..]).iter().map(|element| element.run), ctx, options, pairs);
            }),
        )
        .case(
            "RwLock<Vec<Box<dyn Fn>>>",
            resolving(count, |pairs| {
                let locked = opaque(&locked).read().expect("nobody panics");
                all(locked.iter(), ctx, options, pairs);
            }),
        )
        .case("the list of pairs alone", resolving(count, |_| ()));
    if count > Pairs::INLINE {
        suite
            .case("registry, the list grows", resolving(0, ours))
            .case("calls by hand, the list grows", resolving(0, by_hand));
    }
    assert_eq!(
        suite.allocations("registry"),
        suite.allocations("the list of pairs alone"),
        "of its own: none"
    );
    suite.finish();
}

/// Makes a list of pairs, resolves into it, and drops it.
fn resolving(capacity: usize, resolve: impl Fn(&mut Pairs)) -> impl FnMut() {
    move || {
        let mut pairs = if capacity > Pairs::INLINE { Pairs::with_capacity(capacity) } else { Pairs::new() };
        resolve(&mut pairs);
        black_box(&mut pairs);
    }
}

/// Runs them all, as the loop of a hand-written registry would: neither is an error rolled back, nor an option
/// refused that nobody reads.
fn all<F>(runs: impl Iterator<Item = F>, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs)
where
    F: Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
{
    let (ctx, options) = (opaque(ctx), opaque(options));
    let resolved: Result<(), BoxError> = runs.into_iter().try_for_each(|run| run(ctx, options, pairs));
    resolved.expect("they do not fail");
}
