use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 100, name = "tenant")]
fn first(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 200, name = "tenant")]
fn second(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
