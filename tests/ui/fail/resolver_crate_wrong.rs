use frame_registry::{Context, FrameOption, Options, Pair, frame_option, frame_resolver};
use std::convert::Infallible;

#[frame_option(name = "tenant", crate = wiring)]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 200, covers(TENANT), crate = framework::wiring)]
fn tenant(_: &Context<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    let _ = options.get(&TENANT);
    Ok(None)
}

fn main() {}
