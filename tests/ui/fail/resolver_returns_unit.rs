use frame_registry::{ResolveContext, Options, frame_resolver};

#[frame_resolver(order = 200)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> () {
    
}

fn main() {}
