//! No linked resolver: what the program pays before `main`, and at the first use.

mod cold;

use frame_registry::FrameResolvers;

static RESOLVERS: FrameResolvers = FrameResolvers::linked();

fn main() {
    let is_done = cold::measure("registry", |ctx, options, pairs| {
        RESOLVERS.resolve(ctx, options, pairs).expect("they do not fail");
    });
    if is_done {
        println!("How the table came into order: {}\n", RESOLVERS.layout().as_str());
    }
}
