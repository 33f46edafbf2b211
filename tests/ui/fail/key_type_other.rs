use frame_registry::{FrameOption, Key, frame_key};

#[frame_key(name = "tenant", stays)]
pub static TENANT: FrameOption<String>;

fn main() {}
