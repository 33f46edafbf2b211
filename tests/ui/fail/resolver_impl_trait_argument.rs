use frame_registry::{Context, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: impl Sized) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
