use frame_registry::{FrameOption, frame_option};

#[frame_option(name = "tenant_has_no_linked_resolver", dispatcher)]
static TENANT: FrameOption<u32>;

fn main() {}
