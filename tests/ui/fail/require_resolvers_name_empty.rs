frame_registry::require_resolvers!("");

fn main() {}
