use frame_registry::{FrameOption, frame_option};

#[frame_option(plain)]
pub static TENANT: FrameOption<String>;

fn main() {}
