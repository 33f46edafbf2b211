use frame_registry::{Context, Options, Pair, frame_resolver};

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: &Options) -> Result<Option<Pair>, ()> {
    Ok(None)
}

fn main() {}
