use frame_registry::frame_option;

#[frame_option(name = "tenant", dispatcher)]
pub static TENANT;

fn main() {}
