use frame_registry::frame_option;

#[frame_option(name = "tenant", plain)]
pub const TENANT: u32 = 1;

fn main() {}
