use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
pub const TENANT: u32 = 1;

fn main() {}
