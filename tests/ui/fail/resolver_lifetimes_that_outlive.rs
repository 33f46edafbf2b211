use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant<'a, 'b: 'a>(_: &'a Context<'b>, _: &'b Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
