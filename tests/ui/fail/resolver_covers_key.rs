use frame_registry::{Context, Key, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub static TENANT: Key<u32> = Key::new("tenant");

#[frame_resolver(order = 200, covers(TENANT))]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
