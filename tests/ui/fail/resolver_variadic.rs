use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options, _: ...) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
