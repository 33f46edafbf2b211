use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub struct Tenant(pub u32);

#[frame_resolver(order = 200, covers(Tenant))]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
