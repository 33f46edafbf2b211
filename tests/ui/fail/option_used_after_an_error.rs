use frame_registry::{FrameOption, Options, frame_option};

#[frame_option(dispatcher)]
pub static TENANT: FrameOption<String>;

pub fn read(options: &Options) -> Option<&String> {
    options.get(&TENANT)
}

fn main() {}
