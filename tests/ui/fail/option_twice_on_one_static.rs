use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", dispatcher)]
#[frame_option(name = "customer", dispatcher)]
pub static TENANT: FrameOption<String>;

fn main() {
    let _ = TENANT.name();
}
