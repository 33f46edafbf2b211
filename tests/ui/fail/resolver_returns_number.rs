use frame_registry::{ResolveContext, Options, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<u32, Infallible> {
    Ok(1)
}

fn main() {}
