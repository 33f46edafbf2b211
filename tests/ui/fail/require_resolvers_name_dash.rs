frame_registry::require_resolvers!("by-tenant");

fn main() {}
