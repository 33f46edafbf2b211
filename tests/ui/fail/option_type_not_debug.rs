use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant", dispatcher)]
pub static TENANT: FrameOption<Tenant>;

pub struct Tenant;

fn main() {}
