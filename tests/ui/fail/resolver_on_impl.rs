use frame_registry::frame_resolver;

pub struct Tenant;

#[frame_resolver(order = 200)]
impl Tenant {}

fn main() {}
