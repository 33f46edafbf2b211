use frame_registry::{ResolveContext, Options, Pair, frame_resolver};

pub struct Refused;

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Refused> {
    Ok(None)
}

fn main() {}
