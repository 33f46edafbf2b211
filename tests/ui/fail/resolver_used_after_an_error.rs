use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver]
pub fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

pub fn call(ctx: &ResolveContext<'_>, options: &Options) -> bool {
    tenant(ctx, options).is_ok()
}

fn main() {}
