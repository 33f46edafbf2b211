use frame_registry::{Key, frame_key, frame_option};

#[frame_key(name = "tenant", stays)]
#[frame_option(name = "tenant", dispatcher)]
pub static TENANT: Key<String>;

fn main() {
    let _ = TENANT.name();
}
