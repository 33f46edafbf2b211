use frame_registry::{ResolveContext, Options, Pair, frame_resolver};

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, ()> {
    Ok(None)
}

fn main() {}
