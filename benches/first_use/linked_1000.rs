//! A thousand linked resolvers: what the program pays before `main`, and at the first use.

mod cold;

use std::convert::Infallible;

use frame_registry::{FrameResolvers, Key, Options, Pair, ResolveContext};

static KEY: Key<u64> = Key::new("number");

seq_macro::seq!(N in 0..1000 {
    #[frame_registry::frame_resolver(order = N)]
    #[allow(clippy::unnecessary_wraps)]
    fn resolver~N(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(Some(KEY.pair(N)))
    }
});

static RESOLVERS: FrameResolvers = FrameResolvers::linked();

fn main() {
    let is_done = cold::measure("registry", |ctx, options, pairs| {
        RESOLVERS.resolve(ctx, options, pairs).expect("they do not fail");
    });
    if is_done {
        println!("How the table came into order: {}\n", RESOLVERS.layout().as_str());
    }
}
