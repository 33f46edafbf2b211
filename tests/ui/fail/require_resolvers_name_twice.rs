frame_registry::require_resolvers!("tenant", "tenant");

fn main() {}
