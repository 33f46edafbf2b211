use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", dispatcher)]
pub static mut TENANT: FrameOption<String>;

fn main() {}
