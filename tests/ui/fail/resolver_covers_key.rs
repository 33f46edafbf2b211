use frame_registry::{ResolveContext, Key, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub static TENANT: Key<u32> = Key::new("tenant");

#[frame_resolver(order = 200, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
