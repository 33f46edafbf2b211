frame_registry::require_resolvers!(crate = frame_registry);

fn main() {}
