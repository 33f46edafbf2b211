use frame_registry::{Context, Options, Pair, frame_resolver};

pub struct Refused;

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, Refused> {
    Ok(None)
}

fn main() {}
