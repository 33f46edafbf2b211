use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
thread_local! {}

fn main() {}
