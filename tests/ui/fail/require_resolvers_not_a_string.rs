frame_registry::require_resolvers!(200);

fn main() {}
