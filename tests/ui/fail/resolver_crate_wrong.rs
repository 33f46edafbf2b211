use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};
use std::convert::Infallible;

#[frame_option(name = "tenant", crate = wiring)]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 200, covers(TENANT), crate = framework::wiring)]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    let _ = options.get(&TENANT);
    Ok(None)
}

fn main() {}
