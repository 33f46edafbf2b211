use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", dispatcher)]
pub static TENANT: FrameOption;

fn main() {}
