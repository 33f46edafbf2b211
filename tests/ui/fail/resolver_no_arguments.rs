use frame_registry::{Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant() -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
