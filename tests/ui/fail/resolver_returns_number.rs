use frame_registry::{Context, Options, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: &Options) -> Result<u32, Infallible> {
    Ok(1)
}

fn main() {}
