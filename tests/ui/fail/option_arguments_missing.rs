use frame_registry::{FrameOption, frame_option};

#[frame_option]
pub static TENANT: FrameOption<String>;

fn main() {}
