//! Two linked resolvers, and none or one registered over them; and what registering costs.

#[path = "harness/mod.rs"]
mod harness;

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::RwLock;

use frame_registry::{
    App, BoxError, FrameResolvers, Key, Options, Pair, Pairs, ResolveContext, Resolver, frame_resolver,
};
use harness::{Suite, opaque};

static FIRST: Key<u64> = Key::new("first");
static SECOND: Key<u64> = Key::new("second");
static THIRD: Key<u64> = Key::new("third");

#[frame_resolver(order = 1)]
#[allow(clippy::unnecessary_wraps)]
fn first(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(FIRST.pair(1)))
}

#[frame_resolver(order = 2)]
#[allow(clippy::unnecessary_wraps)]
fn second(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(SECOND.pair(2)))
}

fn third() -> Resolver {
    Resolver::new("third", 3, |_: &ResolveContext<'_>, _: &Options| Ok::<_, Infallible>(Some(THIRD.pair(3))))
}

static NEVER: FrameResolvers = FrameResolvers::linked();
static NOT_ANY_MORE: FrameResolvers = FrameResolvers::linked();
static ONE: FrameResolvers = FrameResolvers::linked();
static ONE_ALONE: FrameResolvers = FrameResolvers::empty();
static CHANGING: FrameResolvers = FrameResolvers::linked();

type RunFn = dyn Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError> + Send + Sync;

fn main() {
    let app = App::builder().build();
    let (ctx, options) = (&ResolveContext::new(&app, None), &Options::new());
    let resolving = |resolvers: &'static FrameResolvers| {
        move || {
            let mut pairs = Pairs::new();
            opaque(resolvers).resolve(opaque(ctx), opaque(options), &mut pairs).expect("they do not fail");
            black_box(&mut pairs);
        }
    };

    NOT_ANY_MORE.register(third()).expect("the name is free").unregister();
    ONE.register(third()).expect("the name is free").detach();
    ONE_ALONE.register(third()).expect("the name is free").detach();

    let locked: RwLock<Vec<Box<RunFn>>> = RwLock::new(vec![
        Box::new(|ctx, options, pairs| {
            pairs.extend(first(ctx, options)?);
            Ok(())
        }),
        Box::new(|ctx, options, pairs| {
            pairs.extend(second(ctx, options)?);
            Ok(())
        }),
        Box::new(|_, _, pairs| {
            pairs.push(THIRD.pair(3));
            Ok(())
        }),
    ]);

    let mut suite = Suite::new("overlay");
    suite
        .case("2 linked, nothing ever registered", resolving(&NEVER))
        .case("2 linked, the 1 registered is gone", resolving(&NOT_ANY_MORE))
        .case("2 linked, 1 registered", resolving(&ONE))
        .case("0 linked, 1 registered", resolving(&ONE_ALONE))
        .case("RwLock<Vec<Box<dyn Fn>>> of 3", || {
            let mut pairs = Pairs::new();
            for run in opaque(&locked).read().expect("nobody panics").iter() {
                run(opaque(ctx), opaque(options), &mut pairs).expect("they do not fail");
            }
            black_box(&mut pairs);
        })
        .case("the list of pairs alone", || {
            black_box(&mut Pairs::new());
        })
        .case("register and unregister over 2 linked", || {
            opaque(&CHANGING).register(third()).expect("the name is free").unregister();
        });
    assert!(matches!(suite.allocations("2 linked, 1 registered"), Some(0) | None));
    suite.finish();
}
