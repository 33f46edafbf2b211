use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};
use std::convert::Infallible;

#[frame_option(name = "tenant", runtime)]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 200, covers(&TENANT))]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {}
