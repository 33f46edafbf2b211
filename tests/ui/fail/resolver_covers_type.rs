use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub struct Tenant(pub u32);

#[frame_resolver(order = 200, covers(Tenant))]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
