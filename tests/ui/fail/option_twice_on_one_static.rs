use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", plain)]
#[frame_option(name = "customer", plain)]
pub static TENANT: FrameOption<String>;

fn main() {
    let _ = TENANT.name();
}
