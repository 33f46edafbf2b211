use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", runtime = true)]
pub static TENANT: FrameOption<String>;

fn main() {}
