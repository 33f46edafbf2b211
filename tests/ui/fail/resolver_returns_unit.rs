use frame_registry::{Context, Options, frame_resolver};

#[frame_resolver(order = 200)]
fn tenant(_: &Context<'_>, _: &Options) -> () {
    
}

fn main() {}
