use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<&'static Pair>, Infallible> {
    Ok(None)
}

fn main() {}
