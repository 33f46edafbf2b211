use frame_registry::{Key, frame_option};

#[frame_option(name = "tenant", dispatcher)]
static TENANT: Key<String>;

fn main() {
    let _ = TENANT.name();
}
