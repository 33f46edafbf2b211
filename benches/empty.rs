//! Nothing is linked and nothing registered: what a dispatcher pays for a registry that nobody uses.

#[path = "harness/mod.rs"]
mod harness;

use std::hint::black_box;
use std::process::Command;
use std::sync::RwLock;

use frame_registry::{App, BoxError, FrameResolvers, Options, Pairs, ResolveContext, ResolveError};
use harness::{Suite, opaque};
use scattered_collect::gather;
use scattered_collect::sorted_slice::ScatteredSortedSlice;

type RunFn = dyn Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError> + Send + Sync;

/// What the peers collect: nothing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    order: i32,
}

inventory::collect!(Element);

#[gather]
static SCATTERED: ScatteredSortedSlice<Element>;

/// A dispatcher's one line. Not inlined, so that it can be looked at.
#[inline(never)]
fn dispatch_to_registry(
    resolvers: &FrameResolvers,
    ctx: &ResolveContext<'_>,
    options: &Options,
    pairs: &mut Pairs,
) -> Result<(), ResolveError> {
    resolvers.resolve(ctx, options, pairs)
}

/// The same without the line.
#[inline(never)]
#[allow(clippy::unnecessary_wraps)]
fn dispatch_to_nothing(
    _: &FrameResolvers,
    _: &ResolveContext<'_>,
    _: &Options,
    _: &mut Pairs,
) -> Result<(), ResolveError> {
    Ok(())
}

fn main() {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let app = app.build();
    let (resolvers, ctx, options) = (app.resolvers(), &ResolveContext::new(&app, None), &Options::new());
    let mut list = Pairs::new();
    let pairs = &mut list;

    let collected: Vec<_> = inventory::iter::<Element>().collect();
    let locked: RwLock<Vec<Box<RunFn>>> = RwLock::new(Vec::new());
    assert_eq!([resolvers.iter().count(), collected.len(), SCATTERED.len()], [0; 3]);

    let mut suite = Suite::new("empty");
    suite
        .case("registry", || {
            dispatch_to_registry(opaque(resolvers), opaque(ctx), opaque(options), black_box(&mut *pairs))
                .expect("it does not fail");
        })
        .case("an empty inlined call", || {
            dispatch_to_nothing(opaque(resolvers), opaque(ctx), opaque(options), black_box(&mut *pairs))
                .expect("it does not fail");
        })
        .case("inventory, sorted at start", || {
            for element in opaque(&collected[..]) {
                black_box(element.order);
            }
        })
        .case("scattered-collect", || {
            for element in opaque(&SCATTERED) {
                black_box(element.order);
            }
        })
        .case("RwLock<Vec<Box<dyn Fn>>>", || {
            for run in opaque(&locked).read().expect("nobody panics").iter() {
                let _ = run(ctx, options, &mut Pairs::new());
            }
        });
    assert!(matches!(suite.allocations("registry"), Some(0) | None));
    if suite.finish() {
        disassemble("dispatch_to_registry");
        disassemble("dispatch_to_nothing");
    }
}

/// Prints a function of this program up to its end.
fn disassemble(function: &str) {
    let program = std::env::current_exe().expect("the system knows the program");
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "--demangle"])
        .arg(program)
        .output();
    let Ok(output) = output else {
        eprintln!("no disassembly: `objdump` did not run");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let body = text.lines().skip_while(|line| !line.ends_with(&format!("::{function}>:")));
    for line in body.take_while(|line| !line.is_empty() && !line.contains("int3")) {
        println!("{line}");
    }
    println!();
}
