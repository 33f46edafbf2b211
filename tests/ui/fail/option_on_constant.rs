use frame_registry::frame_option;

#[frame_option(name = "tenant", dispatcher)]
pub const TENANT: u32 = 1;

fn main() {}
