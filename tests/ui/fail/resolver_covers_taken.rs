use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};
use std::convert::Infallible;

#[frame_option(name = "tenant")]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 100, covers(TENANT))]
fn first(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 200, covers(self::TENANT))]
fn second(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
