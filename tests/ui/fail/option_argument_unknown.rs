use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", default = 1)]
pub static TENANT: FrameOption<String>;

fn main() {}
