use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
pub unsafe trait Tenant {}

fn main() {}
