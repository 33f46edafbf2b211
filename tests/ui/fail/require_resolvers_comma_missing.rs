frame_registry::require_resolvers!("tenant" "region");

fn main() {}
