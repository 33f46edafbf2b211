use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", dispatcher)]
pub static TENANT: FrameOption<std::cell::Cell<u32>>;

fn main() {}
