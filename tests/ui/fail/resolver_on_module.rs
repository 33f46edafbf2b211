use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
pub mod tenant {}

fn main() {}
