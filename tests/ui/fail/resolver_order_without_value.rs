use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = )]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
