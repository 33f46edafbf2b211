use frame_registry::{FrameOption, frame_option};

unsafe extern "C" {
    #[frame_option(name = "tenant", dispatcher)]
    pub safe static TENANT: FrameOption<String>;
}

fn main() {}
