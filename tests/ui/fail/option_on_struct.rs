use frame_registry::frame_option;

#[frame_option(name = "tenant", plain)]
pub struct Tenant;

fn main() {}
