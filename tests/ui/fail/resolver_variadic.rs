use frame_registry::{Context, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
unsafe extern "C" fn tenant(_: &Context<'_>, _: ...) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
