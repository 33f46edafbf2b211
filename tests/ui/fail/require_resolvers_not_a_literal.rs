frame_registry::require_resolvers!(tenant);

fn main() {}
