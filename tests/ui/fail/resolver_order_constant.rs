use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = BASE)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

pub const BASE: i32 = 200;

fn main() {}
