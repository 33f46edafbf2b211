use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant<T: Default + Clone>(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
