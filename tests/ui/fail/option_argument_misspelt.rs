use frame_registry::{FrameOption, frame_option};

#[frame_option(nam = "tenant", plain)]
pub static TENANT: FrameOption<String>;

fn main() {}
