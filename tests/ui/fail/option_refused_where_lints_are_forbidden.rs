#![forbid(dead_code)]

use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "ten-ant", dispatcher)]
static TENANT: FrameOption<String>;

fn main() {}
