use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver]
pub fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

pub fn call(ctx: &Context<'_>, options: &Options) -> bool {
    tenant(ctx, options).is_ok()
}

fn main() {}
