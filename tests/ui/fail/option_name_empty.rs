use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "", dispatcher)]
pub static TENANT: FrameOption<String>;

fn main() {}
