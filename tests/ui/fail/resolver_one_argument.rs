use frame_registry::{Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
