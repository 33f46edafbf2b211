use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 100)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(1)
}

fn main() {}
