use frame_registry::{Options, Pair, frame_resolver};
use std::convert::Infallible;

pub struct Context<'a>(pub &'a u32);

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
