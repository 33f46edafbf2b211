use frame_registry::{FrameOption, frame_option};

#[frame_option(nam = "tenant", dispatcher)]
pub static TENANT: FrameOption<String>;

fn main() {}
